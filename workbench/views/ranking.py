"""What a table says of the best variant, and how small a difference its cases can show, in a line of text."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.records import Kind
from workbench.stats.ranking import Ranking
from workbench.views import format as f

MOST_NAMED = 4
"""Variants that are named one by one."""


def standing(ranking: Ranking | None, sees: float | None, kind: Kind, labels: Mapping[str, str]) -> str:
    """The line, printable; empty where nothing can be said."""
    told = [] if ranking is None else [_best(ranking, labels)]
    these = "these" if told else "These"
    if sees is not None:
        size = f"{sees:.2g}" if kind == "number" else f"{_points(sees)} points"
        told.append(f"{these} cases can show differences to the reference of about {size}")
    return "; ".join(told) + ("." if told else "")


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
