"""A mean of what people would say, from few labels of people and many of a judge: prediction-powered inference.

It holds only where the labelled items were drawn at random, with known probabilities: labels of what looked bad
make an interval that covers 44 % instead of 95 %. Who calls this says so by passing the probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.errors import UseError
from workbench.stats.intervals import constant_bound, effective_ends
from workbench.stats.needed import whole_cases
from workbench.stats.reduce import LEAST, Bounds, Floats, Sample
from workbench.stats.summary import check_confidence

FEWEST_LABELS = 50


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """A mean with its interval."""

    value: float
    """Within the range that values can't leave."""
    interval: Bounds | None
    """None where it would have no width: nothing is known of what has not been seen."""
    confidence: float
    trust: float
    """λ, how far the judge is followed: 0 not at all (labels alone), 1 wholly."""
    labels: int
    judged: int
    """Items with the judge's score alone."""
    labels_alone: float
    """The mean by the labels alone."""
    judge_alone: float
    """The judge's mean over all items; what it misses by is the reason for all this."""
    error: float
    """The standard error; 0 where judge and people differ by the same amount on every label."""


@dataclass(frozen=True)
class PeopleSample:
    """A judge's scores of independent items, or its paired differences, and people's of some, drawn at random."""

    truth: Floats
    """People's, of the labelled items."""
    judge: Floats
    """The judge's, of the same items."""
    others: Floats
    """The judge's, of all other items."""
    bounds: Bounds | None = None
    """The range that no value can leave."""
    probabilities: Floats | None = None
    """With which each labelled item was drawn; None: all alike."""

    @property
    def items(self) -> int:
        return len(self.truth) + len(self.others)

    @property
    def method(self) -> str:
        return "prediction-powered"

    def estimate(self, confidence: float) -> PredictionPowered:
        """Raises what `ppi_mean` raises."""
        chances = None if self.probabilities is None else self.probabilities.tolist()
        parts = (self.truth.tolist(), self.judge.tolist(), self.others.tolist())
        return ppi_mean(*parts, chances, self.bounds, confidence)

    def ends(self, alpha: float) -> Bounds | None:
        """The ends of the interval with an error of `alpha` on both sides together; None where it has no width, as
        where all values without a range are the same.

        Within a range it is Wilson's at the effective size (see `intervals.wilson_effective`), the variance of what
        the judge misses by taken with two more labels, one missed each way (as Agresti and Coull 1998, Am. Stat.
        52:119, do for a share): a judge that is seldom wrong shows few of its errors. At a mean of 0.9 and 60 labels
        a t bound passes what it should not in 12 % in place of 5, and without the two labels still in 11 %."""
        found = self.estimate(max(1 - alpha, 1e-9))
        if self.bounds is not None and found.error > 0:
            width = self.bounds[1] - self.bounds[0]
            edge = 0.5 / found.labels  # beyond it an estimate says nothing of its own size
            mean = min(1 - edge, max(edge, (found.value - self.bounds[0]) / width))
            variance = found.error**2 + self._unseen(found.trust)
            lower, upper = effective_ends(mean, variance / width**2, found.labels, alpha)
            low, high = self.bounds[0] + lower * width, self.bounds[0] + upper * width
            return (low, high) if high > low else None
        return found.interval

    def needed(self, error: float) -> tuple[int | None, int | None]:
        """What brings the standard error to `error`: labels of the items there are, else items, each with a label."""
        labels = labels_for(self, error)
        return labels, None if labels else whole_cases(float(self.truth.var(ddof=1)) / max(error**2, LEAST))

    def _unseen(self, trust: float) -> float:
        """What two more labels, one missed each way by as much as can be, add to the variance of the estimate."""
        assert self.bounds is not None
        rectifier, n = self.truth - trust * self.judge, len(self.truth)
        more = (float(rectifier.var()) * n + 2 * self.bounds[1] ** 2) / (n + 2)
        return max(0.0, more / (n - 1) - float(rectifier.var(ddof=1)) / n)


def labels_for(sample: PeopleSample, error: float) -> int | None:
    """How many labels, drawn from the items there are, bring the standard error of `ppi_mean` to `error`: n from
    var(truth − λ·judge)/n + λ²·var(judge)/M = error², by the variances measured. None where even a label for each
    item does not: then there are too few items."""
    trust = sample.estimate(0.95).trust
    pool = np.concatenate([sample.judge, sample.others])
    left = error**2 - trust**2 * float(pool.var(ddof=1)) / sample.items
    rectifier = float((sample.truth - trust * sample.judge).var(ddof=1))
    needed = whole_cases(rectifier / left) if left > 0 else None
    return None if needed is None or needed > sample.items else max(FEWEST_LABELS, needed)


def ppi_mean(
    truth: Sequence[float],
    judge: Sequence[float],
    others: Sequence[float],
    probabilities: Sequence[float] | None = None,
    bounds: Bounds | None = (0.0, 1.0),
    confidence: float = 0.95,
) -> PredictionPowered:
    """The prediction-powered mean with power tuning.

    `truth` and `judge`: both scores of the labelled items; `others`: the judge's of all other items; `probabilities`:
    with which each labelled item was drawn, None where all were drawn alike.

    θ = λ·mean(others) + mean(truth − λ·judge), var θ = λ²·var(others)/N + var(truth − λ·judge)/n
    (Angelopoulos et al. 2023, Science 382:669), λ = cov(truth, judge) ÷ ((1 + n/N)·var(judge)), which makes it least
    (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453, example 6.1), kept within 0…1. With unequal probabilities π
    the items are one pool of M: θ = Σ(λ·judge + drawn·(truth − λ·judge)/π) ÷ M (Zrnic and Candès 2024, arXiv
    2403.03208), its variance that of the terms. Student's t with n − 1 degrees of freedom; where judge and people
    differ by the same amount on every label, λ is 1 and the exact bound of equal values replaces a variance of 0.

    Raises UseError below 50 labels, where lengths differ, for a probability outside 0…1, or values outside `bounds`."""
    check_confidence(confidence)
    y, f, rest = (np.asarray(values, dtype=np.float64) for values in (truth, judge, others))
    _check(y, f, rest, bounds)
    if probabilities is not None and len(set(probabilities)) > 1:
        return _weighted(y, f, rest, _drawn(probabilities, len(y)), (bounds, confidence))
    if probabilities is not None:
        _drawn(probabilities, len(y))
    n, count = len(y), len(rest)
    pool = np.concatenate([f, rest])
    same = _same(y, f) and bounds is not None and count > 0
    spread = (1 + n / count) * float(pool.var(ddof=1)) if count else 0.0
    trust = 1.0 if same else _trust(float(np.cov(y, f, bias=True)[0, 1]), spread)
    rectifier = y - trust * f
    shift = trust * float(rest.mean()) if count else 0.0
    variance = trust**2 * float(rest.var(ddof=1)) / count if count > 1 else 0.0
    value = shift + float(rectifier.mean())
    interval = _interval(value, variance, rectifier, bounds, 1 - confidence)
    error = 0.0 if same else (variance + float(rectifier.var(ddof=1)) / n) ** 0.5
    alone, judged = float(y.mean()), float(pool.mean())
    return PredictionPowered(_inside(value, bounds), interval, confidence, trust, n, count, alone, judged, error)


def _weighted(
    y: Floats, f: Floats, rest: Floats, drawn: Floats, told: tuple[Bounds | None, float]
) -> PredictionPowered:
    """All items as one pool, the labelled ones weighed by 1/π."""
    from scipy.stats import t

    bounds, confidence = told
    pool, n = len(y) + len(rest), len(y)
    judged = np.concatenate([f, rest])
    weighed = np.zeros((2, pool))  # drawn·truth/π and drawn·judge/π, whose difference is to be least spread
    weighed[0, :n], weighed[1, :n] = y / drawn, f / drawn
    helps = weighed[1] - judged
    trust = _trust(float(np.cov(weighed[0], helps)[0, 1]), float(helps.var(ddof=1)))
    terms = weighed[0] - trust * helps
    value = float(terms.mean())
    error = float(terms.std(ddof=1)) / pool**0.5
    half = float(t.isf((1 - confidence) / 2, n - 1)) * error
    if bounds is not None and _same(y, f):
        alike = float((1 / drawn).sum() ** 2 / (1 / drawn**2).sum())  # as many labels of equal weight (Kish 1965)
        half += (1 - ((1 - confidence) / 2) ** (1 / alike)) * (bounds[1] - bounds[0])
    alone = float(weighed[0].sum() / (1 / drawn).sum())
    interval = cut(value - half, value + half, bounds)
    return PredictionPowered(
        _inside(value, bounds), interval, confidence, trust, n, len(rest), alone, float(judged.mean()), error
    )  # fmt: skip


def _interval(value: float, variance: float, rectifier: Floats, bounds: Bounds | None, alpha: float) -> Bounds | None:
    from scipy.stats import t

    n = len(rectifier)
    if bounds is not None and Sample(rectifier, n, bounds).constant:
        width = bounds[1] - bounds[0]
        middle = float(rectifier.mean())
        low, high = constant_bound(Sample(np.full(n, middle), n, (middle - width, middle + width)), alpha)
        extra = float(t.isf(alpha / 2, n - 1)) * variance**0.5
        return cut(value - (middle - low) - extra, value + (high - middle) + extra, bounds)
    half = float(t.isf(alpha / 2, n - 1)) * (variance + float(rectifier.var(ddof=1)) / n) ** 0.5
    return cut(value - half, value + half, bounds)


def _trust(covariance: float, variance: float) -> float:
    return min(1.0, max(0.0, covariance / variance)) if variance > 0 else 0.0


def _same(truth: Floats, judge: Floats) -> bool:
    """Judge and people differ by the same amount on every label."""
    largest = max(float(np.abs(truth).max()), float(np.abs(judge).max()))
    return Sample(truth - judge, len(truth), largest=largest).constant


def cut(low: float, high: float, bounds: Bounds | None) -> Bounds | None:
    """The part of an interval that values can reach; None where it has no width."""
    low, high = _inside(low, bounds), _inside(high, bounds)
    return (low, high) if low < high else None


def _inside(value: float, bounds: Bounds | None) -> float:
    return value if bounds is None else min(bounds[1], max(bounds[0], value))


def _drawn(probabilities: Sequence[float], labels: int) -> Floats:
    drawn = np.asarray(probabilities, dtype=np.float64)
    if len(drawn) != labels or not ((drawn > 0) & (drawn <= 1)).all():
        raise UseError("each label needs the probability, above 0 and at most 1, with which its item was drawn")
    return drawn


def _check(y: Floats, f: Floats, rest: Floats, bounds: Bounds | None) -> None:
    if len(y) != len(f):
        raise UseError(f"{len(y)} labels of people can't be paired with {len(f)} of the judge; give both for each item")
    if len(y) < FEWEST_LABELS:
        raise UseError(
            f"a prediction-powered estimate needs {FEWEST_LABELS} labels drawn at random at least; there are {len(y)}. "
            "Draw more with 'workbench judge sample RUN -n 100'"
        )
    values = np.concatenate([y, f, rest])
    low, high = bounds or (-np.inf, np.inf)
    if not (np.isfinite(values) & (values >= low) & (values <= high)).all():
        raise UseError(f"labels and scores must be numbers{'' if bounds is None else f' from {low:g} to {high:g}'}")
