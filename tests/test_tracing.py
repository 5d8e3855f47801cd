"""Spans of runs, as a collector on the loopback interface gets them: OTLP over HTTP, decoded by OpenTelemetry's own
protobuf definitions."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import workbench
from workbench import tracing
from workbench.cli import main
from workbench.define.prompt import parse_prompt
from workbench.engines.echo import EchoEngine
from workbench.evaluate import run_suite
from workbench.loopback import Script, serve
from workbench.play import Playground, Question
from workbench.records import Message, Model, Output, Request
from workbench.run.send import Dispatcher
from workbench.store.database import Database

SECRET = "sk-very-secret"
SUITE = (
    "name: greet\nprompts: [hello]\nmodels: [house]\nparams: {temperature: [0.5], max_tokens: [8]}\nallow_failed: 1\n"
    "cases:\n  - {id: a, who: Ann, expected: Ann}\n  - {id: c, who: Cat, expected: Cat}\nscorers: [contains]\n"
)


class Collector:
    """Takes spans at /v1/traces; while `may_answer` is not set, it holds its answers back."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                collector.may_answer.wait()
                asked = ExportTraceServiceRequest.FromString(body)
                collector.bodies.append(body)
                for group in asked.resource_spans:
                    collector.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
                    collector.spans += [span for scope in group.scope_spans for span in scope.spans]
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch):
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    yield collector
    collector.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "prompts/hello.prompty": "user:\nHello {{ who }}",
        "workbench.yaml": "models: {house: {engine: echo, options: {fail: {Cat: refused}}}}",
        "evals/greet.yaml": SUITE,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(root: Path, name: str = "greet"):
    project = workbench.load_project(root)
    database = Database.open(project.store_url)
    try:
        suite = workbench.load_suite(name, root)
        return run_suite(workbench.prepare_suite(suite, root), database)
    finally:
        database.close()


def told(span: Span) -> dict[str, object]:
    def value(given):
        kind = given.WhichOneof("value")
        if kind == "array_value":
            return [value(item) for item in given.array_value.values]
        return getattr(given, kind)

    return {attribute.key: value(attribute.value) for attribute in span.attributes}


def test_a_run_and_its_requests(project: Path, collector: Collector) -> None:
    progress, status = run(project)
    assert (status, progress.tracing) == ("complete", "")
    root = next(span for span in collector.spans if span.name == "run greet")
    assert not root.parent_span_id
    assert told(root) == {
        "test.suite.name": "greet", "test.suite.run.status": "success", "workbench.run.id": progress.run,
        "workbench.stage": "prompt", "workbench.variants": 1, "workbench.cases": 2,
    }  # fmt: skip
    requests = [span for span in collector.spans if span is not root]
    assert [span.name for span in requests] == ["chat house"] * 2
    for span in requests:
        assert (span.trace_id, span.parent_span_id) == (root.trace_id, root.span_id)
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
        about = told(span)
        assert about["gen_ai.operation.name"] == "chat"
        assert (about["gen_ai.provider.name"], about["gen_ai.request.model"]) == ("echo", "house")
        assert (about["gen_ai.request.temperature"], about["gen_ai.request.max_tokens"]) == (0.5, 8)
    failed, answered = sorted(requests, key=lambda span: span.status.code != Status.STATUS_CODE_ERROR)
    assert told(failed)["error.type"] == "refused"
    assert not failed.status.message
    assert answered.status.code == Status.STATUS_CODE_UNSET
    assert told(answered)["gen_ai.response.finish_reasons"] == ["stop"]
    assert told(answered)["gen_ai.usage.output_tokens"] > 0
    assert collector.resources[0]["service.name"] == "workbench"
    assert not any(b"Hello" in body or b"Cat" in body for body in collector.bodies)


@pytest.mark.parametrize(("value", "captured"), [("true", True), ("SPAN_ONLY", True), ("false", False), ("", False)])
def test_texts_only_where_the_variable_says_so(
    project: Path, collector: Collector, monkeypatch, value, captured
) -> None:
    monkeypatch.setenv(tracing.CONTENT, value)
    run(project)
    answered = next(span for span in collector.spans if "gen_ai.response.finish_reasons" in told(span))
    about = told(answered)
    assert ("gen_ai.input.messages" in about, "gen_ai.output.messages" in about) == (captured, captured)
    if captured:
        assert json.loads(about["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": "Hello Ann"}]}
        ]
        assert json.loads(about["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "Hello Ann"}]


def test_a_hosted_model_is_a_client_and_its_key_stays_here(project: Path, collector: Collector, monkeypatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", SECRET)
    monkeypatch.setenv(tracing.CONTENT, "true")
    with serve(Script(models=("small",))) as server:
        (project / "workbench.yaml").write_text(
            f"models: {{house: {{engine: openai, model: small, base_url: '{server.url}', api_key_env: HOUSE_KEY}}}}"
        )
        run(project)
        port = int(server.url.split(":")[2].split("/")[0])
    requests = [span for span in collector.spans if span.name == "chat small"]
    assert len(requests) == 2
    for span in requests:
        assert span.kind == Span.SPAN_KIND_CLIENT
        assert (told(span)["server.address"], told(span)["server.port"]) == ("127.0.0.1", port)
    assert not any(SECRET.encode() in body for body in collector.bodies)


def test_a_job_hands_its_span_down(project: Path, collector: Collector, monkeypatch) -> None:
    monkeypatch.setenv("TRACEPARENT", f"00-{'ab' * 16}-{'cd' * 8}-01")
    run(project)
    root = next(span for span in collector.spans if span.name == "run greet")
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == ("ab" * 16, "cd" * 8)


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
    ],
)
def test_what_asks_for_traces(environment: dict[str, str], asked: bool) -> None:
    assert tracing.wanted(environment) is asked


def test_nothing_is_loaded_when_off(project: Path) -> None:
    code = (
        "import sys; from workbench.cli import main\n"
        f"code = main(['--project', {str(project)!r}, 'run', 'greet', '--quiet'])\n"
        "print(code, [m for m in sys.modules if m.split('.')[0] == 'opentelemetry'], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == "0 []"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER=zipkin is not known here"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "set it to http/protobuf"),
    ],
)
def test_settings_that_cannot_be_served_end_no_run(project: Path, collector, monkeypatch, name, value, problem) -> None:
    monkeypatch.setenv(name, value)
    progress, status = run(project)
    assert status == "complete"
    assert problem in progress.tracing
    assert not collector.spans


def test_without_the_packages_a_run_goes_on_and_says_so(project: Path, collector: Collector, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    progress, status = run(project)
    assert status == "complete"
    assert "prompt-workbench[otel]" in progress.tracing


@pytest.mark.parametrize("dead", ["refused", "silent"])
def test_a_dead_collector_breaks_no_run(project: Path, monkeypatch, capsys, dead: str) -> None:
    """One that refuses, or takes the connection and never answers: the run is whole and kept, the loss is said."""
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if dead == "silent":
            silent.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        progress, status = run(project)
    assert status == "complete"
    assert (progress.done, progress.failed) == (2, 1)
    assert progress.tracing == "traces: 3 of 3 spans could not be sent; is the collector up?"
    assert "Traceback" not in capsys.readouterr().err
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("OtelBatch") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "nothing goes on trying after the run"
        time.sleep(0.02)


def test_a_slow_collector_holds_up_no_answer(project: Path, collector: Collector, monkeypatch) -> None:
    """It takes nothing before the run has ended, with twenty times as many spans as a batch holds."""
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.0)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    (project / "evals/greet.yaml").write_text(SUITE.replace("allow_failed: 1", "allow_failed: 1\nrepeats: 20"))
    collector.may_answer.clear()
    progress, status = run(project)
    assert (status, progress.done) == ("complete", 40)
    assert not collector.spans
    assert progress.tracing == "traces: 41 of 41 spans could not be sent; is the collector up?"
    collector.may_answer.set()


def inside(collector: Collector, title: str) -> list[Span]:
    """The spans inside the one of that name."""
    (root,) = (span for span in collector.spans if span.name.startswith(title))
    return [span for span in collector.spans if span.parent_span_id == root.span_id]


def test_judges_of_a_stored_run(project: Path, collector: Collector) -> None:
    (project / "prompts/grade.prompty").write_text("user:\ngood: {{ output }}")
    run(project)
    judge = "judge: {rubric: grade, model: bench, scale: [good, bad]}"
    models = (project / "workbench.yaml").read_text().replace("models: {", "models: {bench: {engine: echo}, ")
    (project / "workbench.yaml").write_text(models)
    assert main(["--project", str(project), "score", "latest", "--with", judge]) in (0, 3)
    (span,) = inside(collector, "score ")
    assert told(span)["workbench.model"] == "bench"
    assert len(inside(collector, "run greet")) == 2


def test_texts_that_are_embedded_for_a_run(project: Path, collector: Collector) -> None:
    with serve(Script(dimensions=8)) as server:
        maker = f"{{engine: openai, model: m, base_url: '{server.url}', api: embeddings}}"
        models = (project / "workbench.yaml").read_text().replace("models: {", f"models: {{maker: {maker}, ")
        (project / "workbench.yaml").write_text(models)
        (project / "docs.jsonl").write_text('{"id": "d", "text": "cats sleep"}\n{"id": "e", "text": "dogs bark"}\n')
        (project / "prompts/hello.prompty").write_text("user:\nHello {{ who }} {{ passages }}")
        retrieve = "retrieve: {documents: docs.jsonl, query: '{{ who }}', search: [words, maker], k: 1}\n"
        (project / "evals/greet.yaml").write_text(SUITE + retrieve)
        progress, _ = run(project)
    spans = inside(collector, "retrieve greet")
    assert [span.name for span in spans] == ["embeddings m"] * 4
    assert {told(span)["workbench.model"] for span in spans} == {"maker"}
    (root,) = (span for span in collector.spans if span.name == "retrieve greet")
    assert told(root)["workbench.run.id"] == progress.run
    assert progress.retrieving.tracing == ""


class Local(EchoEngine):
    """Computes here, so that an answer has a time of its own only where it was asked for alone."""

    in_process = True

    def generate(self, requests):
        for event in super().generate(requests):
            yield replace(event, seconds=None) if isinstance(event, Output) else event


def test_what_is_asked_again_for_its_latency_has_a_span_of_its_own(project: Path, collector: Collector) -> None:
    (project / "evals/greet.yaml").write_text(SUITE.replace("[contains]", "[contains, latency]"))
    database = Database.open(workbench.load_project(project).store_url)
    suite = workbench.load_suite("greet", project)
    prepared = workbench.prepare_suite(suite, project)
    local = Local(suite.models["house"])
    run_suite(replace(prepared, engines={"house": local}), database)
    database.close()
    spans = inside(collector, "run greet")
    assert sorted(str(told(span).get("error.type")) for span in spans) == ["None", "None", "refused"]
    assert len({told(span)["workbench.request.id"] for span in spans}) == 2


def test_a_try_in_the_playground_is_a_span_by_itself(tmp_path: Path, collector: Collector) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/runs.db")
    playground = Playground(database)
    question = Question(parse_prompt("user:\nHello", "hello"), Model("house", "echo"))
    answers = playground.answers(playground.ask([question, question]))
    while not all(answer.done for answer in answers):
        time.sleep(0.01)
    playground.close()
    database.close()
    assert {span.parent_span_id for span in collector.spans} == {b""}
    assert {told(span)["workbench.model"] for span in collector.spans} == {"house"}
    assert {told(span)["gen_ai.request.stream"] for span in collector.spans} == {True}


def test_what_a_batch_has_answered_has_the_times_of_the_batch(project: Path, collector: Collector) -> None:
    began = time.time()
    with serve(Script(batch_seconds=0)) as server:
        (project / "workbench.yaml").write_text(
            f"models: {{house: {{engine: openai, model: small, base_url: '{server.url}'}}}}"
        )
        assert main(["--project", str(project), "run", "greet", "--batch", "--quiet"]) == 0
        assert not collector.spans
        assert main(["--project", str(project), "batches", "collect", "latest"]) == 0
    spans = inside(collector, "collect ")
    assert [span.name for span in spans] == ["chat small"] * 2
    for span in spans:
        assert told(span)["workbench.batch.id"] == "batch_000001"
        assert began - 2 < span.start_time_unix_nano / 1e9 <= span.end_time_unix_nano / 1e9 < time.time() + 2


def test_equal_requests_under_way_are_one_span(collector: Collector) -> None:
    engine = EchoEngine(Model("house", "echo"))
    spans, problem = tracing.open_spans("ask", {}, {}, {"house": engine})
    assert problem == ""
    with Dispatcher({"house": engine}, ended=spans.answered) as dispatcher:
        request = Request("r", "house", (Message.of("user", "Hello"),))
        futures = dispatcher.submit_all([(0, request), (0, request)])
        assert futures[0] is futures[1]
        futures[0].result(5)
    assert spans.close("complete") == ""
    assert len(inside(collector, "ask")) == 1
