"""The store: opened, brought up to date, refused; a run's rows; answers found again, failures not."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import config, script
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import StoreError, UnknownName, UseError
from workbench.records import Case, Failure, Message, Output, Request, Score, ScorerSpec, Suite, Trial, Variant
from workbench.store import database as db
from workbench.store import recording, runs, sqlite
from workbench.store.database import HEAD, Database, shown

VARIANTS = tuple(Variant("p", f"pr1-{i}", "echo", {"temperature": i}, label=f"t={i}") for i in range(2))
CASES = tuple(
    Case(f"c{i}", {"text": f"text {i}"}, expected="yes", cluster="odd" if i % 2 else "even") for i in range(3)
)
SUITE = Suite("s", "prompt", VARIANTS, CASES, (ScorerSpec("exact", "exact"),), {}, {}, text="name: s")


@pytest.fixture
def database(tmp_path: Path):
    opened = Database.open(f"sqlite:///{tmp_path}/runs.db")
    yield opened
    opened.close()


def asked(trial: Trial) -> Request:
    return Request(f"rq1-{trial.id}", "echo", (Message.of("user", str(trial.case.inputs)),))


def trials() -> list[Trial]:
    return [Trial(v, c, 0) for c in CASES for v in VARIANTS]


def plan(plan_id: str = "pl1-a") -> recording.Plan:
    return recording.Plan(plan_id, [(t, asked(t).id) for t in trials()])


def start(database: Database, run: str = "r1") -> None:
    with database.write() as connection:
        recording.start_run(connection, run, SUITE, plan(), {"seed": 0, "scorers": ["exact"]})


def test_the_newest_step_is_the_one_that_is_expected() -> None:
    settings = config.Config()
    settings.set_main_option("script_location", str(Path(db.__file__).parent / "migrations"))
    assert script.ScriptDirectory.from_config(settings).get_current_head() == HEAD


def test_the_steps_make_the_tables_that_the_code_names(database: Database) -> None:
    with database.read() as connection:
        found = sa.inspect(connection)
        for table in db.metadata.sorted_tables:
            columns = {c["name"]: (type(c["type"]).__name__, c["nullable"]) for c in found.get_columns(table.name)}
            expected = {c.name: (c.type.__visit_name__.upper(), c.nullable) for c in table.columns}
            assert {n: (t.upper(), k) for n, (t, k) in columns.items()} == expected, table.name
            assert {i["name"] for i in found.get_indexes(table.name)} == {i.name for i in table.indexes}


def test_a_store_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # as in its first moment, before it is in WAL mode
    release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()
    opened = Database.open(f"sqlite:///{tmp_path}/runs.db")
    assert release.finished.is_set()
    opened.close()
    other.close()


def test_a_second_opening_changes_nothing(database: Database, tmp_path: Path) -> None:
    start(database)
    again = Database.open(f"sqlite:///{tmp_path}/runs.db")
    with again.read() as connection:
        assert runs.get_run(connection, "r1").planned == 6
    again.close()


def not_a_database(folder: Path) -> str:
    (folder / "x.db").write_text("this is no database, only a long enough text" * 40)
    return f"sqlite:///{folder}/x.db"


def newer(folder: Path) -> str:
    Database.open(f"sqlite:///{folder}/x.db").close()
    engine = sa.create_engine(f"sqlite:///{folder}/x.db")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    return f"sqlite:///{folder}/x.db"


def read_only(folder: Path) -> str:
    return f"sqlite:///file:{folder}/none.db?mode=ro&uri=true"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (not_a_database, "it is no SQLite file"),
        (newer, "update workbench"),
        (read_only, "can't be used"),
        (lambda folder: "nonsense", "check its URL"),
        (lambda folder: "sqlite:////proc/none/x.db", "can't be used"),
        (lambda folder: "oracle+none://me:secret@host/db", "can't be used"),
    ],
)
def test_what_is_no_store_is_refused_in_one_line(url, message: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=message) as error:
        Database.open(url(tmp_path))
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_full_disk_says_so_and_keeps_what_was_written(database: Database, tmp_path: Path) -> None:
    start(database)
    engine = sa.create_engine(f"sqlite:///{tmp_path}/runs.db")

    @sa.event.listens_for(engine, "connect")
    def _(connection, _record):
        connection.isolation_level = None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")

    sa.event.listen(engine, "begin", sqlite.begin)
    full = Database(engine, "sqlite:///full.db")
    first = trials()[0]
    big = Output(asked(first).id, text="x" * 100_000)
    with pytest.raises(StoreError, match="make room, then start the run again"), full.write() as connection:
        recording.keep(connection, "r1", [(asked(first), "id", big)])
    full.close()
    with database.read() as connection:
        assert runs.get_run(connection, "r1").answered == 0


def test_an_answer_is_found_again_and_a_failure_is_not(database: Database) -> None:
    start(database)
    first, second = trials()[:2]
    answers = [
        (asked(first), "id", Output(asked(first).id, text="yes", seconds=0.5, cost=0.25, prompt_tokens=7)),
        (
            asked(second),
            "id",
            Output(asked(second).id, finish_reason="failed", failure=Failure("timeout", "late", True)),
        ),
    ]
    with database.write() as connection:
        recording.keep(connection, "r1", answers)
    with database.read() as connection:
        found = recording.known(connection, [asked(t).id for t in trials()])
        assert {i: k.output for i, k in found.items()} == {asked(first).id: answers[0][2]}
        assert recording.known(connection, [asked(first).id], "9999") == {}
        run = runs.get_run(connection, "r")
        assert (run.answered, run.failed, run.status) == (1, 1, "running")
        failures = list(runs.trial_rows(connection, "r1", runs.TrialFilter(failures=True)))
        assert len(failures) == 5
        assert {f.output.failure.message for f in failures if f.output} == {"late"}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
json_values = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | texts, lambda s: st.lists(s, max_size=3))


@settings(max_examples=25, deadline=None)
@given(text=texts, calls=st.lists(json_values, max_size=2), extra=st.dictionaries(texts, json_values, max_size=2))
def test_an_output_survives_the_store(tmp_path_factory, text: str, calls: list, extra: dict) -> None:
    database = Database.open(f"sqlite:///{tmp_path_factory.mktemp('store')}/runs.db")
    start(database)
    request = asked(trials()[0])
    output = Output(request.id, text=text, tool_calls=tuple(calls), extra=extra, output_tokens=3)
    with database.write() as connection:
        recording.keep(connection, "r1", [(request, "id", output)])
    with database.read() as connection:
        row = next(r for r in runs.trial_rows(connection, "r1") if r.output)
    database.close()
    assert row.output == output
    assert row.messages == [m.to_json() for m in request.messages]


def test_scores_come_back_as_columns(database: Database) -> None:
    start(database)
    scored = [Score(t.id, "exact", "k", float(t.case.id == "c1"), "pass", "because") for t in trials()[:5]]
    with database.write() as connection:
        recording.save_scores(connection, "r1", scored)
        recording.save_scores(connection, "r1", scored)  # again: in place of the old ones
    with database.read() as connection:
        columns = runs.score_columns(connection, "r1", "exact")
        assert runs.run_scorers(connection, "r1") == [("exact", "pass")]
    assert columns.clusters == ("even", "odd", "even")
    assert columns.missing == (0, 1)
    assert sorted(zip(columns.variant, columns.case, columns.value, strict=True)) == [
        (0, 0, 0.0), (0, 1, 1.0), (0, 2, 0.0), (1, 0, 0.0), (1, 1, 1.0),
    ]  # fmt: skip


JUDGED_BY = {"scorers": [], "terms": {}, "judges": {}, "gates": []}


@pytest.mark.parametrize(
    ("run", "plan_id", "expected", "message"),
    [
        ("r1", "pl1-a", None, ""),
        ("r1", "pl1-b", UseError, "have changed since"),
        ("r2", "pl1-a", UseError, "no run 'r2'"),
    ],
)
def test_resuming(database: Database, run: str, plan_id: str, expected, message: str) -> None:
    start(database)
    with database.write() as connection:
        recording.end_run(connection, "r1", "stopped", {})
    with database.write() as connection:
        if expected is None:
            recording.resume_run(connection, run, plan(plan_id), JUDGED_BY)
            assert runs.get_run(connection, run).status == "running"
        else:
            with pytest.raises(expected, match=message):
                recording.resume_run(connection, run, plan(plan_id), JUDGED_BY)


def test_a_second_process_on_the_same_suite_is_refused_with_the_pid(database: Database) -> None:
    start(database)
    with pytest.raises(StoreError, match=rf"process {os.getpid()} .*run r1"):
        start(database, "r2")


def test_a_run_whose_process_is_gone_is_interrupted(database: Database) -> None:
    start(database)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with database.write() as connection:
        connection.execute(db.runs.update().values(pid=gone.pid))
    with database.read() as connection:
        assert runs.get_run(connection, "r1").status == "interrupted"
    start(database, "r2")  # and does not stand in the way


@pytest.mark.parametrize(("name", "found"), [("r1", "r1"), ("latest", "r1"), ("r", "r1"), ("x", None)])
def test_a_run_is_found_by_the_beginning_of_its_id(database: Database, name: str, found: str | None) -> None:
    start(database)
    with database.read() as connection:
        if found:
            assert runs.get_run(connection, name).id == found
        else:
            with pytest.raises(UnknownName, match="unknown run 'x'; known: r1"):
                runs.get_run(connection, name)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in shown("postgresql://me:secret@host/db")
