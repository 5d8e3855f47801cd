"""What several answers to one case are worth together: the best of k, the worst of k, and how much they differ.

Each turns score columns into columns with one score a case, so that means, intervals and comparisons of these
are made by the same functions as those of any score. For pass/fail scores `best_of` is pass@k and `worst_of` pass^k.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from workbench.errors import UseError
from workbench.records import Kind, ScoreColumns
from workbench.stats.reduce import Floats, Ints


def best_of(columns: ScoreColumns, k: int) -> ScoreColumns:
    """For each case the expected best of k of its scores, drawn without replacement.

    Σ C(i−1, k−1)·x₍ᵢ₎ ÷ C(n, k) over the n scores in ascending order: unbiased, and for 0/1 scores Chen et al.'s
    pass@k (2021, arXiv 2107.03374). Cases with fewer than k scores are left out. Raises UseError for labels, and
    where no case has k scores."""
    return _expected_extreme(columns, k, best=True)


def worst_of(columns: ScoreColumns, k: int) -> ScoreColumns:
    """For each case the expected worst of k; for 0/1 scores pass^k, the chance that all k pass (Yao et al. 2024, arXiv
    2406.12045). As `best_of` in all else."""
    return _expected_extreme(columns, k, best=False)


def flakiness(columns: ScoreColumns) -> ScoreColumns:
    """For each case with two scores at least, the chance that two of them differ.

    Unbiased: 1 − Σ m(m−1) ÷ n(n−1) over the values given m times (Simpson 1949, Nature 163:688); for 0/1 scores
    2c(n−c) ÷ n(n−1). 0 is steady, ½ a coin. Raises UseError where no case has two scores."""
    cell, value, n = _cells(columns)
    keep = n[cell] >= 2
    if not keep.any():
        raise UseError("flakiness needs two scores a case at least; set repeats in the suite")
    groups, m = np.unique(np.stack([cell[keep].astype(float), value[keep]]), axis=1, return_counts=True)
    same = np.bincount(groups[0].astype(np.int64), weights=m * (m - 1.0), minlength=len(n))
    there = np.flatnonzero(n >= 2)
    return _columns(columns, there, np.asarray(1 - same[there] / (n[there] * (n[there] - 1.0))), "fraction")


def _expected_extreme(columns: ScoreColumns, k: int, best: bool) -> ScoreColumns:
    if columns.kind == "label":
        raise UseError(f"scorer '{columns.scorer}' gives labels, which have no best; choose another scorer")
    cell, value, n = _cells(columns)
    most = int(n.max(initial=0))
    if not 1 <= k <= most:
        need = f"{max(k, 1)} scores a case, and k of at least 1"
        raise UseError(f"the best or worst of {k} needs {need}; there are {most}")
    order = np.lexsort((value, cell))
    cell, value = cell[order], value[order]
    rank = np.arange(len(cell)) - (np.cumsum(n) - n)[cell]  # 0 is the lowest of its case
    below = rank if best else n[cell] - 1 - rank
    weight = np.zeros(len(cell))
    for size in np.unique(n[n >= k]).tolist():
        here, ways = n[cell] == size, math.comb(size, k)
        weight[here] = np.array([math.comb(i, k - 1) / ways for i in range(size)])[below[here]]
    sums = np.bincount(cell, weights=weight * value, minlength=len(n))
    there = np.flatnonzero(n >= k)
    return _columns(columns, there, np.asarray(sums[there]), "number" if columns.kind == "number" else "fraction")


def _cells(columns: ScoreColumns) -> tuple[Ints, Floats, Ints]:
    """For each score its cell (variant × case) and value, and how many scores each cell has."""
    cell = np.asarray(columns.variant, dtype=np.int64) * len(columns.cases) + np.asarray(columns.case, dtype=np.int64)
    value = np.asarray(columns.value, dtype=np.float64)
    return cell, value, np.bincount(cell, minlength=len(columns.variants) * len(columns.cases)).astype(np.int64)


def _columns(columns: ScoreColumns, cells: Ints, values: Floats, kind: Kind) -> ScoreColumns:
    """One score for each of the cells, kept between 0 and 1 where rounding would lead outside."""
    inside = values if kind == "number" else np.clip(values, 0, 1)
    variant, case = np.divmod(cells, len(columns.cases))
    return replace(
        columns,
        kind=kind,
        variant=variant.tolist(),
        case=case.tolist(),
        repeat=[0] * len(cells),
        value=inside.tolist(),
        labels=(),
    )
