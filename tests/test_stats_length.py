"""Length-controlled win rates: against statsmodels, by simulation, and under swapping of the sides."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from workbench.errors import UseError
from workbench.stats.length import Ballots, Duels, controlled_rate, controlled_rates, rates_against_one
from workbench.stats.pairwise import Vote, turned


def ballots(random, cases: int, quality: float, length: float, shift: float = 0.7, repeats: int = 1) -> Ballots:
    """Votes by the model itself: log odds of quality + length · tanh(gap ÷ its standard deviation)."""
    units = np.repeat(np.arange(cases), repeats)
    gaps = np.round(300 * random.normal(shift, 1, len(units)))
    odds = quality + length * np.tanh(gaps / 300)
    points = (random.random(len(units)) < 1 / (1 + np.exp(-odds))).astype(float)
    return Ballots(points, gaps, units)


@pytest.mark.parametrize(("quality", "length"), [(0.0, 2.0), (1.0, 0.0), (0.7, 1.5)])
def test_many_votes_give_what_statsmodels_gives(quality: float, length: float) -> None:
    data = ballots(np.random.default_rng(1), 20_000, quality, length)
    found = controlled_rate("a", data)
    design = np.stack([np.ones(20_000), np.tanh(data.gaps / data.gaps.std())], axis=1)
    fitted = sm.Logit(data.points, design).fit(disp=0, cov_type="HC0")
    low, high = (1 / (1 + np.exp(-end)) for end in fitted.conf_int()[0])
    assert found.rate == pytest.approx(1 / (1 + np.exp(-fitted.params[0])), abs=2e-4)
    assert found.slope == pytest.approx(fitted.params[1], abs=2e-3)
    assert found.interval == pytest.approx((low, high), abs=3e-4)


def test_few_votes_maximise_the_penalised_likelihood() -> None:
    data = ballots(np.random.default_rng(2), 40, 0.5, 1.0, shift=0.2)
    design = np.stack([np.ones(40), np.tanh(data.gaps / data.gaps.std())], axis=1)

    def loss(b):
        p = 1 / (1 + np.exp(-design @ b))
        information = (design * (p * (1 - p))[:, None]).T @ design
        return (
            -(data.points * np.log(p) + (1 - data.points) * np.log(1 - p)).sum()
            - 0.5 * np.linalg.slogdet(information)[1]
        )

    best = minimize(loss, np.zeros(2), tol=1e-12).x
    assert controlled_rate("a", data).rate == pytest.approx(1 / (1 + np.exp(-best[0])), abs=1e-4)


RUNS = 300


@pytest.mark.parametrize(
    ("cases", "quality", "length", "repeats"),
    [(50, 0.0, 3.0, 1), (200, 0.0, 3.0, 1), (100, 0.8, 1.0, 3), (200, 1.5, 1.0, 1), (100, 2.5, 0.0, 1)],
)
def test_intervals_cover(cases: int, quality: float, length: float, repeats: int) -> None:
    """Where length alone decides, the plain rate names a winner nearly always, the controlled one in 5 % at most;
    where quality is real, both see it."""
    random = np.random.default_rng(3)
    true, missed, plain, seen, said = 1 / (1 + np.exp(-quality)), 0, 0, 0, 0
    for _ in range(RUNS):
        found = controlled_rate("a", ballots(random, cases, quality, length, repeats=repeats))
        plain += found.plain - 1.96 * (0.25 / cases) ** 0.5 > 0.5
        if found.interval is not None:
            said += 1
            missed += not found.interval[0] <= true <= found.interval[1]
            seen += found.interval[0] > 0.5
    assert missed / RUNS <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5
    assert plain / RUNS > 0.8
    if quality:
        assert seen > 0.7 * said > 0.3 * RUNS
    else:
        assert seen / RUNS <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5


def test_length_that_decides_every_vote_is_no_quality() -> None:
    """Without a penalty there would be no estimate: the votes are separated by length, and the rate at which they turn
    is anyone's guess."""
    random = np.random.default_rng(4)
    gaps = random.normal(0.5, 1, 200)
    found = controlled_rate("a", Ballots((gaps > 0).astype(float), gaps, np.arange(200)))
    assert found.plain > 0.6 and found.longer == found.plain
    assert found.interval is not None
    assert found.interval[0] < 0.5 < found.interval[1]


def test_how_hard_a_case_is_is_not_taken_for_length() -> None:
    """Length wins nothing here, but easy cases get long answers: by itself each player's length seems to win."""
    random = np.random.default_rng(5)
    cases, players = 400, 10
    easy, case = 2 * random.normal(size=cases), np.tile(np.arange(cases), players)
    player = np.repeat(np.arange(players), cases)
    gaps = np.round(200 * (easy[case] + random.normal(0.8, 1.5, len(case))))
    points = (random.random(len(case)) < 1 / (1 + np.exp(-(0.6 + easy[case])))).astype(float)
    true = float((1 / (1 + np.exp(-(0.6 + easy)))).mean())
    found = rates_against_one(Duels(tuple("abcdefghij"), player, case, case, points, gaps))
    alone = [
        controlled_rate("", Ballots(points[own], gaps[own], case[own])) for own in (player == i for i in range(10))
    ]
    assert [one.player for one in found] == list("abcdefghij")
    assert sum(abs(one.rate - true) for one in found) < 0.5 * sum(abs(one.rate - true) for one in alone)
    assert sum(abs(one.slope) for one in found) < 0.5 * sum(one.slope for one in alone)
    assert sum(one.interval[0] <= true <= one.interval[1] for one in found) >= 9


vote = st.builds(
    Vote,
    st.just("a"),
    st.just("b"),
    st.sampled_from(["first", "second", "tie"]),
    st.one_of(st.none(), st.sampled_from([f"c{i}" for i in range(40)])),
    st.integers(1, 2),
    st.tuples(st.integers(0, 400), st.integers(0, 400)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(vote, min_size=20, max_size=80), st.randoms(use_true_random=False))
def test_swapping_the_sides_or_the_order_changes_nothing(votes, random) -> None:
    one, other = sorted(controlled_rates(votes), key=lambda rate: rate.player)
    shuffled = [turned(vote) if random.random() < 0.5 else vote for vote in random.sample(votes, len(votes))]
    again, _ = sorted(controlled_rates(shuffled), key=lambda rate: rate.player)
    assert (one.rate is None) == (other.rate is None) == (again.rate is None)
    assert one.plain + other.plain == pytest.approx(1) and one.longer + other.longer == pytest.approx(1)
    if one.rate is not None and other.rate is not None and one.interval and other.interval:
        assert one.rate + other.rate == pytest.approx(1, abs=1e-6)
        assert one.interval == pytest.approx((1 - other.interval[1], 1 - other.interval[0]), abs=1e-6)
        assert again.rate == pytest.approx(one.rate, abs=1e-6)
        assert 0 < one.interval[0] <= one.rate <= one.interval[1] < 1


def test_several_rivals_are_no_length() -> None:
    """One rival is strong and short, one weak and long: pooled, length would seem to win."""
    random = np.random.default_rng(9)
    votes = []
    for i in range(600):
        rival, chance, longer = ("strong", 0.25, 200) if i % 2 else ("weak", 0.75, -200)
        length = (1000 + longer + int(random.normal(0, 250)), 1000)
        votes.append(Vote("a", rival, "first" if random.random() < chance else "second", f"c{i}", lengths=length))
    found = next(rate for rate in controlled_rates(votes) if rate.player == "a")
    assert found.interval is not None and found.interval[0] < 0.5 < found.interval[1]
    assert abs(found.slope or 9) < 0.6


@pytest.mark.parametrize(
    ("points", "gaps", "why"),
    [
        ([1.0] * 40, [5.0, -5.0] * 20, "not enough data: 40 won and 0 lost, 5 of each are needed"),
        ([1.0, 0.0] * 4, [5.0, -5.0] * 4, "not enough data: 4 won and 4 lost"),
        ([1.0, 0.0] * 20, [5.0] * 40, "the shorter ones on 0 of 40 cases, so that nothing is known of equal length"),
        ([1.0, 0.0] * 20, [-5.0] * 38 + [1.0] * 2, "the longer ones on 2 of 40 cases"),
        ([1.0, 0.0] * 20, [0.0] * 40, ""),
    ],
)
def test_where_nothing_can_be_said_it_says_why(points, gaps, why: str) -> None:
    found = controlled_rate("a", Ballots(np.array(points), np.array(gaps), np.arange(len(points))))
    assert why in found.why and bool(why) == bool(found.why)
    assert (found.rate is None) == (found.interval is None) == bool(why)


def test_votes_without_lengths_are_left_out_and_bad_ones_refused() -> None:
    assert controlled_rates([Vote("a", "b", "first")]) == []
    with pytest.raises(UseError, match="a vote is between two"):
        controlled_rates([Vote("a", "a", "first")])
