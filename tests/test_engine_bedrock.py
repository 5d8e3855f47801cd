"""Bedrock's Converse API, spoken with a server on this machine: what is sent, what comes of the answers."""

from __future__ import annotations

import json
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from doubles.asking import ask, pieces

from workbench.engines import converse
from workbench.engines.bedrock import BedrockEngine
from workbench.engines.converse import Converse
from workbench.engines.openai import limiter
from workbench.engines.openai.hosts import Host
from workbench.errors import EngineError, ModelError
from workbench.models import with_price
from workbench.records import Message, Model, Output, Part, Request

ANSWER = {
    "output": {"message": {"role": "assistant", "content": [
        {"text": "Looking."}, {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"at": "it"}}},
    ]}},
    "stopReason": "tool_use",
    "usage": {"inputTokens": 7, "outputTokens": 3},
}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}}}


PNG = "data:image/png;base64,AAAA"


def frame(kind: str, told: object, about: str = "event") -> bytes:
    """A message of AWS's event stream (https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html): lengths of
    the whole and of its headers, their CRC-32, headers, payload, CRC-32 of all before."""
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in ((f":{about}-type", kind), (":message-type", about))
    )
    payload = json.dumps(told).encode()
    start = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    start += struct.pack(">I", zlib.crc32(start))
    return start + headers + payload + struct.pack(">I", zlib.crc32(start + headers + payload))


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
                given = answer.encode() if isinstance(answer, str) else answer
                sent = given if isinstance(given, bytes) else json.dumps(given).encode()
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
    monkeypatch.setattr(limiter, "BACKOFF", 0.01)
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def engine(server: Server, price: dict[str, float] | None = None, /, **settings: Any) -> BedrockEngine:
    chosen = {"model": "us.a.b-v1:0", "base_url": server.address, **settings}
    return BedrockEngine(Model("m", "bedrock", chosen, price, {"retries": 3}))


def look(**fields: Any) -> Request:
    return Request("r", "m", (Message.of("user", "Look"),), {"max_tokens": 5}, tools=(TOOL,), **fields)


def test_an_answer_with_a_tool_call(server: Server) -> None:
    (output,) = ask(engine(server, {"input": 1.0, "output": 2.0}), look())
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
    assert path == "/model/us.a.b-v1:0/converse"
    assert {name.lower(): value for name, value in head.items()}["authorization"] == "Bearer k-1"
    assert body["inferenceConfig"] == {"maxTokens": 5}


STREAM = (
    frame("messageStart", {"role": "assistant"}),
    frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Look"}}),
    frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "ing."}}),
    frame("contentBlockStop", {"contentBlockIndex": 0}),
    frame("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "look"}}}),
    frame("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"at": '}}}),
    frame("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '"it"}'}}}),
    frame("messageStop", {"stopReason": "tool_use"}),
    frame("metadata", {"usage": {"inputTokens": 7, "outputTokens": 3}, "metrics": {"latencyMs": 9}}),
)


def test_a_stream_gives_the_same_answer_and_the_time_of_its_first_token(server: Server) -> None:
    (whole,) = ask(engine(server), look())
    server.answers = [(200, b"".join(STREAM))]
    texts, streamed = pieces(engine(server), look(stream=True))
    assert texts == ["Look", "ing."]
    assert server.asked[-1][0] == "/model/us.a.b-v1:0/converse-stream"
    assert server.asked[-1][2] == server.asked[0][2]
    assert whole.first_token_seconds is None
    assert 0 < streamed.first_token_seconds <= streamed.seconds
    for name in ("text", "finish_reason", "prompt_tokens", "output_tokens", "tool_calls"):
        assert getattr(streamed, name) == getattr(whole, name)
    (told,) = ask(engine(server, stream=True), look())
    assert told.first_token_seconds is not None


@pytest.mark.parametrize(
    ("body", "kind", "problem"),
    [
        (b"".join(STREAM[:3]), "connection", "ended before"),
        (STREAM[1][:-1] + b"x", "bad_answer", "no event stream"),
        (STREAM[0] + frame("throttlingException", {"message": "slow"}, "exception"), "bad_answer", "slow"),
        (frame("messageStart", ["odd"]), "bad_answer", "no event"),
    ],
)
def test_broken_streams(server: Server, body: bytes, kind: str, problem: str) -> None:
    server.answers = [(200, body)]
    (output,) = ask(engine(server, stream=True), look())
    assert (output.failure.kind, len(server.asked)) == (kind, 4)
    assert problem in output.failure.message


def test_without_botocore_calls_come_whole(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converse, "find_spec", lambda name: None)
    texts, output = pieces(engine(server), look(stream=True))
    assert (texts, output.text) == ([], "Looking.")
    with pytest.raises(ModelError, match=r"needs botocore.*prompt-workbench\[bedrock\]"):
        engine(server, stream=True)


def test_a_signed_call(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives has the signature that botocore makes of what arrived."""
    for name, value in (("AWS_ACCESS_KEY_ID", "AK1"), ("AWS_SECRET_ACCESS_KEY", "s-1"), ("AWS_SESSION_TOKEN", "t-1")):
        monkeypatch.setenv(name, value)
    (output,) = ask(engine(server, sign=True, region="eu-west-1"), look())
    assert output.text == "Looking."
    ((path, head, body),) = server.asked
    lower = {name.lower(): value for name, value in head.items()}
    signed = AWSRequest(
        "POST", server.address + path, {"Content-Type": "application/json"}, json.dumps(body, separators=(",", ":"))
    )
    signed.context["timestamp"] = lower["x-amz-date"]
    signer = SigV4Auth(Credentials("AK1", "s-1", "t-1"), "bedrock", "eu-west-1")
    signed.headers["X-Amz-Date"] = lower["x-amz-date"]
    signed.headers["X-Amz-Security-Token"] = "t-1"
    signature = signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed)
    assert lower["authorization"].startswith(
        f"AWS4-HMAC-SHA256 Credential=AK1/{lower['x-amz-date'][:8]}/eu-west-1/bedrock/aws4_request"
    )
    assert lower["authorization"].endswith(f"Signature={signature}")
    server.answers = [(400, {"message": "no t-1 here"})]
    (output,) = ask(engine(server, sign=True), look())
    assert "t-1" not in str(output)


@pytest.mark.parametrize(
    ("answers", "kind", "times"),
    [
        ([(429, {"message": "slow"}), (503, ""), (200, ANSWER)], None, 3),
        ([(500, "")], "server", 4),
        ([(400, {"message": "no such thing"})], "refused", 1),
        ([(400, {"message": "Input is too long for requested model."})], "too_long", 1),
        ([(200, "{")], "bad_answer", 4),
        ([(200, {"output": {}})], "bad_answer", 4),
        ([(200, [])], "bad_answer", 4),
    ],
)
def test_failures(server: Server, answers: list, kind: str | None, times: int) -> None:
    server.answers = answers
    (output,) = ask(engine(server), look())
    assert (output.failure.kind if output.failure else None) == kind
    assert len(server.asked) == times
    assert "k-1" not in str(output)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((403, {"message": "the key k-1 is denied"}), "refuses the key (AWS_BEARER_TOKEN_BEDROCK)"),
        ((404, {"message": "gone"}), "knows no model 'us.a.b-v1:0'"),
        ((302, ""), "redirects to /elsewhere"),
    ],
)
def test_what_ends_a_run(server: Server, answer: tuple, problem: str) -> None:
    server.answers = [answer]
    with pytest.raises(EngineError) as caught:
        ask(engine(server), look())
    assert problem in str(caught.value)
    assert "k-1" not in str(caught.value)
    assert len(server.asked) == 1


def test_the_name_of_a_profile_is_one_step_of_the_path(server: Server) -> None:
    ask(engine(server, model="arn:aws:bedrock:us-east-1:1:inference-profile/p.1"), look())
    assert server.asked[0][0] == "/model/arn:aws:bedrock:us-east-1:1:inference-profile%2Fp.1/converse"


def test_many_calls_go_at_once_and_the_limit_is_told(server: Server) -> None:
    asked = engine(server)
    outputs: list[Output] = ask(asked, *(Request(f"r{i}", "m", (Message.of("user", "hi"),)) for i in range(20)))
    assert {output.request_id for output in outputs} == {f"r{i}" for i in range(20)}
    assert asked.work()["answers"] == 20
    assert asked.history()[0].reason == "start"


def body_of(request: Request) -> dict[str, Any]:
    return Converse("m").body("m", Host(), request)


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
    sent = body_of(Request("r", "m", said, params, tools=tools)).get(key)
    if key == "toolConfig" and sent:
        assert sent["tools"] == [
            {"toolSpec": {"name": "look", "description": "looks", "inputSchema": {"json": {"type": "object"}}}}
        ]
        sent = sent["toolChoice"]
    assert sent == value


def test_images_and_schemas_are_sent() -> None:
    said = (Message("user", (Part("text", "What is it?"), Part("image", PNG))),)
    sent = body_of(Request("r", "m", said, answer={"schema": {"type": "object"}}))
    image = {"image": {"format": "png", "source": {"bytes": "AAAA"}}}
    assert sent["messages"] == [{"role": "user", "content": [{"text": "What is it?"}, image]}]
    form = sent["outputConfig"]["textFormat"]
    assert form == {
        "type": "json_schema", "structure": {"jsonSchema": {"name": "answer", "schema": '{"type": "object"}'}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Message("user", (Part("image", "data:image/tiff;base64,AA"),)), "give it a PNG, JPEG, GIF or WebP file"),
        (Message.of("tool", "x"), "role 'tool'"),
    ],
)
def test_what_bedrock_can_not_be_sent(message: Message, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        body_of(Request("r", "m", (message,)))


@pytest.mark.parametrize(
    ("settings", "key", "problem"),
    [
        ({}, "k", "set `model`"),
        ({"model": "a.b"}, "", "set the environment variable AWS_BEARER_TOKEN_BEDROCK"),
        ({"model": "a.b", "region": "x/y"}, "k", "region"),
        ({"model": "a.b", "base_url": "http://example.org"}, "k", "begin with https://"),
        ({"model": "a.b", "base_url": "http://localhost.example.org"}, "k", "begin with https://"),
        ({"model": "a.b", "base_url": "https://me:pw@example.org"}, "k", "without a password"),
        ({"model": "a.b", "sign": True}, "k", "there are no AWS credentials"),
        ({"model": "a.b", "sign": True, "api_key_env": "X"}, "k", "not both"),
        ({"model": "a.b", "regoin": "x"}, "k", "unknown setting 'regoin'; did you mean 'region'"),
    ],
)
def test_wrong_settings(monkeypatch: pytest.MonkeyPatch, settings: dict, key: str, problem: str) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ModelError) as caught:
        BedrockEngine(Model("m", "bedrock", settings))
    assert problem in str(caught.value)


def test_a_parameter_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "k")
    engine = BedrockEngine(Model("m", "bedrock", {"model": "a.b"}))
    assert engine.describe()["address"] == "https://bedrock-runtime.us-east-1.amazonaws.com"
    with pytest.raises(ModelError, match="knows no parameter 'logit_bias'"):
        engine.check_params({"logit_bias": {}})


def test_a_price_of_the_table() -> None:
    known = with_price(Model("m", "bedrock", {"model": "us.anthropic.claude-sonnet-4-20250514-v1:0"}))
    assert known.price is not None and known.price["input"] > 0
    assert with_price(Model("m", "bedrock", {"model": "no-such-model-x"})).price is None
