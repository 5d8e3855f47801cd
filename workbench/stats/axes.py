"""Which axis of a sweep matters: shares of the variance between variants, with their intervals.

Shares of sums of squares were chosen over a mixed model's variance components: the levels of an axis are those that
someone wrote down, no sample of levels, and two or three of them tell next to nothing of a variance between levels.
Where there are many levels the two agree (`tests/test_stats_axes.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from workbench.errors import UseError
from workbench.stats.bootstrap import resampled_means
from workbench.stats.distributions import f_tail
from workbench.stats.methods import FEWEST_CASES, FEWEST_CLUSTERS
from workbench.stats.reduce import ROUNDING as DIGITS
from workbench.stats.reduce import Bounds, Floats, Scores, common_units, reduce_repeats
from workbench.stats.summary import check_confidence

RESAMPLES = 2_000
ROUNDING = 1e-10
"""A part of a sum of squares that is taken for rounding: without it, scores that vary in nothing but one axis would
give p-values of rounding errors."""


@dataclass(frozen=True, slots=True)
class AxisShare:
    """What an axis, or two together, does to the mean."""

    axes: tuple[str, ...]
    """One name, or the two of an interaction."""
    share: float
    """Of the variance between variants, 0…1, less what chance alone would give."""
    p: float
    """Of "it does nothing"; not corrected for the number of axes."""
    interval: Bounds | None = None
    """Of the share, for all rows together; None where nothing can be said of it."""


@dataclass(frozen=True)
class _Term:
    """One row: what the means of variants have of it beside the others."""

    axes: tuple[str, ...]
    basis: Floats
    """Variant × degrees of freedom, orthonormal."""


def axis_importance(columns: Scores, axes: Mapping[str, Sequence[str]], confidence: float = 0.95) -> list[AxisShare]:
    """Shares of the variance between variants by axis and by pair of axes, the largest first.

    `axes`: for each axis the level of every variant, in the order of `columns.variants`. An analysis of variance of
    the common cases' means, cases as blocks: each variant has every common case, so all that differs between
    variants stands in their means. Sums of squares are of type II (Yates 1934, JASA 29:51): an axis beside all other
    axes, a pair beside all axes. F is held against the variants' disagreement over cases (variant × case).

    From each sum of squares that of pure chance is taken, the variance of its contrasts over cases (as in Hays' ω²,
    1963, whose noise is the same for all contrasts): so the shares are those of the true means. In a full grid they
    add up to about 1 less what three axes do together; elsewhere they may not. Intervals: see `_intervals`.

    Raises UseError for levels that do not fit the variants, fewer than two variants or common cases."""
    check_confidence(confidence)
    if any(len(levels) != len(columns.variants) for levels in axes.values()):
        raise UseError("each axis needs the level of every variant")
    table = reduce_repeats(columns)
    units, cases = common_units(table)
    n, variants = units.shape
    if columns.kind == "label" or variants < 2 or n < 2:
        raise UseError(f"axes need scores of two variants on two common cases at least; there are {cases}")
    means = units.mean(axis=0)
    between = n * float(((means - means.mean()) ** 2).sum())
    if between <= ROUNDING**2 * float((units**2).sum()):
        between = 0.0
    residual = units - means - units.mean(axis=1, keepdims=True) + units.mean()
    noise = float((residual**2).sum()) / ((n - 1) * (variants - 1))
    terms = _terms(axes)
    few = cases < FEWEST_CASES or (table.clusters is not None and n < FEWEST_CLUSTERS)
    told = bool(terms) and between > 0 and noise > ROUNDING * between / n and not few
    intervals = _intervals(units, terms, (1 - confidence) / max(1, len(terms))) if told else [None] * len(terms)
    whole = between - n * _by_chance(units, _centred(variants))
    found = []
    for term, interval in zip(terms, intervals, strict=True):
        squares, freedom = n * float(((means @ term.basis) ** 2).sum()), term.basis.shape[1]
        squares = squares if squares > ROUNDING * between else 0.0
        share = _share(squares - n * _by_chance(units, term.basis), whole)
        found.append(AxisShare(term.axes, share, _f_test(squares / freedom, noise, freedom, units), interval))
    return sorted(found, key=lambda row: (-row.share, len(row.axes), row.axes))


def _terms(axes: Mapping[str, Sequence[str]]) -> list[_Term]:
    """The axes that vary, and their pairs; none that says no more than the others."""
    varied = [name for name, levels in axes.items() if len(set(levels)) > 1]
    mains: dict[tuple[str, ...], Floats] = {(name,): _dummies(axes[name]) for name in varied}
    parts = dict(mains)
    for one, other in combinations(varied, 2):
        pairs = [f"{a}\0{b}" for a, b in zip(axes[one], axes[other], strict=True)]
        parts[one, other] = np.concatenate([*mains.values(), _dummies(pairs)], axis=1)
    found = []
    for axis, design in parts.items():
        others = [part for name, part in mains.items() if len(axis) == 2 or name != axis]
        basis = _beside(np.concatenate([np.ones((len(design), 1)), *others], axis=1), design)
        if basis.shape[1]:
            found.append(_Term(axis, basis))
    return found


def _dummies(levels: Sequence[str]) -> Floats:
    names = sorted(set(levels))
    return np.array([[float(level == name) for name in names[1:]] for level in levels]).reshape(len(levels), -1)


def _beside(rest: Floats, design: Floats) -> Floats:
    """An orthonormal basis of what the design holds beside the rest."""
    solution, *_ = np.linalg.lstsq(rest, design, rcond=None)
    left, sizes, _ = np.linalg.svd(design - rest @ solution, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-9 * max(1.0, float(np.abs(design).max(initial=0)))])


def _centred(variants: int) -> Floats:
    """An orthonormal basis of all differences between variants."""
    return _beside(np.ones((variants, 1)), np.eye(variants))


def _by_chance(units: Floats, basis: Floats) -> float:
    """The expected sum of squares of these contrasts of means where the true ones are 0."""
    return float((units @ basis).var(axis=0, ddof=1).sum()) / len(units)


def _intervals(units: Floats, terms: Sequence[_Term], alpha: float) -> list[Bounds | None]:
    """Percentiles of the shares over 2,000 resamples of cases (or clusters), all variants' together.

    A resampled mean has the chance of the sample and its own, so twice the chance is taken from its squares. Where
    nothing is left of the whole, a resample speaks for every share; where that happens in more than half of alpha,
    the variants' differences are too small to be shared out, and there is no interval."""
    bases = [term.basis for term in terms]
    chance = [2 * _by_chance(units, basis) for basis in bases]
    whole_chance = 2 * _by_chance(units, _centred(units.shape[1]))
    drawn, wholes = [], []
    for means in resampled_means(units, RESAMPLES):
        squares = [((means @ basis) ** 2).sum(axis=1) - less for basis, less in zip(bases, chance, strict=True)]
        drawn.append(np.stack(squares))
        wholes.append(((means - means.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) - whole_chance)
    parts, whole = np.concatenate(drawn, axis=1), np.concatenate(wholes)
    known = whole > 0
    if (~known).mean() > alpha / 2:
        return [None] * len(terms)
    shares = np.clip(parts / np.where(known, whole, 1.0), 0.0, 1.0)
    low = np.quantile(np.where(known, shares, 0.0), alpha / 2, axis=1)
    high = np.quantile(np.where(known, shares, 1.0), 1 - alpha / 2, axis=1)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _share(squares: float, whole: float) -> float:
    return min(1.0, max(0.0, squares / whole)) if whole > 0 else 0.0


def _f_test(mean_square: float, noise: float, freedom: int, units: Floats) -> float:
    """Where variants differ alike on every case, the sign test, as in `pvalues.t_test`."""
    n, variants = units.shape
    if noise <= (DIGITS * float(np.abs(units).max())) ** 2:
        return 2.0 ** (1 - n) if mean_square > 0 else 1.0
    return f_tail(mean_square / noise, freedom, (n - 1) * (variants - 1))
