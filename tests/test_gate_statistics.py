"""What a gate's verdict means, by simulation: how often it errs, how often it finds what is there."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.stats.gates import Claim, cases_to_show, cases_without_one, decide, power_to_fail
from workbench.stats.reduce import PairedSample, Sample

PULL_REQUESTS = 2_000


def pair(new: np.ndarray, old: np.ndarray, binary: bool = False) -> PairedSample:
    first, second = (Sample(np.asarray(v, float), len(v), (0.0, 1.0), binary) for v in (new, old))
    wins, losses = int((new > old).sum()), int((new < old).sum())
    return PairedSample(first, second, wins, losses, len(new) - wins - losses)


def single(values: np.ndarray) -> Sample:
    return Sample(np.asarray(values, float), len(values), (0.0, 1.0), True)


def se(rate: float) -> float:
    return (rate * (1 - rate) / PULL_REQUESTS) ** 0.5


@pytest.mark.parametrize("repeats", [1, 3])
def test_pull_requests_that_change_nothing(repeats: int) -> None:
    """A new baseline for each: failures at the stated rate, and passes where the margin leaves room for them."""
    rng = np.random.default_rng(24)
    cases = 200
    failed = passed = 0
    for _ in range(PULL_REQUESTS):
        ability = rng.beta(2, 1, cases)
        old, new = (rng.binomial(repeats, ability) / repeats for _ in range(2))
        margin = 2.5 * float(np.sqrt(2 * (ability * (1 - ability) / repeats).mean() / cases))
        (found,) = decide([Claim(pair(new, old, repeats == 1), "no_worse_than", margin, 0.05)])
        failed += found.answer == "fail"
        passed += found.answer == "pass"
    assert failed / PULL_REQUESTS <= 0.05 + 3 * se(0.05)
    assert passed / PULL_REQUESTS >= 0.75


def test_many_gates_on_nothing_fail_as_rarely_as_one() -> None:
    """Ten variants: without a correction 40 % of the pull requests would see some failure."""
    rng = np.random.default_rng(5)
    runs, corrected, raw = 600, 0, 0
    for _ in range(runs):
        ability = rng.beta(2, 1, 100)
        claims = []
        for _ in range(10):
            old, new = (rng.binomial(4, ability) / 4 for _ in range(2))
            claims.append(Claim(pair(new, old), "no_worse_than", 0.02, 0.05))
        corrected += any(d.answer == "fail" for d in decide(claims))
        raw += any(decide([c])[0].answer == "fail" for c in claims)
    assert corrected / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    assert raw / runs > 0.25


def test_a_real_loss_is_found_as_often_as_the_power_calculation_says() -> None:
    rng = np.random.default_rng(7)
    cases, loss, found, predicted = 200, 0.10, 0, 0.0
    for _ in range(1_000):
        ability = np.clip(rng.beta(4, 1.5, cases), 0.1, 1)
        worse = ability - loss
        old, new = (rng.binomial(1, p).astype(float) for p in (ability, worse))
        spread = float(np.sqrt((ability * (1 - ability) + worse * (1 - worse)).mean()))
        predicted += power_to_fail(loss, spread, cases, 0.05) / 1_000
        found += decide([Claim(pair(new, old, True), "no_worse_than", 0.02, 0.05)])[0].answer == "fail"
    assert 0.5 < predicted < 0.99
    assert abs(found / 1_000 - predicted) < 0.02 + 3 * (predicted * (1 - predicted) / 1_000) ** 0.5


@pytest.mark.parametrize("measured_again", [False, True])
def test_a_picked_winner_fails_its_own_prompt_unless_measured_again(measured_again: bool) -> None:
    """The best of 24 equal variants: blessed by the scores that it was picked by, or by new ones."""
    rng = np.random.default_rng(36)
    runs, cases, failed = 1_000, 200, 0
    for _ in range(runs):
        ability = rng.beta(2, 1, cases)
        scores = rng.binomial(1, ability, (24, cases)).astype(float)
        baseline = scores[scores.mean(axis=1).argmax()]
        if measured_again:
            baseline = rng.binomial(1, ability).astype(float)
        new = rng.binomial(1, ability).astype(float)
        failed += decide([Claim(pair(new, baseline, True), "no_worse_than", 0.05, 0.05)])[0].answer == "fail"
    if measured_again:
        assert failed / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    else:
        assert failed / runs > 0.25, "the trap that bless keeps one out of"


def test_cases_to_show_a_margin_are_as_many_as_it_takes() -> None:
    rng = np.random.default_rng(3)
    needed = cases_to_show(0.4, 0.05, 0.05)
    assert needed is not None
    passed = 0
    for _ in range(600):
        differences = rng.normal(0, 0.4, needed)
        first, second = Sample(differences, needed), Sample(np.zeros(needed), needed)
        passed += decide([Claim(PairedSample(first, second, 0, 0, 0), "no_worse_than", 0.05, 0.05)])[0].answer == "pass"
    assert abs(passed / 600 - 0.8) < 3 * (0.8 * 0.2 / 600) ** 0.5 + 0.01


@pytest.mark.parametrize(
    ("share", "alpha", "cases"),
    [(0.01, 0.05, 299), (0.05, 0.05, 59), (0.0, 0.05, None), (0.5, 0.05, 5)],
)
def test_cases_without_one_are_the_fewest_that_pass(share: float, alpha: float, cases: int | None) -> None:
    assert cases_without_one(share, alpha) == cases
    if cases and cases > 8:
        for n, answer in ((cases, "pass"), (cases - 1, "not enough data")):
            assert decide([Claim(single(np.zeros(n)), "at_most", share, alpha)])[0].answer == answer


GOOD = np.array([1.0] * 90 + [0.0] * 10)


@pytest.mark.parametrize(
    ("values", "rule", "bound", "answer"),
    [
        (GOOD, "at_least", 0.8, "pass"),
        (GOOD, "at_least", 0.89, "not enough data"),
        (GOOD, "at_least", 0.97, "fail"),
        (GOOD, "at_most", 0.97, "pass"),
        (GOOD, "at_most", 0.91, "not enough data"),
        (GOOD, "at_most", 0.8, "fail"),
    ],
)
def test_absolute_bounds(values: np.ndarray, rule, bound: float, answer: str) -> None:
    (found,) = decide([Claim(single(values), rule, bound, 0.05)])
    assert found.answer == answer
    assert found.lower is not None and found.upper is not None
    assert found.lower < found.value < found.upper
    shown = {
        "at_least": (found.lower >= bound, found.upper < bound),
        "at_most": (found.upper <= bound, found.lower > bound),
    }
    assert shown[rule] == (answer == "pass", answer == "fail")


def shifted(points: int) -> PairedSample:
    """1,000 cases, 60 % right before, `points` of a hundred turned from right to wrong (or back)."""
    old = np.array([1.0] * 600 + [0.0] * 400)
    new = old.copy()
    new[:5], new[-5:] = 0.0, 1.0  # some change in both directions
    new[slice(10, 10 - 10 * points) if points < 0 else slice(700, 700 + 10 * points)] = 0.0 if points < 0 else 1.0
    return pair(new, old, True)


@pytest.mark.parametrize(
    ("points", "margin", "answer"),
    [
        (0, 0.05, "pass"),
        (5, 0.0, "pass"),
        (-10, 0.05, "fail"),
        (-2, 0.02, "fail"),
        (-2, 0.05, "pass"),
        (0, 0.0, "not enough data"),
    ],
)
def test_no_worse_than(points: int, margin: float, answer: str) -> None:
    """A loss within the margin passes, though it is shown; one that is beyond it fails."""
    (found,) = decide([Claim(shifted(points), "no_worse_than", margin, 0.05)])
    assert found.answer == answer
    assert found.value == pytest.approx(points / 100)


def test_nothing_measured_is_not_enough_data_and_does_not_count() -> None:
    alone = decide([Claim(shifted(-2), "no_worse_than", 0.0, 0.05)])[0]
    empty = Claim(None, "at_least", 0.5, 0.05)
    both = decide([Claim(shifted(-2), "no_worse_than", 0.0, 0.05), empty])
    assert both[0] == alone
    assert (both[1].answer, both[1].why) == ("not enough data", "nothing was measured")


def test_failures_are_corrected_step_by_step() -> None:
    """Two clear losses and one at 0.03: alone it fails; among three it does so as the other two are refuted."""
    edge = next(
        c
        for k in range(2, 60)
        if (
            c := Claim(
                pair(
                    np.r_[np.zeros(k), np.ones(15), np.zeros(100)], np.r_[np.ones(k), np.zeros(15), np.zeros(100)], True
                ),
                "no_worse_than",
                0.0,
                0.04,
            )
        )
        and decide([c])[0].answer == "fail"
    )
    clear = Claim(shifted(-10), "no_worse_than", 0.0, 0.04)
    fine = Claim(shifted(5), "no_worse_than", 0.0, 0.04)
    assert [d.answer for d in decide([clear, clear, edge])] == ["fail", "fail", "fail"]
    assert [d.answer for d in decide([fine, fine, fine, edge])][-1] == "not enough data"
