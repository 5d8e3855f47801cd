"""What is asked, whatever the endpoint, and what the script says to it. A token is a word."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from workbench.loopback.instance import UnsupportedError, minimal_json
from workbench.loopback.script import Script, drawn
from workbench.records import Json

_WORD = re.compile(r"\s*\S+|\s+$")
_OTHERS = ("the", "a", "of", "and", "to", "in", "is", "it", "that", "for", "on", "with", "as", "at", "by", "an", "be")


class BadCallError(Exception):
    """A call that gets a 400, or another error that is its own fault."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


@dataclass(frozen=True, slots=True)
class Asked:
    """One call for text, read."""

    model: str
    question: str
    """The last message's text."""
    prompt_tokens: int
    digest: str
    """Of the call's whole content."""
    time: int
    """How often the same content came before, this call included."""
    most: int | None = None
    """max_tokens."""
    n: int = 1
    seed: int | None = None
    schema: Json = None
    tool: Mapping[str, Any] | None = None
    """The function to call."""
    top: int | None = None
    """How many alternatives a token to report; None: no log-probabilities."""
    reasons: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice."""

    words: tuple[str, ...]
    cut: bool = False
    """At max_tokens."""
    tool: tuple[str, str] | None = None
    """The function's name and its arguments as JSON."""
    logprobs: tuple[Json, ...] | None = None

    @property
    def text(self) -> str:
        return "".join(self.words)


def digest_of(path: str, raw: bytes) -> str:
    return blake2b(raw, digest_size=12, key=path.encode()[:64]).hexdigest()


def question_in(body: Mapping[str, Any]) -> str:
    """The last message's text; of embeddings, all that is to be embedded, a line each."""
    source = body.get("messages", body.get("input", ""))
    if not isinstance(source, list) or not source:
        return str(source or "")
    last = source[-1]
    return text_in(last) if isinstance(last, Mapping) else "\n".join(str(item) for item in source)


def text_in(message: Mapping[str, Any]) -> str:
    """A message's text, or a tool's result."""
    content = message.get("content", message.get("output")) or ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))


def read_chat(body: Mapping[str, Any], digest: str, time: int) -> Asked:
    """A call of chat completions; raises BadCallError."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, Mapping) for m in messages):
        raise BadCallError("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    form = body.get("response_format") or {}
    schema = form.get("json_schema", {}).get("schema", {}) if form.get("type") == "json_schema" else None
    tools = [tool.get("function", {}) for tool in body.get("tools") or () if tool.get("type") == "function"]
    return Asked(
        model=_model(body),
        question=question_in(body),
        prompt_tokens=sum(len(text_in(message).split()) for message in messages),
        digest=digest,
        time=time,
        most=_whole(body, "max_completion_tokens", 1) or _whole(body, "max_tokens", 1),
        n=_whole(body, "n", 1) or 1,
        seed=_whole(body, "seed", None),
        schema={"type": "object"} if form.get("type") == "json_object" else schema,
        tool=_tool(tools, body.get("tool_choice"), messages[-1].get("role") == "tool"),
        top=(_whole(body, "top_logprobs", 0) or 0) if body.get("logprobs") else None,
        reasons="reasoning_effort" in body,
    )


def read_response(body: Mapping[str, Any], digest: str, time: int) -> Asked:
    """A call of responses; raises BadCallError."""
    source = body.get("input")
    if not source or not isinstance(source, str | list):
        raise BadCallError("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    items = source if isinstance(source, list) else [{"content": source}]
    form = (body.get("text") or {}).get("format") or {}
    tools = [tool for tool in body.get("tools") or () if tool.get("type") == "function"]
    answered = items[-1].get("type") == "function_call_output"
    wants = "message.output_text.logprobs" in (body.get("include") or ())
    texts = [str(body.get("instructions") or ""), *map(text_in, items)]
    return Asked(
        model=_model(body),
        question=question_in(body),
        prompt_tokens=sum(len(text.split()) for text in texts),
        digest=digest,
        time=time,
        most=_whole(body, "max_output_tokens", 1),
        schema=form.get("schema", {}) if form.get("type") == "json_schema" else None,
        tool=_tool(tools, body.get("tool_choice"), answered),
        top=(_whole(body, "top_logprobs", 0) or 0) if wants else None,
        reasons="reasoning" in body,
    )


def answer(script: Script, asked: Asked, choice: int) -> Answer:
    """One choice of the answer to a call; raises BadCallError where a schema can't be met."""
    if asked.tool is not None:
        name, parameters = str(asked.tool.get("name")), asked.tool.get("parameters") or {"type": "object"}
        return Answer((), tool=(name, _instance(parameters)))
    text = _scripted(script, asked, choice)
    if text is None:
        text = asked.question if asked.schema is None else _instance(asked.schema)
    words = tuple(_WORD.findall(text))
    most = len(words) if asked.most is None else max(asked.most - thought(script, asked), 0)
    kept = words[:most]
    logprobs = None if asked.top is None else tuple(_logprobs(word, i, asked) for i, word in enumerate(kept))
    return Answer(kept, most < len(words), logprobs=logprobs)


def thought(script: Script, asked: Asked) -> int:
    """Reasoning tokens of an answer."""
    return script.reasoning_tokens if asked.reasons else 0


def vector(text: str, dimensions: int) -> list[float]:
    """A unit vector: the sum of a random direction for each word, so that like texts lie near each other."""
    directions = [_direction(word, dimensions) for word in text.lower().split() or [""]]
    total = [sum(values) for values in zip(*directions, strict=True)]
    length = math.sqrt(sum(value * value for value in total))
    return [value / length for value in total]


@lru_cache(maxsize=4096)
def _direction(word: str, dimensions: int) -> tuple[float, ...]:
    chance = random.Random(f"{word}/{dimensions}")  # noqa: S311 - nothing secret
    return tuple(chance.gauss() for _ in range(dimensions))


def _scripted(script: Script, asked: Asked, choice: int) -> str | None:
    for pattern, texts in script.answers.items():
        if re.search(pattern, asked.question):
            if isinstance(texts, str):
                return texts
            # Without a seed the same call may be answered otherwise the next time, as a model would.
            varies = asked.time if asked.seed is None else "seed"
            return texts[int(drawn(script.seed, asked.digest, choice, varies) * len(texts))]
    return None


def _instance(schema: Json) -> str:
    try:
        return minimal_json(json.dumps(schema))
    except UnsupportedError as error:
        raise BadCallError(f"Invalid schema: {error}", "response_format", "invalid_json_schema") from error


def _logprobs(word: str, place: int, asked: Asked) -> Json:
    """The word with a probability above one half, and words that share half of the rest and less."""
    share = 0.5 + drawn(asked.digest, place) / 2.001
    others = [other for other in _OTHERS if other != word.strip()]
    tokens = [(word, share)] + [(other, (1 - share) / 2**rank) for rank, other in enumerate(others, 1)]
    told = [{"token": t, "logprob": math.log(p), "bytes": list(t.encode())} for t, p in tokens]
    return {**told[0], "top_logprobs": told[: asked.top or 0]}


def _model(body: Mapping[str, Any]) -> str:
    if not isinstance(body.get("model"), str):
        raise BadCallError("you must provide a model parameter", "model", "missing_required_parameter")
    return str(body["model"])


def _whole(body: Mapping[str, Any], name: str, least: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"Invalid type for '{name}': expected an integer, but got {json.dumps(value)} instead."
        raise BadCallError(message, name, "invalid_type")
    if least is not None and value < least:
        message = (
            f"Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {value} instead."
        )
        raise BadCallError(message, name, "integer_below_min_value")
    return value


def _tool(tools: Sequence[Mapping[str, Any]], choice: Json, answered: bool) -> Mapping[str, Any] | None:
    """The function that is called: the chosen one, else the first; none after a tool's result."""
    if not tools or choice == "none" or answered:
        return None
    wanted = (choice.get("function") or choice).get("name") if isinstance(choice, Mapping) else None
    return next((tool for tool in tools if wanted in (None, tool.get("name"))), tools[0])
