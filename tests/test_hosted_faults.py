"""Whole runs against a server that fails, limits and vanishes, and of a client that is killed."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from workbench.begin import RunOptions
from workbench.cli import main
from workbench.define.library import Library
from workbench.define.project import load_project
from workbench.define.suite import load_suite
from workbench.engines.openai import limiter
from workbench.evaluate import Progress, run_suite
from workbench.loopback import Fault, Latency, Limits, Script, Server, serve
from workbench.prepare import prepare_suite
from workbench.registry import SCORERS
from workbench.store import runs
from workbench.store.database import Database

SUITE = """
name: many
prompts: [ask]
models: [house]
params: {max_tokens: 8}
repeats: %d
cases:
%s
scorers: [contains]
"""
MODELS = """
models:
  house: {engine: openai, model: m, base_url: %s, price: {input: 1, output: 2}, limits: {%s}}
"""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between tries, shortened so that a test takes a second."""
    monkeypatch.setattr(limiter, "BACKOFF", 0.02)


def project(root: Path, url: str, cases: int, *, repeats: int = 1, limits: str = "") -> Path:
    rows = "\n".join(f"  - {{id: c{i}, number: {i}, expected: 'say {i} once'}}" for i in range(cases))
    for name, text in {
        "prompts/ask.prompty": "user:\nsay {{ number }} once",
        "evals/many.yaml": SUITE % (repeats, rows),
        "workbench.yaml": MODELS % (url, limits),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def run(root: Path, options: RunOptions | None = None, **more: object) -> tuple[Progress, str]:
    made = load_project(root)
    suite = load_suite("many", made, Library(made.library_root), SCORERS.names())
    database = Database.open(made.store_url)
    try:
        return run_suite(prepare_suite(suite, root), database, options, **more)  # type: ignore[arg-type]
    finally:
        database.close()


def answers(root: Path) -> dict[str, str | None]:
    """Trial id → the text of its answer, in the newest run; None where it has none or a failure."""
    database = Database.open(f"sqlite:///{root}/.workbench/runs.db")
    try:
        with database.read() as connection:
            newest = runs.list_runs(connection)[0].id
            rows = list(runs.trial_rows(connection, newest))
        assert len({row.trial_id for row in rows}) == len(rows)
        return {r.trial_id: r.output.text if r.output and not r.output.failure else None for r in rows}
    finally:
        database.close()


def committed(root: Path) -> Counter[str]:
    """How many outputs without a failure the store has for each request."""
    if not (root / ".workbench/runs.db").exists():
        return Counter()
    database = Database.open(f"sqlite:///{root}/.workbench/runs.db")
    try:
        with database.read() as connection:
            found = connection.exec_driver_sql("SELECT request FROM outputs WHERE finish_reason <> 'failed'")
            return Counter(row[0] for row in found)
    finally:
        database.close()


def check_whole(root: Path, trials: int) -> None:
    """Every trial has its own answer, and no request has two."""
    told = answers(root)
    assert len(told) == trials
    assert all(text and text.startswith("say ") for text in told.values())
    kept = committed(root)
    assert set(kept.values()) == {1}
    assert len(kept) == trials


FAULTS = (
    Fault(status=503, share=0.015),
    Fault(status=429, share=0.01, headers={"retry-after-ms": "20"}),
    Fault("reset", share=0.01),
    Fault("cut", share=0.005),
    Fault("not_json", share=0.005),
    Fault("no_choices", share=0.005),
    Fault("drip", share=0.01, seconds=0.4),
    Fault("stall", share=0.01, seconds=2),
)


def test_faults_resets_and_slow_bodies_leave_no_trial_without_its_answer(tmp_path: Path) -> None:
    script = Script(seed=5, faults=FAULTS, latency=Latency("lognormal", 0.01, 0.5))
    with serve(script) as server:
        progress, status = run(project(tmp_path, server.url, 200, repeats=2, limits="timeout: 1"))
        assert server.books.distinct == 400
        refused = sum(count for status, count in server.books.statuses.items() if status != 200)
        faults = server.books.calls.total() - server.books.answered
    assert refused, "the faults did happen; how many of them a slow machine turns into timeouts is its own affair"
    assert faults > 12
    assert (status, progress.done, progress.failed) == ("complete", 400, 0)
    check_whole(tmp_path, 400)


def test_a_request_that_always_fails_is_a_record_and_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    with serve(Script(faults=(Fault(match="say 7 once", status=500),))) as server:
        progress, status = run(project(tmp_path, server.url, 20))
        assert (status, progress.done, progress.failed) == ("complete", 20, 1)
        assert server.count("say 7 once") > 1
        server.use(faults=())
        progress, status = run(tmp_path)
        assert (progress.reused, progress.requests, progress.failed) == (19, 1, 0)
    check_whole(tmp_path, 20)


def test_a_limit_that_is_not_told_is_found(tmp_path: Path) -> None:
    limits = Limits(requests_per_minute=3000, burst=0.5)
    with serve(Script(limits=limits, latency=Latency(seconds=0.02))) as server:
        progress, status = run(project(tmp_path, server.url, 150))
        refused = server.books.statuses[429]
    assert (status, progress.failed) == ("complete", 0)
    assert refused < 150, "in the first seconds, while it is learnt, no more is refused than answered"
    check_whole(tmp_path, 150)


def test_a_limit_that_headers_tell_is_never_hit(tmp_path: Path) -> None:
    limits = Limits(requests_per_minute=120, tokens_per_minute=1400)
    with serve(Script(limits=limits, latency=Latency(seconds=0.02))) as server:
        progress, status = run(project(tmp_path, server.url, 100))
        refused = server.books.statuses[429]
    assert (status, progress.failed, refused) == ("complete", 0, 0)
    check_whole(tmp_path, 100)


def test_no_call_comes_before_its_time(tmp_path: Path) -> None:
    waiting = Fault(status=429, calls=(1,), headers={"retry-after-ms": "600"})
    with serve(Script(faults=(waiting,))) as server:
        run(project(tmp_path, server.url, 30, limits="concurrency: 1"))
        times = [call.at for call in server.books.log]
        asked = [call.text for call in server.books.log]
    assert len(times) == 31
    assert times[1] - times[0] >= 0.6, "all wait, not only the call that was refused"
    assert max(Counter(asked).values()) == 2
    check_whole(tmp_path, 30)


def test_an_address_that_is_down_ends_the_run(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{_free_port()}/v1"
    with _started(project(tmp_path, url, 30, limits="retries: 1")) as client:
        _, errors = client.communicate(timeout=60)
    assert client.returncode == 3
    assert f"{url} is down" in errors
    assert committed(tmp_path) == Counter()


def test_an_address_that_goes_down_ends_the_run_with_what_was_done_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, port = Script(latency=Latency(seconds=0.03)), _free_port()
    root = project(tmp_path, f"http://127.0.0.1:{port}/v1", 80, limits="concurrency: 4, retries: 1")
    with ExitStack() as stack:
        with serve(slow, port):
            client = stack.enter_context(_started(root))
            _wait_until(lambda: len(committed(root)) >= 10)
        _, errors = client.communicate(timeout=60)
    assert client.returncode == 3
    assert "is down" in errors
    kept = committed(root)
    assert 10 <= len(kept) < 80
    with serve(slow, port) as server:
        assert main(["--project", str(root), "run", "many", "--quiet", "--resume", _newest(root)]) == 0
        assert server.books.distinct == 80 - len(kept)
    capsys.readouterr()
    check_whole(root, 80)


def test_a_redirect_to_another_host_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-elsewhere")
    with serve() as other:
        elsewhere = f"http://localhost:{urlsplit(other.url).port}"
        with serve(Script(faults=(Fault("redirect", location=elsewhere),))) as server:
            root = project(tmp_path, server.url, 5)
            assert main(["--project", str(root), "run", "many", "--quiet"]) == 3
        assert other.books.calls.total() == 0
    errors = capsys.readouterr().err
    assert elsewhere in errors
    assert "sk-never-elsewhere" not in errors


# Processes that end in the middle

TRIALS, AT_ONCE = 300, 12


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_paid_twice_but_what_was_in_flight(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("WORKBENCH_TEST_SEED", "1")))
    with serve(Script(latency=Latency("lognormal", 0.05, 0.4))) as server:
        root = project(tmp_path / "killed", server.url, TRIALS // 2, repeats=2, limits=f"concurrency: {AT_ONCE}")
        in_flight = killed_at(root, server, sorted(chance.sample(range(1, TRIALS - 40), 5)), chance, pause=0.05)
        repeated = server.books.calls.total() - server.books.distinct
        assert server.books.distinct == TRIALS
        assert repeated <= sum(in_flight), in_flight
        assert max(in_flight) <= 4 * AT_ONCE, "what was answered is soon committed"
        check_whole(root, TRIALS)
        undisturbed = project(tmp_path / "undisturbed", server.url, TRIALS // 2, repeats=2)
        assert run(undisturbed)[1] == "complete"
    assert answers(root) == answers(undisturbed)


@pytest.mark.slow
def test_ctrl_c_gives_back_what_is_under_way_and_asks_it_again(tmp_path: Path) -> None:
    with serve(Script(latency=Latency(seconds=0.1))) as server:
        root = project(tmp_path, server.url, 100, limits="concurrency: 8")
        with _started(root) as client:
            _wait_until(lambda: len(committed(root)) >= 30)
            client.send_signal(signal.SIGINT)
            _, errors = client.communicate(timeout=30)
        assert client.returncode == 130, errors
        assert f"--resume {_newest(root)}" in errors
        kept = committed(root)
        assert 30 <= len(kept) < 100
        in_flight = server.books.distinct - len(kept)
        assert in_flight <= 8
        progress, status = run(root, RunOptions(resume=_newest(root)))
        assert (status, progress.done, progress.reused) == ("complete", 100, len(kept))
        assert server.books.calls.total() - server.books.distinct <= in_flight
    check_whole(root, 100)


def killed_at(root: Path, server: Server, moments: Iterable[int], chance: random.Random, *, pause: float) -> list[int]:
    """Kills the run when so many calls are answered, and resumes it, again and again, to its end. Returns what was
    asked and not committed at each kill. A moment is taken only when the one before has passed; the kill comes up to
    `pause` seconds later."""
    in_flight: list[int] = []
    options: list[str] = []
    for moment in moments:
        with _started(root, *options):
            _wait_until(lambda moment=moment: server.books.answered >= moment)
            time.sleep(chance.uniform(0, pause))
        _wait_until(lambda: server.books.busy == 0)
        in_flight.append(server.books.distinct - len(committed(root)))
        options = ["--resume", _newest(root)]
    with _started(root, *options) as client:
        _, errors = client.communicate(timeout=120)
    assert client.returncode == 0, errors
    return in_flight


@contextmanager
def _started(root: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "workbench", "--project", str(root), "run", "many", "--quiet", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _newest(root: Path) -> str:
    database = Database.open(f"sqlite:///{root}/.workbench/runs.db")
    try:
        with database.read() as connection:
            return runs.list_runs(connection)[0].id
    finally:
        database.close()


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
