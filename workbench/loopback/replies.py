"""From a call to the bytes of its answer, whole or as a stream of events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.loopback import shapes
from workbench.loopback.answers import Asked, BadCallError, answer, read_chat, read_response
from workbench.loopback.books import Call
from workbench.loopback.limits import Refusal, wait_headers
from workbench.loopback.script import Fault, Script
from workbench.records import EMPTY, Json

CHAT, RESPONSES, EMBEDDINGS = "/chat/completions", "/responses", "/embeddings"
_READ: Mapping[str, Callable[[Mapping[str, Any], str, int], Asked]] = {CHAT: read_chat, RESPONSES: read_response}


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes out."""

    pieces: tuple[bytes, ...]
    """The body, or the events of a stream."""
    status: int = 200
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    tokens: int = 0
    """What counts against a limit of tokens a minute."""

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def reply_to(script: Script, call: Call) -> Reply:
    """The answer to a call on which nothing goes wrong; a bad call gets its error."""
    try:
        _check(script, call)
        if call.path == EMBEDDINGS:
            body = shapes.embeddings(call.body, script.dimensions)
            return whole(body, tokens=body["usage"]["total_tokens"])
        asked = _READ[call.path](call.body, call.digest, call.time)
        if script.max_context is not None and asked.prompt_tokens > script.max_context:
            raise BadCallError(
                f"This model's maximum context length is {script.max_context} tokens. However, your messages "
                f"resulted in {asked.prompt_tokens} tokens. Please reduce the length of the messages.",
                "messages",
                "context_length_exceeded",
            )
        return _answered(script, call, asked)
    except BadCallError as problem:
        body = shapes.error(problem.message, "invalid_request_error", problem.code, problem.param)
        return whole(body, status=problem.status)


def _check(script: Script, call: Call) -> None:
    name = call.body.get("model")
    if script.models and name not in script.models:
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise BadCallError(message, None, "model_not_found", 404)
    for param in script.refuse_params:
        if param in call.body:
            message = f"Unsupported parameter: '{param}' is not supported with this model."
            raise BadCallError(message, param, "unsupported_parameter")


def _answered(script: Script, call: Call, asked: Asked) -> Reply:
    answers = [answer(script, asked, choice) for choice in range(asked.n)]
    said = shapes.output_tokens(script, asked, answers)
    tokens = asked.prompt_tokens + (said if asked.most is None else asked.most * asked.n)
    if call.path == RESPONSES:
        if call.body.get("stream"):
            return Reply(_named(shapes.response_events(script, asked, answers[0])), stream=True, tokens=tokens)
        return whole(shapes.response(script, asked, answers[0]), tokens=tokens)
    if call.body.get("stream"):
        usage = bool((call.body.get("stream_options") or {}).get("include_usage"))
        return Reply(_events(shapes.chat_chunks(script, asked, answers, usage)), stream=True, tokens=tokens)
    return whole(shapes.chat(script, asked, answers), tokens=tokens)


def whole(body: Json, *, status: int = 200, tokens: int = 0, headers: Mapping[str, str] = EMPTY) -> Reply:
    return Reply((_dump(body),), status, headers=headers, tokens=tokens)


def no_key(sent: str) -> Reply:
    """Repeats the key in full, which OpenAI does not: so a key that leaks into a message is seen."""
    if not sent:
        return whole(shapes.error("You didn't provide an API key.", "invalid_request_error"), status=401)
    message = f"Incorrect API key provided: {sent}. You can find your API key in the script."
    return whole(shapes.error(message, "invalid_request_error", "invalid_api_key"), status=401)


def refused(call: Call, refusal: Refusal) -> Reply:
    """A 429 in OpenAI's words."""
    unit = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}.get(refusal.what, "calls at a time")
    message = (
        f"Rate limit reached for {call.body.get('model')} in organization org-loopback on {unit}: "
        f"Limit {refusal.limit:.0f}, Used {refusal.used:.0f}, Requested {refusal.asked:.0f}. "
        f"Please try again in {refusal.seconds * 1000:.0f}ms."
    )
    return whole(
        shapes.error(message, refusal.what, "rate_limit_exceeded"), status=429, headers=wait_headers(refusal.seconds)
    )


def faulty(fault: Fault, call: Call, reply: Reply, path: str) -> Reply:
    """What a fault puts in the place of a reply; one that breaks the connection leaves it as it is."""
    if fault.kind == "status":
        kind = fault.code or ("server_error" if fault.status >= 500 else "invalid_request_error")
        message = f"scripted {fault.status} (sent: {call.headers.get('authorization', 'no key')})"
        return whole(shapes.error(message, kind, fault.code or None), status=fault.status, headers=fault.headers)
    if fault.kind == "redirect":
        status = fault.status if 300 <= fault.status < 400 else 307
        return Reply((b"",), status, headers={"location": fault.location.rstrip("/") + path})
    if fault.kind == "body":
        return Reply((fault.body.encode(),), headers=fault.headers)
    if fault.kind == "not_json":
        return Reply((reply.pieces[0][: len(reply.pieces[0]) // 2],), stream=reply.stream)
    if fault.kind == "no_choices":
        if reply.stream:
            return Reply((b"data: [DONE]\n\n",), stream=True)
        return whole(json.loads(reply.body) | {"choices": [], "output": []})
    return reply


def _events(chunks: Iterable[Json]) -> tuple[bytes, ...]:
    return (*(b"data: " + _dump(chunk) + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n")


def _named(events: Iterable[Json]) -> tuple[bytes, ...]:
    return tuple(f"event: {event['type']}\ndata: ".encode() + _dump(event) + b"\n\n" for event in events)


def _dump(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
