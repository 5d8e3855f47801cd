"""A run's header is written by several processes at once, and none undoes what another wrote."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from doubles.postgres import postgres
from test_store import JUDGED_BY, plan, start

from workbench.store import recording, runs
from workbench.store.database import Database

TIMES = 60


def noting(url: str, who: str) -> None:
    repeat(url, lambda connection, i: recording.note(connection, "r1", {f"{who}{i}": i}))


def scoring(url: str, who: str) -> None:
    repeat(url, lambda connection, i: recording.add_scorers(connection, "r1", {f"{who}{i}": "terms"}))


def ending(url: str, who: str) -> None:
    repeat(url, lambda connection, i: recording.end_run(connection, "r1", "complete", {"echo": {who: 1}}))


def resuming(url: str, who: str) -> None:
    def resume(connection, i: int) -> None:
        recording.end_run(connection, "r1", "stopped", {})  # this process's own
        recording.resume_run(connection, "r1", plan(), {**JUDGED_BY, "scorers": [f"{who}{i}"]})

    repeat(url, resume)


def repeat(url: str, write: Callable) -> None:
    database = Database.open(url)
    for i in range(TIMES):
        with database.write() as connection:
            write(connection, i)
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        yield f"sqlite:///{tmp_path}/runs.db" if request.param == "sqlite" else stack.enter_context(postgres())


@pytest.mark.slow
def test_no_update_of_a_header_is_lost(url: str) -> None:
    """A run that notes and ends, `score`, and one that is taken up, in a process each."""
    database = Database.open(url)
    start(database)
    at_once = multiprocessing.get_context("spawn")
    tasks = [
        (noting, "a"),
        (noting, "b"),
        (scoring, "c"),
        (scoring, "d"),
        (ending, "e"),
        (ending, "f"),
        (resuming, "g"),
    ]
    processes = [at_once.Process(target=task, args=(url, who)) for task, who in tasks]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    with database.read() as connection:
        header = runs.run_header(connection, "r1")
    database.close()
    numbered = {who: {f"{who}{i}" for i in range(TIMES)} for who in "abcdg"}
    assert header.keys() >= numbered["a"] | numbered["b"]
    assert {*header["scorers"]} == {"exact"} | numbered["c"] | numbered["d"] | numbered["g"]
    assert header["terms"].keys() == numbered["c"] | numbered["d"]
    assert header["work"]["echo"] == {"e": TIMES, "f": TIMES}
