"""Bedrock's Converse API, spoken with a server on this machine: what is sent, what comes of the answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from test_engine_turns import Pull

from workbench.engines import bedrock
from workbench.engines.bedrock import BedrockEngine, converse_body
from workbench.errors import ModelError
from workbench.records import Message, Model, Output, Part, Request

ANSWER = {
    "output": {"message": {"role": "assistant", "content": [
        {"text": "Looking."}, {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"at": "it"}}},
    ]}},
    "stopReason": "tool_use",
    "usage": {"inputTokens": 7, "outputTokens": 3},
}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}}}


class Server:
    """Answers in order, the last one again and again; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = [(200, ANSWER)]
        self.asked: list[tuple[str, dict[str, str], dict]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, dict(self.headers), body))
                status, answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                sent = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "k-1")
    monkeypatch.setattr(bedrock.time, "sleep", lambda seconds: None)
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def ask(server: Server, price: dict[str, float] | None = None) -> Output:
    engine = BedrockEngine(Model("m", "bedrock", {"model": "us.a.b-v1:0", "base_url": server.address}, price))
    (output,) = engine.generate(
        Pull(Request("r", "m", (Message.of("user", "Look"),), {"max_tokens": 5}, tools=(TOOL,)))
    )
    return output


def test_an_answer_with_a_tool_call(server: Server) -> None:
    output = ask(server, {"input": 1.0, "output": 2.0})
    assert (output.text, output.finish_reason, output.prompt_tokens, output.output_tokens) == (
        "Looking.",
        "tool_calls",
        7,
        3,
    )
    assert output.tool_calls == (
        {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}},
    )
    assert output.cost == pytest.approx(13e-6)
    ((path, head, body),) = server.asked
    assert path == "/model/us.a.b-v1%3A0/converse"
    assert head["Authorization"] == "Bearer k-1"
    assert body["inferenceConfig"] == {"maxTokens": 5}


@pytest.mark.parametrize(
    ("answers", "kind", "times"),
    [
        ([(429, {"message": "slow"}), (503, ""), (200, ANSWER)], None, 3),
        ([(500, "")], "server", 4),
        ([(400, {"message": "no such model"})], "bad_request", 1),
        ([(403, {"message": "denied"})], "refused", 1),
        ([(302, "")], "server", 1),
        ([(200, "{")], "bad_answer", 1),
        ([(200, {"output": {}})], "bad_answer", 1),
        ([(200, [])], "bad_answer", 1),
    ],
)
def test_failures(server: Server, answers: list, kind: str | None, times: int) -> None:
    server.answers = answers
    output = ask(server)
    assert (output.failure.kind if output.failure else None) == kind
    assert len(server.asked) == times
    assert "k-1" not in str(output)


@pytest.mark.parametrize(
    ("params", "tools", "key", "value"),
    [
        ({"stop": "x", "top_p": 0.5}, (), "inferenceConfig", {"stopSequences": ["x"], "topP": 0.5}),
        ({"tool_choice": "required"}, (TOOL,), "toolConfig", {"any": {}}),
        ({"tool_choice": {"function": {"name": "look"}}}, (TOOL,), "toolConfig", {"tool": {"name": "look"}}),
        ({"tool_choice": "none"}, (TOOL,), "toolConfig", None),
        ({}, (), "system", [{"text": "s"}]),
        ({}, (), "messages", [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}]),
    ],
)
def test_what_is_sent(params: dict, tools: tuple, key: str, value: object) -> None:
    said = (Message.of("system", "s"), Message.of("user", "a"), Message.of("user", "b"))
    sent = converse_body(Request("r", "m", said, params, tools=tools)).get(key)
    if key == "toolConfig" and sent:
        assert sent["tools"] == [
            {"toolSpec": {"name": "look", "description": "looks", "inputSchema": {"json": {"type": "object"}}}}
        ]
        sent = sent["toolChoice"]
    assert sent == value


def test_images_are_refused() -> None:
    with pytest.raises(ModelError, match="more than text"):
        converse_body(Request("r", "m", (Message("user", (Part("image", "data:image/png;base64,AA"),)),)))


@pytest.mark.parametrize(
    ("settings", "key", "problem"),
    [
        ({}, "k", "needs a `model`"),
        ({"model": "a.b"}, "", "set the environment variable AWS_BEARER_TOKEN_BEDROCK"),
        ({"model": "a.b", "region": "x/y"}, "k", "region"),
        ({"model": "a.b", "base_url": "http://example.org"}, "k", "in the open"),
        ({"model": "a.b", "base_url": "http://localhost.example.org"}, "k", "in the open"),
        ({"model": "a.b", "regoin": "x"}, "k", "unknown setting 'regoin'; did you mean 'region'"),
    ],
)
def test_wrong_settings(monkeypatch: pytest.MonkeyPatch, settings: dict, key: str, problem: str) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
    with pytest.raises(ModelError) as caught:
        BedrockEngine(Model("m", "bedrock", settings))
    assert problem in str(caught.value)


def test_a_parameter_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "k")
    engine = BedrockEngine(Model("m", "bedrock", {"model": "a.b"}))
    assert engine.describe() == {"address": "https://bedrock-runtime.us-east-1.amazonaws.com"}
    with pytest.raises(ModelError, match="knows no parameter 'logit_bias'"):
        engine.check_params({"logit_bias": {}})
