"""The OpenAI-compatible engine, against a real server on the loopback interface."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from doubles.asking import Row, ask, pieces, user
from doubles.openai_server import Fault, Script, openai_server

from workbench.engines.openai_http import OpenAIEngine
from workbench.errors import EngineError, ModelError
from workbench.records import Message, Model, Output, Part, Request

KEY = "sk-very-secret-1234567890"


@pytest.fixture
def server() -> Iterator[Script]:
    with openai_server() as script:
        yield script


def engine(server: Script, limits: dict[str, object] | None = None, **settings: object) -> OpenAIEngine:
    chosen = {"model": "m", "base_url": server.address, **settings}
    return OpenAIEngine(Model("house", "openai", chosen, {"input": 1.0, "output": 2.0}, limits or {"retries": 0}))


def test_an_answer_with_all_that_comes_with_it(server: Script) -> None:
    params = {"max_tokens": 2, "top_k": 5}
    (output,) = ask(engine(server), user("one two three", params=params, seed=2**40 + 7, logprobs=2))
    assert (output.text, output.finish_reason, output.prompt_tokens, output.output_tokens) == (
        "one two",
        "length",
        3,
        2,
    )
    assert output.cost == pytest.approx((3 * 1 + 2 * 2) / 1e6)
    assert output.extra == {"model": "m", "system_fingerprint": "fp"}
    assert output.logprobs == ({"token": "a", "logprob": -0.1, "top": [["a", -0.1], ["b", -2.5]]},)
    assert output.seconds is not None and 0 < output.seconds < 5
    assert server.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "one two three"}],
            "seed": 7,
            "logprobs": True,
            "top_logprobs": 2,
            **params,
        }
    ]


def test_schema_tools_and_images_are_sent(server: Script) -> None:
    parts = (Part("text", "see"), Part("image", "data:image/png;base64,AA=="))
    tool = {"kind": "function", "name": "look", "parameters": {"type": "object"}}
    asked = Request("r", "m", (Message("user", parts),), tools=(tool,), answer={"schema": {"type": "object"}})
    (output,) = ask(engine(server), asked)
    (body,) = server.bodies
    assert (output.finish_reason, output.tool_calls[0]["function"]["name"], output.text) == ("tool_calls", "look", "")
    assert body["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": parts[1].value}}
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["tools"] == [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def test_streaming(server: Script) -> None:
    words, output = pieces(engine(server), user("one two three", stream=True))
    assert (words, output.text, output.finish_reason) == (["one", " two", " three"], "one two three", "stop")
    assert (output.prompt_tokens, output.output_tokens, output.extra["system_fingerprint"]) == (3, 3, "fp")
    assert output.first_token_seconds is not None and output.seconds is not None
    assert output.first_token_seconds <= output.seconds


@pytest.mark.parametrize(
    ("fault", "kind", "retry", "part"),
    [
        (Fault(400), "refused", False, "scripted 400"),
        (Fault(403), "auth", False, "scripted 403"),
        (Fault(429), "rate_limit", True, "scripted 429"),
        (Fault(500), "server", True, "scripted 500"),
        (Fault(reset=True), "connection", True, "Connection error"),
        (Fault(body=b"<html>hello"), "bad_answer", True, "<html>hello"),
        (Fault(body=b"{}"), "bad_answer", True, "no chat completion: '{}'"),
        (Fault(body=b'{"choices": []}'), "bad_answer", True, "no chat completion"),
        (Fault(slow=1.0), "timeout", True, "no answer within 0.2 s"),
    ],
)
def test_failures(server: Script, fault: Fault, kind: str, retry: bool, part: str) -> None:
    server.faults["bad"] = fault
    outputs = ask(engine(server, {"retries": 0, "timeout": 0.2}), user("bad", "1"), user("good", "2"))
    failures = {output.request_id: output.failure for output in outputs}
    assert failures["2"] is None
    assert failures["1"] is not None
    assert (failures["1"].kind, failures["1"].retry) == (kind, retry)
    assert part in failures["1"].message and "\n" not in failures["1"].message


def test_a_stream_that_breaks_is_a_failure(server: Script) -> None:
    server.faults["a b"] = Fault(reset=True)
    words, output = pieces(engine(server), user("a b", stream=True))
    assert words in ([], ["a"])
    assert output.failure is not None and (output.failure.kind, output.failure.retry) == ("connection", True)


@pytest.mark.parametrize(
    "fault", [Fault(429, {"Retry-After": "0.01"}, times=2), Fault(503, {"retry-after-ms": "10"}, times=1)]
)
def test_overload_is_tried_again(server: Script, fault: Fault) -> None:
    server.faults["busy"], times = fault, fault.times
    (output,) = ask(engine(server, {"retries": 3}), user("busy"))
    assert output.text == "busy" and server.calls["busy"] == times + 1
    assert output.seconds is not None and output.seconds < 1, "the call that answered alone"


@pytest.mark.parametrize("server_key", [None, KEY])
def test_the_key_is_sent_and_never_told(
    server: Script, server_key: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOUSE_KEY", KEY)
    server.key, server.faults["bad"] = server_key, Fault(400)
    (output,) = ask(engine(server, api_key_env="HOUSE_KEY"), user("bad"))
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert output.failure is not None and "[key]" in output.failure.message
    assert KEY not in repr(output) + caplog.text + repr(engine(server, api_key_env="HOUSE_KEY").describe())


def test_a_refused_key_ends_everything_and_is_not_told(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", KEY)
    server.key = "another"
    with pytest.raises(EngineError, match=r"refuses the key \(HOUSE_KEY\)") as caught:
        ask(engine(server, api_key_env="HOUSE_KEY"), *(user("a", str(i)) for i in range(20)))
    assert KEY not in str(caught.value) and "[key]" in str(caught.value)


def test_an_unknown_model_ends_everything(server: Script) -> None:
    with pytest.raises(EngineError, match="knows no model 'other'"):
        ask(engine(server, model="other"), user("a"))


def test_redirects_are_not_followed(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", KEY)
    with openai_server() as other:
        server.faults["*"] = Fault(307, {"Location": f"{other.address}/chat/completions"})
        with pytest.raises(EngineError, match=f"redirects to {other.address}"):
            ask(engine(server, api_key_env="HOUSE_KEY"), user("a"))
        assert not other.headers


@pytest.mark.parametrize(
    ("settings", "limits", "message"),
    [
        ({}, {}, "set `model`"),
        ({"model": "m"}, {}, "environment variable OPENAI_API_KEY"),
        ({"model": "m", "base_url": "http://127.0.0.1:1", "api_key_env": "NIX"}, {}, "environment variable NIX"),
        ({"model": "m", "api_key": KEY}, {}, "unknown setting 'api_key'; did you mean 'api_key_env'?"),
        ({"model": "m"}, {"concurency": 1}, "unknown limit 'concurency'; did you mean 'concurrency'?"),
    ],
)
def test_wrong_settings(settings: dict[str, object], limits: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        OpenAIEngine(Model("a", "openai", settings, limits=limits))
    assert KEY not in str(caught.value)


def test_openai_itself_gets_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    official = OpenAIEngine(Model("a", "openai", {"model": "m"}))
    call = official._call(user("a", params={"max_tokens": 3}, seed=1))
    assert call["extra_body"] == {"max_completion_tokens": 3}
    assert not official.capabilities.seeds


def test_the_key_of_openai_goes_to_no_other_address(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(engine(server), user("a"))
    assert KEY not in repr(server.headers)


@pytest.mark.parametrize("name", ["model", "messages", "n"])
def test_what_is_no_parameter_is_refused(server: Script, name: str) -> None:
    with pytest.raises(ModelError, match=f"'{name}' is no sampling parameter"):
        engine(server).check_params({name: 1})


def test_raw_text_is_refused(server: Script) -> None:
    (output,) = ask(engine(server), Request("r", "m", (Message.of("raw", "a"),)))
    assert output.failure is not None and output.failure.kind == "refused"


def test_calls_run_at_the_same_time_and_no_more_than_allowed(server: Script) -> None:
    server.delay = 0.05
    outputs = ask(engine(server, {"concurrency": 4}), *(user(f"q{i}", str(i)) for i in range(16)))
    assert sorted(int(output.request_id) for output in outputs) == list(range(16))
    assert server.busiest == 4


def test_calls_a_minute_are_kept(server: Script) -> None:
    started = time.monotonic()
    ask(engine(server, {"requests_per_minute": 600}), *(user(f"q{i}", str(i)) for i in range(4)))
    assert time.monotonic() - started >= 0.3


def test_cancelled_calls_end_at_once(server: Script) -> None:
    server.delay = 0.3
    row = Row([user("a", "1"), user("b", "2")], cancel=lambda: {"1"})
    ended = [
        (o.request_id, o.failure.kind if o.failure else "")
        for o in engine(server).generate(row)
        if isinstance(o, Output)
    ]
    assert ended == [("1", "cancelled"), ("2", "")]


def test_closing_early_gives_everything_back(server: Script) -> None:
    server.delay = 0.2
    server.faults["fast"] = Fault(400)
    answers = engine(server).generate(Row([user("a", "1"), user("fast", "2"), user("c", "3")]))
    next(answers)
    answers.close()
