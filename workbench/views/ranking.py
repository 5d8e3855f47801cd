"""What a table says of the best variant, and how small a difference its cases can show, each in a line of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.records import Kind
from workbench.stats.needed import POWER
from workbench.stats.paired import PairedComparison
from workbench.stats.ranking import Ranking
from workbench.views import format as f

MOST_NAMED = 4
"""Variants that are named one by one."""


def standing(ranking: Ranking | None, power: str, labels: Mapping[str, str]) -> str:
    """Ranking and power in a line, printable; empty where nothing can be said."""
    best = "" if ranking is None else _best(ranking, labels) + "."
    return " ".join(filter(None, (best, power)))


def power_line(sees: float | None, comparisons: Sequence[PairedComparison], kind: Kind) -> str:
    """The smallest difference that these cases can show, whatever they do show: `12 cases can show a difference to
    the reference of about 31 points or more; what is smaller may be chance. The suite's margin is 5 points.`

    `sees` is `stats.power.suite_sees` of the comparisons. Empty where nothing is compared, and where
    numbers do not vary, so that nothing is known of them."""
    unvaried = any(row.interval is None and row.p is not None for row in comparisons)
    if not comparisons or (sees is None and unvaried):
        return ""
    cases = f.plural(min(row.pairs for row in comparisons), "case")
    numbers, margin = kind == "number", comparisons[0].margin
    if sees is None or (sees >= 1 and not numbers):
        return f"{cases} can't be counted on to show any difference to the reference, however large."
    size = f"{sees:.2g}" if numbers else f"{_points(sees)} points"
    told = f"{cases} can show a difference to the reference of about {size} or more ({100 * POWER:.0f} % power)"
    if numbers:
        return f"{told}; what is smaller may be chance."
    if sees <= margin:
        return f"{told}, which is within the suite's margin of {100 * margin:g} points."
    return f"{told}; what is smaller may be chance. The suite's margin is {100 * margin:g} points."


def _best(ranking: Ranking, labels: Mapping[str, str]) -> str:
    share = f"best in {_percent(ranking.best_share[ranking.best])} % of resamples"
    others = [labels.get(name, name) for name in ranking.not_told_apart if name != ranking.best]
    best = f.one_line(labels.get(ranking.best, ranking.best))
    sure = f"{100 * ranking.confidence:g} % confidence, {f.plural(ranking.cases, 'case')}"
    if not others:
        return f"{best} is shown to be the best ({sure}), {share}"
    if len(others) == len(ranking.best_share) - 1:
        return f"No variant is shown to be worse than the best ({sure}); {best} is {share}"
    named = ", ".join(f.one_line(name) for name in others[:MOST_NAMED])
    more = f" and {len(others) - MOST_NAMED:,} more" if len(others) > MOST_NAMED else ""
    return f"{best} is {share}; {named}{more} can't be told from it ({sure})"


def _percent(share: float) -> str:
    return ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"


def _points(difference: float) -> str:
    return f"{100 * difference:.0f}" if difference >= 0.095 else f"{100 * difference:.1f}"
