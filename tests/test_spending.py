"""The project's budget, from which several processes spend at once: together they never pass it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from doubles.postgres import postgres
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.loopback import Fault, Latency, Script, serve
from workbench.records import Message, Output, Request
from workbench.run.budget import Use
from workbench.spending import SharedBudget, landing, project_budget, turn
from workbench.store import database as db
from workbench.store import recording, reservations
from workbench.store.database import Database

ANSWER, TAKEN, WORST = 200, 203, 250
"""Tokens of each answer, with its prompt, and at most."""
LIMIT = 10 * WORST
MOST_CALLS = 12
"""After so many answers the next could pass the limit; with fewer it could not."""
assert MOST_CALLS * TAKEN + WORST > LIMIT >= (MOST_CALLS - 1) * TAKEN + WORST
SUITE = """
name: %s
prompts: [%s]
models: [house]
params: {max_tokens: 200}
cases: {rows: [%s]}
scorers: [length]
"""


def project(root: Path, url: str, store: str = "") -> Path:
    rows = ", ".join(f"{{id: c{i}, number: {i}}}" for i in range(10, 40))
    for name in ("one", "two"):
        text = f"{name} {{{{ number }}}} "
        for path, content in {
            f"prompts/{name}.prompty": f"user:\n{text}" + "x" * (WORST - ANSWER - 16 - len(f"{name} 10 ")),
            f"evals/{name}.yaml": SUITE % (name, name, rows),
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
    (root / "workbench.yaml").write_text(
        f"budget: {{tokens: {LIMIT}}}\n{f'store: {store}' if store else ''}\n"
        f"models: {{house: {{engine: openai, model: m, base_url: {url}, limits: {{concurrency: 16}}}}}}\n"
    )
    return root


@contextmanager
def started(root: Path, suite: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "workbench", "--project", str(root), "run", suite]
    search = {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, **search}, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The project's own; empty: the one that is its default."""
    with ExitStack() as stack:
        yield "" if request.param == "sqlite" else stack.enter_context(postgres())


def reserved(root: Path, store: str = "") -> int:
    database = Database.open(store or f"sqlite:///{root}/.workbench/runs.db")
    with database.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(db.reservations)).scalar_one()
    database.close()
    return int(count)


@pytest.mark.slow
def test_two_runs_at_once_stay_within_the_limit_together(tmp_path: Path, store: str) -> None:
    """Each has enough in flight to use the limit up alone, before any answer comes."""
    with serve(Script(answers={".": "word " * ANSWER}, latency=Latency(seconds=2))) as server:
        root = project(tmp_path, server.url, store)
        Database.open(store or f"sqlite:///{root}/.workbench/runs.db").close()
        with started(root, "one") as one, started(root, "two") as two:
            told = [process.communicate(timeout=120)[1] for process in (one, two)]
        assert [one.returncode, two.returncode] == [3, 3], told
        spent = f"the project's budget: {MOST_CALLS * TAKEN:,} of {LIMIT:,} tokens are used"
        assert all(spent in " ".join(text.split()) for text in told), told
        assert server.calls.total() == MOST_CALLS
        assert reserved(root, store) == 0


@pytest.mark.slow
def test_what_a_killed_process_had_reserved_is_free_again(tmp_path: Path) -> None:
    stall = Fault(kind="stall", match="one", seconds=600)
    with serve(Script(answers={".": "word " * ANSWER}, faults=(stall,))) as server:
        root = project(tmp_path, server.url)
        with started(root, "one") as one:
            while server.calls.total() < LIMIT // WORST:
                assert one.poll() is None
                time.sleep(0.05)
            asked = server.calls.total()
            with started(root, "two") as two:
                assert two.stderr is not None
                said = next(line for line in two.stderr if "waiting for it" in line)
                assert "the project's budget is left to what is in flight for" in said
                assert server.calls.total() == asked
                one.send_signal(signal.SIGKILL)
                one.wait()
                two.communicate(timeout=120)
        assert two.returncode == 3
        assert server.calls.total() == asked + MOST_CALLS
        assert reserved(root) == 0


SENT = st.tuples(st.integers(0, 2), st.integers(1, 40), st.integers(0, 40))


@settings(max_examples=30)
@given(st.lists(SENT, max_size=25), st.integers(20, 150), st.randoms(use_true_random=False))
def test_what_all_have_spent_never_passes_the_limit(tmp_path_factory, sent, limit: int, chance) -> None:
    """Three processes ask and are answered in any order; an answer takes at most its worst case."""
    database = Database.open(f"sqlite:///{tmp_path_factory.mktemp('store')}/runs.db")
    worst = {f"r{i}": Use(0.0, most) for i, (_, most, _) in enumerate(sent)}
    budgets = [project_budget({"tokens": limit}, lambda r: worst[r.id], f"run {who}") for who in range(3)]
    flying: list[tuple[int, Request, int]] = []
    total = 0

    def land(who: int, request: Request, took: int) -> None:
        output = Output(request.id, text="x", prompt_tokens=0, output_tokens=took)
        for budget in budgets[who]:
            budget.settle(output)
        with landing(database, budgets[who]) as connection:
            recording.keep(connection, f"run {who}", [(request, "id", output)])

    for i, (who, most, took) in enumerate(sent):
        request = Request(f"r{i}", "m", (Message.of("user", "x"),))
        (budget,) = budgets[who]
        with turn(database, budgets[who]):
            if not (full := budget.passed_by(request)):
                budget.ask(request)
        if full:
            others = sum(worst[r.id].tokens for _, r, _ in flying)
            assert total + others + most > limit, "nothing is refused that fits"
            assert bool(budget.awaited) == any(other != who for other, _, _ in flying)
            continue
        flying.append((who, request, min(most, took)))
        if chance.random() < 0.5:
            landed = flying.pop(chance.randrange(len(flying)))
            land(*landed)
            total += landed[2]
    for landed in flying:
        land(*landed)
        total += landed[2]
    assert total <= limit
    with database.read() as connection:
        assert recording.spent(connection)[1] == total
        assert connection.execute(sa.select(db.reservations)).all() == []
    database.close()


def gone() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


@pytest.mark.parametrize(
    ("process", "counts"),
    [
        ({}, True),
        ({"pid": gone}, False),
        ({"heartbeat": lambda: 0.0}, False),
        ({"host": lambda: "elsewhere"}, True),
        ({"host": lambda: "elsewhere", "heartbeat": lambda: time.time() - recording.STALE_SECONDS - 1}, False),
    ],
    ids=["lives", "gone", "another of that number", "on another machine", "long silent on another machine"],
)
def test_whose_reservation_counts(tmp_path: Path, process: dict, counts: bool) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/runs.db")
    mine = SharedBudget(run="mine")
    with database.write() as connection:
        reservations.reserve(connection, "theirs", "their run", 0.5, 7)
        if process:
            values = {name: value() for name, value in process.items()}
            connection.execute(db.reservations.update().values(values))
        found = reservations.reserved_by_others(connection, mine.account)
        assert found == ((0.5, 7, ["their run"]) if counts else (0, 0, []))
        assert len(connection.execute(sa.select(db.reservations)).all()) == counts, "what is void is removed"
        mine.look(connection)
    assert mine.awaited == ("their run" if counts else "")
    database.close()
