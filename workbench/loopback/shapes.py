"""The API's objects, as in OpenAI's reference: https://platform.openai.com/docs/api-reference."""

from __future__ import annotations

import base64
import json
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.loopback.answers import Answer, Asked, BadCallError, thought, vector
from workbench.loopback.script import Script
from workbench.records import Json

FINGERPRINT = "fp_loopback"


def error(message: str, kind: str, code: str | None = None, param: str | None = None) -> Json:
    """An error's body; `kind` is OpenAI's `type`, such as `invalid_request_error`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def chat(script: Script, asked: Asked, answers: Sequence[Answer]) -> Json:
    choices = [
        {
            "index": i,
            "message": _message(asked, i, one),
            "logprobs": _token_logprobs(one),
            "finish_reason": _finish(one),
        }
        for i, one in enumerate(answers)
    ]
    return {**_chat_head(asked, "chat.completion"), "choices": choices, "usage": _chat_usage(script, asked, answers)}


def chat_chunks(script: Script, asked: Asked, answers: Sequence[Answer], usage: bool) -> Iterator[Json]:
    """The pieces of a streamed chat completion; the last one holds the usage, if it is asked for."""
    head = _chat_head(asked, "chat.completion.chunk") | ({"usage": None} if usage else {})

    def chunk(index: int, delta: Json, finish: str | None = None, logprobs: Json = None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**head, "choices": [choice]}

    for index, one in enumerate(answers):
        yield chunk(index, {"role": "assistant", "content": None if one.tool else ""})
        for place, word in enumerate(one.words):
            logprobs = {"content": [one.logprobs[place]]} if one.logprobs else None
            yield chunk(index, {"content": word}, None, logprobs)
        if one.tool:
            yield from (chunk(index, {"tool_calls": [part]}) for part in _tool_parts(asked, index, one.tool))
        yield chunk(index, {}, _finish(one))
    if usage:
        yield {**head, "choices": [], "usage": _chat_usage(script, asked, answers)}


def _chat_head(asked: Asked, kind: str) -> dict[str, Json]:
    return {
        "id": f"chatcmpl-{asked.digest}-{asked.time}",
        "object": kind,
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": FINGERPRINT,
    }


def _message(asked: Asked, index: int, one: Answer) -> Json:
    if one.tool is None:
        return {"role": "assistant", "content": one.text, "refusal": None}
    name, arguments = one.tool
    call = {
        "id": _call_id(asked, index),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}


def _tool_parts(asked: Asked, index: int, tool: tuple[str, str]) -> Iterator[Json]:
    """A streamed tool call: its head, then its arguments in two pieces."""
    name, arguments = tool
    head = {"index": 0, "id": _call_id(asked, index), "type": "function"}
    yield {**head, "function": {"name": name, "arguments": ""}}
    half = len(arguments) // 2
    for part in (arguments[:half], arguments[half:]):
        yield {"index": 0, "function": {"arguments": part}}


def _call_id(asked: Asked, index: int) -> str:
    return f"call_{asked.digest}{asked.time}{index}"


def _finish(one: Answer) -> str:
    return "tool_calls" if one.tool else "length" if one.cut else "stop"


def _token_logprobs(one: Answer) -> Json:
    return None if one.logprobs is None else {"content": list(one.logprobs), "refusal": None}


def output_tokens(script: Script, asked: Asked, answers: Sequence[Answer]) -> int:
    """Tokens of all choices, with what was thought and the calls of tools."""
    said = sum(len(one.words) + (len(one.tool[1].split()) if one.tool else 0) for one in answers)
    return said + thought(script, asked) * len(answers)


def _chat_usage(script: Script, asked: Asked, answers: Sequence[Answer]) -> Json:
    told = output_tokens(script, asked, answers)
    return {
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": told,
        "total_tokens": asked.prompt_tokens + told,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thought(script, asked) * len(answers)},
    }


def response(script: Script, asked: Asked, one: Answer) -> Json:
    told = output_tokens(script, asked, [one])
    return {
        **_response_head(asked),
        "status": "incomplete" if one.cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if one.cut else None,
        "output": [_response_item(asked, one)],
        "usage": {
            "input_tokens": asked.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": told,
            "output_tokens_details": {"reasoning_tokens": thought(script, asked)},
            "total_tokens": asked.prompt_tokens + told,
        },
    }


def response_events(script: Script, asked: Asked, one: Answer) -> Iterator[Json]:
    """The events of a streamed response, numbered."""
    return ({**event, "sequence_number": number} for number, event in enumerate(_events(script, asked, one)))


def _events(script: Script, asked: Asked, one: Answer) -> Iterator[dict[str, Json]]:
    begun = {**_response_head(asked), "status": "in_progress", "output": [], "usage": None}
    whole, item = response(script, asked, one), _response_item(asked, one)
    place = {"output_index": 0, "item_id": item["id"]}
    yield {"type": "response.created", "response": begun}
    if one.tool:
        yield {"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}}
        yield {"type": "response.function_call_arguments.delta", **place, "delta": one.tool[1]}
        yield {"type": "response.function_call_arguments.done", **place, "arguments": one.tool[1]}
    else:
        part = item["content"][0]
        place["content_index"] = 0
        yield {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}}
        yield {"type": "response.content_part.added", **place, "part": {**part, "text": "", "logprobs": []}}
        for number, word in enumerate(one.words):
            logprobs = [one.logprobs[number]] if one.logprobs else []
            yield {"type": "response.output_text.delta", **place, "delta": word, "logprobs": logprobs}
        yield {"type": "response.output_text.done", **place, "text": one.text, "logprobs": part["logprobs"]}
        yield {"type": "response.content_part.done", **place, "part": part}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.incomplete" if one.cut else "response.completed", "response": whole}


def _response_head(asked: Asked) -> dict[str, Json]:
    return {
        "id": f"resp_{asked.digest}{asked.time}",
        "object": "response",
        "created_at": int(time.time()),
        "model": asked.model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }


def _response_item(asked: Asked, one: Answer) -> dict[str, Any]:
    name = f"{asked.digest}{asked.time}"
    if one.tool:
        item = {"type": "function_call", "id": f"fc_{name}", "call_id": f"call_{name}", "status": "completed"}
        return {**item, "name": one.tool[0], "arguments": one.tool[1]}
    status = "incomplete" if one.cut else "completed"
    part = {"type": "output_text", "text": one.text, "annotations": [], "logprobs": list(one.logprobs or ())}
    return {"type": "message", "id": f"msg_{name}", "role": "assistant", "status": status, "content": [part]}


def embeddings(body: Mapping[str, Any], dimensions: int) -> Json:
    """Raises BadCallError where there is nothing to embed."""
    source = body.get("input")
    if not source or not isinstance(source, str | list):
        raise BadCallError("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    many = isinstance(source, list) and not isinstance(source[0], int)
    texts = [text if isinstance(text, str) else json.dumps(text) for text in (source if many else [source])]
    rows = [vector(text, body.get("dimensions") or dimensions) for text in texts]
    shown = [_base64(row) for row in rows] if body.get("encoding_format") == "base64" else rows
    used = sum(len(text.split()) for text in texts)
    return {
        "object": "list",
        "model": body.get("model"),
        "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(shown)],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def _base64(row: Sequence[float]) -> str:
    """32-bit floats of this machine's byte order, as the client reads them."""
    return base64.b64encode(array("f", row).tobytes()).decode()


def models(names: Sequence[str]) -> Json:
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": "loopback"} for name in names]
    return {"object": "list", "data": rows}
