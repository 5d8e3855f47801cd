"""The responses API (https://platform.openai.com/docs/api-reference/responses); nothing is kept on the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.engines.openai.hosts import Host
from workbench.engines.openai.wire import (
    Answer,
    BadAnswerError,
    Choice,
    CutError,
    Usage,
    function_of,
    server_sent,
    tool_call,
)
from workbench.errors import ModelError
from workbench.records import Json, Message, Request

PATH = STREAM_PATH = "/responses"
REFUSED = frozenset(("frequency_penalty", "logit_bias", "presence_penalty", "response_format", "seed", "stop"))
events = server_sent
_CUT = {"max_output_tokens": "length", "content_filter": "content_filter"}


def body(model: str, host: Host, request: Request) -> dict[str, Json]:
    """What is sent; raises ModelError for what the API can't take."""
    sent: dict[str, Json] = {"model": model, "input": [_message(m) for m in request.messages], "store": False}
    sent |= request.params
    if "max_tokens" in sent:
        sent["max_output_tokens"] = sent.pop("max_tokens")
    if "reasoning_effort" in sent:
        sent["reasoning"] = {"effort": sent.pop("reasoning_effort")}
    if request.logprobs:
        sent |= {"include": ["message.output_text.logprobs"], "top_logprobs": request.logprobs}
    if "schema" in request.answer:
        form = {"type": "json_schema", "name": "answer", "schema": request.answer["schema"], "strict": True}
        sent["text"] = {"format": form}
    if request.tools:
        sent["tools"] = [{"type": "function", **function_of(tool)} for tool in request.tools]
    return sent


def streaming(body: dict[str, Json]) -> dict[str, Json]:
    """… which tells the tokens without being asked."""
    return {**body, "stream": True}


def read(answer: Mapping[str, Any]) -> Answer:
    """Raises LookupError, TypeError, AttributeError or ValueError where it is none, or says that it failed."""
    if answer["status"] not in ("completed", "incomplete"):
        raise ValueError(answer.get("error"))
    usage = answer.get("usage") or {}
    content = [part for item in answer["output"] if item["type"] == "message" for part in item["content"]]
    texts = [part for part in content if part["type"] == "output_text"]
    calls = [
        tool_call(item.get("call_id"), item["name"], item["arguments"])
        for item in answer["output"]
        if item["type"] == "function_call"
    ]
    finish = _CUT.get((answer.get("incomplete_details") or {}).get("reason") or "", "tool_calls" if calls else "stop")
    choice = Choice(
        "".join(part["text"] for part in texts),
        finish,
        [entry for part in texts for entry in part.get("logprobs") or ()],
        calls,
        "".join(part["refusal"] for part in content if part["type"] == "refusal") or None,
    )
    told = Usage(
        usage.get("input_tokens"),
        usage.get("output_tokens"),
        (usage.get("output_tokens_details") or {}).get("reasoning_tokens"),
        (usage.get("input_tokens_details") or {}).get("cached_tokens"),
    )
    return Answer([choice], told, answer.get("model"))


class Stream:
    """Waits for the event that holds the whole answer; see `wire.Stream`."""

    def __init__(self) -> None:
        self._whole: Mapping[str, Any] | None = None

    def feed(self, event: Mapping[str, Any]) -> str:
        kind = event.get("type")
        if kind == "error":
            raise BadAnswerError(f"the stream ended with an error: {event.get('message')}")
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self._whole = event["response"]
        return str(event.get("delta") or "") if kind == "response.output_text.delta" else ""

    def whole(self) -> Mapping[str, Any]:
        if self._whole is None:
            raise CutError("the stream ended before the answer did")
        return self._whole


def _message(message: Message) -> Json:
    if message.role == "raw":
        raise ModelError("a hosted chat model takes messages, not a raw text; write role markers in the prompt")
    if all(part.kind == "text" for part in message.parts):
        return {"role": message.role, "content": message.text}
    content = [
        {"type": "input_image", "image_url": part.value}
        if part.kind == "image"
        else {"type": "input_text", "text": part.value}
        for part in message.parts
    ]
    return {"role": message.role, "content": content}
