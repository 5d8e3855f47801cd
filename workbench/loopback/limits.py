"""Requests and tokens a minute, as OpenAI counts and tells them.

Each limit is a bucket that fills evenly and holds `burst` seconds' worth. Headers:
https://platform.openai.com/docs/guides/rate-limits (`x-ratelimit-*`, times like `1m6s` or `120ms`); a refused
call is told to wait by Retry-After in whole seconds and by `retry-after-ms`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from workbench.loopback.script import Limits

Clock = Callable[[], float]


@dataclass(slots=True)
class _Bucket:
    """Never below 0, never above its size."""

    what: str
    """`requests` or `tokens`."""
    per_minute: float
    size: float
    level: float
    filled: float
    """When `level` held."""

    @property
    def used(self) -> float:
        return self.size - self.level

    def fill(self, now: float) -> None:
        self.level = min(self.size, self.level + (now - self.filled) * self.per_minute / 60)
        self.filled = now

    def seconds_until(self, level: float) -> float:
        return max(0.0, (level - self.level) * 60 / self.per_minute)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is refused for now."""

    what: str
    """`requests`, `tokens` or `concurrent`."""
    limit: float
    used: float
    asked: float
    seconds: float
    """Until it would be let in."""


@dataclass(slots=True)
class Gate:
    """Lets calls in as far as the limits allow."""

    limits: Limits
    clock: Clock = time.monotonic
    _buckets: list[_Bucket] = field(init=False)

    def __post_init__(self) -> None:
        now, limits = self.clock(), self.limits
        rates = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute}
        sizes = {what: max(1.0, rate * limits.burst / 60) for what, rate in rates.items() if rate}
        self._buckets = [_Bucket(what, rates[what] or 0, size, size, now) for what, size in sizes.items()]

    def enter(self, tokens: int, under_way: int) -> Refusal | None:
        """Takes one request and its tokens out of the buckets, or nothing and says why."""
        if self.limits.at_once is not None and under_way >= self.limits.at_once:
            return Refusal("concurrent", self.limits.at_once, under_way, 1, 0.1)
        now = self.clock()
        wanted = {"requests": 1.0, "tokens": float(tokens)}
        for bucket in self._buckets:
            bucket.fill(now)
        for bucket in self._buckets:
            # A call that is larger than the bucket is let in when the bucket is full, else it never would be.
            if bucket.level < (needed := min(wanted[bucket.what], bucket.size)):
                return Refusal(bucket.what, bucket.per_minute, bucket.used, needed, bucket.seconds_until(needed))
        for bucket in self._buckets:
            bucket.level = max(0.0, bucket.level - wanted[bucket.what])
        return None

    def headers(self) -> dict[str, str]:
        """How the limits stand now, told of a whole minute though a shorter burst may be enforced, as OpenAI does."""
        told = {}
        for bucket in self._buckets:
            told[f"x-ratelimit-limit-{bucket.what}"] = f"{bucket.per_minute:.0f}"
            told[f"x-ratelimit-remaining-{bucket.what}"] = str(math.floor(bucket.per_minute - bucket.used))
            told[f"x-ratelimit-reset-{bucket.what}"] = duration(bucket.seconds_until(bucket.size))
        return told


def wait_headers(seconds: float) -> dict[str, str]:
    """Retry-After, as OpenAI sends it twice."""
    return {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}


def duration(seconds: float) -> str:
    """
    >>> duration(0.12), duration(1.0), duration(66.5), duration(3600)
    ('120ms', '1s', '1m6.5s', '1h0m0s')
    """
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    hours, rest = divmod(round(seconds, 3), 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{hours:.0f}h" if hours else ""
    text += f"{minutes:.0f}m" if minutes or hours else ""
    return f"{text}{round(rest, 3):g}s"
