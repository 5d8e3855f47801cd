"""Votes: against R's BradleyTerry2, choix, and a direct maximum of Davidson's likelihood."""

from __future__ import annotations

import json
from itertools import combinations

import choix
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from statsmodels.tools.numdiff import approx_hess

from workbench.errors import UseError
from workbench.stats.pairwise import Vote, bradley_terry, turned, win_rates


def citations(shared) -> list[Vote]:
    rows = [json.loads(line) for line in (shared / "bt_citations.jsonl").read_text().splitlines()]
    return [
        Vote(r["player1"], r["player2"], winner, count=r[field])
        for r in rows
        for winner, field in (("first", "win1"), ("second", "win2"))
    ]


def test_citations_agree_with_r(shared) -> None:
    expected = json.loads((shared / "expected" / "bt_citations.json").read_text())
    found = bradley_terry(citations(shared), "Biometrika")
    assert (found.ties, found.votes) == (None, 3727)
    assert [row.player for row in found.players] == ["JRSS-B", "Biometrika", "JASA", "Comm Statist"]
    for row in found.players:
        assert row.value == pytest.approx(expected["abilities"][row.player], abs=1e-6)
        assert row.error == pytest.approx(expected["abilities_se"][row.player], abs=1e-6)
        if row.error:
            assert row.p == pytest.approx(expected["model"]["p"][f"..{row.player}"], rel=1e-3)
            assert row.interval == pytest.approx((row.value - 1.959964 * row.error, row.value + 1.959964 * row.error))


def test_citations_agree_with_choix(shared) -> None:
    """choix gives no errors and centres strengths at 0; differences are the same."""
    votes = citations(shared)
    names = ["Biometrika", "Comm Statist", "JASA", "JRSS-B"]
    data = [
        (names.index(v.first), names.index(v.second))
        if v.winner == "first"
        else (names.index(v.second), names.index(v.first))
        for v in votes
        for _ in range(v.count)
    ]
    theirs = choix.opt_pairwise(4, data)
    ours = {row.player: row.value for row in bradley_terry(votes, "Biometrika").players}
    assert [ours[name] for name in names] == pytest.approx(theirs - theirs[0], abs=1e-4)


def drawn(random, strengths, nu, each) -> list[Vote]:
    votes = []
    for a, b in combinations(range(len(strengths)), 2):
        p = np.array([np.exp(strengths[a]), np.exp(strengths[b]), nu * np.exp((strengths[a] + strengths[b]) / 2)])
        counts = random.multinomial(each, p / p.sum())
        votes += [
            Vote(f"p{a}", f"p{b}", winner, count=int(n))
            for winner, n in zip(("first", "second", "tie"), counts, strict=True)
            if n
        ]
    return votes


def test_ties_agree_with_the_maximum_of_the_likelihood() -> None:
    votes = drawn(np.random.default_rng(1), [0.0, 0.5, -0.3, 1.0], 0.6, 80)

    def loss(x: np.ndarray) -> float:
        strength, total = np.concatenate([[0.0], x[:3]]), 0.0
        for v in votes:
            a, b = strength[int(v.first[1])], strength[int(v.second[1])]
            logs = {"first": a, "second": b, "tie": x[3] + (a + b) / 2}
            total -= v.count * (logs[v.winner] - np.log(sum(np.exp(x) for x in logs.values())))
        return total

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    found = bradley_terry(votes, "p0")
    ours = {row.player: row for row in found.players}
    assert [ours[f"p{i}"].value for i in (1, 2, 3)] == pytest.approx(best.x[:3], abs=1e-4)
    assert found.ties == pytest.approx(np.exp(best.x[3]), abs=1e-4)
    assert [ours[f"p{i}"].error for i in (1, 2, 3)] == pytest.approx(
        np.sqrt(np.diag(np.linalg.inv(approx_hess(best.x, loss))))[:3], rel=1e-3
    )


@pytest.mark.slow
def test_intervals_cover() -> None:
    random, runs, covered = np.random.default_rng(2), 300, 0
    for _ in range(runs):
        rows = {row.player: row for row in bradley_terry(drawn(random, [0.0, 0.5, -0.5], 0.4, 60), "p0").players}
        covered += (rows["p1"].interval[0] <= 0.5 <= rows["p1"].interval[1]) + (
            rows["p2"].interval[0] <= -0.5 <= rows["p2"].interval[1]
        )
    assert abs(covered / (2 * runs) - 0.95) < 0.02 + 3 * (0.05 * 0.95 / runs) ** 0.5 / 2


votes_of_three = st.lists(
    st.tuples(st.sampled_from(list(combinations("abc", 2))), st.sampled_from(["first", "second", "tie"])),
    min_size=3,
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(votes_of_three)
def test_turning_votes_changes_nothing(rows) -> None:
    assume(any(winner != "tie" for _, winner in rows))
    votes = [Vote("a", "b", "tie"), Vote("b", "c", "tie"), *(Vote(*pair, winner) for pair, winner in rows)]
    there, back = bradley_terry(votes, "a"), bradley_terry([turned(v) for v in votes], "a")
    values = {row.player: row.value for row in back.players}
    assert all(values[row.player] == pytest.approx(row.value, abs=1e-6) for row in there.players)
    assert {r.player: r.rate for r in win_rates(votes)} == {
        r.player: r.rate for r in win_rates([turned(v) for v in votes])
    }


@pytest.mark.parametrize(
    ("votes", "rate", "interval", "method"),
    [
        ([Vote("a", "b", "first")] * 5 + [Vote("a", "b", "second")] * 5, 0.5, (0.2366, 0.7634), "Wilson"),
        ([Vote("a", "b", "first", count=5), Vote("b", "a", "first", count=5)], 0.5, (0.2366, 0.7634), "Wilson"),
        ([Vote("a", "b", "first")] * 5 + [Vote("a", "b", "tie")] * 5, 0.75, (0.5328, 0.8875), "Wilson at the effective n"),
        ([Vote("a", "b", "first", "c1"), Vote("a", "b", "second", "c1"), Vote("a", "b", "first", "c2")], 0.75, None, "Anderson, exact"),
    ],
)  # fmt: skip
def test_win_rates(votes, rate, interval, method) -> None:
    a, b = win_rates(votes)
    assert (a.player, a.rate, b.rate, a.method) == ("a", rate, 1 - rate, method)
    assert interval is None or a.interval == pytest.approx(interval, abs=1e-4)
    assert a.wins + a.losses + a.ties == sum(v.count for v in votes)


@pytest.mark.parametrize(
    ("votes", "reference", "error"),
    [
        ([], None, "no vote to count"),
        ([Vote("a", "a", "tie")], None, "between two"),
        ([Vote("a", "b", "first", count=0)], None, "counts once at least"),
        ([Vote("a", "b", "tie")], "z", "no vote on 'z'"),
        ([Vote("a", "b", "first"), Vote("b", "c", "tie")], None, "don't tie"),
        ([Vote("a", "b", "tie"), Vote("c", "d", "tie")], None, "don't tie a, b to the rest"),
    ],
)
def test_what_is_refused(votes, reference, error) -> None:
    with pytest.raises(UseError, match=error):
        bradley_terry(votes, reference)
