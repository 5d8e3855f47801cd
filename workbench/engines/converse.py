"""Bedrock's Converse, a form of API as `engines.openai.wire.Form` wants it.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, and API_runtime_ConverseStream.html
for streams, whose events come in AWS's binary frames (application/vnd.amazon.eventstream), read by botocore.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

from workbench.engines.openai.hosts import Host
from workbench.engines.openai.wire import Answer, BadAnswerError, Choice, CutError, Usage, function_of, tool_call
from workbench.errors import ModelError
from workbench.records import Json, Message, Part, Request

PARAMS = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP", "stop": "stopSequences"}
"""Our names → those of `inferenceConfig`."""
_FINISH = {
    "max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter", "content_filtered": "content_filter",
}  # fmt: skip
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,(.+)", re.DOTALL)


def streams_here() -> bool:
    """Whether streams can be read: botocore is installed."""
    return find_spec("botocore") is not None


@dataclass(frozen=True, slots=True)
class Converse:
    """The form for one model, whose name is part of the path."""

    model: str
    REFUSED: frozenset[str] = frozenset()

    @property
    def PATH(self) -> str:  # noqa: N802 - as the other forms have it
        # a colon stays one: the HTTP client sends it so, and a signature holds only for the path that is sent
        return f"/model/{quote(self.model, safe=':')}/converse"

    @property
    def STREAM_PATH(self) -> str | None:  # noqa: N802
        return f"{self.PATH}-stream" if streams_here() else None

    def body(self, model: str, host: Host, request: Request) -> dict[str, Json]:
        """What is sent; raises ModelError for what the API can't take."""
        chat = [message for message in request.messages if message.role not in ("system", "developer")]
        sent: dict[str, Json] = {"messages": _messages(chat)}
        if system := [{"text": m.text} for m in request.messages if m.role in ("system", "developer")]:
            sent["system"] = system
        settings = {PARAMS[name]: value for name, value in request.params.items() if name in PARAMS}
        if isinstance(settings.get("stopSequences"), str):
            settings["stopSequences"] = [settings["stopSequences"]]
        if settings:
            sent["inferenceConfig"] = settings
        if "schema" in request.answer:
            schema = {"name": "answer", "schema": json.dumps(request.answer["schema"])}
            sent["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
        choice = request.params.get("tool_choice")
        if request.tools and choice != "none":
            sent["toolConfig"] = {"tools": [_tool(tool) for tool in request.tools], **_choice(choice)}
        return sent

    def streaming(self, body: dict[str, Json]) -> dict[str, Json]:
        """The same: the path says that it streams."""
        return body

    async def events(self, response: Any) -> AsyncIterator[bytes]:
        """`{type: payload}` for each frame; raises BadAnswerError for what is none."""
        from botocore.eventstream import EventStreamBuffer, ParserError

        frames = EventStreamBuffer()
        async for piece in response.aiter_bytes():
            frames.add_data(piece)
            try:
                for frame in frames:
                    about = frame.headers
                    kind = about.get(":event-type") or about.get(":exception-type") or "error"
                    yield b'{"%s": %s}' % (str(kind).encode(), frame.payload or b"{}")
            except ParserError as error:
                raise BadAnswerError(f"this is no event stream: {error}") from error

    def read(self, answer: Mapping[str, Any]) -> Answer:
        """Raises LookupError, TypeError or AttributeError where it is none."""
        blocks, usage = answer["output"]["message"]["content"], answer.get("usage") or {}
        choice = Choice(
            "".join(block["text"] for block in blocks if "text" in block),
            _FINISH.get(answer.get("stopReason") or "", "stop"),
            tool_calls=[_call(block["toolUse"]) for block in blocks if "toolUse" in block],
        )
        return Answer([choice], Usage(usage.get("inputTokens"), usage.get("outputTokens")))

    def Stream(self) -> Stream:  # noqa: N802
        return Stream()


class Stream:
    """Puts the events of ConverseStream together; see `openai.wire.Stream`."""

    def __init__(self) -> None:
        self._blocks: dict[int, dict[str, Any]] = {}
        self._end: str | None = None
        self._usage: Mapping[str, Any] = {}

    def feed(self, event: Mapping[str, Any]) -> str:
        ((kind, told),) = event.items()
        if kind == "error" or kind.endswith("Exception"):
            raise BadAnswerError(f"the stream ended with {kind}: {told.get('message') or 'no reason'}")
        block = self._blocks.setdefault(told["contentBlockIndex"], {}) if "contentBlockIndex" in told else {}
        if kind == "contentBlockStart" and "toolUse" in told.get("start", {}):
            block["toolUse"] = {**told["start"]["toolUse"], "input": ""}
        self._end = told.get("stopReason", self._end)
        self._usage = told.get("usage", self._usage)
        delta = told.get("delta", {}) if kind == "contentBlockDelta" else {}
        if "toolUse" in delta:
            block["toolUse"]["input"] += delta["toolUse"]["input"]
        new = str(delta.get("text") or "")
        if new:
            block["text"] = block.get("text", "") + new
        return new

    def whole(self) -> Mapping[str, Any]:
        if self._end is None:
            raise CutError("the stream ended before the answer did")
        content = [self._blocks[index] for index in sorted(self._blocks)]
        return {"output": {"message": {"content": content}}, "stopReason": self._end, "usage": self._usage}


def _messages(messages: Sequence[Message]) -> list[Json]:
    """Roles must alternate: what follows in the same role joins it."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        if message.role not in ("user", "assistant"):
            raise ModelError(f"a message of the role '{message.role}' can't go to Bedrock")
        content = [_block(part) for part in message.parts]
        if joined and joined[-1]["role"] == message.role:
            joined[-1]["content"] += content
        else:
            joined.append({"role": message.role, "content": content})
    return joined


def _block(part: Part) -> Json:
    if part.kind == "text":
        return {"text": part.value}
    found = _IMAGE.fullmatch(part.value)
    if found is None:
        raise ModelError(f"an image can't go to Bedrock as {part.value[:24]!r}…: give it a PNG, JPEG, GIF or WebP file")
    return {"image": {"format": found[1], "source": {"bytes": found[2]}}}


def _tool(tool: Mapping[str, Any]) -> Json:
    function = function_of(tool)
    told = {"description": function["description"]} if function.get("description") else {}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return {"toolSpec": {"name": function["name"], **told, "inputSchema": {"json": schema}}}


def _choice(choice: Json) -> dict[str, Json]:
    """`toolChoice`, from the words of OpenAI's API."""
    if isinstance(choice, Mapping):
        return {"toolChoice": {"tool": {"name": choice["function"]["name"]}}}
    return {} if choice is None else {"toolChoice": {"any" if choice == "required" else "auto": {}}}


def _call(use: Mapping[str, Any]) -> Json:
    """A tool call as all engines give it; one that streamed has its arguments as text already."""
    given = use.get("input")
    arguments = given or "{}" if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False)
    return tool_call(use.get("toolUseId"), use["name"], arguments)
