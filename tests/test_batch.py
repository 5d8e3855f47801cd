"""Runs through the batch endpoint: submitted, left, collected; what ends badly; what is refused."""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from doubles.asking import user
from hypothesis import given
from hypothesis import strategies as st

from workbench.batches import submit
from workbench.cli import batches as cli_batches
from workbench.cli import main
from workbench.define.project import load_project
from workbench.engines.base import BatchHost, BatchState
from workbench.engines.openai import OpenAIEngine, limiter
from workbench.engines.openai import batch as openai_batch
from workbench.errors import EngineError, ModelError
from workbench.loopback import Fault, Script, Server, serve
from workbench.records import Model
from workbench.run.budget import Use
from workbench.run.chunks import Chunks
from workbench.store import batches, runs
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
%s
"""
MODELS = """
models:
  house:
    engine: openai
    model: m
    base_url: %s
    price: {input: 1, output: 2%s}
    limits: {retries: 1}
    options: {%s}
%s
"""
IN_BATCH = ", batch: {input: 0.5, output: 1}"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "BACKOFF", 0.02)
    monkeypatch.setattr(submit, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(cli_batches, "WAIT_SECONDS", (0.05, 0.1))


def project(
    root: Path,
    url: str,
    cases: int = 6,
    *,
    repeats: int = 1,
    price: str = IN_BATCH,
    options: str = "",
    suite: str = "",
    more: str = "",
) -> Path:
    rows = "\n".join(f"  - {{id: c{i}, number: {i}, expected: 'say {i} once'}}" for i in range(cases))
    for name, text in {
        "prompts/ask.prompty": "user:\nsay {{ number }} once",
        "evals/many.yaml": SUITE % (repeats, rows, suite),
        "workbench.yaml": MODELS % (url, price, options, more),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def command(root: Path, *arguments: str) -> int:
    return main(["--project", str(root), *arguments])


def stored(root: Path):
    """The newest run, its trials, and all batches."""
    database = Database.open(load_project(root).store_url)
    try:
        with database.read() as connection:
            run = runs.get_run(connection, "latest")
            return run, list(runs.trial_rows(connection, run.id)), batches.list_batches(connection)
    finally:
        database.close()


def lines(server: Server) -> int:
    """How many requests came, in batches or by themselves."""
    return sum(count for text, count in server.books.calls.items() if text.startswith("say "))


def test_a_run_is_submitted_left_and_collected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(Script(batch_seconds=0.6)) as server:
        root = project(tmp_path, server.url, repeats=2)
        assert command(root, "run", "many", "--batch") == 0
        printed = capsys.readouterr()
        run, rows, planned = stored(root)
        assert (run.status, run.answered, printed.out.splitlines()[-1]) == ("waiting", 0, run.id)
        assert f"workbench batches collect {run.id}" in printed.err
        assert [(row.status, row.count) for row in planned] == [("submitted", 12)]
        worst = 12 * (1 * 0.5 * len("say 0 once") + 0.5 * 16 + 8 * 1) / 1e6
        assert planned[0].cost == pytest.approx(worst)
        assert command(root, "batches", "collect", run.id) == 0
        assert "not ended yet" in capsys.readouterr().err
        assert stored(root)[0].status == "waiting"
        assert command(root, "batches", "collect", "--all", "--wait") == 0
        assert "12 answers" in capsys.readouterr().err
        assert lines(server) == 12
        assert server.books.paths["/chat/completions"] == 12, "none was asked by itself"
        run, rows, planned = stored(root)
        assert command(root, "run", "many", "--fresh", "--seed", "0", "--quiet") == 0
        plain = {row.trial_id: row.output.text for row in stored(root)[1]}
    assert (run.status, run.answered, planned[0].status, planned[0].answered) == ("complete", 12, "completed", 12)
    assert {row.trial_id: row.output.text for row in rows} == plain
    assert all(row.scores[0].value == 1.0 for row in rows)
    assert all(row.output.seconds is None for row in rows)
    assert {row.output.cost for row in rows} == {(3 * 0.5 + 3 * 1) / 1e6}


def test_batches_are_listed_as_their_provider_sees_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = project(tmp_path, "http://127.0.0.1:9/v1")
    assert command(root, "batches") == 0
    assert "no batch yet" in capsys.readouterr().err
    with serve(Script(batch_seconds=0.0)) as server:
        project(tmp_path, server.url)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        capsys.readouterr()
        assert command(root, "batches", "latest", "--json") == 0
        row = json.loads(capsys.readouterr().out)
        assert (row["status"], row["requests"], row["answered"]) == ("submitted (completed)", 6, 6)
    assert command(root, "batches") == 0
    printed = capsys.readouterr()
    assert "submitted (completed)" in printed.out
    assert "not brought up to date" in printed.err


def test_large_runs_are_cut_into_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_batch, "MOST_REQUESTS", 4)
    with serve(Script(batch_seconds=0)) as server:
        root = project(tmp_path, server.url, 10)
        assert command(root, "run", "many", "--batch") == 0
        assert [row.count for row in stored(root)[2]] == [4, 4, 2]
        assert command(root, "batches", "collect", "latest") == 0
        assert lines(server) == 10
    assert stored(root)[0].status == "complete"


def test_what_is_answered_or_on_its_way_is_not_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(Script(batch_seconds=0)) as server:
        root = project(tmp_path, server.url)
        assert command(root, "run", "many", "--limit", "2", "--quiet") == 0
        assert command(root, "run", "many", "--batch") == 0
        first = stored(root)[0]
        assert "2 of 6 trials had an answer" in capsys.readouterr().err
        assert lines(server) == 6
        assert command(root, "run", "many", "--batch") == 0
        assert "4 requests on the way in batches of other runs" in capsys.readouterr().err
        second = stored(root)[0]
        assert second.id != first.id
        assert second.status == "waiting"
        assert lines(server) == 6
        assert command(root, "batches", "collect", "--all") == 0
        assert lines(server) == 6
    assert [stored(root)[0].status, stored(root)[0].answered] == ["complete", 6]
    assert all(row.scores for row in stored(root)[1])


@pytest.mark.parametrize("again", [(), ("--batch",)])
@pytest.mark.parametrize(
    ("script", "end", "answered"),
    [
        (Script(batch_seconds=0, batch_expires=0.5), "expired", 3),
        (Script(batch_seconds=30), "cancelled", 0),
    ],
)
def test_what_a_batch_leaves_is_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: Script, end: str, answered: int, again: tuple[str, ...]
) -> None:
    with serve(script) as server:
        root = project(tmp_path, server.url)
        assert command(root, "run", "many", "--batch") == 0
        run = stored(root)[0].id
        if end == "cancelled":
            assert command(root, "batches", "cancel", run) == 0
            _ended(server)
        assert command(root, "batches", "collect", run, "--wait") == 3
        assert f"{6 - answered} requests of batches that" in capsys.readouterr().err
        found, rows, (row,) = stored(root)
        assert (found.status, found.answered, row.status, row.answered) == ("stopped", answered, end, answered)
        server.use(batch_expires=None, batch_seconds=0.0)
        before = lines(server)
        assert command(root, "run", "many", "--resume", run, *again) == 0
        if again:
            assert command(root, "batches", "collect", run) == 0
        assert lines(server) - before == 6 - answered
    found, rows, _ = stored(root)
    assert (found.id, found.status, found.answered, found.failed) == (run, "complete", 6, 0)
    assert Counter(bool(row.scores) for row in rows) == {True: 6}


def _ended(server: Server) -> None:
    """A cancelled batch ends a tenth of its time later: let that be past."""
    for one in server._batches._batches.values():
        one.begun -= 10
        one.cancelled -= 10


def test_a_request_that_fails_is_a_failure_and_is_asked_again(tmp_path: Path, capsys) -> None:
    with serve(Script(batch_seconds=0, faults=(Fault(match="say 3", status=400, code="odd"),))) as server:
        root = project(tmp_path, server.url)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        assert command(root, "batches", "collect", "latest") == 0
        run, rows, (row,) = stored(root)
        assert (run.status, run.answered, run.failed, row.answered, row.failed) == ("complete", 5, 1, 5, 1)
        (bad,) = [r.output.failure for r in rows if r.output.failure]
        assert bad.kind == "refused"
        assert "scripted 400" in bad.message
        server.use(faults=())
        assert command(root, "run", "many", "--resume", run.id, "--quiet") == 0
        assert lines(server) == 7
    assert stored(root)[0].failed == 0


def test_a_batch_that_fails_as_a_whole_says_why(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = openai_batch.OpenAIBatches.line
    monkeypatch.setattr(
        openai_batch.OpenAIBatches, "line", lambda self, r: whole(self, r).replace(r.id.encode(), b"one")
    )
    with serve(Script(batch_seconds=0)) as server:
        root = project(tmp_path, server.url)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        assert command(root, "batches", "collect", "latest") == 3
        assert "stands twice" in capsys.readouterr().err
        run, _, (row,) = stored(root)
        assert (run.status, row.status) == ("stopped", "failed")
        monkeypatch.undo()
        assert command(root, "run", "many", "--resume", run.id, "--quiet") == 0


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"options": "server: anthropic"}, (), "takes no batches"),
        ({"more": "  small: {engine: echo}", "suite": "allow_failed: 0"}, (), "only hosted models"),
        ({"price": "", "suite": "budget: {cost: 1}"}, (), "price of 'house' in a batch"),
        ({}, ("--watch",), "leave --watch"),
        ({}, ("--report", "x.html"), "leave --watch"),
    ],
)
def test_what_can_not_be_asked_in_batches_is_refused(
    tmp_path: Path, capsys, change: dict[str, str], arguments: tuple[str, ...], message: str
) -> None:
    with serve() as server:
        root = project(tmp_path, server.url, **change)
        if "more" in change:
            file = root / "evals/many.yaml"
            file.write_text(file.read_text().replace("models: [house]", "models: [house, small]"))
        assert command(root, "run", "many", "--batch", *arguments) == 2
        assert message in capsys.readouterr().err
        assert server.books.calls.total() == 0
    database = Database.open(load_project(root).store_url)
    with database.read() as connection:
        assert runs.list_runs(connection) == []
    database.close()


def test_a_run_that_waits_is_not_resumed_without_its_batches(tmp_path: Path, capsys) -> None:
    with serve(Script(batch_seconds=30)) as server:
        root = project(tmp_path, server.url)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        run = stored(root)[0].id
        assert command(root, "run", "many", "--resume", run) == 2
        assert f"workbench batches collect {run}" in capsys.readouterr().err
        assert command(root, "run", "many", "--resume", run, "--batch") == 0
        assert lines(server) == 6
        assert command(root, "batches", "cancel", run, "--forget") == 0
        assert command(root, "run", "many", "--resume", run, "--quiet") == 0
        assert lines(server) == 12


def test_a_batch_counts_in_budgets_at_its_worst_case(tmp_path: Path, capsys) -> None:
    """A request may take 26 prompt bytes and 8 tokens: $21e-6; three fit into $65e-6, in this run or another."""
    with serve(Script(batch_seconds=0)) as server:
        root = project(tmp_path, server.url, more="budget: {cost: 0.000065}")
        assert command(root, "run", "many", "--batch") == 3
        assert "3 requests not submitted: the project's budget" in capsys.readouterr().err
        run = stored(root)[0].id
        assert command(root, "run", "many", "--quiet", "--fresh") == 3
        assert lines(server) == 3, "what is in flight counts for other runs, too"
        assert command(root, "batches", "collect", run) == 3
        (root / "workbench.yaml").write_text((root / "workbench.yaml").read_text().replace("0.000065", "1"))
        assert command(root, "run", "many", "--resume", run, "--quiet") == 0
        assert lines(server) == 6


def test_without_a_price_for_batches_the_cost_is_unknown(tmp_path: Path, capsys) -> None:
    with serve(Script(batch_seconds=0)) as server:
        root = project(tmp_path, server.url, price="")
        assert command(root, "run", "many", "--batch") == 0
        assert "at most unknown" in capsys.readouterr().err
        assert command(root, "batches", "collect", "latest") == 0
    assert {row.output.cost for row in stored(root)[1]} == {None}


def test_what_was_paid_for_is_fetched_though_the_suite_has_changed(tmp_path: Path, capsys) -> None:
    with serve(Script(batch_seconds=0)) as server:
        root = project(tmp_path, server.url)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        suite = (root / "evals/many.yaml").read_text()
        (root / "evals/many.yaml").unlink()
        assert command(root, "batches", "collect", "latest") == 3
        assert "what was fetched is kept" in capsys.readouterr().err
        assert stored(root)[0].answered == 6
        (root / "evals/many.yaml").write_text(suite)
        assert command(root, "score", "latest") == 0
        assert all(row.scores for row in stored(root)[1])


def test_a_key_goes_only_where_workbench_yaml_says(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", "sk-never-elsewhere")
    with serve(Script(batch_seconds=0, key="sk-never-elsewhere")) as server, serve() as other:
        root = project(tmp_path, server.url, options="api_key_env: HOUSE_KEY")
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        project(tmp_path, other.url, options="api_key_env: HOUSE_KEY")
        assert command(root, "batches", "collect", "latest") == 2
        assert "give it back its address" in capsys.readouterr().err
        assert other.books.calls.total() == 0
        project(tmp_path, server.url, options="api_key_env: HOUSE_KEY")
        monkeypatch.setenv("HOUSE_KEY", "sk-wrong")
        assert command(root, "batches", "collect", "latest") == 3
        errors = capsys.readouterr().err
        assert "refuses the key (HOUSE_KEY)" in errors
        assert "sk-wrong" not in errors


def test_a_batch_that_began_without_telling_is_found(tmp_path: Path) -> None:
    """The answer to its creation is lost: it is looked for, not begun again."""
    lost = Fault(match="POST /batches", kind="reset", calls=(1,))
    with serve(Script(batch_seconds=0, faults=(lost,))) as server:
        root = project(tmp_path, server.url)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        assert lines(server) == 6
        assert command(root, "batches", "collect", "latest") == 0
    assert stored(root)[0].status == "complete"


def host(options: dict[str, object] | None = None) -> BatchHost:
    settings = {"model": "m", "base_url": "http://127.0.0.1:9/v1", **(options or {})}
    with OpenAIEngine(Model("m", "openai", settings)).open_batches() as opened:
        return opened


GOOD = {"choices": [{"message": {"content": "yes"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"custom_id": "r1", "response": {"status_code": 200, "body": GOOD}}, "yes"),
        ({"custom_id": "r1", "response": {"status_code": 200, "body": {}}}, "bad_answer"),
        ({"custom_id": "r1", "response": {"status_code": 200, "body": {"choices": []}}}, "bad_answer"),
        ({"custom_id": "r1", "response": {"status_code": 500, "body": {"error": {"message": "x"}}}}, "server"),
        ({"custom_id": "r1", "response": {"status_code": 400, "body": None}}, "refused"),
        ({"custom_id": "r1", "response": {"status_code": [], "body": None}}, "server"),
        ({"custom_id": "r1", "response": {"status_code": "x", "body": None}}, None),
        ({"custom_id": "r1", "response": None, "error": {"code": "odd", "message": "x"}}, "server"),
        ({"custom_id": "r1", "response": None, "error": {"code": "batch_expired"}}, None),
        ({"custom_id": "other", "response": {"status_code": 200, "body": GOOD}}, None),
        ({"custom_id": ["r1"], "response": {"status_code": 200, "body": GOOD}}, None),
        ({"response": {"status_code": 200, "body": GOOD}}, None),
        (["no row"], None),
    ],
)
def test_lines_of_a_result(row: object, told: str | None) -> None:
    output = host()._output(json.dumps(row).encode(), {"r1"})
    assert (None if output is None else output.failure.kind if output.failure else output.text) == told


@pytest.mark.parametrize(
    ("address", "options", "takes", "factor"),
    [
        ("https://api.openai.com/v1", {}, True, None),
        ("https://me.openai.azure.com/openai/v1", {}, True, 0.5),
        ("https://api.groq.com/openai/v1", {}, True, None),
        ("https://api.groq.com/openai/v1", {"batch_price_factor": 0.75}, True, 0.75),
        ("https://api.groq.com/openai/v1", {"batches": False}, False, None),
        ("https://api.mistral.ai/v1", {}, False, None),
        ("https://openrouter.ai/api/v1", {}, False, None),
        ("https://openrouter.ai/api/v1", {"batches": True, "batch_price_factor": 0.5}, True, 0.5),
        ("https://llm.example.org/v1", {}, True, None),
    ],
)
def test_who_takes_batches(address: str, options: dict[str, object], takes: bool, factor: float | None) -> None:
    if takes:
        assert host({"base_url": address, **options}).price_factor == factor
        return
    with pytest.raises(ModelError, match=r"takes no batches.*workbench.yaml: options: {batches: true}"):
        host({"base_url": address, **options})


@pytest.mark.parametrize("factor", [-1, 2, "half"])
def test_a_batch_price_factor_is_a_share(factor: object) -> None:
    with pytest.raises(ModelError, match="is no share of a price"):
        host({"batch_price_factor": factor})


def test_files_of_a_deployment_of_azure_lie_at_its_resource() -> None:
    with serve(Script(batch_seconds=0)) as server:
        address = server.url.removesuffix("/v1")
        settings = {"model": "m", "base_url": f"{address}/v1/deployments/m", "server": "azure"}
        with OpenAIEngine(Model("m", "openai", settings)).open_batches() as opened:
            state = opened.create(_uploaded(opened, "f.jsonl", opened.line(user("hi", "r"))), {"workbench_batch": "1"})
            assert opened.state(state.id).id == state.id


@pytest.mark.parametrize(
    ("row", "status", "began", "ended"),
    [
        (
            {"status": "Validating", "created_at": "2024-07-19T17:13:57.2491382+00:00"},
            "submitted",
            1721409237.249138,
            None,
        ),
        (
            {"status": "Completed", "created_at": 5, "completed_at": 9, "request_counts": {"total": None}},
            "completed",
            5,
            9,
        ),
        ({"status": "expired", "created_at": None, "expired_at": 7}, "expired", None, 7),
    ],
)
def test_how_hosts_tell_of_a_batch(row: dict, status: str, began: float | None, ended: float | None) -> None:
    state = openai_batch._state({"id": "b", "metadata": None, **row})
    assert (state.status, state.began, state.ended) == (status, began, ended)


@pytest.mark.parametrize(
    ("price", "options", "cost"),
    [(IN_BATCH, "", 69e-6), ("", "batch_price_factor: 0.25", 34.5e-6), ("", "", None)],
)
def test_a_dry_run_tells_the_price_of_a_batch(
    tmp_path: Path, capsys, price: str, options: str, cost: float | None
) -> None:
    """Six requests of about 7 tokens and at most 8: by single calls, $138e-6."""
    with serve() as server:
        root = project(tmp_path, server.url, price=price, options=options)
        assert command(root, "run", "many", "--batch", "--dry-run", "--json") == 0
        row = json.loads(capsys.readouterr().out)
        assert command(root, "run", "many", "--batch", "--dry-run") == 0
        printed = capsys.readouterr().out
        assert server.books.calls.total() == 0
    assert row["cost"] == (None if cost is None else pytest.approx(cost))
    assert ("unknown (no price of a batch for house)" in printed) is (cost is None)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_line_is_what_the_batch_endpoint_takes(api: str) -> None:
    row = json.loads(host({"api": api}).line(user("hello\nthere", "r1", params={"max_tokens": 4})))
    assert row["custom_id"] == "r1"
    assert row["method"] == "POST"
    assert row["url"] == {"chat": "/v1/chat/completions", "responses": "/v1/responses"}[api]
    assert row["body"]["model"] == "m"


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 50)), max_size=60), st.integers(1, 9), st.integers(1, 90)
)
def test_chunks_hold_everything_once_within_their_limits(
    sizes: list[tuple[str, int]], most: int, most_bytes: int
) -> None:
    chunks = Chunks({"a": (most, most_bytes), "b": (most, most_bytes)})
    for number, (model, size) in enumerate(sizes):
        chunks.add(model, f"{model}{number}", size, Use(1.0, size))
    wanted = [f"{model}{number}" for number, (model, _) in enumerate(sizes)]
    assert sorted(r for chunk in chunks.done for r in chunk.requests) == sorted(wanted)
    for chunk in chunks.done:
        assert {r[0] for r in chunk.requests} == {chunk.model}
        assert len(chunk.requests) <= most
        assert chunk.bytes <= most_bytes or len(chunk.requests) == 1
        assert chunk.use == Use(float(len(chunk.requests)), chunk.bytes)


def test_a_batch_is_found_beyond_the_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_batch, "PAGE", 2)
    with serve(Script(batch_seconds=0)) as server:
        engine = OpenAIEngine(Model("m", "openai", {"model": "m", "base_url": server.url}))
        with engine.open_batches() as opened:
            made: list[tuple[str, BatchState]] = []
            for number in range(5):
                file = _uploaded(opened, f"f{number}.jsonl", opened.line(user("hi", f"r{number}")))
                made.append((file, opened.create(file, {"workbench_batch": str(number)})))
            ids = [state.id for _, state in made]
            assert [opened.find({"workbench_batch": str(i)}, "").id for i in range(5)] == ids
            assert [opened.find({"workbench_batch": "none"}, file).id for file, _ in made] == ids
            assert opened.find({"workbench_batch": "5"}, "file-000099") is None
            assert opened.find_file("f0.jsonl") == "file-000001"
            assert opened.find_file("f9.jsonl") is None


PAGE_OF = '{"data": [{"id": "b%d"}], "has_more": true}'


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda number: PAGE_OF % number, "its list of /batches has no end"),
        (lambda number: PAGE_OF % 1, "its list of /batches has no end"),
        (lambda number: '{"data": ["b1"], "has_more": true}', "this is no list of /batches"),
        (lambda number: '{"data": [{"status": "completed"}], "has_more": true}', "this is no list of /batches"),
        (lambda number: '{"data": "b1"}', "this is no list of /batches"),
        (lambda number: '{"id": "b1"}', "this is no answer of /batches"),
        (lambda number: "[]", "this is no answer of /batches"),
        (lambda number: '{"data": ["' + "x" * 20_000 + '"]}', "the answer has more than 0 MiB"),
    ],
)
def test_a_list_has_an_end(monkeypatch: pytest.MonkeyPatch, answer: Callable[[int], str], message: str) -> None:
    monkeypatch.setattr(openai_batch, "MOST_PAGES", 4)
    monkeypatch.setattr(openai_batch, "MOST_AT_ONCE", 10_000)
    with saying(answer) as url, opened_at(url) as opened, pytest.raises(EngineError, match=message):
        opened.find({"workbench_batch": "1"}, "file-1")


def test_a_line_of_answers_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_batch, "MOST_AT_ONCE", 10_000)
    with saying(lambda number: "x" * 20_000) as url, opened_at(url) as opened:
        state = BatchState("b1", "completed", "completed", files=("file-1",))
        with pytest.raises(EngineError, match="a line of its answers has more than 0 MiB"):
            list(opened.outputs(state, {"r1"}))


def test_an_upload_that_tells_no_file_is_no_answer() -> None:
    message = "this is no answer of /files"
    with saying(lambda n: '{"data": []}') as url, opened_at(url) as opened, pytest.raises(EngineError, match=message):
        _uploaded(opened, "f.jsonl", b"{}")


@contextmanager
def opened_at(url: str) -> Iterator[BatchHost]:
    model = Model("m", "openai", {"model": "m", "base_url": url}, limits={"retries": 0})
    with OpenAIEngine(model).open_batches() as opened:
        yield opened


@contextmanager
def saying(answer: Callable[[int], str]) -> Iterator[str]:
    """A server that gives to its n-th call `answer(n)`, whatever is asked."""
    numbers = itertools.count(1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer(next(numbers)).encode()
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *told: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


def _uploaded(opened: BatchHost, name: str, line: bytes) -> str:

    return opened.upload(name, io.BytesIO(line))


def test_answers_of_one_batch_are_kept_once(tmp_path: Path) -> None:
    """A second fetch of the same batch, as after a kill before it was noted as ended, adds nothing."""
    with serve(Script(batch_seconds=0)) as server:
        root = project(tmp_path, server.url)
        assert command(root, "run", "many", "--batch", "--quiet") == 0
        assert command(root, "batches", "collect", "latest") == 0
        database = Database.open(load_project(root).store_url)
        with database.write() as connection:
            connection.exec_driver_sql("UPDATE batches SET status = 'submitted'")
        assert command(root, "batches", "collect", "latest") == 0
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM outputs").scalar() == 6
        database.close()
