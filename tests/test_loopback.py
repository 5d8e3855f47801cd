"""The loopback server, asked by OpenAI's own client and, where it breaks things, over a bare connection."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.cli import main
from workbench.cli.serve import read_script
from workbench.errors import SuiteError, UseError
from workbench.loopback import Fault, Latency, Limits, Script, Server, serve
from workbench.loopback.instance import UnsupportedError, minimal_json
from workbench.loopback.limits import Gate, duration


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    """As new, at the same address."""
    running.use(**{name: getattr(Script(), name) for name in Script.__slots__})
    running.books.__init__()
    return running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client


def say(client: openai.OpenAI, text: str, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}], **more)


def post(server: Server, path: str, body: object, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and body; over a connection of its own."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=5)
    try:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", f"/v1{path}", raw, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def chat(text: str, **more: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


# What it says


def test_an_answer_is_the_scripts_or_the_question(server: Server, client: openai.OpenAI) -> None:
    server.use(answers={"capital of (France|Gaul)": "Paris, of course"})
    answered = say(client, "What is the capital of France?")
    assert answered.choices[0].message.content == "Paris, of course"
    assert (answered.usage.prompt_tokens, answered.usage.completion_tokens) == (6, 3)
    assert answered.choices[0].finish_reason == "stop"
    assert say(client, "hello you", max_tokens=1).choices[0].model_dump()["message"]["content"] == "hello"
    assert say(client, "hello you", max_tokens=1).choices[0].finish_reason == "length"
    assert server.count("hello you") == 2
    assert server.calls == Counter({"hello you": 2, "What is the capital of France?": 1})
    assert (server.books.distinct, server.books.repeated) == (2, 1)


def test_several_answers_are_chosen_by_the_seed(server: Server, client: openai.OpenAI) -> None:
    server.use(answers={"coin": ("heads", "tails")})
    choices = [c.message.content for c in say(client, "coin", n=40, seed=1).choices]
    assert set(choices) == {"heads", "tails"}
    assert choices == [c.message.content for c in say(client, "coin", n=40, seed=1).choices]
    assert choices != [c.message.content for c in say(client, "coin", n=40, seed=2).choices]
    assert len({say(client, "coin").choices[0].message.content for _ in range(20)}) == 2, "varies without a seed"


def test_log_probabilities(client: openai.OpenAI) -> None:
    told = say(client, "one two", logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert [t.token for t in told] == ["one", " two"]
    for token in told:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == token.logprob
        assert sum(math.exp(t.logprob) for t in token.top_logprobs) < 1


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}},
    "required": ["name", "age"],
}


def test_a_schema_is_met(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
    assert json.loads(say(client, "who", response_format=form).choices[0].message.content) == {"name": "", "age": 18}
    form["json_schema"]["schema"] = {"type": "string", "pattern": "^x"}
    with pytest.raises(openai.BadRequestError, match="no instance was found"):
        say(client, "who", response_format=form)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answered(client: openai.OpenAI, stream: bool) -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("look", "buy")]
    choice = {"type": "function", "function": {"name": "buy"}}
    for wanted, expected in (("auto", "look"), (choice, "buy")):
        if stream:
            with client.chat.completions.stream(
                model="m", messages=[{"role": "user", "content": "go"}], tools=tools, tool_choice=wanted
            ) as events:
                answered = events.get_final_completion()
        else:
            answered = say(client, "go", tools=tools, tool_choice=wanted)
        (call,) = answered.choices[0].message.tool_calls
        assert answered.choices[0].finish_reason == "tool_calls"
        assert (call.function.name, json.loads(call.function.arguments)) == (expected, {"name": "", "age": 18})
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    messages = [{"role": "user", "content": "go"}, answered.choices[0].message, result]
    answered = client.chat.completions.create(model="m", messages=messages, tools=tools)
    assert answered.choices[0].message.content == "sunny"
    assert say(client, "go", tools=tools, tool_choice="none").choices[0].message.content == "go"


def test_a_stream_says_what_the_whole_says(server: Server, client: openai.OpenAI) -> None:
    server.use(latency=Latency(between_pieces=0.005))
    whole = say(client, "one two three", n=2, logprobs=True, top_logprobs=2)
    texts, logprobs, usage, finish = ["", ""], [], None, {}
    for chunk in say(client, "one two three", n=2, logprobs=True, top_logprobs=2, stream=True, stream_options={"include_usage": True}):  # fmt: skip
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finish[choice.index] = choice.finish_reason
            logprobs += choice.logprobs.content if choice.logprobs else []
    assert texts == [c.message.content for c in whole.choices]
    assert finish == {0: "stop", 1: "stop"}
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 6)
    assert [t.token for t in logprobs] == ["one", " two", " three"] * 2


def test_reasoning_is_counted(server: Server, client: openai.OpenAI) -> None:
    server.use(reasoning_tokens=7)
    usage = say(client, "a b", reasoning_effort="low").usage
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (9, 7)
    assert say(client, "a b c", reasoning_effort="low", max_completion_tokens=8).choices[0].message.content == "a"
    assert say(client, "a b").usage.completion_tokens_details.reasoning_tokens == 0


def test_responses_whole_and_streamed(server: Server, client: openai.OpenAI) -> None:
    server.use(reasoning_tokens=5)
    whole = client.responses.create(model="m", input="one two", instructions="be brief")
    assert (whole.output_text, whole.status, whole.usage.input_tokens) == ("one two", "completed", 4)
    cut = client.responses.create(model="m", input="one two", max_output_tokens=6, reasoning={"effort": "low"})
    assert (cut.output_text, cut.status, cut.incomplete_details.reason) == ("one", "incomplete", "max_output_tokens")
    assert cut.usage.output_tokens_details.reasoning_tokens == 5
    tool = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": True}
    (item,) = client.responses.create(model="m", input=[{"role": "user", "content": "go"}], tools=[tool]).output
    assert (item.type, item.name, json.loads(item.arguments)) == ("function_call", "look", {"name": "", "age": 18})
    for more in ({}, {"tools": [tool]}):
        with client.responses.stream(model="m", input="one two", **more) as events:
            kinds = [event.type for event in events]
            final = events.get_final_response()
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        assert final.output_text == ("" if more else "one two")
    form = {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}
    assert json.loads(client.responses.create(model="m", input="x", text=form).output_text)["age"] == 18


def test_embeddings(client: openai.OpenAI) -> None:
    texts = ["the cat sat", "the cat sits", "quarterly tax return"]
    found = client.embeddings.create(model="m", input=texts, dimensions=32)
    cat, cats, tax = (row.embedding for row in found.data)
    assert len(cat) == 32
    assert math.dist(cat, [0] * 32) == pytest.approx(1)
    assert math.dist(cat, cats) < math.dist(cat, tax)
    plain = client.embeddings.create(model="m", input=texts[0], dimensions=32, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(cat, abs=1e-6)


def test_models(server: Server, client: openai.OpenAI) -> None:
    server.use(models=("a", "b/c"))
    assert [model.id for model in client.models.list()] == ["a", "b/c"]
    assert client.models.retrieve("b/c").id == "b/c"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        say(client, "x")


def test_azures_address(server: Server) -> None:
    server.use(key="secret", models=("dep",))
    with openai.AzureOpenAI(
        azure_endpoint=server.url.removesuffix("/v1"), api_key="secret", api_version="v", max_retries=0
    ) as azure:
        answered = azure.chat.completions.create(model="dep", messages=[{"role": "user", "content": "hi"}])
    assert answered.choices[0].message.content == "hi"


# What it refuses


@pytest.mark.parametrize(
    ("changes", "body", "status", "code"),
    [
        ({}, b"{", 400, "missing_required_parameter"),
        ({}, b"[1]", 400, "missing_required_parameter"),
        ({}, {"model": "m"}, 400, "missing_required_parameter"),
        ({}, {"model": "m", "messages": []}, 400, "missing_required_parameter"),
        ({}, {"messages": [{"role": "user", "content": "x"}]}, 400, "missing_required_parameter"),
        ({}, chat("x", max_tokens="many"), 400, "invalid_type"),
        ({}, chat("x", max_tokens=0), 400, "integer_below_min_value"),
        ({"max_context": 2}, chat("one two three"), 400, "context_length_exceeded"),
        ({"refuse_params": ("top_k",)}, chat("x", top_k=4), 400, "unsupported_parameter"),
        ({"models": ("other",)}, chat("x"), 404, "model_not_found"),
        ({"key": "secret"}, chat("x"), 401, "invalid_api_key"),
        ({"faults": (Fault(status=503),)}, chat("x"), 503, None),
        ({"faults": (Fault(status=429, code="insufficient_quota"),)}, chat("x"), 429, "insufficient_quota"),
    ],
)
def test_errors_have_openais_shape(server: Server, changes: dict, body: object, status: int, code: str | None) -> None:
    server.use(**changes)
    got, _, raw = post(server, "/chat/completions", body, authorization="Bearer wrong")
    error = json.loads(raw)["error"]
    assert (got, error["code"]) == (status, code)
    assert error.keys() == {"message", "type", "param", "code"}
    assert server.books.statuses == {status: 1}
    assert server.books.answered == 0


def test_the_key_that_was_sent_is_repeated(server: Server) -> None:
    server.use(key="right")
    assert b"wrong-key" in post(server, "/chat/completions", chat("x"), authorization="Bearer wrong-key")[2]
    assert post(server, "/chat/completions", chat("x"), authorization="Bearer right")[0] == 200
    server.use(faults=(Fault(),))
    assert b"Bearer right" in post(server, "/chat/completions", chat("x"), authorization="Bearer right")[2]
    assert server.books.log[-1].headers["authorization"] == "Bearer right"


# Limits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_limit_of_requests() -> None:
    clock = Clock()
    gate = Gate(Limits(requests_per_minute=60, burst=2), clock)
    assert [gate.enter(1, 0) is None for _ in range(3)] == [True, True, False]
    clock.now = 0.5
    refusal = gate.enter(1, 0)
    assert refusal is not None and (refusal.what, refusal.seconds) == ("requests", pytest.approx(0.5))
    assert gate.headers() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "58",
        "x-ratelimit-reset-requests": "1.5s",
    }
    clock.now = 1.0
    assert gate.enter(1, 0) is None


def test_a_limit_of_tokens() -> None:
    clock = Clock()
    gate = Gate(Limits(tokens_per_minute=600, burst=60), clock)
    assert gate.enter(400, 0) is None
    refusal = gate.enter(400, 0)
    assert refusal is not None and (refusal.what, refusal.used, refusal.seconds) == ("tokens", 400, pytest.approx(20))
    assert gate.headers()["x-ratelimit-reset-tokens"] == "40s"
    clock.now = 40
    assert gate.enter(10_000, 0) is None, "what is larger than the bucket is let in when it is full"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), max_size=60))
def test_no_minute_has_more_than_its_limit(arrivals: list[tuple[float, int]]) -> None:
    clock, limits = Clock(), Limits(requests_per_minute=30, tokens_per_minute=300, burst=10)
    gate = Gate(limits, clock)
    let_in: list[tuple[float, int]] = []
    for wait, tokens in arrivals:
        clock.now += wait
        if gate.enter(tokens, 0) is None:
            let_in.append((clock.now, tokens))
    for start, _ in let_in:
        minute = [tokens for at, tokens in let_in if start <= at < start + 60]
        assert len(minute) <= 30 * (60 + 10) / 60 + 1
        assert sum(minute) <= 300 * (60 + 10) / 60 + 50


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.12, "120ms"), (1, "1s"), (6.25, "6.25s"), (66.5, "1m6.5s"), (3600, "1h0m0s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_refused_call_is_told_when_to_come_again(server: Server) -> None:
    server.use(limits=Limits(requests_per_minute=600, burst=0.1))
    first, second = (post(server, "/chat/completions", chat("x")) for _ in range(2))
    assert (first[0], second[0]) == (200, 429)
    assert first[1]["x-ratelimit-limit-requests"] == "600"
    wait = int(second[1]["retry-after-ms"]) / 1000
    assert 0 < wait <= 0.1
    assert second[1]["retry-after"] == "1"
    assert json.loads(second[2])["error"]["code"] == "rate_limit_exceeded"
    time.sleep(wait)
    assert post(server, "/chat/completions", chat("x"))[0] == 200


def test_calls_at_one_time(server: Server) -> None:
    server.use(limits=Limits(at_once=3), latency=Latency(seconds=0.2))
    with ThreadPoolExecutor(5) as pool:
        statuses = list(pool.map(lambda i: post(server, "/chat/completions", chat(str(i)))[0], range(5)))
    assert Counter(statuses) == {200: 3, 429: 2}
    assert (server.books.busiest, server.books.busy) == (3, 0)


# Time


@pytest.mark.parametrize(
    ("latency", "quantiles"),
    [
        (Latency(seconds=0.2), [0.2, 0.2, 0.2]),
        (Latency("uniform", 0.1, 0.2), [0.12, 0.2, 0.28]),
        (Latency("lognormal", 0.2, 0.5), [0.2 * math.exp(-0.5 * 1.2816), 0.2, 0.2 * math.exp(0.5 * 1.2816)]),
    ],
)
def test_latencies(latency: Latency, quantiles: list[float]) -> None:
    assert [latency.drawn(share) for share in (0.1, 0.5, 0.9)] == pytest.approx(quantiles, rel=1e-3)


def test_two_hundred_calls_wait_side_by_side(server: Server) -> None:
    server.use(latency=Latency(seconds=3))  # longer than the slowest machine takes to send them all
    body = json.dumps(chat("x")).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    place = urlsplit(server.url)
    open_ones = [socket.create_connection((place.hostname, place.port), 10) for _ in range(200)]
    for one in open_ones:
        one.sendall(head.encode() + body)
    for one in open_ones:
        with one, one.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 200")
    assert server.books.busiest == 200


# Faults


def broken(server: Server, stream: bool, timeout: float = 5) -> tuple[bytes, str]:
    """What arrived of an answer, and how it ended."""
    place = urlsplit(server.url)
    body = json.dumps(chat("one two three four", stream=stream)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    got = b""
    with socket.create_connection((place.hostname, place.port), timeout) as connection:
        connection.sendall(head.encode() + body)
        try:
            while part := connection.recv(65536):
                got += part
        except ConnectionResetError:
            return got, "reset"
        except TimeoutError:
            return got, "silence"
    head_text, _, rest = got.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head_text.lower())
    whole = len(rest) == int(length[1]) if length else rest.endswith(b"0\r\n\r\n")
    return got, "whole" if whole else "cut"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "end", "seconds"),
    [
        (None, "whole", 0),
        (Fault("reset"), "reset", 0),
        (Fault("cut"), "cut", 0),
        (Fault("stall", seconds=0.2), "whole", 0.2),
        (Fault("drip", seconds=0.2), "whole", 0.2),
    ],
)
def test_broken_answers(server: Server, stream: bool, fault: Fault | None, end: str, seconds: float) -> None:
    server.use(faults=(fault,) if fault else ())
    started = time.monotonic()
    got, how = broken(server, stream)
    assert how == end
    assert time.monotonic() - started >= seconds
    assert (b"usage" in got or b"[DONE]" in got) == (end == "whole")
    assert server.books.answered == (end == "whole")


def test_a_stalled_answer_begins(server: Server) -> None:
    server.use(faults=(Fault("stall", seconds=0.5),))
    got, how = broken(server, stream=False, timeout=0.1)
    assert how == "silence"
    assert got.startswith(b"HTTP/1.1 200") and b"chatcmpl" in got


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (Fault("not_json"), lambda status, headers, body: status == 200 and not _is_json(body)),
        (Fault("no_choices"), lambda status, headers, body: json.loads(body)["choices"] == []),
        (Fault("body", body="<html>busy"), lambda status, headers, body: (status, body) == (200, b"<html>busy")),
        (
            Fault("redirect", location="http://localhost:1"),
            lambda status, headers, body: (status, headers["location"]) == (307, "http://localhost:1/v1/chat/completions"),
        ),
        (Fault(headers={"retry-after": "2"}), lambda status, headers, body: (status, headers["retry-after"]) == (500, "2")),
    ],
)  # fmt: skip
def test_wrong_answers(server: Server, fault: Fault, check: Any) -> None:
    server.use(faults=(fault,))
    assert check(*post(server, "/chat/completions", chat("x")))


def _is_json(body: bytes) -> bool:
    try:
        return bool(json.loads(body))
    except ValueError:
        return False


def test_which_calls_fail(server: Server) -> None:
    server.use(
        faults=(Fault(match="bad", calls=(2, 3)), Fault(match="twice", times=2), Fault(status=418, match="bad x"))
    )
    assert [post(server, "/chat/completions", chat("bad"))[0] for _ in range(4)] == [200, 500, 500, 200]
    assert [post(server, "/chat/completions", chat("twice"))[0] for _ in range(4)] == [500, 500, 200, 200]
    assert post(server, "/chat/completions", chat("good"))[0] == 200
    assert post(server, "/chat/completions", chat("bad x"))[0] == 418


def test_a_share_of_calls_fails_by_content_not_by_order() -> None:
    fates = []
    for order in (1, -1):
        with serve(Script(seed=3, faults=(Fault(share=0.2),))) as server:
            texts = [str(number) for number in range(300)][::order]
            with ThreadPoolExecutor(8) as pool:
                got = list(pool.map(lambda text, s=server: post(s, "/chat/completions", chat(text))[0], texts))
            fates.append({text for text, status in zip(texts, got, strict=True) if status == 500})
            again = {text for text in sorted(fates[-1]) if post(server, "/chat/completions", chat(text))[0] == 500}
            assert len(again) < len(fates[-1]) / 2, "asked again, a call has a new chance"
    assert fates[0] == fates[1]
    assert 35 <= len(fates[0]) <= 85


# Files and batches


def lines(*rows: dict[str, object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def line(name: str, text: str, url: str = "/v1/chat/completions") -> dict[str, object]:
    return {"custom_id": name, "method": "POST", "url": url, "body": chat(text)}


def submit(client: openai.OpenAI, content: bytes, **more: Any) -> Any:
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


def ended(client: openai.OpenAI, batch_id: str) -> Any:
    deadline = time.monotonic() + 5
    while (batch := client.batches.retrieve(batch_id)).status not in ("completed", "failed", "cancelled"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return batch


def test_a_batch(server: Server, client: openai.OpenAI) -> None:
    server.use(batch_seconds=0.3, faults=(Fault(match="poison", status=500),))
    rows = [line(f"r{i}", f"say {i}") for i in range(20)]
    batch = submit(client, lines(*rows, line("bad", "poison")), metadata={"run": "r1", "chunk": "0"})
    assert batch.status in ("validating", "in_progress")
    assert server.count("say 3") == 1
    done = ended(client, batch.id)
    assert (done.status, done.metadata) == ("completed", {"run": "r1", "chunk": "0"})
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (21, 20, 1)
    answers = [json.loads(row) for row in client.files.content(done.output_file_id).text.splitlines()]
    told = {a["custom_id"]: a["response"]["body"]["choices"][0]["message"]["content"] for a in answers}
    assert told == {f"r{i}": f"say {i}" for i in range(20)}
    assert list(told) != [f"r{i}" for i in range(20)], "in a shuffled order"
    (error,) = (json.loads(row) for row in client.files.content(done.error_file_id).text.splitlines())
    assert (error["custom_id"], error["response"]["status_code"]) == ("bad", 500)
    assert ended(client, batch.id).output_file_id == done.output_file_id
    assert client.files.delete(batch.input_file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(batch.input_file_id)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"{\n", "invalid_json_line"),
        (lines(line("a", "x"), line("a", "y")), "duplicate_custom_id"),
        (lines(line("a", "x", "/v1/responses")), "mismatched_url"),
    ],
)
def test_a_batch_with_a_wrong_file_fails(client: openai.OpenAI, content: bytes, code: str) -> None:
    batch = submit(client, content)
    assert (batch.status, batch.errors.data[0].code) == ("failed", code)


def test_a_cancelled_batch_has_what_was_ready(server: Server, client: openai.OpenAI) -> None:
    server.use(batch_seconds=0.4)
    batch = submit(client, lines(*(line(f"r{i}", str(i)) for i in range(40))))
    time.sleep(0.1)
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = ended(client, batch.id)
    assert done.status == "cancelled"
    assert 0 < done.request_counts.completed < 40
    assert len(client.files.content(done.output_file_id).text.splitlines()) == done.request_counts.completed
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_batches_are_listed_by_pages_newest_first(client: openai.OpenAI) -> None:
    made = [submit(client, lines(line("a", "x"))).id for _ in range(5)]
    assert [batch.id for batch in client.batches.list(limit=2)][:5] == made[::-1]


def test_a_batch_is_there_though_its_answer_was_lost(server: Server, client: openai.OpenAI) -> None:
    before = len(list(client.batches.list(limit=100)))
    server.use(faults=(Fault("reset", match="POST /batches"),))
    with pytest.raises(openai.APIConnectionError):
        submit(client, lines(line("a", "x")))
    assert len(list(client.batches.list(limit=100))) == before + 1
    assert server.count("POST /batches") == 1


# Schemas


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "minLength": 3}, "aaa"),
        ({"type": "string", "format": "date"}, "2020-01-01"),
        ({"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5}, 5),
        ({"type": "number", "exclusiveMaximum": -1, "multipleOf": 0.5}, -1.5),
        ({"type": "number", "minimum": -2, "maximum": -1}, -1),
        ({"type": ["string", "null"]}, None),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": {"a": 1}}, {"a": 1}),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [False, False]),
        ({"prefixItems": [{"type": "integer"}, {"type": "null"}]}, [0, None]),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 0),
        ({"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "integer"}}, "required": ["a"]}]}, {"a": 0}),
        ({"$ref": "#/$defs/x~1y", "$defs": {"x/y": {"type": "boolean"}}}, False),
        (
            {
                "$ref": "#/$defs/node",
                "$defs": {
                    "node": {
                        "type": "object",
                        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                        "required": ["next"],
                    }
                },
            },
            {"next": None},
        ),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/a"}}, "required": ["b"]}},
            },
            UnsupportedError,
        ),
        ({"type": "string", "pattern": "^x"}, UnsupportedError),
        ({"$ref": "#/$defs/gone"}, UnsupportedError),
        ({"type": 3}, UnsupportedError),
        ({}, ""),
        (True, None),
    ],
)
def test_the_smallest_instance(schema: object, expected: object) -> None:
    if expected is UnsupportedError:
        with pytest.raises(UnsupportedError):
            minimal_json(json.dumps(schema))
        return
    found = json.loads(minimal_json(json.dumps(schema)))
    assert found == expected
    jsonschema.validate(found, schema)


# The script's file, and the command


GOOD = """
seed: 4
answers: {'capital': Paris, coin: [heads, tails]}
latency: {kind: lognormal, seconds: 0.01, spread: 0.2}
limits: {requests_per_minute: 600, burst: 1}
faults:
  - {kind: status, status: 503, share: 0.05}
  - {kind: reset, calls: [3, 7]}
key: secret
"""


def test_a_script_is_read(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    assert read_script(tmp_path / "s.yaml") == Script(
        seed=4,
        answers={"capital": "Paris", "coin": ("heads", "tails")},
        latency=Latency("lognormal", 0.01, 0.2),
        limits=Limits(requests_per_minute=600, burst=1),
        faults=(Fault(status=503, share=0.05), Fault("reset", calls=(3, 7))),
        key="secret",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: 4", "s.yaml:1: unknown key 'seeds'; did you mean 'seed'?"),
        ("seed: 1\nlatency: {second: 1}", "s.yaml:2: unknown key 'second'; did you mean 'seconds'?"),
        ("faults:\n  - {kind: reset}\n  - {stats: 1}", "s.yaml:3: unknown key 'stats'; did you mean 'status'?"),
        ("seed: 1\nlatency: {kind: normal}", "s.yaml:2: latency.kind must be 'constant', 'uniform' or 'lognormal'"),
        ("latency: {seconds: -1}", "s.yaml:1: latency must not be negative"),
        ("faults: [{share: 2}]", "s.yaml:1: faults[0] share must lie within 0 and 1, not be 2.0"),
        ("faults: [{match: '('}]", "'(' is no regular expression"),
        ("answers: {'[': x}", "'[' is no regular expression"),
        ("faults: [{kind: redirect}]", "redirect needs a location"),
        ("limits: {burst: 0}", "burst must be above 0 seconds"),
        ("limits: 3", "s.yaml:1: limits must be"),
        ("", "s.yaml: is empty"),
    ],
)
def test_a_wrong_script_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SuiteError, match=re.escape(message)):
        read_script(tmp_path / "s.yaml")


def test_a_port_that_is_taken(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with pytest.raises(UseError, match=f"port {port} is already in use"), serve(port=port):
        pass


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("answers: {hello: world}\n")
    command = [sys.executable, "-m", "workbench", "serve-fake", "--script", str(tmp_path / "s.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        url = process.stdout.readline().strip()
        with openai.OpenAI(base_url=url, api_key="k") as client:
            assert say(client, "hello").choices[0].message.content == "world"
        connection = HTTPConnection(urlsplit(url).netloc, timeout=5)
        for query, expected in (("?text=hello", {"count": 1}), ("?texts", {"texts": {"hello": 1}, "answered": 1})):
            connection.request("GET", f"/_calls{query}")
            assert expected.items() <= json.loads(connection.getresponse().read()).items()
        connection.close()
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr.read() == "1 calls, 1 answered\n"


def test_a_wrong_script_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-fake", "--script", str(tmp_path / "gone.yaml")]) == 2
    assert "gone.yaml" in capsys.readouterr().err
