"""Repeats into cases, cases into clusters: what is left are values that may be taken as independent.

A score column is a long list (variant, case, repeat, value). Here it becomes a table variant × case of case
means, and from it a `Sample` (one variant) or a `PairedSample` (two variants on their common cases), whose
values are the units that intervals and tests count: cases, or clusters where cases belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from workbench.errors import UseError
from workbench.records import CaseScores, ScoreColumns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bounds = tuple[float, float]
Scores = ScoreColumns | CaseScores
"""One by one, or added up over repeats: for all that reduces repeats it is the same."""

ROUNDING = 1e-12
"""Differences below this share of the largest value come from adding in another order, not from data."""
LEAST = 1e-100
"""A score that lies nearer to 0 counts as 0: its square, and so a spread, would be 0."""


@dataclass(frozen=True)
class CaseTable:
    """One scorer's scores with repeats reduced to the mean of their case."""

    means: Floats
    """Variant × case; 0 where there is no score."""
    counts: Ints
    """Variant × case: how many scores the mean rests on."""
    clusters: Ints | None
    """For each case the number of its cluster; None where no two cases share one."""
    bounds: Bounds | None
    """The range that no value can leave; None for unbounded numbers."""
    binary: bool
    """Every single score is 0 or 1."""


@dataclass(frozen=True)
class Sample:
    """One variant's independent values: case means, or cluster means where cases are clustered."""

    values: Floats
    cases: int
    bounds: Bounds | None = None
    binary: bool = False
    """The values are single 0/1 scores: no repeats, no clusters."""
    clustered: bool = False
    largest: float = 0.0
    """Size of the largest number that the values were made of; 0: they are no larger than they look."""

    @cached_property
    def constant(self) -> bool:
        """All values are the same but for rounding."""
        return bool(np.ptp(self.values) <= ROUNDING * max(self.largest, _largest(self.bounds, self.values)))


@dataclass(frozen=True)
class PairedSample:
    """Two variants on their common cases, unit by unit."""

    first: Sample
    second: Sample
    wins: int
    """Common cases on which the first has the higher mean; `losses`: the lower, `ties`: the same."""
    losses: int
    ties: int

    @cached_property
    def differences(self) -> Sample:
        """First minus second for each unit, in the range that this leaves."""
        bounds = self.first.bounds
        if bounds is not None:
            width = bounds[1] - bounds[0]
            bounds = (-width, width)
        largest = max(self.first.largest, self.second.largest, _largest(bounds, self.first.values, self.second.values))
        values = _difference(self.first.values, self.second.values, largest)
        return Sample(values, self.first.cases, bounds, False, self.first.clustered, largest)


def _difference(first: Floats, second: Floats, largest: float) -> Floats:
    """First minus second, with rounding errors set to exactly 0."""
    values = first - second
    values[np.abs(values) <= ROUNDING * largest] = 0.0
    return values


def _largest(bounds: Bounds | None, *values: Floats) -> float:
    """What rounding errors are a share of: the largest value, within a range the largest that can be."""
    return max(*(float(np.abs(v).max(initial=0)) for v in values), 0.0 if bounds is None else max(map(abs, bounds)))


def reduce_repeats(columns: Scores) -> CaseTable:
    """The table of case means. Raises UseError for values that the scorer's kind does not allow."""
    variant = np.asarray(columns.variant, dtype=np.int64)
    case = np.asarray(columns.case, dtype=np.int64)
    value = np.asarray(columns.value, dtype=np.float64)
    bounds = _check(columns, value)
    value = np.where(np.abs(value) < LEAST, 0.0, value)
    number = entry_counts(columns)
    shape = (len(columns.variants), len(columns.cases))
    cell = variant * shape[1] + case
    counts = np.bincount(cell, weights=number, minlength=shape[0] * shape[1]).astype(np.int64).reshape(shape)
    sums = np.bincount(cell, weights=value, minlength=shape[0] * shape[1]).reshape(shape)
    means = sums / np.maximum(counts, 1)
    return CaseTable(means, counts, _clusters(columns), bounds, columns.kind == "pass")


def of_variants(scores: CaseScores, names: Sequence[str]) -> CaseScores:
    """The scores of some variants alone, in the order of `names`. `lowest`, `highest` and `zero_or_one` still speak
    of all, so that a value that the kind does not allow is refused wherever it stands."""
    at = {scores.variants.index(name): i for i, name in enumerate(names)}
    chosen = [i for i, variant in enumerate(scores.variant) if variant in at]
    return replace(
        scores,
        variants=tuple(names),
        variant=[at[scores.variant[i]] for i in chosen],
        case=[scores.case[i] for i in chosen],
        count=[scores.count[i] for i in chosen],
        value=[scores.value[i] for i in chosen],
        missing=tuple(scores.missing[i] for i in at) if scores.missing else (),
    )


def entry_counts(columns: Scores) -> Ints:
    """How many scores each entry stands for."""
    if isinstance(columns, CaseScores):
        return np.asarray(columns.count, dtype=np.int64)
    return np.ones(len(columns.value), dtype=np.int64)


def sample(table: CaseTable, variant: int) -> Sample | None:
    """The independent values of one variant; None where it has no score."""
    scored = table.counts[variant] > 0
    return _sample(table, variant, scored) if scored.any() else None


def paired_sample(table: CaseTable, first: int, second: int) -> PairedSample | None:
    """Two variants on the cases that both have scores for; None where there is no such case."""
    common = (table.counts[first] > 0) & (table.counts[second] > 0)
    if not common.any():
        return None
    sides = table.means[first, common], table.means[second, common]
    by_case = _difference(*sides, _largest(table.bounds, *sides))
    wins, losses = int((by_case > 0).sum()), int((by_case < 0).sum())
    a, b = _sample(table, first, common), _sample(table, second, common)
    return PairedSample(a, b, wins, losses, len(by_case) - wins - losses)


def common_units(table: CaseTable) -> tuple[Floats, int]:
    """Unit × variant on the cases that all have scores for, cases averaged within their cluster; how many cases."""
    there = (table.counts > 0).all(axis=0)
    values = table.means[:, there].T
    if table.clusters is not None and len(values):
        _, unit = np.unique(table.clusters[there], return_inverse=True)
        sums = np.zeros((int(unit.max()) + 1, values.shape[1]))
        np.add.at(sums, unit, values)
        values = sums / np.bincount(unit)[:, None]
    return values, int(there.sum())


def _sample(table: CaseTable, variant: int, cases: NDArray[np.bool_]) -> Sample:
    values = table.means[variant, cases]
    largest = _largest(table.bounds, values)
    if table.clusters is not None:
        _, unit = np.unique(table.clusters[cases], return_inverse=True)
        values = np.bincount(unit, weights=values) / np.bincount(unit)
    clustered = table.clusters is not None
    single = int(table.counts[variant, cases].max()) == 1
    binary = table.binary and single and not clustered
    return Sample(values, int(cases.sum()), table.bounds, binary, clustered, largest)


def _check(columns: Scores, value: Floats) -> Bounds | None:
    ends = np.array([columns.lowest, columns.highest]) if isinstance(columns, CaseScores) else value
    if not (np.isfinite(value).all() and np.isfinite(ends).all()):
        raise UseError(f"scorer '{columns.scorer}' gave a value that is no number; return None for unscored")
    if columns.kind == "number":
        return None
    if columns.kind == "pass":
        if not (columns.zero_or_one if isinstance(columns, CaseScores) else np.isin(value, (0.0, 1.0)).all()):
            raise UseError(f"scorer '{columns.scorer}' is of kind pass, but gave a value other than 0 and 1")
    elif ends.size and not 0 <= ends.min() <= ends.max() <= 1:
        raise UseError(f"scorer '{columns.scorer}' is of kind fraction, but gave a value outside 0 to 1")
    return (0.0, 1.0)


def _clusters(columns: Scores) -> Ints | None:
    """A case without a cluster is one of its own."""
    names = [("case", i) if name is None else ("cluster", name) for i, name in enumerate(columns.clusters)]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if len(number) == len(columns.cases):
        return None
    return np.array([number[name] for name in names], dtype=np.int64)
