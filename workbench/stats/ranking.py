"""Which variant is best, which ones can't be told from it, and which axis of a sweep matters.

Higher scores are taken as better, so nothing here is said of numbers without a range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from workbench.errors import UseError
from workbench.records import ScoreColumns
from workbench.stats.bounds import lower_bound
from workbench.stats.methods import FEWEST_CASES, too_few
from workbench.stats.pvalues import mcnemar_exact
from workbench.stats.reduce import CaseTable, Floats, Scores, paired_sample, reduce_repeats

RESAMPLES = 2_000
BLOCK_OF = 4_000_000
"""Weights drawn at a time: 32 MB."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best of a table."""

    best: str
    """The variant with the highest mean over the common cases; the first of several."""
    best_share: Mapping[str, float]
    """For each variant the share of resamples of the common cases in which it is best; ties are shared."""
    not_told_apart: tuple[str, ...]
    """The best, and all that are not shown to be worse, in the table's order."""
    cases: int
    """Cases that all have scores for."""
    confidence: float


@dataclass(frozen=True, slots=True)
class AxisShare:
    """What an axis, or two together, does to the mean."""

    axes: tuple[str, ...]
    """One name, or the two of an interaction."""
    share: float
    """Of the variance between variants, 0…1."""
    p: float
    """Of "it does nothing"; not corrected for the number of axes."""


def rank_variants(columns: Scores, confidence: float = 0.95, seed: int = 0) -> Ranking | None:
    """The best variant, how sure that is, and the set that can't be told from it. None for fewer than two variants,
    labels and numbers, fewer than 8 common cases or 5 clusters.

    A variant leaves the set when the lower bound of the observed best's lead is above 0 at a one-sided error of
    alpha ÷ k(k−1), k variants: as many ordered pairs could have been the best and the one held against it, so among
    equal variants the chance that any leaves is at most alpha (multiple comparisons with the best: Hsu 1984, Ann.
    Stat. 12:1136; with all pairs corrected, because ties of the best count as errors here). Single 0/1 scores must
    pass McNemar's exact test at that level, too. The shares are the nonparametric bootstrap's over cases or clusters;
    they describe, they are no test."""
    variants = len(columns.variants)
    if columns.kind in ("label", "number") or variants < 2:
        return None
    table = reduce_repeats(columns)
    units, cases = _common(table)
    if cases < FEWEST_CASES or len(units) < 2:
        return None
    first = paired_sample(table, 0, 1)
    if first is None or too_few(first.differences):
        return None
    best = int(np.argmax(np.round(units.mean(axis=0), 12)))
    level = (1 - confidence) / (variants * (variants - 1))
    kept = [i for i in range(variants) if i == best or not _beats(table, best, i, level)]
    shares = dict(zip(columns.variants, _best_shares(units, seed).tolist(), strict=True))
    names = columns.variants
    return Ranking(names[best], shares, tuple(names[i] for i in kept), cases, confidence)


ROUNDING = 1e-10
"""A part of a sum of squares that is taken for rounding: without it, scores that vary in nothing but one axis would
give p-values of rounding errors."""


def axis_importance(columns: ScoreColumns, axes: Mapping[str, Sequence[str]]) -> list[AxisShare]:
    """Shares of the variance between variants by axis and by pair of axes, the largest first.

    `axes`: for each axis the level of every variant, in the order of `columns.variants`. An analysis of variance of
    the common cases' means, cases as blocks: each variant has every common case, so all that differs between
    variants stands in their means. Sums of squares are of type II (Yates 1934, JASA 29:51): an axis beside all other
    axes, a pair beside all axes. F is held against the variants' disagreement over cases (variant × case). In a full
    grid the shares add up to 1 less what three axes do together; elsewhere they may not. Raises UseError for levels
    that do not fit the variants, fewer than two variants or common cases."""
    if any(len(levels) != len(columns.variants) for levels in axes.values()):
        raise UseError("each axis needs the level of every variant")
    units, cases = _common(reduce_repeats(columns))
    n, variants = units.shape
    if columns.kind == "label" or variants < 2 or n < 2:
        raise UseError(f"axes need scores of two variants on two common cases at least; there are {cases}")
    means = units.mean(axis=0)
    between = n * float(((means - means.mean()) ** 2).sum())
    if between <= ROUNDING**2 * float((units**2).sum()):
        between = 0.0
    residual = units - means - units.mean(axis=1, keepdims=True) + units.mean()
    noise = float((residual**2).sum()) / ((n - 1) * (variants - 1))
    varied = [name for name, levels in axes.items() if len(set(levels)) > 1]
    mains: dict[tuple[str, ...], Floats] = {(name,): _dummies(axes[name]) for name in varied}
    parts = dict(mains)
    for one, other in combinations(varied, 2):
        pairs = [f"{a}\0{b}" for a, b in zip(axes[one], axes[other], strict=True)]
        parts[one, other] = np.concatenate([*mains.values(), _dummies(pairs)], axis=1)
    found = []
    for term, design in parts.items():
        others = [part for name, part in mains.items() if len(term) == 2 or name != term]
        rest, whole = _fit(means, others), _fit(means, [*others, design])
        squares, freedom = n * (rest[0] - whole[0]), whole[1] - rest[1]
        squares = squares if squares > ROUNDING * between else 0.0
        if freedom > 0:
            found.append(AxisShare(term, _share(squares, between), _f_test(squares / freedom, noise, freedom, units)))
    return sorted(found, key=lambda row: (-row.share, len(row.axes), row.axes))


def _common(table: CaseTable) -> tuple[Floats, int]:
    """Unit × variant on the cases that all have scores for, cases averaged within their cluster; how many cases."""
    there = (table.counts > 0).all(axis=0)
    values = table.means[:, there].T
    if table.clusters is not None and len(values):
        _, unit = np.unique(table.clusters[there], return_inverse=True)
        sums = np.zeros((int(unit.max()) + 1, values.shape[1]))
        np.add.at(sums, unit, values)
        values = sums / np.bincount(unit)[:, None]
    return values, int(there.sum())


def _best_shares(units: Floats, seed: int) -> Floats:
    n, variants = units.shape
    random, shares = np.random.default_rng(seed), np.zeros(variants)
    block = max(1, BLOCK_OF // n)
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        drawn = random.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
        means = np.round(times @ units / n, 12)  # equal means are equal in spite of rounding
        first = means == means.max(axis=1, keepdims=True)
        shares += (first / first.sum(axis=1, keepdims=True)).sum(axis=0)
    return shares / RESAMPLES


def _beats(table: CaseTable, best: int, other: int, level: float) -> bool:
    pair = paired_sample(table, best, other)
    if pair is None or too_few(pair.differences):
        return False
    low = lower_bound(pair, level)
    if low is None or low <= 0:
        return False
    return not (pair.first.binary and pair.second.binary) or mcnemar_exact([pair])[0] <= 2 * level


def _dummies(levels: Sequence[str]) -> Floats:
    names = sorted(set(levels))
    return np.array([[float(level == name) for name in names[1:]] for level in levels]).reshape(len(levels), -1)


def _fit(means: Floats, designs: Sequence[Floats]) -> tuple[float, int]:
    """Residual sum of squares over variants, and the rank."""
    design = np.concatenate([np.ones((len(means), 1)), *designs], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(design, means, rcond=None)
    return float(((means - design @ solution) ** 2).sum()), int(rank)


def _share(squares: float, between: float) -> float:
    return min(1.0, max(0.0, squares / between)) if between > 0 else 0.0


def _f_test(mean_square: float, noise: float, freedom: int, units: Floats) -> float:
    from scipy.stats import f

    if noise <= 0:
        return 0.0 if mean_square > 0 else 1.0
    n, variants = units.shape
    return float(f.sf(mean_square / noise, freedom, (n - 1) * (variants - 1)))
