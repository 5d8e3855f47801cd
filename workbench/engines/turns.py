"""A conversation asked turn by turn: the user's turns are known, the answers between them are the model's own.

    engine: turns
    options: {of: {engine: openai, model: gpt-4.1-mini}}   # the model that answers, as workbench.yaml writes one

Where messages of the user follow each other, each but the last is asked first, with all that was said before,
and its answer stands after it; the answer to the last is the answer. Messages with answers between them are asked
once. Every request of a turn has the request's own parameters and seed; tokens, costs and seconds are those of all
turns together. A turn that fails, is cut off or calls a tool ends the conversation: its output is the request's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from workbench.engines.base import Capabilities, Engine, Piece, Requests
from workbench.errors import ModelError, suggest
from workbench.records import Failure, Json, Message, Model, Output, Request, content_id
from workbench.registry import ENGINES

Number = TypeVar("Number", int, float)


class TurnsEngine:
    """Raises ModelError where `of` names no model that can be opened."""

    def __init__(self, model: Model) -> None:
        for name in model.settings:
            if name != "of":
                raise ModelError(f"model '{model.alias}': unknown setting '{name}'{suggest(name, ('of',))}")
        self._inner: Engine = ENGINES.get(str(_settings(model)["engine"]))(_inner(model))
        self.in_process = self._inner.in_process

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    @property
    def identity(self) -> str:
        return content_id("turns", self._inner.identity)

    def check_params(self, params: Mapping[str, Json]) -> None:
        self._inner.check_params(params)

    def count_tokens(self, request: Request) -> int:
        """Of all turns, without the answers between them."""
        return sum(self._inner.count_tokens(replace(request, messages=turn)) for turn in _growing(request.messages))

    def describe(self) -> dict[str, object]:
        return self._inner.describe()

    def work(self) -> dict[str, float]:
        return self._inner.work()

    def close(self) -> None:
        self._inner.close()

    def generate(self, requests: Requests) -> Iterator[Piece | Output]:
        """See `engines.base.Engine`; only the last turn streams."""
        turns = _Turns(requests)
        for event in self._inner.generate(turns):
            if isinstance(event, Piece):
                yield Piece(turns.outer_id(event.request_id), event.text)
            elif (output := turns.answered(event)) is not None:
                yield output


def _settings(model: Model) -> Mapping[str, Json]:
    given = model.settings.get("of")
    if not isinstance(given, Mapping) or not isinstance(given.get("engine"), str):
        raise ModelError(
            f"model '{model.alias}' needs options: {{of: {{engine: …, model: …}}}}, the model that answers"
        )
    if given["engine"] == model.engine:
        raise ModelError(f"model '{model.alias}': the model that answers is itself of the engine '{model.engine}'")
    return given


def _inner(model: Model) -> Model:
    settings = dict(_settings(model))
    engine = settings.pop("engine")
    settings |= settings.pop("options", {})
    return replace(model, engine=engine, settings=settings)


@dataclass(slots=True)
class _Talk:
    """A conversation under way."""

    request: Request
    said: list[Message]
    """What has been said, the turn that is asked among it."""
    rest: deque[Message]
    """What is still to be said."""
    number: int
    """Of the turn, from 1 on."""
    before: Output | None = None
    """What the turns before took."""

    @property
    def id(self) -> str:
        return f"{self.request.id}/{self.number}"

    def asked(self) -> Request:
        stream = self.request.stream and not self.rest
        return replace(self.request, id=self.id, messages=tuple(self.said), stream=stream)

    def go_on(self) -> None:
        """Says the next of the user's turns, and what belongs to it."""
        self.said.append(self.rest.popleft())
        while self.rest and not (self.said[-1].role == "user" and self.rest[0].role == "user"):
            self.said.append(self.rest.popleft())
        self.number += 1


class _Turns:
    """What the inner engine pulls from (`engines.base.Requests`)."""

    def __init__(self, outer: Requests) -> None:
        self._outer = outer
        self._ready: deque[_Talk] = deque()
        self._alive: dict[str, _Talk] = {}

    def take(self, at_most: int, wait: float) -> list[Request]:
        free = at_most - len(self._ready)
        for request in self._outer.take(free, 0 if self._ready else wait) if free > 0 else ():
            talk = _Talk(request, [], deque(request.messages), 0)
            talk.go_on()
            self._ready.append(talk)
        taken = [self._ready.popleft() for _ in range(min(at_most, len(self._ready)))]
        self._alive |= {talk.id: talk for talk in taken}
        return [talk.asked() for talk in taken]

    def cancelled(self) -> set[str]:
        unwanted = self._outer.cancelled()
        return {number for number, talk in list(self._alive.items()) if talk.request.id in unwanted}

    @property
    def closed(self) -> bool:
        """Not while an answer that is under way may lead to a next turn."""
        going_on = self._ready or any(talk.rest for talk in list(self._alive.values()))
        return self._outer.closed and not going_on

    def outer_id(self, number: str) -> str:
        return self._alive[number].request.id

    def answered(self, output: Output) -> Output | None:
        """The request's output, where this was its last turn; else the next turn is lined up."""
        talk = self._alive.pop(output.request_id)
        output = _together(talk.before, replace(output, request_id=talk.request.id))
        if not talk.rest:
            return output
        if output.failure or output.finish_reason != "stop":
            told = output.failure or Failure("bad_answer", f"turn {talk.number} ended with '{output.finish_reason}'")
            return replace(output, text="", finish_reason="failed", failure=told)
        talk.before = output
        talk.said.append(Message.of("assistant", output.text))
        talk.go_on()
        self._ready.append(talk)
        return None


def _growing(messages: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    """The messages of each turn."""
    talk = _Talk(Request("", "", ()), [], deque(messages), 0)
    while talk.rest:
        talk.go_on()
        yield tuple(talk.said)


def _together(before: Output | None, output: Output) -> Output:
    """The output, with what all turns took; unknown where it is unknown of one."""
    if before is None:
        return output
    return replace(
        output,
        prompt_tokens=_sum(before.prompt_tokens, output.prompt_tokens),
        output_tokens=_sum(before.output_tokens, output.output_tokens),
        seconds=_sum(before.seconds, output.seconds),
        first_token_seconds=_sum(before.seconds, output.first_token_seconds),
        cost=_sum(before.cost, output.cost),
    )


def _sum(one: Number | None, other: Number | None) -> Number | None:
    return None if one is None or other is None else one + other
