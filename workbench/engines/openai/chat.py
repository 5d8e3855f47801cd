"""Chat completions (https://platform.openai.com/docs/api-reference/chat)."""

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

PATH = STREAM_PATH = "/chat/completions"
REFUSED: frozenset[str] = frozenset()
events = server_sent
_FINISH = {"length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}
_FINISH |= {"content_filter": "content_filter"}


def body(model: str, host: Host, request: Request) -> dict[str, Json]:
    """What is sent; raises ModelError for what the API can't take."""
    sent: dict[str, Json] = {"model": model, "messages": [_message(m) for m in request.messages], **request.params}
    if "max_tokens" in sent:
        sent[host.max_tokens] = sent.pop("max_tokens")
    if host.seeds and request.seed is not None:
        sent.setdefault("seed", request.seed % 2**31)
    if request.logprobs:
        sent |= {"logprobs": True, "top_logprobs": request.logprobs}
    if "schema" in request.answer:
        form = {"name": "answer", "schema": request.answer["schema"], "strict": True}
        sent["response_format"] = {"type": "json_schema", "json_schema": form}
    if request.tools:
        sent["tools"] = [{"type": "function", "function": function_of(tool)} for tool in request.tools]
    return sent


def streaming(body: dict[str, Json]) -> dict[str, Json]:
    """… with the tokens told at its end."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def read(answer: Mapping[str, Any]) -> Answer:
    """Raises LookupError, TypeError or AttributeError where it is none."""
    usage = answer.get("usage") or {}
    choices = [_choice(choice) for choice in sorted(answer["choices"], key=lambda choice: choice.get("index", 0))]
    if not choices:
        raise LookupError("no choices")
    return Answer(
        choices,
        Usage(
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            (usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
            (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        ),
        answer.get("model"),
        answer.get("system_fingerprint"),
    )


class Stream:
    """Puts chunks of the first choice together; see `wire.Stream`."""

    def __init__(self) -> None:
        self._about: dict[str, Any] = {}
        self._texts: dict[str, str] = {"content": "", "refusal": ""}
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[Json] = []
        self._finish: str | None = None

    def feed(self, event: Mapping[str, Any]) -> str:
        if event.get("error"):
            raise BadAnswerError(f"the stream ended with an error: {event['error']}")
        self._about |= {key: value for key, value in event.items() if value is not None}
        new = ""
        for choice in (event.get("choices") or ())[:1]:
            delta = choice.get("delta") or {}
            new = delta.get("content") or ""
            for name in self._texts:
                self._texts[name] += delta.get(name) or ""
            self._finish = choice.get("finish_reason") or self._finish
            self._logprobs += (choice.get("logprobs") or {}).get("content") or ()
            for part in delta.get("tool_calls") or ():
                call = self._calls.setdefault(part.get("index", 0), tool_call(None, "", ""))
                call["id"] = part.get("id") or call["id"]
                for key in call["function"]:
                    call["function"][key] += (part.get("function") or {}).get(key) or ""
        return new

    def whole(self) -> Mapping[str, Any]:
        if self._finish is None:
            raise CutError("the stream ended before the answer did")
        message = {
            "content": self._texts["content"],
            "refusal": self._texts["refusal"] or None,
            "tool_calls": list(self._calls.values()),
        }
        choice = {"message": message, "finish_reason": self._finish, "logprobs": {"content": self._logprobs}}
        return {**self._about, "choices": [choice]}


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice["message"]
    content = message.get("content") or ""
    return Choice(
        content if isinstance(content, str) else "".join(part.get("text") or "" for part in content),
        _FINISH.get(choice.get("finish_reason") or "", "stop"),
        (choice.get("logprobs") or {}).get("content") or (),
        message.get("tool_calls") or (),
        message.get("refusal"),
    )


def _message(message: Message) -> Json:
    if message.role == "raw":
        raise ModelError("a hosted chat model takes messages, not a raw text; write role markers in the prompt")
    content = message.to_json()
    if isinstance(content["content"], list):
        content["content"] = [
            {"type": "image_url", "image_url": {"url": part["image"]}} if part["type"] == "image" else part
            for part in content["content"]
        ]
    return content
