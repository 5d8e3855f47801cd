"""A process that is killed −9 at each statement of a migration, or of joining shards: nothing is lost or doubled."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from doubles.stores import at_version, rows
from test_prune import call, project, write

from workbench.cli import main
from workbench.loopback import Script, serve
from workbench.store.database import HEAD, Database
from workbench.store.runs import list_runs
from workbench.upkeep import verify_store

DIED = -9


def die_at(number: int, arguments: list[str]) -> None:
    """The command line, killed just before its n-th statement; a commit counts as one."""
    done = 0

    def began(*_: object) -> None:
        nonlocal done
        done += 1
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "before_cursor_execute", began)
    sa.event.listen(sa.Engine, "commit", began)
    sys.exit(main(arguments))


def killed(root: Path, number: int, *arguments: str) -> int | None:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, "workbench.cli.join", "workbench.cli.runs", "alembic.command"])
    process = server.Process(target=die_at, args=(number, ["--project", str(root), *arguments]))
    process.start()
    process.join(120)
    return process.exitcode


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose store has a run, and another in two shards."""
    with serve(Script(answers={"Answered": '{"verdict": "yes"}'})) as server:
        root = project(tmp_path_factory.mktemp("sharded"), server.url)
        write(root / "evals/b.yaml", (root / "evals/b.yaml").read_text().replace(", semantic: maker", ""))
        call(root, "run", "a", "--quiet")
        for shard in ("1/2", "2/2"):
            call(root, "run", "b", "--shard", shard, "--quiet")
    return root


def store_of(root: Path) -> Path:
    return root / ".workbench/runs.db"


def copied(root: Path, to: Path, store: Path) -> Path:
    shutil.copytree(root, to, ignore=shutil.ignore_patterns(".workbench"))
    (to / ".workbench").mkdir()
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(store_of(to))) as target:
        source.backup(target)  # with what is in the WAL only
    return to


def held(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the store holds; of runs without when and where they were made."""
    found = rows(store_of(root), without=["runs"])
    with closing(sqlite3.connect(store_of(root))) as connection:
        query = "SELECT id, suite, stage, status, planned, plan, header FROM runs ORDER BY id"
        return {**found, "runs": connection.execute(query).fetchall()}


def opened(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """The same, once it was opened and looked through."""
    database = Database.open(f"sqlite:///{store_of(root)}")
    assert verify_store(database) == []
    database.close()
    return held(root)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0001", "0007", f"{int(HEAD) - 1:04}"])
def test_killed_at_each_statement_of_a_migration(tmp_path: Path, sharded: Path, version: str) -> None:
    """All steps from a version on are one transaction: the store is as it was, or up to date. From the first one on,
    each step's statements are among them."""
    old = at_version(tmp_path / "old.db", version, store_of(sharded))
    before = held(copied(sharded, tmp_path / "before", old))
    wanted = opened(copied(sharded, tmp_path / "wanted", old))
    died = 0
    for number in range(1, 100):
        root = copied(sharded, tmp_path / str(number), old)
        code = killed(root, number, "runs")
        if code != DIED:
            assert code == 0
            break
        died += 1
        assert held(root) in (before, wanted)
        assert opened(root) == wanted
    assert died > int(HEAD) - int(version), "a statement for each step at least, and the commit"


@pytest.mark.slow
def test_killed_at_each_statement_of_joining_shards(tmp_path: Path, sharded: Path) -> None:
    database = Database.open(f"sqlite:///{store_of(sharded)}")
    with database.read() as connection:
        shards = [run.id for run in list_runs(connection) if run.suite == "b"]
    database.close()
    before = held(sharded)
    whole = copied(sharded, tmp_path / "whole", store_of(sharded))
    call(whole, "runs", "join", *shards)
    wanted = opened(whole)
    died = 0
    for number in range(1, 100):
        root = copied(sharded, tmp_path / str(number), store_of(sharded))
        code = killed(root, number, "runs", "join", *shards)
        if code == DIED:
            died += 1
            assert opened(root) in (before, wanted)
            call(root, "runs", "join", *shards)
        assert opened(root) == wanted
        if code != DIED:
            assert code == 0
            break
    assert died > 8, "a run's row, its variants, and the cases, trials and scores of each shard"
