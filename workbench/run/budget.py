"""What a run may use: it asks nothing whose worst case, with all that is in flight, could pass the limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workbench.records import Output, Request, canonical

WRAPPING_TOKENS = 16
"""Tokens that a chat template may put around a message, generously."""
IMAGE_TOKENS = 50_000
"""The most that a host is known to count an image with: GPT-4o mini, of the largest size."""
FREE = frozenset(("refused", "too_long", "rate_limit", "auth", "no_model", "quota"))
"""Kinds of failure that nobody pays for: the host did not begin to answer."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a request used, or could use at most."""

    cost: float = 0.0
    """US dollars."""
    tokens: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(self.cost + other.cost, self.tokens + other.tokens)

    def __sub__(self, other: Use) -> Use:
        return Use(self.cost - other.cost, self.tokens - other.tokens)


@dataclass(slots=True)
class Budget:
    """Limits in US dollars, tokens and seconds; None: none. Counts what is spent and what is in flight."""

    cost: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    worst: Callable[[Request], Use] = lambda request: Use()
    spent: Use = Use()
    what: str = "the run's budget"
    awaited: str = ""
    """Who else has some of it in flight, and may give it back; empty: nobody."""
    started: float = field(default_factory=time.monotonic)
    _in_flight: dict[str, Use] = field(default_factory=dict)
    _open: Use = Use()
    """The sum of what is in flight."""
    _elsewhere: Use = Use()
    """What others have spent, or have in flight."""

    @property
    def out_of_time(self) -> str:
        """Says so when the time is used up; else empty."""
        if self.seconds is None or time.monotonic() - self.started < self.seconds:
            return ""
        return f"{self.what}: its time of {self.seconds:g} s is used up"

    def passed_by(self, request: Request) -> str:
        """Which limit the request could pass, in words; empty where it can be asked."""
        if self.cost is None and self.tokens is None:
            return ""
        worst, spent_by_all = self.worst(request), self.spent + self._elsewhere
        if self.cost is not None and spent_by_all.cost + self._open.cost + worst.cost > self.cost:
            spent = f"${spent_by_all.cost:.4f} of ${self.cost:g} are spent"
            return f"{self.what}: {spent}, and the next request could cost ${worst.cost:.4f}"
        if self.tokens is not None and spent_by_all.tokens + self._open.tokens + worst.tokens > self.tokens:
            spent = f"{spent_by_all.tokens:,} of {self.tokens:,} tokens are used"
            return f"{self.what}: {spent}, and the next request could take {worst.tokens:,}"
        return ""

    def ask(self, request: Request) -> None:
        """The request is in flight: it counts with its worst case."""
        self._in_flight[request.id] = worst = self.worst(request)
        self._open += worst

    def settle(self, output: Output) -> Use:
        """The answer is there: it counts with what it took. A failure, and a try before that was lost on the way, may
        have been paid for all the same, so that each counts with its worst case where it tells nothing. Gives what it
        counts with beyond what it tells."""
        worst = self.drop(output.request_id)
        told = Use(output.cost or 0.0, (output.prompt_tokens or 0) + (output.output_tokens or 0))
        beyond = _beyond(output, told, worst)
        self.spent += told + beyond
        return beyond

    def drop(self, request_id: str) -> Use:
        """The request is not in flight any more; gives what it counted with."""
        worst = self._in_flight.pop(request_id, Use())
        self._open = self._open - worst if self._in_flight else Use()
        return worst


def _beyond(output: Output, told: Use, worst: Use) -> Use:
    lost = output.extra.get("lost_tries", 0)
    cost, tokens = lost * worst.cost, lost * worst.tokens
    if output.failure is not None and output.failure.kind in FREE:
        return Use(cost, tokens)
    if output.cost is None:
        cost += worst.cost
    if output.prompt_tokens is None or output.output_tokens is None:
        tokens += max(0, worst.tokens - told.tokens)
    return Use(cost, tokens)


def worst_use(request: Request, price: Mapping[str, float] | None) -> Use:
    """What a request may take at most, at a price in US dollars for a million tokens; None: free or unknown."""
    prompt, output = most_tokens(request)
    answer = output or 0
    return Use((prompt * price["input"] + answer * price["output"]) / 1e6 if price else 0.0, prompt + answer)


def most_tokens(request: Request) -> tuple[int, int | None]:
    """Prompt and output tokens at most: a token has at least one byte; None where no max_tokens bounds it."""
    if "recorded" in request.answer:
        return 0, 0
    prompt = sum(len(m.text.encode()) + WRAPPING_TOKENS for m in request.messages)
    prompt += IMAGE_TOKENS * sum(part.kind == "image" for m in request.messages for part in m.parts)
    for told in (*request.tools, *([request.answer["schema"]] if "schema" in request.answer else ())):
        prompt += len(canonical(told).encode()) + WRAPPING_TOKENS
    limit = 0 if request.answer.keys() & {"choices", "embedding"} else request.params.get("max_tokens")
    return prompt, None if limit is None or int(limit) < 0 else int(limit)
