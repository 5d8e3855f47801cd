"""What is kept of an ended run says the same as its trials, and goes where one of them changes."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from test_case_scores import VALUES, each, one, stored

from workbench.records import Kind, Output, Score
from workbench.stats.pvalues import BLOCK, FLIPS, _sampled_flips
from workbench.stats.reduce import of_variants
from workbench.stats.summary import summarise
from workbench.store import database as db
from workbench.store import kept, recording
from workbench.store.check import check_store
from workbench.store.database import Database
from workbench.store.grouped import case_scores, case_scores_of, grouped_scores, usage_by_model
from workbench.store.overview import done_counts
from workbench.store.prune import prune
from workbench.store.runs import get_run, planned_trials, run_scorers, score_columns, usage
from workbench.store.summaries import keep_ended, keep_missing, keep_summary
from workbench.store.transfer import write_export
from workbench.upkeep import take_in_file, verify_store
from workbench.views.board import case_values, summed_values
from workbench.views.journey import standings

ASKED = {"params": {}, "seed": None, "repeat": 0, "answer": {}, "logprobs": 0, "tools": []}


@pytest.fixture
def database(tmp_path: Path):
    opened = Database.open(f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()


def is_kept(database: Database, run: str = "r1") -> bool:
    with database.read() as connection:
        return run in kept.kept_usage(connection, [run])


def answer(database: Database, run: str, every: int = 1) -> None:
    """Gives the run's trials an answer each, some of them failed, some without a price or a time."""
    with database.write() as connection:
        trials = connection.execute(sa.select(db.trials.c.request).where(db.trials.c.run == run)).scalars().all()
        connection.execute(
            db.requests.insert().prefix_with("OR IGNORE"),
            [{"id": r, "model": "echo", "identity": "echo-1", "messages": [], "settings": ASKED} for r in trials],
        )
        outputs = [
            Output(r, "x", "failed" if i % 5 == 4 else "stop", 3, 2, None if i % 3 else 0.25, None, i % 7 and 0.5)
            for i, r in enumerate(trials)
            if i % every == 0
        ]
        recording.keep_outputs(connection, run, outputs)


def said(connection: sa.Connection, run: str, scorer: str) -> list[object]:
    """All that is read of kept sums, in every way that they are read."""
    found = get_run(connection, run)
    return [
        case_scores(connection, run), case_scores_of(connection, [run], scorer), case_scores(connection, run, "none"),
        grouped_scores(connection, run, scorer, "model"), grouped_scores(connection, run, scorer, "revision", "p"),
        usage(connection, run), usage_by_model(connection, run), planned_trials(connection, run),
        run_scorers(connection, run), done_counts(connection, [run]), (found.answered, found.failed),
        standings(connection, {run: None}, scorer, every=True),
    ]  # fmt: skip


@settings(deadline=None, max_examples=15)
@given(data=st.data(), kind=st.sampled_from(sorted(VALUES)), clustered=st.booleans(), every=st.integers(1, 13))
def test_kept_sums_say_what_the_trials_say(data: st.DataObject, kind: Kind, clustered: bool, every: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/runs.db")
        given = {"a": data.draw(each(kind, 12)), "z": data.draw(each("pass", 12))}
        stored(database, "r1", clustered, given)
        answer(database, "r1", every)
        with database.read() as connection:
            anew = said(connection, "r1", "a")
        with database.write() as connection:
            keep_summary(connection, "r1")
        assert is_kept(database)
        with database.read() as connection:
            assert said(connection, "r1", "a") == anew
            assert list(check_store(connection, lambda row, seeds: True)) == []
        database.close()


def test_groups_are_the_means_of_their_variants_and_repeats(database: Database) -> None:
    stored(database, "r1", False, {"a": one("pass", 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, None, 1.0)}, (2, 2, 2))
    with database.read() as connection:
        found = grouped_scores(connection, "r1", "a", "model")
        by_revision = grouped_scores(connection, "r1", "a", "revision", "another prompt")
    assert (found.variants, found.kind, found.missing) == (("echo",), "fraction", (1,))
    assert dict(zip(found.case, found.value, strict=True)) == {0: 0.75, 1: pytest.approx(1 / 3)}
    assert (by_revision.variants, by_revision.value) == ((), [])


def test_a_variant_alone_is_summarised_as_among_others(database: Database) -> None:
    stored(database, "r1", True, {"a": one("fraction", *[0.25, 0.5, 1.0, None] * 9)}, (3, 6, 2))
    with database.read() as connection:
        scores = case_scores(connection, "r1", "a")["a"]
    for name, whole in zip(scores.variants, summarise(scores), strict=True):
        assert summarise(of_variants(scores, [name])) == [whole]
    assert of_variants(scores, scores.variants[::-1]).missing == scores.missing[::-1]


def rescore(connection: sa.Connection) -> None:
    trial = connection.execute(sa.select(db.trials.c.id).where(db.trials.c.run == "r1")).scalars().first()
    recording.save_scores(connection, "r1", [Score(str(trial), "a", "k2", 0.0, "pass", "")])


def reattach(connection: sa.Connection) -> None:
    trial, number = connection.execute(sa.select(db.outputs.c.request, db.outputs.c.number)).first() or ("", 0)
    recording.attach(connection, "r1", [recording.Kept(number, Output(trial, "x", "stop"))])


def time_again(connection: sa.Connection) -> None:
    recording.set_latency(connection, 1, Output("-", "x", "stop", seconds=2.0))


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (rescore, False),
        (reattach, False),
        (time_again, False),
        (lambda connection: recording.take_up(connection, "r1"), False),
        (lambda connection: recording.set_latency(connection, 10_000, Output("-", "x", "stop")), True),
        (lambda connection: recording.add_scorers(connection, "r1", {"b": "st1-b"}), True),
        (lambda connection: recording.save_scores(connection, "r2", [Score("t", "a", "", None, "pass", "")]), True),
    ],
)
def test_what_changes_a_run_removes_what_is_kept_of_it(
    database: Database, change: Callable[[sa.Connection], None], stays: bool
) -> None:
    for run in ("r1", "r2"):
        stored(database, run, False, {"a": one("pass", *[1.0] * 12)})
    answer(database, "r1")
    with database.write() as connection:
        keep_summary(connection, "r1")
    with database.write() as connection:
        change(connection)
    assert is_kept(database) is stays
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(db.score_sums)).scalar() == int(stays)


def test_runs_that_lack_sums_get_them_but_for_one_at_work_and_one_without_a_sum(database: Database) -> None:
    for run in ("r1", "r2", "r3"):
        values = one("number", float("inf"), *[1.0] * 11) if run == "r3" else one("pass", *[1.0] * 12)
        stored(database, run, False, {"a": values})
    with database.write() as connection:
        recording.take_up(connection, "r2")  # by this process, which lives
    keep_missing(database)
    keep_missing(database)
    assert [is_kept(database, run) for run in ("r1", "r2", "r3")] == [True, False, False]
    with database.write() as connection:
        keep_ended(connection, ["r1", "r2"])
    assert [is_kept(database, run) for run in ("r1", "r2")] == [True, False]


def test_verify_tells_of_sums_that_are_not_those_of_the_scores(database: Database) -> None:
    stored(database, "r1", False, {"a": one("pass", *[1.0] * 12)})
    with database.write() as connection:
        keep_summary(connection, "r1")
        connection.execute(db.scores.update().values(number=0.0))
    found = [finding for finding in verify_store(database) if "sums" in finding.what]
    assert [(finding.count, finding.example) for finding in found] == [(1, "r1")]
    assert "workbench score" in found[0].advice


def test_a_store_is_taken_in_with_its_sums_made_anew_and_exported_without(database: Database, tmp_path: Path) -> None:
    stored(database, "r1", False, {"a": one("pass", *[1.0, 0.0] * 6)})
    answer(database, "r1")
    with database.write() as connection:
        keep_summary(connection, "r1")
    with database.read() as connection, (tmp_path / "e.gz").open("wb") as file:
        write_export(connection, file)
        before = case_scores(connection, "r1")
    lines = list(map(json.loads, gzip.decompress((tmp_path / "e.gz").read_bytes()).splitlines()))
    assert not {line[0] for line in lines if isinstance(line, list)} & {"summaries", "score_sums"}
    for name, source in (("from export", tmp_path / "e.gz"), ("from store", tmp_path / "runs.db")):
        other = Database.open(f"sqlite:///{tmp_path}/{name}.db")
        take_in_file(other, source)
        assert is_kept(other)
        with other.read() as connection:
            assert case_scores(connection, "r1") == before
        other.close()


def test_sums_go_with_their_run(database: Database) -> None:
    stored(database, "r1", False, {"a": one("pass", *[1.0] * 12)})
    with database.write() as connection:
        keep_summary(connection, "r1")
        prune(connection, keep=0)
    with database.read() as connection:
        for table in (db.runs, db.summaries, db.score_sums):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0


@settings(deadline=None, max_examples=20)
@given(data=st.data(), kind=st.sampled_from(["pass", "fraction", "number"]))
def test_cases_counted_from_sums_have_the_figures_of_single_scores(data: st.DataObject, kind: Kind) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/runs.db")
        stored(database, "r1", False, {"a": data.draw(each(kind, 12))})
        with database.read() as connection:
            single = case_values(score_columns(connection, "r1", "a"))
            added = summed_values(case_scores(connection, "r1", "a")["a"])
        database.close()
    assert np.array_equal(added.counts, single.counts) and np.allclose(added.means, single.means, rtol=1e-12)
    if kind == "pass":
        assert all(map(np.array_equal, added.flips(), single.flips()))


@pytest.mark.parametrize("units", ["few sizes", "many sizes", "one size"])
def test_sign_flips_of_equal_sizes_are_counted_together_without_a_change(units: str) -> None:
    """Held against the plain product of signs and sizes, with the same draws."""
    random = np.random.default_rng(5)
    step = {"few sizes": 0.25, "many sizes": 1e-6, "one size": 1.0}[units]
    sizes = [np.sort(np.ceil(random.random(n) / step) * step)[::-1] for n in (400, 371, 12)]
    observed = np.array([0.7 * np.sqrt((size**2).sum()) for size in sizes])
    table = np.array([np.pad(size, (0, 400 - len(size))) for size in sizes]).T
    draws, reached = np.random.default_rng(0), np.zeros(3)
    for start in range(0, FLIPS, BLOCK):
        signs = 2.0 * draws.integers(0, 2, (min(BLOCK, FLIPS - start), 400), dtype=np.int8) - 1
        reached += (np.abs(signs @ table) >= observed).sum(axis=0)
    assert _sampled_flips(sizes, observed, 0).tolist() == reached.tolist()
