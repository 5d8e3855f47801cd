"""How fast one model at one address may be asked: learnt from its answers, never configured unless wanted.

Three things hold a call back, each with one reason:

- The *window*: calls in flight. It starts small and grows by one for each answer (slow start), then by one for
  each window of answers; only while it is what holds calls back (RFC 7661), and not while answers take twice as
  long as at first: a server that queues instead of refusing shows its limit in its latency (TCP Vegas).
  The calls refused together are one *episode* and shrink it once: by half in slow start, which overshoots
  by up to two, else to 0.8. A server error or a timeout halts growth for a window of answers.
- The *pace*: calls a second. Two episodes show what the limit allows, exactly: at both the allowance was used
  up, so what was admitted between them is what it refilled. The pace follows CUBIC's curve around that rate
  (RFC 9438): just below, long near it, then ever faster above, so that a limit that was raised is found.
- The *quotas* that answers report (x-ratelimit-limit, -remaining, -reset for requests and tokens), modelled as
  a bucket that refills steadily, so that in the best case no call is ever refused. A refusal that this
  model did not foresee turns it off for a while: others share the limit, or it is no bucket.

All stop while a Retry-After runs. Times are seconds of any monotonic clock and come from the caller.
"""

from __future__ import annotations

import random
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

START, MOST = 8, 256
"""Calls in flight: at first, and the most that is tried. More than that costs this process more than it gains."""
OVERSHOT, CROWDED = 0.5, 0.8
"""What an episode leaves of the window: in slow start, and later."""
SLOW = 2.0
"""How many times the first latency stops growth."""
BELOW, PLATEAU = 0.02, 20.0
"""The pace starts so far below the rate that was seen, and reaches it after so many seconds."""
MEMORY = 60.0
"""Seconds of past calls that rates are learnt from, and for which a quota that was wrong is not believed."""
ENOUGH = 8
"""Admitted calls that make a rate."""
SLACK = 0.05
"""Seconds that a late call may be late without the pace losing its turn."""
RESERVE = 0.01
"""Share of a quota that is left: two clocks never agree."""
BACKOFF, LONGEST = 0.5, 30.0
"""Seconds: mean-free first and longest wait after a refusal or fault without a Retry-After."""
KEPT = 2000
"""Entries of the history."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What a response's headers tell of a limit in requests or in tokens."""

    limit: float
    remaining: float
    reset: float
    """Seconds until it is whole again."""


@dataclass(frozen=True, slots=True)
class Change:
    """The limiter changed its mind."""

    at: float
    """Seconds since its first call."""
    window: float
    """Calls in flight."""
    pace: float | None
    """Calls a second; None: not limited."""
    reason: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """A call under way."""

    began: float
    order: int
    """How many calls had begun, this one included,"""
    spent: float
    """… and how many tokens they were thought to cost."""
    tokens: float
    foreseen: bool
    """A quota said that this call would be admitted."""


def backoff(tries: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait before the next try: full jitter, uniform from 0 to a bound that doubles (Brooker,
    "Exponential Backoff And Jitter", 2015)."""
    return chance() * min(LONGEST, BACKOFF * 2.0 ** min(tries, 16))


@dataclass(slots=True)
class _Bucket:
    """A quota as the server is believed to count it."""

    limit: float = 0.0
    level: float = 0.0
    rate: float = 0.0
    at: float = 0.0

    def now(self, now: float) -> float:
        return min(self.limit, self.level + self.rate * (now - self.at)) - max(1.0, RESERVE * self.limit)

    def learn(self, quota: Quota, began: float, spent_since: float) -> None:
        """The server counted when the call began; what began after it is still to be taken off."""
        used = quota.limit - quota.remaining
        # A short reset is rounded too coarsely to tell a rate, but better than none.
        if used > 0 and quota.reset > 0 and (quota.reset >= 1 or not self.rate):
            self.rate = used / quota.reset
        self.limit, self.level, self.at = quota.limit, quota.remaining - spent_since, began


@dataclass(slots=True)
class Limiter:
    """One model at one address. Safe to share between threads."""

    concurrency: int | None = None
    """A fixed window; None: learnt."""
    per_second: float | None = None
    """A pace that is not to be passed."""
    chance: Callable[[], float] = random.random
    in_flight: int = 0
    history: list[Change] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("calls", "answers", "refused", "faults"), 0.0))
    _window: float = START
    _threshold: float = MOST
    """Above this window, slow start is over."""
    _first: float | None = None
    _latency: float | None = None
    _least: float | None = None
    """Smoothed latency of answers: now, and the least so far."""
    _halted: float = 0.0
    """Answers to come before growth goes on."""
    _paused: float = 0.0
    _shrunk: float = float("-inf")
    _episodes: list[float] = field(default_factory=list)
    _streak: int = 0
    """Episodes since the last answer."""
    _begun: list[float] = field(default_factory=list)
    _refused: list[float] = field(default_factory=list)
    """When calls began, and those of them that were refused; sorted."""
    _rate: float | None = None
    _next: float | None = None
    _order: int = 0
    _spent: float = 0.0
    _quotas: dict[str, _Bucket] = field(default_factory=dict)
    _sampled: int = 0
    _distrusted: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._window = float(self.concurrency or START)

    @property
    def window(self) -> int:
        return max(1, int(self._window))

    def pace(self, now: float) -> float | None:
        """Calls a second that may begin now; None: any."""
        if self._rate is None:
            return self.per_second
        grown = (now - self._shrunk - PLATEAU) / PLATEAU
        learnt = self._rate * (1 + BELOW * grown**3)
        return learnt if self.per_second is None else min(learnt, self.per_second)

    def free(self, now: float) -> int:
        """How many calls may begin now."""
        with self._lock:
            if now < self._paused:
                return 0
            room = float(self.window - self.in_flight)
            pace = self.pace(now)
            if pace is not None and self._next is not None:
                room = min(room, (max(self._next, now - SLACK) - now) * -pace + 1)
            if self._believed(now):
                each = max(1.0, self._spent / self._order if self._order else 1.0)
                for name, bucket in self._quotas.items():
                    room = min(room, bucket.now(now) / (each if name == "tokens" else 1.0))
            return max(0, int(room))

    def begin(self, now: float, tokens: float) -> Ticket:
        """Notes that a call begins; `tokens` is what it is thought to cost at most."""
        with self._lock:
            if self._first is None:
                self._first = now
                self._note(now, "start")
            self.in_flight += 1
            self.counts["calls"] += 1
            self._order += 1
            self._spent += tokens
            pace = self.pace(now)
            if pace is not None:
                self._next = max(now - SLACK if self._next is not None else now, self._next or 0.0) + 1 / pace
            for name, bucket in self._quotas.items():
                bucket.level -= tokens if name == "tokens" else 1.0
            insort(self._begun, now)
            foreseen = self._believed(now)
            return Ticket(now, self._order, self._spent, tokens, foreseen)

    def answered(self, ticket: Ticket, now: float, quotas: Mapping[str, Quota]) -> None:
        """A call got its answer."""
        with self._lock:
            was_full = self.in_flight >= self.window
            self.in_flight -= 1
            self.counts["answers"] += 1
            self._streak = 0
            self._learn(ticket, quotas)
            self._time(now - ticket.began)
            if self._halted > 0:
                self._halted -= 1
            elif was_full and self.concurrency is None and not self._queues():
                self._grow(now)

    def refused(self, ticket: Ticket, now: float, retry_after: float | None, quotas: Mapping[str, Quota]) -> None:
        """A call was refused for the rate or the number of calls (429)."""
        with self._lock:
            crowd = self.in_flight
            self.in_flight -= 1
            self.counts["refused"] += 1
            insort(self._refused, ticket.began)
            self._learn(ticket, quotas)
            if ticket.foreseen:
                self._distrusted = now
            if retry_after is not None:
                self._pause(now, retry_after)
            if ticket.began >= self._shrunk:
                self._shrink(ticket.began, now, crowd, retry_after)

    def faulted(self, now: float, retry_after: float | None) -> None:
        """A call ended in a server error, a timeout or a lost connection."""
        with self._lock:
            self.in_flight -= 1
            self.counts["faults"] += 1
            if not self._halted:
                self._note(now, "fault: no growth for a while")
            self._halted = float(self.window)
            if retry_after is not None:
                self._pause(now, retry_after)

    def dropped(self) -> None:
        """A call was given up, or answered in a way that tells nothing of a limit."""
        with self._lock:
            self.in_flight -= 1

    def _believed(self, now: float) -> bool:
        return bool(self._quotas) and now - self._distrusted > MEMORY

    def _learn(self, ticket: Ticket, quotas: Mapping[str, Quota]) -> None:
        if not quotas or ticket.order < self._sampled:
            return
        self._sampled = ticket.order
        for name, quota in quotas.items():
            since = self._spent - ticket.spent if name == "tokens" else self._order - ticket.order
            bucket = self._quotas.get(name) or _Bucket()
            bucket.learn(quota, ticket.began, float(since))
            if bucket.rate > 0:  # else nobody knows when it fills again
                self._quotas[name] = bucket

    def _time(self, seconds: float) -> None:
        share = 1 / self.window if self._latency is not None else 1.0
        self._latency = seconds * share + (self._latency or 0.0) * (1 - share)
        self._least = self._latency if self._least is None else min(self._least, self._latency)

    def _queues(self) -> bool:
        return bool(self._latency and self._least and self._latency > SLOW * self._least)

    def _grow(self, now: float) -> None:
        slow_start = self._window < self._threshold
        self._window = min(float(MOST), self._window + (1.0 if slow_start else 1.0 / self._window))
        last = self.history[-1].window if self.history else 0.0
        if self.window >= 1.5 * last or (self._window == MOST and last != MOST):
            self._note(now, "answers come")

    def _pause(self, now: float, seconds: float) -> None:
        """The longest wait that the server asked for; said once in the history."""
        if now + seconds > self._paused + 0.5:
            self._note(now, f"pause of {seconds:.3g} s")
        self._paused = max(self._paused, now + seconds)

    def _shrink(self, began: float, now: float, crowd: int, retry_after: float | None) -> None:
        self._learn_rate(began, now)
        if self.concurrency is None:
            left = CROWDED if self._window >= self._threshold else OVERSHOT
            self._window = max(1.0, min(self._window, max(crowd, 2.0)) * left if self._rate is None else self._window * left)
            self._threshold = self._window
        if retry_after is None:
            self._pause(now, backoff(self._streak, self.chance))
        self._streak += 1
        self._shrunk = now
        self._next = None
        self._note(now, "refused")

    def _learn_rate(self, began: float, now: float) -> None:
        """The rate between the oldest remembered episode and this one."""
        for times in (self._begun, self._refused, self._episodes):
            del times[: bisect_left(times, now - 2 * MEMORY)]
        for episode in self._episodes:
            admitted = _between(self._begun, episode, began) - _between(self._refused, episode, began)
            if began - episode >= 1 and admitted >= ENOUGH:
                self._rate = admitted / (began - episode)
                break
        self._episodes.append(began)

    def _note(self, now: float, reason: str) -> None:
        if len(self.history) < KEPT:
            self.history.append(Change(now - (self._first or now), self._window, self.pace(now), reason))


def _between(times: list[float], start: float, end: float) -> int:
    """How many of the sorted times lie in [start, end)."""
    return bisect_left(times, end) - bisect_right(times, start) if end > start else 0
