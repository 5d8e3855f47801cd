"""A process that is killed −9 at each of its steps, between the provider and the store: nothing is paid twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from test_batch import lines, project, stored

from workbench.errors import UnknownName
from workbench.loopback import Script, serve

KILLED = """
import os, signal, sys
from contextlib import contextmanager
from workbench.cli import main
from workbench.engines.openai import batch, limiter
from workbench.store.database import Database

batch.MOST_REQUESTS = 4
limiter.BACKOFF = 0.02
number, before = int(sys.argv[1]), sys.argv[2] == "before"
write, done = Database.write, 0

@contextmanager
def counted(self):
    global done
    with write(self) as connection:
        yield connection
        done += 1
        if done == number and before:
            os.kill(os.getpid(), signal.SIGKILL)
    if done == number:
        os.kill(os.getpid(), signal.SIGKILL)

Database.write = counted
sys.exit(main(sys.argv[3:]))
"""
"""The command line, killed just before or just after its n-th commit: each call to the provider lies between
two commits, so this is each step."""
DIED = -9
TRIALS = 10


def killed(root: Path, number: int, moment: str, *arguments: str) -> int:
    command = [sys.executable, "-c", KILLED, str(number), moment, "--project", str(root), *arguments]
    return subprocess.run(command, capture_output=True, timeout=120).returncode


def check(root: Path, server) -> None:
    """Each trial has one answer and one score, and the provider was asked for each once."""
    run, rows, _ = stored(root)
    assert (run.status, run.answered, len(rows)) == ("complete", TRIALS, TRIALS)
    assert all(row.output and row.output.text.startswith("say ") and len(row.scores) == 1 for row in rows)
    assert lines(server) == TRIALS
    assert max(server.books.calls[f"say {i} once"] for i in range(TRIALS)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_each_step_of_submitting(tmp_path: Path, moment: str) -> None:
    died = 0
    for number in range(1, 20):
        with serve(Script(batch_seconds=0)) as server:
            root = project(tmp_path / str(number), server.url, TRIALS)
            code = killed(root, number, moment, "run", "many", "--batch", "--quiet")
            died += code == DIED
            if code == 0:
                break
            assert code == DIED
            run = _newest(root)
            again = ("--resume", run) if run else ()
            assert killed(root, 99, moment, "run", "many", "--batch", "--quiet", *again) == 0
            assert server.calls["POST /batches"] == 3
            assert killed(root, 99, moment, "batches", "collect", "--all") == 0
            check(root, server)
    assert died >= 9, "a header, a plan, and three batches with two notes each"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_each_step_of_collecting(tmp_path: Path, moment: str) -> None:
    died = 0
    for number in range(1, 20):
        with serve(Script(batch_seconds=0)) as server:
            root = project(tmp_path / str(number), server.url, TRIALS)
            assert killed(root, 99, moment, "run", "many", "--batch", "--quiet") == 0
            code = killed(root, number, moment, "batches", "collect", "latest")
            died += code == DIED
            if code == 0:
                break
            assert killed(root, 99, moment, "batches", "collect", "latest") == 0
            check(root, server)
    assert died >= 7, "three batches with their answers and their notes, and the scores"


@pytest.mark.parametrize(
    ("number", "moment"), [(7, "before"), (7, "after")], ids=["begun and not noted", "noted and the next not begun"]
)
def test_killed_between_a_batch_and_its_note(tmp_path: Path, number: int, moment: str) -> None:
    with serve(Script(batch_seconds=0)) as server:
        root = project(tmp_path, server.url, TRIALS)
        assert killed(root, number, moment, "run", "many", "--batch", "--quiet") == DIED
        run, _, planned = stored(root)
        assert run.status == "interrupted"
        begun = server.calls["POST /batches"]
        noted = sum(row.status == "submitted" for row in planned)
        assert (begun - noted == 1) if moment == "before" else (begun == noted > 0)
        assert killed(root, 99, moment, "batches", "collect", run.id) in (0, 3)
        assert killed(root, 99, moment, "run", "many", "--batch", "--quiet", "--resume", run.id) == 0
        assert killed(root, 99, moment, "batches", "collect", run.id) == 0
        check(root, server)


def _newest(root: Path) -> str:
    try:
        return stored(root)[0].id
    except UnknownName:  # killed before there was a run
        return ""
