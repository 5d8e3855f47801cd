"""What goes over the wire: hosts, headers, bodies, answers, streams. No network."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from doubles.asking import user
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.engines.converse import Converse
from workbench.engines.openai import OpenAIEngine, chat, embeddings, responses
from workbench.engines.openai.faults import duration, error_text, of_status, quotas, retry_after
from workbench.engines.openai.hosts import HOSTS, host_name
from workbench.engines.openai.limiter import Quota
from workbench.engines.openai.wire import BadAnswerError, CutError, Timing, Usage, outputs, parse, read_answer
from workbench.errors import ModelError
from workbench.records import Model


@pytest.mark.parametrize(
    ("address", "given", "host"),
    [
        ("https://api.openai.com/v1", None, "openai"),
        ("https://house.openai.azure.com/openai/v1", None, "azure"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", None, "gemini"),
        ("https://api.anthropic.com/v1", None, "anthropic"),
        ("https://openrouter.ai/api/v1", None, "openrouter"),
        ("http://127.0.0.1:11434/v1", None, "ollama"),
        ("http://localhost:1234/v1", None, "lmstudio"),
        ("http://127.0.0.1:8000/v1", None, "other"),
        ("http://127.0.0.1:8000/v1", "vllm", "vllm"),
        ("https://api.openai.com.evil.example/v1", None, "other"),
    ],
)
def test_hosts_are_known_by_their_address(address: str, given: str | None, host: str) -> None:
    assert host_name(address, given) == host


@pytest.mark.parametrize(
    ("settings", "param", "refused"),
    [
        ({"server": "openai"}, "top_k", True),
        ({"server": "openai"}, "reasoning_effort", False),
        ({"server": "openai", "api": "responses"}, "stop", True),
        ({"server": "anthropic"}, "presence_penalty", True),
        ({"server": "anthropic"}, "stop", False),
        ({"server": "ollama"}, "min_p", True),
        ({"server": "lmstudio"}, "top_k", False),
        ({"server": "vllm"}, "min_p", False),
        ({"server": "llama-server"}, "mirostat", False),
        ({}, "anything_new", False),
        ({}, "model", True),
        ({}, "messages", True),
        ({}, "n", True),
        ({}, "stream", True),
        ({}, "top_logprobs", True),
    ],
)
def test_parameters_are_refused_by_name(settings: dict[str, str], param: str, refused: bool) -> None:
    engine = OpenAIEngine(Model("a", "openai", {"model": "m", "base_url": "http://127.0.0.1:9/v1", **settings}))
    if refused:
        with pytest.raises(ModelError, match=f"'{param}'"):
            engine.check_params({"temperature": 1, param: 1})
    else:
        engine.check_params({"temperature": 1, param: 1})


@pytest.mark.parametrize(
    ("settings", "seeds", "logprobs", "schema"),
    [
        ({}, True, 20, True),
        ({"server": "openai"}, False, 20, True),
        ({"server": "openai", "seed": True}, True, 20, True),
        ({"server": "anthropic"}, False, 0, False),
        ({"server": "gemini"}, False, 0, True),
        ({"api": "responses"}, False, 20, True),
    ],
)
def test_capabilities(settings: dict[str, Any], seeds: bool, logprobs: int, schema: bool) -> None:
    can = OpenAIEngine(Model("a", "openai", {"model": "m", "base_url": "http://127.0.0.1:9", **settings})).capabilities
    assert (can.seeds, can.logprobs, can.schema) == (seeds, logprobs, schema)


def test_openai_itself_gets_its_own_names() -> None:
    body = chat.body("m", HOSTS["openai"], user("a", params={"max_tokens": 3}, seed=1))
    assert body == {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_completion_tokens": 3}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360), ("1h2m3s", 3723), ("120ms", 0.12), ("8.64s", 8.64), ("59", 59), ("1d", 86400), ("0s", 0),
     ("", None), ("soon", None), ("5x", None), ("-1s", None)],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.integers(0, 10**8))
def test_durations_are_read_as_they_are_written(milliseconds: int) -> None:
    minutes, rest = divmod(milliseconds, 60_000)
    assert duration(f"{minutes}m{rest / 1000}s") == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "1200"}, 1.2),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT"}, 0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 +99999999999999"}, None),
        ({"retry-after": "7", "retry-after-ms": "soon"}, 7),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == seconds


def test_quotas_are_read_where_all_of_one_is_told() -> None:
    told = {f"x-ratelimit-{part}-requests": value for part, value in zip(
        ("limit", "remaining", "reset"), ("600", "599", "100ms"), strict=True)}  # fmt: skip
    assert quotas(told) == {"requests": Quota(600, 599, 0.1)}
    assert quotas({"x-ratelimit-remaining-requests": "5"}) == {}
    assert quotas({**told, "x-ratelimit-reset-requests": "soon"}) == {}


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "found"),
    [
        ("600", "-1000000", "1s", Quota(600, 0, 1)),  # what is owed would be waited for without end
        ("600", "900", "1s", Quota(600, 600, 1)),
        ("600", "nan", "1s", None),
        ("inf", "5", "1s", None),
        ("600", "5", "9" * 400, None),
        ("1e-300", "0", "1s", None),
        ("-1", "-1", "1s", None),
    ],
)
def test_a_quota_that_can_not_be_is_none(limit: str, remaining: str, reset: str, found: Quota | None) -> None:
    parts = {"limit": limit, "remaining": remaining, "reset": reset}
    told = quotas({f"x-ratelimit-{name}-tokens": value for name, value in parts.items()})
    assert told == ({"tokens": found} if found else {})


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"error": {"message": "no", "code": "bad"}}', "no (bad)"),
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"message": "no"}', "no"),
        (b"<html>no", "<html>no"),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
    ],
)
def test_error_bodies(raw: bytes, text: str) -> None:
    assert error_text(raw) == text


@pytest.mark.parametrize(
    ("status", "text", "answered", "kind", "stops"),
    [
        (400, "maximum context length is 5", False, "too_long", False),
        (401, "", True, "auth", True),
        (403, "", False, "auth", True),
        (403, "", True, "auth", False),
        (404, "", True, "no_model", True),
        (422, "", False, "refused", False),
        (429, "", False, "rate_limit", False),
        (429, "insufficient_quota", True, "quota", True),
        (503, "", False, "server", False),
        (504, "", False, "timeout", False),
    ],
)
def test_statuses(status: int, text: str, answered: bool, kind: str, stops: bool) -> None:
    trouble = of_status(status, {}, text, answered)
    assert (trouble.kind, trouble.stops) == (kind, stops)


@pytest.mark.parametrize(
    ("raw", "data"),
    [(b'{"a": NaN}', {"a": None}), (b'["\\ud83d\\ude00"]', ["😀"]), (b'["\\ud83d"]', ["?"]), (b'["\\\\ud"]', ["\\ud"])],
)
def test_what_no_file_holds_is_replaced(raw: bytes, data: Any) -> None:
    assert parse(raw) == data


@pytest.mark.parametrize(
    ("form", "raw"),
    [
        (chat, "{}"), (chat, "[]"), (chat, "1"), (chat, '{"choices": []}'), (chat, '{"choices": [{}]}'),
        (chat, '{"choices": null}'), (chat, '{"choices": [{"message": "a"}]}'),
        (responses, "{}"), (responses, '{"status": "failed", "error": {}}'), (responses, '{"status": "completed"}'),
        (responses, '{"status": "completed", "output": [{}]}'), (chat, '{"choices": ' + "[" * 100_000),
    ],
)  # fmt: skip
def test_what_is_no_answer(form: Any, raw: str) -> None:
    with pytest.raises(BadAnswerError, match="no answer of"):
        read_answer(form, raw.encode())


TOKEN = {"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "a", "logprob": -0.1}]}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
WHOLE: list[tuple[Any, dict[str, Any]]] = [
    (
        chat,
        {
            "choices": [
                {"message": {"content": "a", "tool_calls": [CALL]}, "logprobs": {"content": [TOKEN]}},
                {"message": {"content": [{"text": "b"}]}, "finish_reason": "length"},
            ],
            "usage": {
                "prompt_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens": 7,
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
        },
    ),
    (
        responses,
        {
            "status": "completed",
            "output": [
                {"type": "message", "content": [{"type": "output_text", "text": "a", "logprobs": [TOKEN]}]},
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            ],
            "usage": {"input_tokens": 9, "output_tokens": 7},
        },
    ),
    (embeddings, {"data": [{"embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": 9}}),
    (
        Converse("m"),
        {
            "output": {"message": {"content": [{"text": "a"}, {"toolUse": {"name": "look", "input": {}}}]}},
            "usage": {"inputTokens": 9, "outputTokens": 7},
        },
    ),
]
"""Each form with an answer that has all its parts."""


def places(value: Any) -> list[tuple[Any, ...]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(), *((key, *rest) for key in keys for rest in places(value[key]))]


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = put(copy[place[0]], place[1:], new)
    return copy


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([10**400, -1, "12"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["token", "function", "a"]), inner),
    max_leaves=4,
)


@settings(deadline=None, max_examples=600)
@given(st.data())
def test_whatever_stands_in_an_answer_it_is_refused_or_can_be_kept(data: st.DataObject) -> None:
    form, answer = data.draw(st.sampled_from(WHOLE))
    raw = json.dumps(put(answer, data.draw(st.sampled_from(places(answer))), data.draw(ANYTHING))).encode()
    try:
        read = read_answer(form, raw)
    except BadAnswerError:
        return
    for output in outputs(["r", "s"], read, Timing(0.1), {"input": 1.0, "output": 2.0}):
        assert isinstance(output.text, str)
        for count in (output.prompt_tokens, output.output_tokens):
            assert count is None or (type(count) is int and 0 <= count < 2**31)
        assert output.cost is None or output.cost >= 0
        assert all(isinstance(entry["token"], str) for entry in output.logprobs)
        assert all(isinstance(call["function"]["name"], str) for call in output.tool_calls)


@pytest.mark.parametrize(
    ("told", "count"),
    [(12, 12), (12.0, 12), (0, 0), (-1, None), (1.5, None), ("12", None), (True, None), (2**40, None)],
)
def test_a_count_of_tokens_that_is_none_counts_as_not_told(told: Any, count: int | None) -> None:
    raw = json.dumps({"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": told}}).encode()
    assert read_answer(chat, raw).usage == Usage(prompt=count)


def test_fewer_answers_than_asked_for_bear_the_whole_bill() -> None:
    """Else what a call cost would be told in part, and a budget be passed by the rest."""
    body = {"choices": [{"message": {"content": "a"}}] * 2, "usage": {"prompt_tokens": 10, "completion_tokens": 8}}
    found = list(
        outputs(["r", "s", "t"], read_answer(chat, json.dumps(body).encode()), Timing(1), {"input": 1e6, "output": 0})
    )
    assert [o.request_id for o in found] == ["r", "s"]
    assert [sum(n or 0 for n in (o.prompt_tokens, o.output_tokens)) for o in found] == [9, 9]
    assert sum(o.cost or 0 for o in found) == pytest.approx(10)


def test_all_of_a_response_is_read() -> None:
    answer = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "model": "m-1",
        "output": [
            {"type": "reasoning", "summary": []},
            {
                "type": "message",
                "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}],
            },
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        ],
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 5},
        },
    }
    read = responses.read(answer)
    (choice,) = read.choices
    assert (choice.text, choice.finish, choice.refusal) == ("a", "length", "no")
    assert choice.tool_calls == [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    assert (read.usage.prompt, read.usage.cached, read.usage.output, read.usage.reasoning) == (9, 4, 7, 5)


@settings(deadline=None)
@given(st.lists(st.text(max_size=5), max_size=8), st.lists(st.text(max_size=5), max_size=4))
def test_a_chat_stream_is_what_would_have_come_whole(texts: list[str], arguments: list[str]) -> None:
    stream = chat.Stream()
    for text in texts:
        assert stream.feed({"model": "m", "choices": [{"delta": {"content": text}}]}) == text
    for number, part in enumerate(arguments):
        call = {"index": 0, "function": {"arguments": part}} | ({"id": "i"} if number == 0 else {})
        stream.feed({"choices": [{"delta": {"tool_calls": [call]}}]})
    with pytest.raises(CutError):
        stream.whole()
    stream.feed({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    stream.feed({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    read = chat.read(json.loads(json.dumps(stream.whole())))
    assert (read.choices[0].text, read.usage.prompt, read.model) == ("".join(texts), 1, "m" if texts else None)
    assert [call["function"]["arguments"] for call in read.choices[0].tool_calls] == ["".join(arguments)][
        : len(arguments)
    ]


@pytest.mark.parametrize("stream", [chat.Stream(), responses.Stream()])
def test_an_error_in_a_stream_is_told(stream: Any) -> None:
    with pytest.raises(BadAnswerError, match="overloaded"):
        stream.feed({"type": "error", "message": "overloaded", "error": {"message": "overloaded"}})
