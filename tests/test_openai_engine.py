"""The OpenAI-compatible engine, against the loopback server: real HTTP."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from doubles.asking import Row, ask, pieces, user

from workbench.engines.openai import OpenAIEngine, client
from workbench.errors import EngineError, ModelError
from workbench.loopback import Fault, Latency, Limits, Script, Server, serve
from workbench.records import Message, Model, Output, Part, Request


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(Script(models=("m",))) as running:
        yield running


def engine(server: Server, limits: dict[str, object] | None = None, /, **settings: object) -> OpenAIEngine:
    chosen = {"model": "m", "base_url": server.url, **settings}
    return OpenAIEngine(Model("house", "openai", chosen, {"input": 1.0, "output": 2.0}, limits or {"retries": 0}))


def bodies(server: Server) -> list[Any]:
    return [call.body for call in server.books.log]


FORMS = [{}, {"api": "responses"}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_an_answer_with_all_that_comes_with_it(server: Server, form: dict[str, str], stream: bool) -> None:
    asked = user("one two three", params={"max_tokens": 2}, logprobs=2)
    (output,) = ask(engine(server, stream=stream, **form), asked)
    assert (output.text, output.finish_reason, output.prompt_tokens, output.output_tokens) == (
        "one two",
        "length",
        3,
        2,
    )
    assert output.cost == pytest.approx((3 * 1 + 2 * 2) / 1e6)
    assert output.extra["model"] == "m"
    assert [entry["token"] for entry in output.logprobs] == ["one", " two"]
    assert all(len(entry["top"]) == 2 for entry in output.logprobs)
    assert output.seconds is not None and 0 < output.seconds < 5
    assert (output.first_token_seconds is not None) is stream


def test_what_is_sent(server: Server) -> None:
    params = {"max_tokens": 2, "top_k": 5}
    ask(engine(server), user("one", params=params, seed=2**40 + 7, logprobs=2))
    message = {"role": "user", "content": "one"}
    assert bodies(server) == [
        {"model": "m", "messages": [message], "seed": 7, "logprobs": True, "top_logprobs": 2, **params}
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_tools_are_sent_and_calls_recorded(server: Server, form: dict[str, str], stream: bool) -> None:
    tool = {"kind": "function", "name": "look", "parameters": {"type": "object"}}
    (output,) = ask(engine(server, stream=stream, **form), user("see", tools=(tool,)))
    assert (output.finish_reason, output.text) == ("tool_calls", "")
    (call,) = output.tool_calls
    assert (call["type"], call["function"]["name"], call["function"]["arguments"]) == ("function", "look", "{}")


@pytest.mark.parametrize("form", FORMS)
def test_a_schema_shapes_the_answer(server: Server, form: dict[str, str]) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    (output,) = ask(engine(server, **form), user("see", answer={"schema": schema}))
    assert output.text == '{"n": 0}'


@pytest.mark.parametrize("form", FORMS)
def test_streaming(server: Server, form: dict[str, str]) -> None:
    server.use(latency=Latency(between_pieces=0.02))
    words, output = pieces(engine(server, **form), user("one two three", stream=True))
    assert (words, output.text, output.finish_reason) == (["one", " two", " three"], "one two three", "stop")
    assert (output.prompt_tokens, output.output_tokens) == (3, 3)
    assert output.first_token_seconds is not None and output.seconds is not None
    assert output.first_token_seconds <= output.seconds - 0.02


def test_reasoning_is_counted(server: Server) -> None:
    server.use(reasoning_tokens=17)
    (output,) = ask(engine(server, api="responses"), user("think", params={"reasoning_effort": "low"}))
    assert output.extra["reasoning_tokens"] == 17
    assert bodies(server)[0]["reasoning"] == {"effort": "low"}


def repeats(count: int) -> list[Request]:
    return [user("what?", str(index), repeat=index) for index in range(count)]


@pytest.mark.parametrize(
    ("settings", "calls"),
    [({"server": "openai"}, [8, 2]), ({"server": "openai", "seed": True}, [1] * 10), ({}, [1] * 10)],
)
def test_repeats_share_a_call_only_without_seeds(server: Server, settings: dict[str, Any], calls: list[int]) -> None:
    outputs = ask(engine(server, **settings), *repeats(10))
    assert sorted(int(output.request_id) for output in outputs) == list(range(10))
    assert sorted((body.get("n", 1) for body in bodies(server)), reverse=True) == calls
    assert sum(output.prompt_tokens or 0 for output in outputs) == len(calls), "what is billed: the prompt once a call"
    assert sum(output.cost or 0 for output in outputs) == pytest.approx((len(calls) + 2 * 10) / 1e6)


def test_choices_that_are_missing_are_asked_singly(server: Server) -> None:
    one = '{"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}'
    server.use(faults=(Fault("body", calls=(1,), body=one),))
    outputs = ask(engine(server, server="openai"), *repeats(3))
    assert sorted(output.text for output in outputs) == ["a", "what?", "what?"]
    assert [body.get("n", 1) for body in bodies(server)] == [3, 1, 1]


def status(number: int, code: str = "") -> Fault:
    return Fault(status=number, code=code, match="bad")


@pytest.mark.parametrize(
    ("fault", "kind", "retry", "part"),
    [
        (status(400), "refused", False, "400"),
        (status(400, "context_length_exceeded"), "too_long", False, "context_length_exceeded"),
        (status(429), "rate_limit", True, "429"),
        (status(500), "server", True, "500"),
        (status(408), "timeout", True, "408"),
        (Fault("reset", match="bad"), "connection", True, "broke off"),
        (Fault("cut", match="bad"), "connection", True, "broke off"),
        (Fault("not_json", match="bad"), "bad_answer", True, "no answer of /chat/completions"),
        (Fault("no_choices", match="bad"), "bad_answer", True, "no answer of /chat/completions"),
        (Fault("body", match="bad", body="[]"), "bad_answer", True, "'[]'"),
        (Fault("stall", match="bad", seconds=1.0), "timeout", True, "no answer within 0.2 s"),
    ],
)
def test_failures(server: Server, fault: Fault, kind: str, retry: bool, part: str) -> None:
    server.use(faults=(fault,))
    outputs = ask(engine(server, {"retries": 0, "timeout": 0.2}), user("bad", "1"), user("good", "2"))
    failures = {output.request_id: output.failure for output in outputs}
    assert failures["2"] is None
    assert failures["1"] is not None
    assert (failures["1"].kind, failures["1"].retry) == (kind, retry)
    assert part in failures["1"].message and "\n" not in failures["1"].message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["reset", "cut"])
def test_a_stream_that_breaks_is_a_failure(server: Server, kind: Any, form: dict[str, str]) -> None:
    server.use(faults=(Fault(kind),))
    words, output = pieces(engine(server, **form), user("a b", stream=True))
    assert "".join(words) in ("", "a", "a b")
    assert output.failure is not None and (output.failure.kind, output.failure.retry) == ("connection", True)


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        (Fault(status=429, headers={"retry-after-ms": "10"}, calls=(1, 2)), {"refused": 2, "faults": 0}),
        (Fault(status=503, headers={"retry-after-ms": "10"}, calls=(1, 2)), {"refused": 0, "faults": 2}),
        (Fault("reset", calls=(1,)), {"refused": 0, "faults": 1}),
        (Fault("not_json", calls=(1,)), {"refused": 0, "faults": 0}),
    ],
)
def test_what_can_pass_is_tried_again(server: Server, fault: Fault, counted: dict[str, int]) -> None:
    server.use(faults=(fault,))
    house = engine(server, {"retries": 3})
    (output,) = ask(house, user("busy"))
    assert output.text == "busy" and server.count("busy") == len(fault.calls) + 1
    assert output.seconds is not None and output.seconds < 0.5, "the call that answered alone"
    work = house.work()
    assert {name: work[name] for name in counted} == counted and work["retries"] == len(fault.calls)


def test_a_date_to_retry_after_is_kept(server: Server) -> None:
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    server.use(faults=(Fault(status=429, headers={"retry-after": later, "retry-after-ms": ""}, calls=(1,)),))
    started = time.monotonic()
    (output,) = ask(engine(server, {"retries": 1}), user("a"))
    assert output.text == "a" and time.monotonic() - started > 0.8


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, {"model": "other"}, "knows no model 'other'"),
        ({"key": "another"}, {}, r"refuses the key \(none sent\)"),
        ({"faults": (Fault(status=403),)}, {}, "refuses the key"),
        ({"faults": (Fault(status=429, code="insufficient_quota"),)}, {}, "no budget left"),
        ({"faults": (Fault(status=429, headers={"retry-after-ms": "3600000"}),)}, {}, "asks to wait 3600 s"),
        ({"faults": (Fault("redirect", location="http://localhost:9"),)}, {}, "redirects to http://localhost:9"),
    ],
)
def test_what_ends_everything(server: Server, changes: Any, settings: Any, message: str) -> None:
    server.use(**changes)
    with pytest.raises(EngineError, match=message):
        ask(engine(server, {"retries": 2}, **settings), *(user("a", str(i)) for i in range(20)))
    assert server.books.calls.total() <= 20


def test_a_403_after_an_answer_is_of_that_request_alone(server: Server) -> None:
    server.use(faults=(Fault(status=403, match="bad"),))
    outputs = ask(engine(server, {"concurrency": 1, "retries": 0}), user("good", "1"), user("bad", "2"))
    assert [output.failure and output.failure.kind for output in outputs] == [None, "auth"]


@pytest.mark.parametrize("retries", [0, 1])
def test_an_address_that_is_down_ends_everything(retries: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    down = OpenAIEngine(
        Model("a", "openai", {"model": "m", "base_url": f"http://127.0.0.1:{port}/v1"}, limits={"retries": retries})
    )
    with pytest.raises(EngineError, match=f"http://127.0.0.1:{port}/v1 is down: no connection"):
        ask(down, *(user("a", str(i)) for i in range(5)))


@pytest.mark.parametrize(
    ("settings", "limits", "message"),
    [
        ({}, {}, "set `model`"),
        ({"model": "m"}, {}, "environment variable OPENAI_API_KEY"),
        ({"model": "m", "base_url": "http://127.0.0.1:1", "api_key_env": "NIX"}, {}, "environment variable NIX"),
        ({"model": "m", "api_key": "x"}, {}, "unknown setting 'api_key'; did you mean 'api_key_env'?"),
        ({"model": "m"}, {"concurency": 1}, "unknown limit 'concurency'; did you mean 'concurrency'?"),
        ({"model": "m", "base_url": "http://me:pw@127.0.0.1:1"}, {}, "base_url holds a password or a query"),
        ({"model": "m", "base_url": "http://127.0.0.1:1/v1?key=x"}, {}, "base_url holds a password or a query"),
        ({"model": "m", "base_url": "127.0.0.1:1/v1"}, {}, "base_url has to look like"),
        ({"model": "m", "base_url": "http://127.0.0.1:1", "api": "respnses"}, {}, "did you mean 'responses'?"),
        ({"model": "m", "base_url": "http://127.0.0.1:1", "server": "vlm"}, {}, "did you mean 'vllm'?"),
    ],
)
def test_wrong_settings(settings: dict[str, object], limits: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        OpenAIEngine(Model("a", "openai", settings, limits=limits))
    assert message in str(caught.value)


def test_raw_text_is_refused(server: Server) -> None:
    (output,) = ask(engine(server), Request("r", "m", (Message.of("raw", "a"),)))
    assert output.failure is not None and output.failure.kind == "refused"


def test_images_are_sent(server: Server) -> None:
    image = "data:image/png;base64,AA=="
    asked = Request("r", "m", (Message("user", (Part("text", "see"), Part("image", image))),))
    ask(engine(server), asked)
    ask(engine(server, api="responses"), asked)
    chat, response = bodies(server)
    assert chat["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": image}}
    assert response["input"][0]["content"][1] == {"type": "input_image", "image_url": image}


def test_azure_gets_its_path_and_its_header(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_KEY", "azure-secret")
    azure = {"base_url": server.url.removesuffix("/v1"), "api_key_env": "AZURE_KEY", "api_version": "2024-10-21"}
    (output,) = ask(engine(server, server="azure", **azure), user("a"))
    assert output.text == "a"
    (call,) = server.books.log
    assert call.headers["api-key"] == "azure-secret" and "authorization" not in call.headers


def test_calls_run_at_the_same_time_and_no_more_than_allowed(server: Server) -> None:
    server.use(latency=Latency(seconds=0.05))
    outputs = ask(engine(server, {"concurrency": 4}), *(user(f"q{i}", str(i)) for i in range(16)))
    assert sorted(int(output.request_id) for output in outputs) == list(range(16))
    assert server.books.busiest == 4


def test_without_a_limit_it_is_learnt(server: Server) -> None:
    server.use(latency=Latency(seconds=0.02), limits=Limits(at_once=12))
    house = engine(server, {"retries": 5})
    outputs = ask(house, *(user(f"q{i}", str(i)) for i in range(300)))
    assert all(output.failure is None for output in outputs)
    assert server.books.busiest == 12
    assert house.work()["refused"] < 60
    assert house.history()[0].reason == "start" and any(change.reason == "refused" for change in house.history())


def test_aliases_of_one_model_share_its_limit(server: Server) -> None:
    one, other = engine(server), engine(server, stream=True)
    ask(one, user("a"))
    assert other.work() and other.history() == one.history()
    assert engine(server, {"concurrency": 3}).work() == {}


def test_calls_a_minute_are_kept(server: Server) -> None:
    started = time.monotonic()
    ask(engine(server, {"requests_per_minute": 600}), *(user(f"q{i}", str(i)) for i in range(4)))
    assert time.monotonic() - started >= 0.24, "three intervals, less what a late call may catch up"


@pytest.mark.parametrize("settings", [{}, {"stream": True}])
def test_an_answer_without_end_fills_no_memory(monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]) -> None:
    """Compressed: a few hundred bytes over the wire, 100 times as many here."""
    monkeypatch.setattr(client, "MOST_BYTES", 10_000)
    body = gzip.compress(b"data: " + b"x" * 40_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with answering(head + body) as url:
        made = OpenAIEngine(Model("a", "openai", {"model": "m", "base_url": url, **settings}, limits={"retries": 0}))
        (output,) = ask(made, user("hello"))
    assert output.failure is not None
    assert (output.failure.kind, output.failure.message) == ("bad_answer", "the answer has more than 0 MiB")


def test_a_stream_that_is_held_open_after_its_end_has_answered() -> None:
    """Its answer is there and paid for: waiting for the connection to end must not lose it."""
    chunk = {"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]}
    events = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + events) as url:
        limits = {"retries": 0, "timeout": 0.3}
        made = OpenAIEngine(Model("a", "openai", {"model": "m", "base_url": url, "stream": True}, limits=limits))
        (output,) = ask(made, user("hello"))
    assert (output.text, output.failure) == ("yes", None)


WHOLE = {
    "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1},
}


@pytest.mark.parametrize("head", ["Content-Type: application/json\r\n", "Content-Type: text/event-stream\r\n", ""])
@pytest.mark.parametrize("before", [b"", b" \r\n\t", b" " * 70_000])
def test_a_host_that_does_not_stream_has_answered(head: str, before: bytes) -> None:
    """It ignores `stream: true`: what it answers is whole, and paid for."""
    body = before + json.dumps(WHOLE).encode()
    with answering(f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body) as url:
        limits = {"retries": 0, "timeout": 5}
        made = OpenAIEngine(Model("a", "openai", {"model": "m", "base_url": url}, limits=limits))
        told, output = pieces(made, user("hello", stream=True))
    assert (output.text, output.failure, output.prompt_tokens, output.output_tokens) == ("yes", None, 2, 1)
    assert output.seconds and output.first_token_seconds is None, "it tells nothing of its first token"
    assert told == ["yes"]


@contextmanager
def answering(raw: bytes) -> Iterator[str]:
    """A server that sends these bytes to its first call and keeps the connection open."""

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            received = b""
            while b"hello" not in received:
                received += connection.recv(65536)
            connection.sendall(raw)
            done.wait(30)

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            done.set()
            thread.join()


def test_cancelled_calls_end_at_once(server: Server) -> None:
    server.use(latency=Latency(seconds=0.3))
    row = Row([user("a", "1"), user("b", "2")], cancel=lambda: {"1"})
    ended = [
        (o.request_id, o.failure.kind if o.failure else "")
        for o in engine(server).generate(row)
        if isinstance(o, Output)
    ]
    assert ended == [("1", "cancelled"), ("2", "")]


def test_one_of_a_shared_call_can_be_cancelled(server: Server) -> None:
    server.use(latency=Latency(seconds=0.1))
    row = Row(repeats(3), cancel=lambda: {"1"})
    outputs = [o for o in engine(server, server="openai").generate(row) if isinstance(o, Output)]
    assert sorted((o.request_id, o.failure.kind if o.failure else o.text) for o in outputs) == [
        ("0", "what?"),
        ("1", "cancelled"),
        ("2", "what?"),
    ]


def test_closing_early_gives_everything_back(server: Server) -> None:
    server.use(latency=Latency(seconds=0.2), faults=(Fault(status=400, match="fast"),))
    house = engine(server)
    answers = house.generate(Row([user("a", "1"), user("fast", "2"), user("c", "3")]))
    next(answers)
    answers.close()
    assert house._limiter.in_flight == 0
