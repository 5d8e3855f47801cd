"""Prediction-powered means, against ppi-python and fewhumans on the same data, and by simulation.

Both others use the normal quantile or t with variances divided by n; here t and n − 1, which is wider by a known
factor: at 50 labels 3.6 % against ppi-python.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from fewhumans.estimators.active import active_mean
from fewhumans.estimators.pp_plus import power_tuned_lambda, ppi_plus_mean
from scipy.stats import norm, t

from workbench.errors import UseError
from workbench.stats.ppi import ppi_mean

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that it loads
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate


def judged(random, n, rest, p=0.7, right=0.85, ties=False):
    """Labels, the judge's on the same items, the judge's on the others; the judge errs alike both ways."""
    truth = (random.random(n + rest) < p).astype(float)
    judge = np.where(random.random(n + rest) < right, truth, 1 - truth)
    return truth[:n], judge[:n], judge[n:], truth[n:]


@pytest.mark.parametrize(("n", "rest"), [(50, 400), (120, 60), (400, 4000)])
def test_same_as_the_other_implementations(n, rest) -> None:
    y, f, others, _ = judged(np.random.default_rng(n), n, rest)
    found = ppi_mean(y, f, others, bounds=None)
    assert found.trust == pytest.approx(power_tuned_lambda(y, f, others))
    assert found.value == pytest.approx(float(np.ravel(ppi_mean_pointestimate(y, f, others))[0]))
    theirs = ppi_plus_mean(others, y, f)
    assert found.value == pytest.approx(theirs.value)
    variance = found.trust**2 * others.var(ddof=1) / rest + (y - found.trust * f).var(ddof=1) / n
    assert found.interval[1] - found.value == pytest.approx(t.isf(0.025, n - 1) * variance**0.5)
    low, high = (float(np.ravel(end)[0]) for end in ppi_mean_ci(y, f, others, alpha=0.05))
    exact = found.trust**2 * others.var() / rest + (y - found.trust * f).var() / n
    assert (high - low) / 2 == pytest.approx(norm.isf(0.025) * exact**0.5)
    assert theirs.halfwidth == pytest.approx(t.isf(0.025, n - 1) * exact**0.5)


def test_unequal_probabilities_agree_with_fewhumans() -> None:
    """fewhumans follows the judge wholly; where the best λ is cut to 1, the two are the same."""
    random = np.random.default_rng(7)
    truth = random.random(600)
    judge = truth / 2  # wants λ = 2
    chance = np.where(judge > 0.25, 0.3, 0.15)
    drawn = random.random(600) < chance
    found = ppi_mean(truth[drawn], judge[drawn], judge[~drawn], chance[drawn])
    theirs = active_mean(
        dict(enumerate(judge)),
        {i: truth[i] for i in np.flatnonzero(drawn)},
        {i: chance[i] for i in np.flatnonzero(drawn)},
    )
    assert found.trust == 1.0
    assert (found.value, *found.interval) == pytest.approx((theirs.value, theirs.lo, theirs.hi))


@pytest.mark.parametrize(
    ("n", "rest", "p", "right"),
    [(50, 500, 0.5, 0.85), (50, 500, 0.8, 0.9), (100, 100, 0.7, 0.6), (100, 2000, 0.9, 0.95), (50, 500, 0.7, 1.0)],
)
def test_intervals_cover_and_are_narrower_than_labels_alone(n, rest, p, right) -> None:
    random, runs, covered, width, alone = np.random.default_rng(8), 1000, 0, 0.0, 0.0
    for _ in range(runs):
        y, f, others, _ = judged(random, n, rest, p, right)
        found = ppi_mean(y, f, others)
        covered += found.interval[0] <= p <= found.interval[1]
        width += found.interval[1] - found.interval[0]
        alone += 2 * t.isf(0.025, n - 1) * y.std(ddof=1) / n**0.5
    assert covered / runs >= 0.95 - 0.02 - 3 * (0.05 * 0.95 / runs) ** 0.5
    assert width < 1.02 * alone if right < 1 else True


def test_unequal_probabilities_cover_what_they_should() -> None:
    """Labels drawn more often where the judge was low: with the probabilities the interval covers; taken as if
    drawn alike, it misses most of the time, which is why they must be known."""
    random, runs, covered, naive = np.random.default_rng(9), 600, 0, 0
    for _ in range(runs):
        _, _, judge, truth = judged(random, 0, 800, 0.7, 0.8)
        chance = np.where(judge < 0.5, 0.5, 0.06)
        drawn = random.random(800) < chance
        found = ppi_mean(truth[drawn], judge[drawn], judge[~drawn], chance[drawn])
        covered += found.interval[0] <= 0.7 <= found.interval[1]
        blind = ppi_mean(truth[drawn], judge[drawn], judge[~drawn])
        naive += blind.interval[0] <= 0.7 <= blind.interval[1]
    assert covered / runs >= 0.95 - 0.02 - 3 * (0.05 * 0.95 / runs) ** 0.5
    assert naive / runs < 0.6


def test_a_judge_that_agrees_everywhere_leaves_doubt() -> None:
    y = np.array([1.0, 0.0] * 30)
    found = ppi_mean(y, y, [1.0, 0.0] * 300)
    assert found.interval[1] - found.interval[0] > 2 * (1 - 0.025 ** (1 / 60))


def test_a_useless_judge_is_not_followed() -> None:
    y, f = np.array([1.0, 0.0] * 50), np.array([1.0, 1.0, 0.0, 0.0] * 25)
    found = ppi_mean(y, f, [1.0, 0.0] * 200)
    assert (found.trust, found.value) == (pytest.approx(0, abs=1e-12), pytest.approx(0.5))


def test_human_labels_of_answers_to_pairs(shared) -> None:
    """PandaLM's rows: 100 random labels and gpt-3.5's verdicts on the rest give the share of ties and wins that all
    500 labels give."""
    rows = [json.loads(line) for line in (shared / "pandalm_human_pairs.jsonl").read_text().splitlines()]
    order = np.random.default_rng(1).permutation(len(rows))
    truth = np.array([float(rows[i]["majority"] == 1) for i in order])
    judge = np.array([float(rows[i]["gpt35"] == 1) for i in order])
    found = ppi_mean(truth[:100], judge[:100], judge[100:])
    assert found.interval[0] < truth.mean() < found.interval[1]


MANY = [0.0, 1.0] * 30


@pytest.mark.parametrize(
    ("truth", "judge", "others", "probabilities", "error"),
    [
        ([1.0] * 49, [1.0] * 49, [1.0], None, "needs 50 labels drawn at random at least; there are 49"),
        (MANY, MANY[1:], [1.0], None, "can't be paired"),
        (MANY, MANY, [1.0], [0.5] * 59 + [0.0], "probability, above 0"),
        (MANY, MANY, [1.0], [1.5] * 60, "probability, above 0"),
        (MANY, MANY, [1.0], [0.5], "each label needs the probability"),
        (MANY, MANY, [3.0], None, "numbers from 0 to 1"),
        (MANY, MANY, [float("nan")], None, "must be numbers"),
    ],
)
def test_what_is_refused(truth, judge, others, probabilities, error) -> None:
    with pytest.raises(UseError, match=error):
        ppi_mean(truth, judge, others, probabilities)
