"""An OpenAI-compatible server on the loopback interface, with faults on demand and counted calls."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fault:
    """What goes wrong with a call."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Instead of the answer."""
    reset: bool = False
    """The connection is torn before the answer, or, in a stream, in its middle."""
    slow: float = 0.0
    """Seconds before the answer's body."""
    times: int = 1_000_000
    """So many calls, then all is well."""


@dataclass
class Script:
    """How the server behaves, and what it saw."""

    answer: Callable[[dict[str, Any]], str] = lambda body: str(body["messages"][-1]["content"])
    faults: dict[str, Fault] = field(default_factory=dict)
    """By the last message's text; `*` for every call."""
    key: str | None = None
    """Calls without it get a 401 that repeats what was sent."""
    model: str = "m"
    delay: float = 0.0
    """Seconds that every answer takes."""
    most_at_once: int | None = None
    """More calls at a time get a 429."""
    address: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Names in lower case."""
    calls: Counter[str] = field(default_factory=Counter)
    """By the last message's text."""
    busy: int = 0
    busiest: int = 0
    """The most calls that were under way at one time."""
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def openai_server(script: Script | None = None) -> Iterator[Script]:
    """Serves until the block ends; `script.address` is the base URL."""
    script = script or Script()

    class Handler(_Handler):
        told = script

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.address = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    told: Script

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": self.told.model, "object": "model"}]})

    def do_POST(self) -> None:
        script = self.told
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = str(body["messages"][-1]["content"])
        with script.lock:
            script.bodies.append(body)
            script.headers.append({name.lower(): value for name, value in self.headers.items()})
            script.calls[question] += 1
            script.busy += 1
            script.busiest = max(script.busiest, script.busy)
            crowded = script.most_at_once is not None and script.busy > script.most_at_once
            fault = script.faults.get(question, script.faults.get("*", Fault()))
            fault.times -= 1
        try:
            time.sleep(script.delay)
            self._respond(body, Fault(429) if crowded else fault if fault.times >= 0 else Fault())
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with script.lock:
                script.busy -= 1

    def _respond(self, body: dict[str, Any], fault: Fault) -> None:
        script, sent = self.told, self.headers.get("Authorization", "")
        if script.key is not None and sent != f"Bearer {script.key}":
            self._error(401, f"Incorrect API key provided: {sent.removeprefix('Bearer ')}", {})
        elif body["model"] != script.model:
            self._error(404, f"The model `{body['model']}` does not exist", {})
        elif fault.status != 200:
            self._error(fault.status, f"scripted {fault.status} {sent}", fault.headers)
        elif body.get("stream"):
            self._stream(body, fault)
        elif fault.reset:
            self._reset()
        elif fault.body is not None:
            self._send(200, fault.body, {}, fault.slow)
        else:
            self._json(200, _answer(body, script.answer(body)), fault.slow)

    def _stream(self, body: dict[str, Any], fault: Fault) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        whole = _answer(body, self.told.answer(body))
        common = {"id": "c", "object": "chat.completion.chunk", "model": body["model"], "system_fingerprint": "fp"}
        words = whole["choices"][0]["message"]["content"].split(" ")
        for count, word in enumerate(words):
            self._event({**common, "choices": [{"index": 0, "delta": {"content": " " * (count > 0) + word}}]})
            time.sleep(fault.slow)
            if fault.reset:
                self._reset()
                return
        self._event({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({**common, "choices": [], "usage": whole["usage"]})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, data: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _error(self, status: int, message: str, headers: dict[str, str]) -> None:
        body = json.dumps({"error": {"message": message, "type": "scripted", "code": None}}).encode()
        self._send(status, body, headers, 0)

    def _json(self, status: int, data: dict[str, Any], slow: float = 0) -> None:
        self._send(status, json.dumps(data).encode(), {}, slow)

    def _send(self, status: int, body: bytes, headers: dict[str, str], slow: float) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.flush()
        time.sleep(slow)
        self.wfile.write(body)


def _answer(body: dict[str, Any], text: str) -> dict[str, Any]:
    words = text.split()
    most = body.get("max_tokens", body.get("max_completion_tokens", len(words)))
    message: dict[str, Any] = {"role": "assistant", "content": text if most >= len(words) else " ".join(words[:most])}
    choice: dict[str, Any] = {
        "index": 0,
        "message": message,
        "finish_reason": "stop" if most >= len(words) else "length",
    }
    if body.get("tools"):
        called = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
        message |= {"content": None, "tool_calls": [{"id": "t1", "type": "function", "function": called}]}
        choice["finish_reason"] = "tool_calls"
    if body.get("logprobs"):
        top = [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -2.5}][: body["top_logprobs"]]
        choice["logprobs"] = {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": top}]}
    asked = sum(len(str(message["content"]).split()) for message in body["messages"])
    usage = {"prompt_tokens": asked, "completion_tokens": min(most, len(words))}
    return {
        "id": "c",
        "object": "chat.completion",
        "model": body["model"],
        "system_fingerprint": "fp",
        "choices": [choice],
        "usage": usage,
    }
