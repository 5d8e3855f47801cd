"""Requests in a row, for an engine to pull; a rubric for a judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from workbench.engines.base import Engine, Piece
from workbench.records import Message, Output, Request

RUBRIC = """---
inputs:
  question: {type: string}
  output: {type: string}
  scale: {type: array, default: ["no", "yes"]}
---
user:
Is this helpful? Asked: {{ question }} Answered: {{ output }} Say {% for p in scale %}{{ p.value }} {% endfor %}
"""


class Row:
    """`engines.base.Requests` over a list; `cancel` is asked before each look at what is cancelled."""

    def __init__(self, requests: Iterable[Request], cancel: Callable[[], set[str]] = set) -> None:
        self._left = list(requests)
        self._cancel = cancel
        self.largest = 0
        """The most requests that were taken at once."""

    def take(self, at_most: int, wait: float) -> list[Request]:
        taken, self._left = self._left[:at_most], self._left[at_most:]
        self.largest = max(self.largest, len(taken))
        return taken

    def cancelled(self) -> set[str]:
        return self._cancel()

    @property
    def closed(self) -> bool:
        return not self._left


def user(text: str, id: str = "r", **fields: object) -> Request:
    return Request(id, "m", (Message.of("user", text),), **fields)  # type: ignore[arg-type]


def ask(engine: Engine, *requests: Request) -> list[Output]:
    """The outputs, in the order in which they came."""
    return [event for event in engine.generate(Row(requests)) if not isinstance(event, Piece)]


def pieces(engine: Engine, request: Request) -> tuple[list[str], Output]:
    """The texts that streamed, and the output."""
    events = list(engine.generate(Row([request])))
    output = events.pop()
    assert isinstance(output, Output)
    return [event.text for event in events if isinstance(event, Piece)], output
