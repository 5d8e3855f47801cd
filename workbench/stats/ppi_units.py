"""A mean of what people would say, where outputs belong together: repeats of a case, cases of a cluster.

The prediction-powered mean of `ppi`, its variance taken between units: a unit is a case, or the cluster of several,
and what lies in one unit may agree as much as it likes. Each unit counts once, each case of it alike, each repeat of a
case alike, as in `reduce`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from workbench.stats.distributions import t_upper
from workbench.stats.intervals import effective_ends
from workbench.stats.needed import whole_cases
from workbench.stats.ppi import PeopleSample, PredictionPowered, cut
from workbench.stats.reduce import LEAST, ROUNDING, Bounds, Floats, Ints
from workbench.stats.summary import check_confidence

FEWEST_UNITS = 5
"""With labels, on each side of a difference; intervals hold from 4 on, but say next to nothing below."""
MOST_UNEVEN = 3.0
"""How many times likelier one output may have been drawn than another. Where a judge's rare verdicts are drawn more
seldom than that, few labels carry most of the weight, and bounds err more often than they say (docs/statistics.md)."""
MISSES_ALIKE = 0.25
"""How alike a judge's misses within one unit are taken to be where they have not been seen."""


@dataclass(frozen=True)
class UnitLabels:
    """A judge's means of all units, and people's labels of some outputs, drawn at random."""

    judge: Floats
    """Of each unit."""
    unit: Ints
    """Of each labelled output from here on: its unit,"""
    truth: Floats
    """… people's score,"""
    predicted: Floats
    """… the judge's, or the judge's mean of its case where that is all there is,"""
    weights: Floats
    """… its share in its unit's mean, 1/(repeats × cases), divided by the probability with which it was drawn. Only
    their proportions count."""

    @property
    def units(self) -> int:
        """With a label."""
        return len(np.unique(self.unit))

    @property
    def effective_units(self) -> float:
        """How many units of equal weight would say as much (Kish 1965, Survey Sampling, § 11.7)."""
        weight = np.bincount(self.unit, self.weights)
        return float(weight.sum() ** 2 / (weight @ weight))

    def deviations(self, values: Floats) -> Floats:
        """By unit, how the labelled ones of these values move the weighted mean of all: the influence of a unit on
        Σ w·value ÷ Σ w."""
        mean = np.average(values, weights=self.weights)
        sums = np.bincount(self.unit, self.weights * (values - mean), len(self.judge))
        return np.asarray(sums / self.weights.sum() * len(self.judge), dtype=np.float64)


@dataclass(frozen=True)
class PeopleUnits:
    """A judge's scores, or its difference between two sides, in the same units; and people's labels of each side."""

    sides: tuple[UnitLabels, ...]
    """One, or two of which the second is taken from the first."""
    items: int
    """Cases."""
    bounds: Bounds
    """The range that no value, or no difference, can leave. Without one nothing can be said: a t interval of skewed
    numbers misses in up to 15 % with 30 clusters."""

    @property
    def method(self) -> str:
        return "clustered prediction-powered"

    @property
    def units(self) -> int:
        """With labels, on the side that has fewer."""
        return min(side.units for side in self.sides)

    def estimate(self, confidence: float) -> PredictionPowered:
        """The clustered prediction-powered mean with power tuning.

        θ = λ·(mean over units of the judge's unit means) + Σ w·(truth − λ·judge) ÷ Σ w: the difference estimator of
        survey sampling (Cassel, Särndal and Wretman 1976, Biometrika 63:615) with Hájek's weights, which without
        repeats and clusters is that of PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453). Its variance is
        that between the units' influences (Binder 1983, Int. Stat. Rev. 51:279; for predictions under cluster sampling
        Kluger et al. 2025, arXiv 2501.18577), λ within 0…1 that which makes it least, t with one degree of freedom less
        than the units that count for the labels: (Σ W)² ÷ Σ W², W the weight of a unit's labels (Kish 1965), which is
        the number of units with labels where all weigh alike.

        Raises UseError for a confidence outside 0…1."""
        check_confidence(confidence)
        parts = self._parts
        half = t_upper((1 - confidence) / 2, parts.freedom) * parts.variance**0.5
        interval = cut(parts.value - half, parts.value + half, self.bounds)
        labels = sum(len(side.truth) for side in self.sides)
        told = (parts.trust, labels, max(0, self.items - labels), parts.labels_alone, parts.judge_alone)
        value = min(self.bounds[1], max(self.bounds[0], parts.value))
        return PredictionPowered(value, interval, confidence, *told, 0.0 if parts.same else parts.variance**0.5)

    def ends(self, alpha: float) -> Bounds | None:
        """The ends of the interval with an error of `alpha` on both sides together; None where it has no width.

        It is made as `PeopleSample.ends` makes it, with two more units in place of two more labels, one
        missed each way by as much as its labels would be, were their misses correlated by `MISSES_ALIKE`; where judge
        and people differ by the same amount on every label, the exact bound of equal values for so many units."""
        parts, (lowest, highest) = self._parts, self.bounds
        width = highest - lowest
        if parts.same:
            half = (1 - (alpha / 2) ** (1 / (parts.freedom + 1))) * width
            half += t_upper(alpha / 2, parts.freedom) * parts.variance**0.5
            return cut(parts.value - half, parts.value + half, self.bounds)
        edge = 0.5 / sum(len(side.truth) for side in self.sides)
        mean = min(1 - edge, max(edge, (parts.value - lowest) / width))
        variance = parts.variance / width**2 + parts.unseen / len(self.sides) ** 2
        lower, upper = effective_ends(mean, variance, parts.freedom + 1, alpha)
        return cut(lowest + lower * width, lowest + upper * width, self.bounds)

    def needed(self, error: float) -> tuple[int | None, int | None]:
        """How many labels, in how many cases, bring the standard error to `error`: both so many times as many as there
        are, since it is the units that count."""
        labels, found = sum(len(side.truth) for side in self.sides), self._parts.variance
        wanted = max(error**2, LEAST)
        return whole_cases(labels * found / wanted), whole_cases(self.items * found / wanted)

    @cached_property
    def _parts(self) -> _Parts:
        signed = list(zip((1.0, -1.0), self.sides, strict=False))
        judge = np.sum([sign * side.judge for sign, side in signed], axis=0)
        truth = np.sum([sign * side.deviations(side.truth) for sign, side in signed], axis=0)
        predicted = np.sum([sign * side.deviations(side.predicted) for sign, side in signed], axis=0)
        helps, units = judge - judge.mean() - predicted, len(judge)
        same = all(_constant(side.truth - side.predicted) for side in self.sides)
        spread = float(helps @ helps)
        trust = 1.0 if same else min(1.0, max(0.0, -float(truth @ helps) / spread)) if spread > 0 else 0.0
        influence = truth + trust * helps
        alone = sum(sign * float(np.average(side.truth, weights=side.weights)) for sign, side in signed)
        followed = sum(sign * float(np.average(side.predicted, weights=side.weights)) for sign, side in signed)
        missed = float(np.square(truth - trust * predicted).sum()) / units**2
        return _Parts(
            value=trust * (float(judge.mean()) - followed) + alone,
            variance=float(influence @ influence) / (units * (units - 1)),
            trust=trust,
            freedom=min(side.effective_units for side in self.sides) - 1,
            same=same,
            unseen=max(_unseen(side, missed) for side in self.sides),
            labels_alone=alone,
            judge_alone=float(judge.mean()),
        )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What estimate and ends are made of."""

    value: float
    variance: float
    trust: float
    freedom: float
    same: bool
    unseen: float
    """What two more units would add to the variance, per square of the largest miss."""
    labels_alone: float
    judge_alone: float


def _unseen(side: UnitLabels, missed: float) -> float:
    """`missed`: the variance of what the judge misses by, as found."""
    n = side.effective_units
    largest = MISSES_ALIKE + (1 - MISSES_ALIKE) * side.units / len(side.truth)
    return max(0.0, (missed * n * n + 2 * largest) / ((n + 2) * (n - 1)) - missed * n / (n - 1))


def _constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= ROUNDING * max(1.0, float(np.abs(values).max())))


People = PeopleSample | PeopleUnits
"""What people would say, by labels of independent outputs, or of such as belong together."""
