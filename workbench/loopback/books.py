"""What the server has seen: every call counted by its content."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from workbench.records import Json

KEPT = 1000
"""So many calls are kept with their bodies and headers, the newest."""


@dataclass(slots=True)
class Call:
    """One call of an endpoint that a model answers."""

    path: str
    """Without what stands before it: `/chat/completions`."""
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    """Names in lower case."""
    text: str
    """What was asked: the last message's text."""
    digest: str
    """Of the endpoint and the whole body."""
    at: float = field(default_factory=monotonic)
    """When it came."""
    time: int = 1
    """How often the same digest came, this call included."""
    status: int = 0
    """What it got; 0: under way, or nothing."""


@dataclass(slots=True)
class Books:
    """Written by the server's own thread, read by any."""

    calls: Counter[str] = field(default_factory=Counter)
    """By what was asked."""
    statuses: Counter[int] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    log: deque[Call] = field(default_factory=lambda: deque(maxlen=KEPT))
    answered: int = 0
    """Calls that got a whole answer, and a right one."""
    repeated: int = 0
    """… of which had got one before for the very same content."""
    busy: int = 0
    busiest: int = 0
    """The most calls that were under way at one time."""
    _asked: Counter[str] = field(default_factory=Counter)
    _given: set[str] = field(default_factory=set)

    @property
    def distinct(self) -> int:
        """How many different contents were asked."""
        return len(self._asked)

    def note(self, call: Call) -> None:
        """Counts a call and tells it how often it came."""
        self._asked[call.digest] += 1
        call.time = self._asked[call.digest]
        self.calls[call.text] += 1
        self.paths[call.path] += 1
        self.log.append(call)

    def begin(self) -> None:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)

    def end(self, call: Call, status: int, whole: bool) -> None:
        """`whole`: the answer went out as it should."""
        self.busy -= 1
        self.close(call, status, whole)

    def close(self, call: Call, status: int, whole: bool) -> None:
        call.status = status
        self.statuses[status] += 1
        if whole and status == 200:
            self.answered += 1
            self.repeated += call.digest in self._given
            self._given.add(call.digest)

    def summary(self) -> dict[str, Json]:
        """The counts, without texts and bodies."""
        return {
            "calls": self.calls.total(),
            "distinct": self.distinct,
            "answered": self.answered,
            "repeated": self.repeated,
            "busy": self.busy,
            "busiest": self.busiest,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "paths": dict(self.paths),
        }
