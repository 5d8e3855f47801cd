"""Scores added up while they come: the summaries are those of all single scores; the live table shows them."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from workbench.evaluate import Progress
from workbench.records import Case, Kind, ScoreColumns
from workbench.stats.summary import summarise
from workbench.stats.tally import Tally
from workbench.views import live
from workbench.views.live import LiveView

VARIANTS = ("v", "w")
CASES = tuple(Case(f"c{i}", {}, cluster=f"k{i // 2}" if i < 8 else None) for i in range(12))
TRIALS = st.lists(
    st.tuples(st.sampled_from(range(2)), st.sampled_from(range(12)), st.integers(0, 2)), unique=True, max_size=60
)


def tallied(kind: Kind, trials: list[tuple[int, int, int]], values: list[float]) -> Tally:
    tally = Tally("s", kind, VARIANTS, CASES)
    for (variant, case, _), value in zip(trials, values, strict=True):
        tally.add(VARIANTS[variant], CASES[case].id, value)
    return tally


@given(TRIALS, st.data())
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("pass", st.sampled_from([0.0, 1.0])),
        ("fraction", st.integers(0, 8).map(lambda n: n / 8)),
        ("number", st.integers(-(2**20), 2**20).map(float)),
    ],
)
def test_a_tally_says_at_any_moment_what_all_scores_say(kind: Kind, values, trials, data) -> None:
    given_ = data.draw(st.lists(values, min_size=len(trials), max_size=len(trials)))
    clusters = tuple(case.cluster for case in CASES)
    variant, case, repeat = zip(*trials, strict=True) if trials else ((), (), ())
    columns = ScoreColumns("s", kind, VARIANTS, tuple(c.id for c in CASES), clusters, variant, case, repeat, given_)
    for one, other in zip(summarise(tallied(kind, trials, given_).so_far()), summarise(columns), strict=True):
        assert (one.cases, one.scores, one.method, one.why) == (other.cases, other.scores, other.method, other.why)
        assert one.mean == pytest.approx(other.mean)
        assert (one.interval is None) == (other.interval is None)
        assert one.interval is None or one.interval == pytest.approx(other.interval, abs=1e-9)


def drawn(view: LiveView, told: Progress) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(view._drawn(told))
    return console.export_text()


def test_means_so_far_have_their_interval_and_are_not_made_at_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally("s", "pass", VARIANTS, [Case(f"c{i}", {}) for i in range(12)])
    for case in range(10):
        tally.add("v", f"c{case}", float(case < 7))
    told = Progress("r", 24, done=10, tally={"s": tally})
    labels = {"v": "plain", "w": "warm"}
    monkeypatch.setattr(live, "MEANS_EVERY_SECONDS", 1e9)
    assert "plain" not in drawn(LiveView(labels, ["s"], Console()), told), "not at the beginning"
    monkeypatch.setattr(live, "MEANS_EVERY_SECONDS", 0.0)
    view = LiveView(labels, ["s"], Console())
    text = drawn(view, told)
    assert re.search(r"plain +70 % \[\d+, \d+\] \(10\)", text) and re.search(r"warm +–", text)
    assert "so far, incomplete" in text
    monkeypatch.setattr(live, "MEANS_SHARE", 1e-12)
    drawn(view, told)  # whose time is counted: the next one is due in ages
    tally.add("v", "c10", 0.0)
    assert "70 % [" in drawn(view, told) and "(11)" not in drawn(view, told)
