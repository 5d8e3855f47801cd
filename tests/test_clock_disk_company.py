"""Runs whose clock is set back, whose disk is full for a moment, and that have company in their store."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from workbench import evaluate
from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.errors import StoreError
from workbench.loopback import Script, Server, serve
from workbench.prepare import budgets, prepare_suite
from workbench.registry import SCORERS
from workbench.spending import turn
from workbench.store import recording, runs
from workbench.store.database import Database

TRIALS = 8
SUITE = """
name: s
prompts: [p]
models: [house]
params: {{max_tokens: 4}}
cases: {{rows: [{rows}]}}
scorers: [length]
{more}
"""
ROWS = ", ".join(f"{{id: c{i}, text: word{i}}}" for i in range(TRIALS))
HOSTED = "models: {{house: {{engine: openai, model: m, base_url: {url}, price: {{input: 1000, output: 1000}}}}}}\n"
ECHO = "models: {house: {engine: echo, price: {input: 1000, output: 1000}}}\n"


def project(root: Path, models: str, more: str = "") -> Path:
    for name, text in {
        "prompts/p.prompty": "user:\n{{ text }} number one of a few",
        "evals/s.yaml": SUITE.format(rows=ROWS, more=more),
        "workbench.yaml": models,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def command(root: Path, *arguments: str) -> int:
    return main(["--project", str(root), *arguments])


def more(root: Path, text: str) -> None:
    (root / "evals/s.yaml").write_text(SUITE.format(rows=ROWS, more=text))


def query(root: Path, sql: str) -> list[tuple]:
    database = Database.open(load_project(root).store_url)
    try:
        with database.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]
    finally:
        database.close()


HALF = "budget: {cost: 0.1}"
"""Enough for some of the trials: each may cost up to 0.045 dollars."""


def check_each_asked_once(root: Path, server: Server) -> None:
    assert query(root, "SELECT status FROM runs") == [("complete",)]
    assert query(root, "SELECT count(*), count(DISTINCT output) FROM trials") == [(TRIALS, TRIALS)]
    assert server.books.calls.total() == TRIALS


def test_a_clock_that_is_set_back_asks_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh run reuses nothing from before it began; its own answers are its own, whatever their time says."""
    real, calls = recording.now, 0

    def set_back() -> str:
        nonlocal calls
        calls += 1
        return real() if calls <= 2 else "2020-01-01T00:00:00.000+00:00"  # after the run has begun

    with serve(Script(models=("m",))) as server:
        root = project(tmp_path, HOSTED.format(url=server.url), HALF)
        monkeypatch.setattr(recording, "now", set_back)
        assert command(root, "run", "s", "--quiet", "--fresh") == 3
        monkeypatch.setattr(recording, "now", real)
        assert 0 < server.books.calls.total() < TRIALS
        more(root, "")
        assert command(root, "run", "s", "--quiet", "--resume", "latest") == 0
        check_each_asked_once(root, server)


def test_a_run_from_the_future_is_told_since_it_stays_the_latest(tmp_path: Path, capsys) -> None:
    root = project(tmp_path, ECHO)
    assert command(root, "run", "s", "--quiet") == 0
    assert "latest" not in capsys.readouterr().err
    (first,) = query(root, "SELECT id FROM runs")[0]
    database = Database.open(load_project(root).store_url)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET started = '2999-01-01T00:00:00.000+00:00'")
    database.close()
    assert command(root, "run", "s", "--quiet") == 0
    assert f"by its clock run {first} began at 2999-01-01" in capsys.readouterr().err


def test_what_a_run_has_does_not_grow_too_old_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`max_age` bounds what is taken from other runs. What a run asked for, or took, when it began is its own."""
    with serve(Script(models=("m",))) as server:
        root = project(tmp_path, HOSTED.format(url=server.url), f"reuse: {{max_age: 1d}}\n{HALF}")
        monkeypatch.setattr(recording, "now", lambda: "2020-01-01T00:00:00.000+00:00")
        assert command(root, "run", "s", "--quiet") == 3
        monkeypatch.undo()
        asked = server.books.calls.total()
        assert 0 < asked < TRIALS
        more(root, "reuse: {max_age: 1d}")
        assert command(root, "run", "s", "--quiet", "--resume", "latest") == 0
        check_each_asked_once(root, server)
        assert command(root, "run", "s", "--quiet") == 0
        assert server.books.calls.total() == TRIALS + asked, "for another run they are too old"


def test_what_a_full_disk_refuses_is_kept_once_there_is_room(tmp_path: Path, capsys, monkeypatch) -> None:
    """The run ends, but not before what has arrived is tried once more."""
    keep, refused = recording.keep, []

    def full_once(connection: sa.Connection, run: str, answered):
        if refused:
            return keep(connection, run, answered)
        refused.extend(output.request_id for _, _, output in answered)
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as small as it is
        try:
            return keep(connection, run, answered)
        finally:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")

    root = project(tmp_path, ECHO)
    (root / "prompts/p.prompty").write_text("user:\n{{ text * 2000 }}")
    monkeypatch.setattr(recording, "keep", full_once)
    assert command(root, "run", "s", "--quiet") == 3
    told = capsys.readouterr().err
    assert "database or disk is full; make room" in told
    assert "could not be kept" not in told
    assert refused
    assert {request for (request,) in query(root, "SELECT request FROM outputs")} >= set(refused)


def test_what_is_lost_on_a_full_disk_is_told(tmp_path: Path, capsys, monkeypatch) -> None:
    def full(connection: sa.Connection, run: str, answered):
        raise StoreError("disk full")

    root = project(tmp_path, ECHO)
    monkeypatch.setattr(recording, "keep", full)
    assert command(root, "run", "s", "--quiet") == 3
    assert "disk full; the last 8 answers could not be kept, and will be asked again" in capsys.readouterr().err


def pruned(root: Path) -> Callable:
    """`evaluate.split`, with another process that prunes between the look-up and what is made of it."""
    split = evaluate.split

    def and_prune(block, known):
        parts = split(block, known)
        assert parts.answered or not block, "there is something to reuse"
        done = [sys.executable, "-m", "workbench", "--project", str(root), "store", "prune", "--keep", "1"]
        subprocess.run(done, check=True, capture_output=True, timeout=60)
        return parts

    return and_prune


def test_pruning_leaves_what_a_run_at_work_is_about_to_take(tmp_path: Path, monkeypatch, capsys) -> None:
    root = project(tmp_path, ECHO)
    assert command(root, "run", "s", "--quiet") == 0
    monkeypatch.setattr(evaluate, "split", pruned(root))
    assert command(root, "run", "s", "--quiet") == 0
    assert query(root, "SELECT count(*) FROM runs") == [(1,)]
    assert query(root, "SELECT count(*) FROM trials WHERE output IS NOT NULL") == [(TRIALS,)]
    monkeypatch.undo()
    assert command(root, "run", "s", "--quiet", "--fresh", "--seed", "7") == 0
    assert command(root, "store", "prune", "--keep", "1") == 0
    assert query(root, "SELECT count(*) FROM outputs") == [(TRIALS,)], "what nobody waits for goes"


def test_what_other_runs_spend_meanwhile_counts_in_the_projects_budget(tmp_path: Path, capsys) -> None:
    root = project(tmp_path, "budget: {cost: 0.1}\n" + ECHO)
    found = load_project(root)
    suite = load_suite("s", found, Library(found.library_root), SCORERS.names())
    prepared = prepare_suite(suite, root, found.budget)
    request = next(prepared.blocks(0))[0].request
    database = Database.open(found.store_url)
    (budget,) = budgets(prepared, database, "mine")
    with turn(database, [budget]):
        assert budget.passed_by(request) == ""
    assert command(root, "run", "s", "--quiet") == 3
    with turn(database, [budget]):
        pass
    (cost,) = query(root, "SELECT sum(cost) FROM outputs")[0]
    assert f"${cost:.4f} of $0.1 are spent" in budget.passed_by(request)
    database.close()


def test_company_in_the_store_is_told_where_there_is_a_budget_of_the_project(tmp_path: Path, capsys) -> None:
    root = project(tmp_path, "budget: {cost: 20}\n" + ECHO)
    slow = ECHO.replace("price", "options: {delay: 30}, price")
    (root / "workbench.yaml").write_text("budget: {cost: 20}\n" + slow)
    other = [sys.executable, "-m", "workbench", "--project", str(root), "run", "s", "--quiet"]
    with subprocess.Popen(other) as process:
        try:
            while not (found := begun(root)):
                assert process.poll() is None
                time.sleep(0.1)
            (root / "workbench.yaml").write_text("budget: {cost: 20}\n" + ECHO)
            (root / "evals/t.yaml").write_text((root / "evals/s.yaml").read_text().replace("name: s", "name: t"))
            assert command(root, "run", "t", "--quiet") == 0
        finally:
            process.kill()
    assert f"in this store run {found} is at work, too" in capsys.readouterr().err
    assert command(root, "run", "t", "--quiet") == 0
    assert "at work" not in capsys.readouterr().err


def begun(root: Path) -> str:
    """The run that another process works on; empty: none yet."""
    if not (root / ".workbench/runs.db").exists():
        return ""
    database = Database.open(load_project(root).store_url)
    try:
        with database.read() as connection:
            return next((run.id for run in runs.list_runs(connection) if run.status == "running"), "")
    finally:
        database.close()
