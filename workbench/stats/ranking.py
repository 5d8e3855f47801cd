"""Which variant is best, and which ones can't be told from it.

Higher scores are taken as better, so nothing here is said of numbers without a range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workbench.stats.bootstrap import resampled_means
from workbench.stats.bounds import lower_bound
from workbench.stats.methods import FEWEST_CASES, too_few
from workbench.stats.pvalues import mcnemar_exact
from workbench.stats.reduce import CaseTable, Floats, Scores, common_units, paired_sample, reduce_repeats

RESAMPLES = 2_000


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
    units, cases = common_units(table)
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


def _best_shares(units: Floats, seed: int) -> Floats:
    shares = np.zeros(units.shape[1])
    for resampled in resampled_means(units, RESAMPLES, seed):
        means = np.round(resampled, 12)  # equal means are equal in spite of rounding
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
