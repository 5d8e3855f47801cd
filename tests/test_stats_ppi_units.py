"""Prediction-powered means over repeats and clusters: against ppi-python where nothing belongs together, against the t
interval of units where all is labelled, and by simulation."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from workbench.stats.gates import Claim, decide
from workbench.stats.intervals import t_interval
from workbench.stats.ppi import PeopleSample
from workbench.stats.ppi_units import FEWEST_UNITS, MOST_UNEVEN, PeopleUnits, UnitLabels
from workbench.stats.reduce import Sample

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that it loads
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate


@dataclass(frozen=True)
class Kind:
    """Outputs as they might be: `alike` is the correlation of answers, and of the judge's errors, within a case and
    within a cluster of more than one case."""

    cases: int = 300
    repeats: int = 1
    size: int = 1
    alike: float = 0.5
    mean: float = 0.8
    right: float = 0.95
    lenient: bool = False

    def beta(self, rng, mean: float, count: int) -> np.ndarray:
        if self.alike == 0:
            return np.full(count, mean)
        spread = 1 / self.alike - 1
        return rng.beta(mean * spread, (1 - mean) * spread, count)

    def chances(self, rng, mean: float) -> np.ndarray:
        """Of each case its own, or in 6 of 10 that of its cluster."""
        own, together = self.beta(rng, mean, self.cases), self.beta(rng, mean, self.cases)[self.units]
        return np.where((self.size > 1) & (rng.random(self.cases) < 0.6), together, own)[:, None]

    @property
    def units(self) -> np.ndarray:
        return np.arange(self.cases) // self.size

    def draw(self, rng) -> tuple[np.ndarray, np.ndarray]:
        """What people say, and the judge: case × repeat. A lenient one errs only upwards."""
        shape = (self.cases, self.repeats)
        truth = (rng.random(shape) < self.chances(rng, self.mean)).astype(float)
        wrong = rng.random(shape) < self.chances(rng, 1 - self.right)
        return truth, np.where(wrong, 1.0 if self.lenient else 1 - truth, truth)


def labelled(units, truth, judge, chosen, chance=None) -> UnitLabels:
    """`chosen`: which outputs people labelled, case × repeat; `chance`: with which each was drawn, where not alike."""
    case, repeat = np.nonzero(chosen)
    chance = np.ones(truth.shape) if chance is None else chance
    size = np.bincount(units)
    return UnitLabels(
        judge=np.bincount(units, judge.mean(axis=1)) / size,
        unit=units[case],
        truth=truth[case, repeat],
        predicted=judge[case, repeat],
        weights=1 / (truth.shape[1] * size[units[case]] * chance[case, repeat]),
    )


def some(rng, shape, count: int) -> np.ndarray:
    chosen = np.zeros(shape, dtype=bool)
    chosen.ravel()[rng.choice(chosen.size, count, replace=False)] = True
    return chosen


def people(units, sides, bounds=(0.0, 1.0)) -> PeopleUnits:
    return PeopleUnits(tuple(sides), len(units), bounds)


@pytest.mark.parametrize(("n", "cases", "right"), [(50, 450, 0.85), (120, 180, 0.7), (400, 4400, 0.95)])
def test_without_repeats_and_clusters_it_is_ppi_python(n: int, cases: int, right: float) -> None:
    """At the same λ to the last digit: that of all items here is that of the others there times N ÷ (n + N)."""
    rng, kind = np.random.default_rng(n), Kind(cases, alike=0, right=right)
    truth, judge = kind.draw(rng)
    chosen = some(rng, truth.shape, n)
    found = people(kind.units, [labelled(kind.units, truth, judge, chosen)]).estimate(0.95)
    y, f, others = truth[chosen], judge[chosen], judge[~chosen]
    theirs = {"lam": found.trust * len(others) / cases}
    assert found.value == pytest.approx(float(np.ravel(ppi_mean_pointestimate(y, f, others, **theirs))[0]))
    low, high = (float(np.ravel(end)[0]) for end in ppi_mean_ci(y, f, others, alpha=0.05, **theirs))
    assert found.error == pytest.approx((high - low) / 2 / norm.isf(0.025), rel=0.02)
    tuned = ppi_mean_ci(y, f, others, alpha=0.05)
    assert (high - low) == pytest.approx(float(np.ravel(tuned[1])[0] - np.ravel(tuned[0])[0]), rel=0.02)
    one, other = (
        people(kind.units, [labelled(kind.units, truth, judge, chosen)]),
        PeopleSample(y, f, others, (0.0, 1.0)),
    )
    widths = [np.diff(data.ends(0.05) or (0.0, 0.0)).item() for data in (one, other)]
    assert widths[0] == pytest.approx(widths[1], rel=0.1)


@pytest.mark.parametrize(("repeats", "size"), [(3, 1), (1, 5), (3, 20)])
def test_where_all_is_labelled_it_is_the_t_interval_of_units(repeats: int, size: int) -> None:
    """Then the judge has nothing to say."""
    rng, kind = np.random.default_rng(1), Kind(100, repeats, size)
    truth, judge = kind.draw(rng)
    found = people(kind.units, [labelled(kind.units, truth, judge, np.ones(truth.shape, dtype=bool))]).estimate(0.95)
    units = np.bincount(kind.units, truth.mean(axis=1)) / size
    assert found.value == pytest.approx(units.mean())
    assert found.interval == pytest.approx(t_interval(Sample(units, 100, (0.0, 1.0)), 0.05))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3]), st.sampled_from([1, 5]), st.floats(0.01, 100))
def test_what_changes_nothing(seed: int, repeats: int, size: int, scale: float) -> None:
    """The order of labels, the unit of weights, repeats that only repeat; a side taken from itself leaves 0."""
    rng, kind = np.random.default_rng(seed), Kind(60, repeats, size)
    truth, judge = kind.draw(rng)
    one = labelled(kind.units, truth, judge, some(rng, truth.shape, 50))
    found = people(kind.units, [one])
    turned = UnitLabels(one.judge, one.unit[::-1], one.truth[::-1], one.predicted[::-1], scale * one.weights[::-1])
    assert people(kind.units, [turned]).ends(0.05) == pytest.approx(found.ends(0.05))
    low, high = found.ends(0.05) or (0.0, 0.0)
    assert 0 <= low < high <= 1
    assert people(kind.units, [one, one], (-1.0, 1.0)).estimate(0.95).value == pytest.approx(0, abs=1e-12)
    whole = rng.permutation(60)[:, None] < 50
    once = labelled(kind.units, truth[:, :1], judge[:, :1], whole)
    twice = labelled(kind.units, truth[:, [0, 0]], judge[:, [0, 0]], whole.repeat(2, axis=1))
    first, second = (people(kind.units, [side]).estimate(0.95) for side in (once, twice))
    assert (first.value, first.error) == pytest.approx((second.value, second.error))


def test_a_judge_that_agrees_on_every_label_leaves_as_much_doubt_as_units_do() -> None:
    kind = Kind(400, size=20)
    truth, _ = kind.draw(np.random.default_rng(3))
    found = people(kind.units, [labelled(kind.units, truth, truth, some(np.random.default_rng(4), truth.shape, 100))])
    low, high = found.ends(0.05) or (0.0, 0.0)
    assert found.estimate(0.95).trust == 1
    assert min(1.0, high) - low > 1 - 0.025 ** (1 / 20)


def test_more_of_all_brings_what_was_said() -> None:
    kind = Kind(200, 3, 5, right=0.9)
    few, many = (
        people(
            k.units,
            [labelled(k.units, *(drawn := k.draw(np.random.default_rng(6))), some(np.random.default_rng(7), drawn[0].shape, n))],
        )
        for k, n in ((kind, 100), (Kind(3_200, 3, 5, right=0.9), 1_600))
    )  # fmt: skip
    labels, cases = few.needed(few.estimate(0.95).error / 4)
    assert (labels, cases) == (1_600, 3_200)
    assert many.estimate(0.95).error == pytest.approx(few.estimate(0.95).error / 4, rel=0.25)


# Simulation

RUNS = 500
JUDGES = {"good": (0.95, False), "poor": (0.75, True)}


def most(runs: int, more: float = 0.0) -> float:
    return 0.05 + more + 3 * (0.05 * 0.95 / runs) ** 0.5


def tilted(rng, judge, count: int, times: float) -> tuple[np.ndarray, np.ndarray]:
    """About so many outputs, each drawn by itself, so many times likelier where the judge says no; their chances."""
    weight = np.where(judge < 1, times, 1.0)
    chance = np.minimum(1.0, count * weight / weight.sum())
    return rng.random(judge.shape) < chance, chance


def errs(
    kind: Kind, labels: int, seed: int, runs: int = RUNS, times: float | None = None
) -> tuple[float, float, float]:
    """How often a 95 % interval misses the true mean, a gate at it passes, and fails."""
    rng, missed, passed, failed = np.random.default_rng(seed), 0, 0, 0
    for _ in range(runs):
        truth, judge = kind.draw(rng)
        chosen, chance = (some(rng, truth.shape, labels), None) if times is None else tilted(rng, judge, labels, times)
        data = people(kind.units, [labelled(kind.units, truth, judge, chosen, chance)])
        low, high = data.ends(0.05) or (0.0, 1.0)
        missed += not low <= kind.mean <= high
        (found,) = decide([Claim(data, "at_least", kind.mean, 0.05)])
        passed += found.answer == "pass"
        failed += found.answer == "fail"
    return missed / runs, passed / runs, failed / runs


GRID = list(itertools.product((1, 3, 5), (0.0, 0.5, 0.9), (1, 5, 20), JUDGES))


@pytest.mark.slow
@pytest.mark.parametrize(("repeats", "alike", "size", "judge"), GRID)
def test_intervals_cover_and_gates_seldom_err(repeats: int, alike: float, size: int, judge: str) -> None:
    right, lenient = JUDGES[judge]
    for number, labels in enumerate((50, 100, 200)):
        kind = Kind(300, repeats, size, alike, 0.8, right, lenient)
        missed, passed, failed = errs(kind, labels, 10 + number)
        assert missed <= most(RUNS, 0.01)
        assert max(passed, failed) <= most(RUNS)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        pytest.param(Kind(300, 3, 1, 0.5, 0.8, 0.75, True), 100, id="repeats"),
        pytest.param(Kind(300, 1, 20, 0.9, 0.9, 0.75, True), 200, id="clusters near the end of the range"),
        pytest.param(Kind(300, 5, 5, 0.5, 0.95), 50, id="seldom wrong"),
        pytest.param(Kind(FEWEST_UNITS * 20, 1, 20, 0.9, 0.9, 0.75, True), 60, id="as few units as may be"),
    ],
)
def test_where_others_fail_it_holds(kind: Kind, labels: int) -> None:
    missed, passed, failed = errs(kind, labels, 5, 500)
    assert missed <= most(500, 0.01)
    assert max(passed, failed) <= most(500)


@pytest.mark.parametrize("times", [1 / MOST_UNEVEN, MOST_UNEVEN, 10.0])
@pytest.mark.parametrize(("repeats", "size", "mean"), [(3, 1, 0.8), (3, 1, 0.9), (1, 5, 0.8)])
@pytest.mark.parametrize("judge", JUDGES)
def test_labels_drawn_with_unequal_probabilities(
    judge: str, repeats: int, size: int, mean: float, times: float
) -> None:
    right, lenient = JUDGES[judge]
    for number, labels in enumerate((60, 150)):
        missed, passed, failed = errs(
            Kind(300, repeats, size, 0.5, mean, right, lenient), labels, 20 + number, times=times
        )
        assert missed <= most(RUNS, 0.01)
        assert max(passed, failed) <= most(RUNS)


def test_without_their_probabilities_such_labels_mislead() -> None:
    """What is drawn more often where the judge says no shows too low a mean, were the chances left out."""
    rng, kind, found = np.random.default_rng(21), Kind(300, 3, 1, 0.5, 0.8, 0.75, True), []
    for _ in range(200):
        truth, judge = kind.draw(rng)
        chosen, chance = tilted(rng, judge, 150, MOST_UNEVEN)
        both = (labelled(kind.units, truth, judge, chosen, c) for c in (chance, None))
        found.append([people(kind.units, [side]).estimate(0.95).labels_alone for side in both])
    told, untold = np.mean(found, axis=0)
    assert told == pytest.approx(kind.mean, abs=0.01)
    assert untold < kind.mean - 0.05


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize(("repeats", "size", "same"), [(3, 1, True), (3, 1, False), (1, 5, True), (5, 20, False)])
def test_differences_err_as_rarely_as_they_say(loss: float, repeats: int, size: int, same: bool) -> None:
    """Without a loss gates fail, with one of the whole margin they pass, at most in 5 %; the judge likes the worse one
    more. `same`: people labelled the same outputs of both."""
    rng, wrong = np.random.default_rng(8), 0
    first, second = Kind(300, repeats, size, 0.5, 0.7 - loss, 0.7, True), Kind(300, repeats, size, 0.5, 0.7, 0.95)
    for _ in range(RUNS):
        chosen = some(rng, (300, repeats), 100)
        sides = []
        for kind in (first, second):
            sides.append(labelled(kind.units, *kind.draw(rng), chosen))
            chosen = chosen if same else some(rng, (300, repeats), 100)
        (found,) = decide([Claim(people(first.units, sides, (-1.0, 1.0)), "no_worse_than", loss, 0.05)])
        wrong += found.answer == ("pass" if loss else "fail")
        assert found.judge is not None
    assert wrong / RUNS <= most(RUNS)


def test_a_scale_of_points_is_held_to_its_ends() -> None:
    """Most answers get a 5, some clusters a 2: a t interval would miss in 15 %."""
    rng, missed, true = np.random.default_rng(9), 0, 0.85 * 5 + 0.15 * 2
    units = np.arange(400) // 20
    for _ in range(RUNS):
        cluster = rng.choice([5.0, 2.0], 20, p=[0.85, 0.15])[units]
        truth = np.where(rng.random(400) < 0.6, cluster, rng.choice([5.0, 2.0], 400, p=[0.85, 0.15]))[:, None]
        judge = np.clip(truth + rng.choice([-1.0, 0.0, 1.0], truth.shape), 1, 5)
        data = people(units, [labelled(units, truth, judge, some(rng, truth.shape, 80))], (1.0, 5.0))
        low, high = data.ends(0.05) or (1.0, 5.0)
        missed += not low <= true <= high
    assert missed / RUNS <= most(RUNS, 0.01)
