"""Scores added up in SQL say the same as the single ones: summaries, comparisons, ranking, one run or several."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import UseError
from workbench.records import Case, Kind, Message, Request, Score, Suite, Trial, Variant
from workbench.stats.paired import compare_paired
from workbench.stats.power import suite_sees
from workbench.stats.ranking import rank_variants
from workbench.stats.reduce import Scores
from workbench.stats.summary import summarise
from workbench.store import recording
from workbench.store.database import Database
from workbench.store.grouped import case_scores
from workbench.store.runs import score_columns
from workbench.views.model import load_view, side_by_side

VALUES: dict[Kind, tuple[float | str, ...]] = {
    "pass": (0.0, 1.0), "fraction": (0.0, 0.25, 0.5, 1.0), "number": (-7.5, 0.0, 3.25, 1000.0), "label": ("a", "b", "ü"),
}  # fmt: skip
Given = dict[str, list[tuple[Kind, float | str | None] | None]]
"""Scorer → for each trial its score: of a kind, None within for unscored, None where the scorer never came to it."""


def stored(database: Database, run: str, clustered: bool, given: Given, size: tuple[int, int, int] = (2, 3, 2)) -> None:
    """A run of (variants, cases, repeats) with these scores."""
    variants = tuple(Variant("p", f"pr1-{i}", "echo", {"temperature": i}) for i in range(size[0]))
    cases = tuple(Case(f"c{i}", {"x": i}, cluster=f"k{i % 2}" if clustered else None) for i in range(size[1]))
    trials = [Trial(v, c, r) for c in cases for v in variants for r in range(size[2])]
    asked = [(t, Request(f"rq1-{t.id}", "echo", (Message.of("user", "x"),)).id) for t in trials]
    suite = Suite("s", "prompt", variants, cases, (), {}, {}, repeats=size[2])
    scores = [
        Score(trial.id, scorer, "k", found[1], found[0], "")
        for scorer, each in given.items()
        for trial, found in zip(trials, each, strict=True)
        if found is not None
    ]
    with database.write() as connection:
        recording.start_run(connection, run, suite, recording.Plan("pl1-a", asked), {"seed": 0, "scorers": ["z", "a"]})
        recording.save_scores(connection, run, scores)
        recording.end_run(connection, run, "stopped", {})


def claims(found: Scores) -> list[object]:
    """All that a view says of one scorer, to the last digit: sums of these values are exact in any order."""
    base = found.variants[0]
    return [summarise(found), compare_paired(found, base), rank_variants(found), suite_sees(found, base)]


def each(kind: Kind, trials: int) -> st.SearchStrategy[list[tuple[Kind, float | str | None] | None]]:
    one = st.one_of(st.none(), st.just((kind, None)), *(st.just((kind, value)) for value in VALUES[kind]))
    return st.lists(one, min_size=trials, max_size=trials)


@settings(deadline=None, max_examples=15)
@given(data=st.data(), kind=st.sampled_from(sorted(VALUES)), clustered=st.booleans(), cases=st.sampled_from([3, 9]))
def test_scores_added_up_say_what_single_scores_say(data: st.DataObject, kind: Kind, clustered: bool, cases: int):
    size = (3, cases, 2)
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/runs.db")
        for run in ("r1", "r2"):
            stored(database, run, clustered, {"a": data.draw(each(kind, 6 * cases))}, size)
        with database.read() as connection:
            single = [score_columns(connection, run, "a") for run in ("r1", "r2")]
            added = [case_scores(connection, run, "a")["a"] for run in ("r1", "r2")]
        database.close()
    assert [claims(part) for part in added] == [claims(part) for part in single]
    if all(len(part.value) for part in single):
        names = [f"{run}/{v}" for run in ("r1", "r2") for v in single[0].variants]
        assert claims(side_by_side(added, names)) == claims(side_by_side(single, names))


def one(kind: Kind, *values: float | str | None) -> list[tuple[Kind, float | str | None] | None]:
    return [(kind, value) for value in values]


@pytest.fixture
def database(tmp_path: Path):
    opened = Database.open(f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()


def test_all_scorers_are_read_at_once_in_the_suite_order_and_one_that_is_not_there_is_empty(database: Database) -> None:
    a, z = one("label", *["x", "y", "x", None] * 3), one("pass", *[1.0, 0.0] * 6)
    stored(database, "r1", False, {"a": a, "z": z})
    with database.read() as connection:
        found = case_scores(connection, "r1")
        assert list(found) == ["z", "a"]
        assert found == {name: case_scores(connection, "r1", name)[name] for name in ("z", "a")}
        nothing = case_scores(connection, "r1", "other")["other"]
    assert (nothing.kind, nothing.value, nothing.missing) == ("number", [], (6, 6))
    assert found["a"].labels == ("x", "y") and found["a"].missing == (0, 3)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("pass", (0.0, 0.5, 0.5, 1.0), "other than 0 and 1"),
        ("pass", (0.0, None, 1.0, 1.0), None),
        ("fraction", (0.0, 0.5, 1.5, 1.0), "outside 0 to 1"),
        ("fraction", (0.0, 0.5, 0.9, 1.0), None),
        ("number", (1.0, float("inf"), 2.0, 3.0), "no number"),
        ("number", (float("inf"), float("-inf"), 2.0, 3.0), "no number"),
        ("number", (-4.0, 5.0, 2.0, 3.0), None),
    ],
)
def test_values_that_the_kind_does_not_allow_are_refused(
    database: Database, kind: Kind, values: tuple[float | None, ...], message: str | None
) -> None:
    stored(database, "r1", False, {"a": one(kind, *values)}, (1, 1, 4))
    with database.read() as connection:
        for found in (case_scores(connection, "r1", "a")["a"], score_columns(connection, "r1", "a")):
            if message is None:
                assert summarise(found)[0].mean is not None
            else:
                with pytest.raises(UseError, match=message):
                    summarise(found)


def test_runs_of_which_one_lacks_a_scorer_are_shown_side_by_side(database: Database) -> None:
    both = {"a": one("pass", *[1.0, 0.0, 1.0] * 4), "z": one("number", *range(12))}
    stored(database, "r1", False, both)
    stored(database, "r2", False, {"a": both["a"]})
    with database.read() as connection:
        view = load_view(connection, ["r1", "r2"])
    assert [part.name for part in view.scorers] == ["z", "a"]
    assert [s.scores for s in view.scorers[0].summaries] == [6, 6, 0, 0]
    assert [s.missing for s in view.scorers[0].summaries] == [0, 0, 6, 6]
    assert replace(view.scorers[1].summaries[2], variant="") == replace(view.scorers[1].summaries[0], variant="")
