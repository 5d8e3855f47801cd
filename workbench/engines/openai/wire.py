"""What both forms of the API share: the parts of an answer, and the outputs that are made of them.

`chat`, `responses` and the others each give what `Form` says; a stream is put together into the answer that would
have come whole, so each form is read in one place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Protocol

from workbench.engines.openai.hosts import Host
from workbench.engines.price import cost
from workbench.records import Json, Output, Request

MOST_TOKENS = 2**31
"""What a host counts beyond is no count."""


class BadAnswerError(Exception):
    """What came back is no answer."""


class CutError(BadAnswerError):
    """A stream ended before its answer did."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a call."""

    text: str
    finish: str
    """As `Output.finish_reason`."""
    logprobs: Sequence[Json] = ()
    tool_calls: Sequence[Json] = ()
    refusal: str | None = None
    embedding: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call, all its answers together; None: not told."""

    prompt: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cached: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A call's answer."""

    choices: Sequence[Choice]
    usage: Usage
    model: str | None = None
    fingerprint: str | None = None


class Stream(Protocol):
    """Puts the events of a stream together."""

    def feed(self, event: Mapping[str, Any]) -> str:
        """Takes an event; gives the new text of the answer."""

    def whole(self) -> Mapping[str, Any]:
        """The answer as it would have come whole; raises CutError where the stream ended before."""


class Form(Protocol):
    """One form of an API: the modules `chat`, `responses` and `embeddings`, and `converse.Converse`."""

    PATH: str
    STREAM_PATH: str | None
    """Where answers stream; None: they do not, and the form needs nothing of what is said of streams."""
    REFUSED: frozenset[str]
    """Parameters that the form does not have."""

    def body(self, model: str, host: Host, request: Request) -> dict[str, Json]: ...
    def streaming(self, body: dict[str, Json]) -> dict[str, Json]:
        """The body of a call that is to stream."""

    def events(self, response: Any) -> AsyncIterator[bytes]:
        """The events of a stream, each as JSON."""

    def read(self, answer: Mapping[str, Any]) -> Answer: ...
    def Stream(self) -> Stream: ...  # noqa: N802 - a class


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of the call that answered, without waiting for a turn."""

    whole: float | None
    """None: answered in a batch, where a call has no time of its own."""
    first: float | None = None


def parse(raw: bytes) -> Any:
    """JSON; a number that is none becomes null, and half of a surrogate pair, which no file holds, a `?`. Raises
    ValueError."""
    try:
        data = json.loads(raw, parse_constant=lambda name: None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if b"\\ud" in raw or b"\\uD" in raw:
        return json.loads(json.dumps(data, ensure_ascii=False).encode(errors="replace"))
    return data


async def server_sent(response: Any) -> AsyncIterator[bytes]:
    """The `data` of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as OpenAI
    streams; the mark of its end is none. A connection that breaks after that mark has brought all."""
    ended = False
    try:
        async for line in _lines(response):
            data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
            ended = ended or data == b"[DONE]"
            if data and not ended:
                yield data
    except Exception:
        if not ended:
            raise


async def _lines(response: Any) -> AsyncIterator[bytes]:
    begun: list[bytes] = []
    async for piece in response.aiter_bytes():
        *ended, rest = re.split(rb"\r\n|\n|\r", piece)
        for line in ended:
            yield b"".join([*begun, line])
            begun.clear()
        begun.append(rest)
    yield b"".join(begun)


def read_answer(form: Form, raw: bytes) -> Answer:
    """Every part has its type, whatever the host sent; a count of tokens that is none counts as not told. Raises
    BadAnswerError where the body is no answer of that form."""
    try:
        answer = form.read(parse(raw))
        choices = [_checked(choice) for choice in answer.choices]
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        start = raw[:80].decode(errors="replace")
        raise BadAnswerError(f"this is no answer of {form.PATH}: {start!r}") from error
    return replace(answer, choices=choices, usage=Usage(*map(_count, astuple(answer.usage))))


def _checked(choice: Choice) -> Choice:
    for call in choice.tool_calls:
        _text(call["function"]["name"])
    logprobs = [_logprob(entry) for entry in choice.logprobs]
    return replace(choice, text=_text(choice.text), logprobs=logprobs, tool_calls=[*choice.tool_calls])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _count(told: object) -> int | None:
    whole = isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told < MOST_TOKENS and told % 1 == 0
    return int(told) if whole else None  # type: ignore[call-overload]


def outputs(
    requests: Sequence[str], answer: Answer, timing: Timing, price: Mapping[str, float] | None
) -> Iterator[Output]:
    """An output for each request, by its id, that the answer has a choice for.

    Tokens of a call with several answers are told only together; those that came share them, so that sums are the bill.
    """
    usage, count = answer.usage, min(len(requests), len(answer.choices))
    paid = cost(price, usage.prompt, usage.output, usage.cached or 0)
    for position, (request, choice) in enumerate(zip(requests, answer.choices, strict=False)):
        extra = {
            "model": answer.model,
            "system_fingerprint": answer.fingerprint,
            "refusal": choice.refusal,
            "embedding": choice.embedding,
            "reasoning_tokens": _share(usage.reasoning, count, position) or None,
            "cached_tokens": _share(usage.cached, count, position) or None,
            "answers_of_call": count if count > 1 else None,
        }
        yield Output(
            request,
            choice.text,
            choice.finish,
            prompt_tokens=_share(usage.prompt, count, position),
            output_tokens=_share(usage.output, count, position),
            seconds=timing.whole,
            first_token_seconds=timing.first,
            cost=None if paid is None else paid / count,
            logprobs=tuple(choice.logprobs),
            tool_calls=tuple(choice.tool_calls),
            extra={key: value for key, value in extra.items() if value is not None},
        )


def function_of(tool: Mapping[str, Any]) -> dict[str, Json]:
    """The function of a tool; a prompt may give it in the API's form or alone."""
    return (
        dict(tool["function"]) if "function" in tool else {k: v for k, v in tool.items() if k not in ("type", "kind")}
    )


def tool_call(id: str | None, name: str, arguments: str) -> Json:
    """A call of a tool in one form, whatever the API's."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _share(total: int | None, count: int, position: int) -> int | None:
    return None if total is None else total // count + (position < total % count)


def _logprob(entry: Mapping[str, Any]) -> Json:
    top = [[_text(other["token"]), _number(other["logprob"])] for other in entry.get("top_logprobs") or ()]
    return {"token": _text(entry["token"]), "logprob": _number(entry["logprob"]), "top": top}


def _number(value: Any) -> float | None:
    """None where it is no number of JSON's, such as the logarithm of 0."""
    return value if value is not None and math.isfinite(value) else None
