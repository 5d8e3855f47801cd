"""Looking at the data more than once without fooling oneself: a group-sequential plan of looks.

The looks are fixed beforehand, at the ends of blocks of cases. At each look a comparison is made at that look's
own level, so chosen that all looks together err at most as often as the whole plan says. The intervals at those
levels hold at all looks at once (repeated confidence intervals: Jennison and Turnbull 1989, J. R. Stat. Soc. B
51:305), so it may be stopped for any reason at any look, and the interval still holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import numpy as np

from workbench.records import ScoreColumns
from workbench.stats.methods import FEWEST_CASES, difference_method, too_few, why_no_interval
from workbench.stats.paired import PairedComparison, Verdict, cases_needed
from workbench.stats.pvalues import mcnemar_exact
from workbench.stats.reduce import Bounds, Floats, PairedSample, Sample, paired_sample, reduce_repeats

SPENDING = 1.5
"""ρ of the spending function: 1 spends evenly and stops earliest, 3 keeps the error for the end. Chosen by
simulation, see docs/statistics.md: between 1 and 3 the power changes by 2 points, the trials saved by 7."""
MOST_LOOKS = 40
"""More looks save next to nothing, and each one waits for its block."""
FEWEST_STEPS = 64
"""Points of the integration at least."""


def plan_looks(total: int, block: int, most: int = MOST_LOOKS) -> tuple[int, ...]:
    """After how many cases it is looked: at ends of blocks, the first with at least 8 cases, at most `most` times.

    The last look is at the end; one that lies less than half a step before it is left out."""
    step = block * max(math.ceil(FEWEST_CASES / block), math.ceil(total / block / most))
    looks = [*range(step, total, step), total]
    if len(looks) > 1 and looks[-1] - looks[-2] < step / 2:
        del looks[-2]
    return tuple(looks)


def spend(fractions: Sequence[float], alpha: float, rho: float = SPENDING) -> tuple[float, ...]:
    """The error used up to each look: α·t^ρ (Kim and DeMets 1987, Biometrika 74:149)."""
    return tuple(alpha * t**rho for t in fractions)


@lru_cache(maxsize=64)
def look_levels(fractions: tuple[float, ...], spent: tuple[float, ...]) -> tuple[float, ...]:
    """The two-sided level of each look, such that the error up to it is what `spent` says.

    `fractions` of all information, rising to 1; `spent` cumulative. The density of the process that has not
    crossed yet is carried from look to look by numerical integration (Armitage, McPherson and Rowe 1969,
    J. R. Stat. Soc. A 132:235; Lan and DeMets 1983, Biometrika 70:659), here by Gauss–Legendre quadrature."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    levels: list[float] = []
    points, density = np.zeros(1), np.ones(1)  # the process W(t) starts at 0; weights are in `density`
    before, used = 0.0, 0.0
    steps = FEWEST_STEPS + math.ceil(12 / math.sqrt(min(np.diff([0.0, *fractions]))))
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    for t, total in zip(fractions, spent, strict=True):
        rest = (t, math.sqrt(t - before), points, density, total - used)
        z = brentq(_excess, 0.0, 40.0, rest, xtol=1e-10) if _excess(0.0, *rest) > 0 else 0.0
        levels.append(float(2 * norm.sf(z)))
        edge = z * math.sqrt(t)
        new = edge * nodes
        density = edge * weights * (norm.pdf((new[:, None] - points) / (sd := math.sqrt(t - before))) @ density) / sd
        points, before, used = new, t, total
    return tuple(levels)


def _excess(z: float, t: float, sd: float, points: Floats, density: Floats, wanted: float) -> float:
    """The chance to cross at time t for the first time where the boundary is z, less the wanted one."""
    from scipy.stats import norm

    edge = z * math.sqrt(t)
    return float(density @ (norm.sf((edge - points) / sd) + norm.sf((edge + points) / sd))) - wanted


def plan_levels(looks: Sequence[int], alpha: float) -> tuple[float, ...]:
    """The two-sided level of each look of a plan."""
    fractions = tuple(n / looks[-1] for n in looks)
    return look_levels(fractions, spend(fractions, alpha))


@dataclass(frozen=True, slots=True)
class Look:
    """One look of a plan, with those that are still to come after it."""

    level: float
    """The two-sided level of one comparison at this look."""
    ahead: tuple[tuple[int, float], ...] = ()
    """Of each look to come: after how many cases, at which level."""

    def cases_needed(self, differences: Sample, margin: float) -> int | None:
        """As `paired.cases_needed`, at the level of the first look to come that has so many cases; at that of the last
        one where none has. None also for so few cases that their variance says nothing yet."""
        if too_few(differences):
            return None
        needed = cases_needed(differences, margin, self.level)
        for cases, level in self.ahead:
            needed = cases_needed(differences, margin, level)
            if needed is None or needed <= cases:
                break
        return needed


def in_order(looks: Sequence[int], levels: Sequence[float]) -> list[Look]:
    """The looks of a plan: after how many cases each is, and its level."""
    pairs = tuple(zip(looks, levels, strict=True))
    return [Look(level, pairs[i:]) for i, (_, level) in enumerate(pairs, 1)]


def compare_so_far(
    columns: ScoreColumns, reference: str, margin: float, confidence: float, look: Look
) -> list[PairedComparison]:
    """Each other variant against the reference, at one look; none for labels.

    The methods are those of a comparison that is made once (`methods.METHODS`), at the look's level; single 0/1
    scores must pass McNemar's exact test as well. A row is settled when its verdict is not "not enough data". There
    is no p-value: the interval decides."""
    if columns.kind == "label":
        return []
    table, base = reduce_repeats(columns), columns.variants.index(reference)
    rows = [
        PairedComparison(name, reference, columns.kind, margin, confidence, len(columns.variants) - 1)
        for name in columns.variants
    ]
    pairs = [(row, paired_sample(table, i, base)) for i, row in enumerate(rows) if i != base]
    return [row if pair is None else _at_look(row, pair, look) for row, pair in pairs]


def _at_look(row: PairedComparison, pair: PairedSample, look: Look) -> PairedComparison:
    method, differences = difference_method(pair), pair.differences
    interval = method.difference[1](pair, look.level) if method.difference else None
    verdict = _verdict(row, pair, interval, look.level)
    needed = look.cases_needed(differences, row.margin) if verdict == "not enough data" else None
    return replace(
        row,
        difference=float(differences.values.mean()),
        interval=interval,
        pairs=differences.cases,
        clusters=len(differences.values) if differences.clustered else None,
        wins=pair.wins,
        losses=pair.losses,
        ties=pair.ties,
        verdict=verdict,
        cases_needed=needed,
        why="" if interval else why_no_interval(differences),
        interval_method=f"{method.difference[0]}, repeated" if method.difference else "",
    )


def _verdict(row: PairedComparison, pair: PairedSample, interval: Bounds | None, level: float) -> Verdict:
    if interval is None or too_few(pair.differences):
        return "not enough data"
    if interval[0] > 0 or interval[1] < 0:
        if pair.first.binary and pair.second.binary and mcnemar_exact([pair])[0] > level:
            return "not enough data"
        up, down = ("higher", "lower") if row.kind == "number" else ("better", "worse")
        return cast(Verdict, up if interval[0] > 0 else down)
    return "equivalent" if -row.margin <= interval[0] and interval[1] <= row.margin else "not enough data"
