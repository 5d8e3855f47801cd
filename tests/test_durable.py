"""What is committed is kept: a run killed twenty times, and a store as a power cut leaves it."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_hosted_faults import _newest, _started, _wait_until, answers, committed, killed_at, project, run

from workbench.begin import RunOptions
from workbench.cli.run import STOPPING, stop_on_signal
from workbench.loopback import Latency, Script, serve
from workbench.store.database import Database

TRIALS, AT_ONCE, KILLS = 2000, 24, 20


@pytest.mark.slow
def test_twenty_kills_cost_at_most_what_was_in_flight(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("WORKBENCH_TEST_SEED", "1")))
    with serve(Script(latency=Latency("lognormal", 0.02, 0.4))) as server:
        root = project(tmp_path / "killed", server.url, TRIALS // 2, repeats=2, limits=f"concurrency: {AT_ONCE}")
        moments = (server.books.answered + chance.randint(5, TRIALS // KILLS - 20) for _ in range(KILLS))
        in_flight = killed_at(root, server, moments, chance, pause=0.03)
        assert server.books.distinct == TRIALS
        assert server.books.calls.total() - TRIALS <= sum(in_flight), in_flight
        assert set(committed(root).values()) == {1}
        undisturbed = project(tmp_path / "undisturbed", server.url, TRIALS // 2, repeats=2)
        assert run(undisturbed)[1] == "complete"
    assert answers(root) == answers(undisturbed)


SNAPSHOTS = 8
WAL_HEADER, FRAME_HEADER = 32, 24
"""Bytes (https://www.sqlite.org/fileformat2.html#walformat)."""


@pytest.mark.slow
def test_a_power_cut_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """The files as they lie on the disk, the process stopped meanwhile; then with the log cut off between or in
    the frames of the newest commit, as if the power had failed while that was written."""
    chance = random.Random(int(os.environ.get("WORKBENCH_TEST_SEED", "1")))
    taken: list[tuple[Path, set[str]]] = []
    cuts = 0
    with serve(Script(latency=Latency("lognormal", 0.02, 0.4))) as server:
        root = project(tmp_path / "live", server.url, 600, limits="concurrency: 12")
        with _started(root) as client:
            for number in range(SNAPSHOTS):
                _wait_until(lambda n=number: len(committed(root)) >= 30 * (n + 1))
                time.sleep(chance.uniform(0, 0.05))
                client.send_signal(signal.SIGSTOP)
                copy = tmp_path / f"cut{number}"
                shutil.copytree(root, copy, ignore=shutil.ignore_patterns("*-shm"))
                taken.append((copy, set(committed(root))))
                client.send_signal(signal.SIGCONT)
        for copy, there in taken:
            log = copy / ".workbench/runs.db-wal"
            shorter = [shutil.copytree(copy, tmp_path / f"{copy.name}-{where}") for where in ("frame", "middle")]
            whole = _readable(copy)
            assert there <= whole, "a commit may be on the disk and not yet seen by other processes"
            for other in shorter:
                cuts += _cut(other / log.relative_to(copy), chance, middle=other.name.endswith("middle"))
                assert _readable(other) <= whole
        assert cuts >= SNAPSHOTS, "most logs hold a commit that can be cut"
        for copy, _ in taken[:: SNAPSHOTS // 2]:
            newest, there = _newest(copy), _readable(copy)
            progress, status = run(copy, RunOptions(resume=newest))
            assert (status, progress.done, progress.reused) == ("complete", 600, len(there))
            assert set(committed(copy).values()) == {1}
            assert len(committed(copy)) == 600


def _cut(log: Path, chance: random.Random, *, middle: bool) -> bool:
    """Cuts the log off in its newest commit, before a frame or in the middle of one; not where the database
    itself has pages of that commit already, which it gets only when the log is safe."""
    raw, database = log.read_bytes(), log.with_name("runs.db").read_bytes()
    page, salts = int.from_bytes(raw[8:12]), raw[16:24]
    length = FRAME_HEADER + page
    starts = []
    for start in range(WAL_HEADER, len(raw) - length + 1, length):
        if raw[start + 8 : start + 16] != salts:  # left from before the log began anew
            break
        starts.append(start)
    ends = [i for i, start in enumerate(starts) if int.from_bytes(raw[start + 4 : start + 8])]
    if not ends:
        return False
    newest = starts[ends[-2] + 1 if len(ends) > 1 else 0 : ends[-1] + 1]
    for start in newest:
        place = (int.from_bytes(raw[start : start + 4]) - 1) * page
        if database[place : place + page] == raw[start + FRAME_HEADER : start + length]:
            return False
    os.truncate(log, chance.choice(newest) + (chance.randrange(1, length) if middle else 0))
    return True


def _readable(root: Path) -> set[str]:
    """The answered requests of a store that must be sound."""
    with sqlite3.connect(root / ".workbench/runs.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        query = "SELECT request FROM outputs WHERE finish_reason <> 'failed'"
        found = {row[0] for row in connection.execute(query)}
    connection.close()
    return found


def test_every_commit_is_synchronised(tmp_path: Path) -> None:
    """What makes the log's committed part safe (https://www.sqlite.org/pragma.html#pragma_synchronous): FULL is 2."""
    database = Database.open(f"sqlite:///{tmp_path}/runs.db")
    with database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    database.close()


def test_a_signal_in_the_midst_of_a_line_stops_the_run() -> None:
    """A stream that is being written can't be written from a handler: Python refuses it as reentrant."""
    said: list[bytes] = []

    class Raw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            said.append(bytes(data))
            if len(said) == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return len(data)

    console = Console(file=io.TextIOWrapper(io.BufferedWriter(Raw()), "utf-8", line_buffering=True), width=200)
    with stop_on_signal(console) as stop:
        console.out("0 of 10 trials")
        until = time.monotonic() + 30
        while STOPPING.encode() not in b"".join(said) and time.monotonic() < until:
            time.sleep(0.01)
    assert stop.is_set()
    assert b"".join(said).decode().split("\n")[:2] == ["0 of 10 trials", STOPPING]
