"""The one table of default methods: which interval and which test is used when.

Others may serve as cross-checks in tests, never as a choice. `docs/statistics.md` says the same in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from workbench.stats.intervals import (
    anderson,
    clopper_pearson,
    constant_bound,
    newcombe,
    t_interval,
    wilson,
    wilson_effective,
)
from workbench.stats.pvalues import mcnemar_exact, sign_flip, t_test
from workbench.stats.reduce import Bounds, PairedSample, Sample

FEWEST_CASES = 8
FEWEST_CLUSTERS = 5
"""Below either only exact bounds are given: approximations don't hold there."""

MeanInterval = Callable[[Sample, float], Bounds]
DifferenceInterval = Callable[[PairedSample, float], Bounds]
Test = Callable[[Sequence[PairedSample]], list[float]]


class Situation(Enum):
    """What the scores are, after repeats are reduced."""

    BINARY = "one 0/1 score a case"
    FEW_BINARY = "one 0/1 score a case, below 8 cases"
    BOUNDED = "repeats or fractions"
    FEW_BOUNDED = "repeats, fractions or clusters, below 8 cases or 5 clusters"
    NUMBER = "numbers without a range"
    CLUSTERS = "clusters"
    NUMBER_CLUSTERS = "clusters of numbers without a range"
    FEW_NUMBERS = "numbers without a range, below 8 cases or 5 clusters"


@dataclass(frozen=True, slots=True)
class Method:
    """Name and function of each; None where nothing can honestly be said."""

    mean: tuple[str, MeanInterval] | None
    difference: tuple[str, DifferenceInterval] | None
    test: tuple[str, Test] | None


def _of_differences(interval: MeanInterval) -> DifferenceInterval:
    return lambda pair, alpha: interval(pair.differences, alpha)


_T = _of_differences(t_interval)
_ANDERSON = ("Anderson, exact", _of_differences(anderson))
_MCNEMAR = ("exact McNemar", mcnemar_exact)
_FLIP = ("sign-flip permutation", sign_flip)

METHODS = {
    Situation.BINARY: Method(("Wilson", wilson), ("Newcombe", newcombe), _MCNEMAR),
    Situation.FEW_BINARY: Method(("Clopper–Pearson, exact", clopper_pearson), _ANDERSON, _MCNEMAR),
    Situation.BOUNDED: Method(("Wilson at the effective n", wilson_effective), ("t on case means", _T), _FLIP),
    Situation.FEW_BOUNDED: Method(("Anderson, exact", anderson), _ANDERSON, _FLIP),
    Situation.NUMBER: Method(("t on case means", t_interval), ("t on case means", _T), _FLIP),
    Situation.CLUSTERS: Method(
        ("Wilson at the effective n", wilson_effective), ("t on cluster means", _T), ("t on cluster means", t_test)
    ),
    Situation.NUMBER_CLUSTERS: Method(
        ("t on cluster means", t_interval), ("t on cluster means", _T), ("t on cluster means", t_test)
    ),
    Situation.FEW_NUMBERS: Method(None, None, None),
}

_EQUAL = ("equal values, exact", constant_bound)


def mean_method(sample: Sample) -> Method:
    """The method for one variant's mean."""
    method = METHODS[_situation(sample, sample.binary)]
    if not sample.constant:
        return method
    return replace(method, mean=None if sample.bounds is None else _EQUAL)


def difference_method(pair: PairedSample) -> Method:
    """The method for the difference of two variants."""
    differences = pair.differences
    method = METHODS[_situation(differences, pair.first.binary and pair.second.binary)]
    if not differences.constant:
        return method
    equal = (_EQUAL[0], _of_differences(constant_bound))
    return replace(method, difference=None if differences.bounds is None else equal)


def too_few(sample: Sample) -> bool:
    """Below 8 cases or 5 clusters."""
    return sample.cases < FEWEST_CASES or (sample.clustered and len(sample.values) < FEWEST_CLUSTERS)


def why_no_interval(sample: Sample) -> str:
    """The reason, for people."""
    if not too_few(sample):
        return f"all {len(sample.values)} values are the same"
    units = len(sample.values) if sample.clustered else sample.cases
    word = "cluster" if sample.clustered else "case"
    return f"not enough data: {units} {word}{'' if units == 1 else 's'}"


def _situation(sample: Sample, binary: bool) -> Situation:
    few = too_few(sample)
    if binary:
        return Situation.FEW_BINARY if few else Situation.BINARY
    if few:
        return Situation.FEW_NUMBERS if sample.bounds is None else Situation.FEW_BOUNDED
    if sample.clustered:
        return Situation.NUMBER_CLUSTERS if sample.bounds is None else Situation.CLUSTERS
    return Situation.NUMBER if sample.bounds is None else Situation.BOUNDED
