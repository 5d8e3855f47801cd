"""How fast one model at one address may be asked: learnt from its answers, never configured unless wanted.

Three things hold a call back, each with one reason:

- The *window*: calls in flight. It starts small and grows by one for each answer (slow start), then by one for
  each window of answers; only while it is what holds calls back (RFC 7661), and not while answers take three times as
  long as at best: a server that queues instead of refusing shows its limit in its latency (as in TCP Vegas).
  The calls refused together are one *episode* and shrink it once: to half in slow start, which overshoots
  by up to two, else to 0.8. A server error or a timeout halts growth for a window of answers; only when half
  a window of calls ran into timeouts with no answer between does it shrink, to half.
- The *pace*: calls a second. Two episodes show what the limit allows, exactly: at both the allowance was used
  up, so what was admitted between them is what it refilled. The pace follows CUBIC's curve around that rate
  (RFC 9438): just below, long near it, then ever faster above, so that a limit that was raised is found.
- The *quotas* that answers report (x-ratelimit-limit, -remaining, -reset for requests and tokens), modelled as
  a bucket that refills steadily, so that in the best case no call is ever refused. A refusal that this
  model did not foresee turns it off for a while: others share the limit, or it is no bucket.

All stop while a Retry-After runs. Times are seconds of any monotonic clock and come from the caller.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

START, MOST = 8, 256
"""Calls in flight: at first, and the most that is tried. More than that costs this process more than it gains."""
OVERSHOT, CROWDED = 0.5, 0.8
"""What an episode leaves of the window: in slow start, and later."""
SLOW = 3.0
"""How many times the best latency stops growth: less is within the chance of few answers of unequal length."""
PLATEAU = 12.0
"""Seconds until the pace, which starts a little below the rate that was seen, reaches it."""
BELOW, MARGIN = 0.02, 1.0
"""How far below it starts: at least this share, and as many calls as this are saved up until then."""
SUSTAINED, LATELY = 0.9, 10.0
"""A pace that was kept for so many seconds before a refusal is not given up below this share."""
FLOWS = 2.0
"""A longer Retry-After (seconds), after more than a few calls, tells of a window that begins anew and not of
an allowance that flows; there is no pace in that."""
MEMORY = 120.0
"""Seconds of past calls that rates are learnt from."""
TELLING = 4
"""Calls or tokens that two samples of a quota must lie apart to tell how fast it fills."""
DOUBT = 60.0
"""Seconds for which a quota that was wrong is not believed."""
ENOUGH = 8
"""Admitted calls that make a rate."""
SLACK = 0.05
"""Seconds that a late call may be late without the pace losing its turn."""
RESERVE = 0.01
"""Share of a quota that is left: two clocks never agree."""
BACKOFF, LONGEST = 0.5, 30.0
"""Seconds: the first and the longest bound of the wait after a refusal or fault without a Retry-After."""
COUNTED = ("calls", "answers", "refused", "faults")
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
    first: Quota | None = None
    spread: float = 0.0
    """How many calls or tokens the samples lay apart that told the rate; 0: it is a guess."""

    def calls(self, now: float, each: float) -> float:
        """How many calls that cost `each` it would admit; a full bucket admits one whatever it costs."""
        reserve = min(max(1.0, RESERVE * self.limit), self.limit / 2)
        level = min(self.limit, self.level + self.rate * (now - self.at))
        return (level - reserve) / min(each, self.limit - reserve)

    def learn(self, quota: Quota, began: float, unseen: float) -> None:
        """The server counted when the call began; what it may not have seen by then is to be taken off."""
        self.first = self.first or quota
        more, sooner = quota.remaining - self.first.remaining, self.first.reset - quota.reset
        if abs(more) >= max(self.spread, TELLING) and more * sooner > 0:
            self.rate, self.spread = more / sooner, abs(more)  # fuller by so many, and whole so much sooner
        elif not self.spread and quota.reset > 0 and quota.remaining < quota.limit:
            self.rate = min((quota.limit - quota.remaining) / quota.reset, quota.limit / 60)
        self.limit, self.level, self.at = quota.limit, quota.remaining - unseen, began


@dataclass(eq=False, slots=True, weakref_slot=True)
class Limiter:
    """One model at one address. Safe to share between threads."""

    concurrency: int | None = None
    """A fixed window; None: learnt."""
    per_second: float | None = None
    """A pace that is not to be passed."""
    chance: Callable[[], float] = random.random
    history: list[Change] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0.0))
    _window: float = START
    _threshold: float = MOST
    """Above this window, slow start is over."""
    _first: float | None = None
    _latency: float = 0.0
    _least: float = float("inf")
    """Smoothed latency of answers: now, and the least so far."""
    _filled: float = float("-inf")
    """When the window was last full."""
    _halted: float = 0.0
    """Answers to come before growth goes on."""
    _paused: float = 0.0
    _shrunk: float = float("-inf")
    _episodes: list[float] = field(default_factory=list)
    _streak: int = 0
    """Episodes, and …"""
    _lost: int = 0
    """… timeouts since the last answer."""
    _flying: dict[int, float] = field(default_factory=dict)
    """Calls under way by their order, with the tokens that they are thought to cost."""
    _admitted: list[float] = field(default_factory=list)
    """When the calls began that were answered; sorted."""
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
    def in_flight(self) -> int:
        return len(self._flying)

    @property
    def window(self) -> int:
        return max(1, int(self._window))

    def pace(self, now: float) -> float | None:
        """Calls a second that may begin now; None: any."""
        if self._rate is None:
            return self.per_second
        grown = (now - self._shrunk - PLATEAU) / PLATEAU
        below = min(0.3, max(BELOW, 4 * MARGIN / (self._rate * PLATEAU)))  # the cubic's area is a fourth
        learnt = self._rate * (1 + below * grown**3)
        return learnt if self.per_second is None else min(learnt, self.per_second)

    def free(self, now: float) -> int:
        """How many calls may begin now."""
        with self._lock:
            if now < self._paused:
                return 0
            room = float(self.window - self.in_flight)
            pace = self.pace(now)
            if pace is not None:
                due = now if self._next is None else max(self._next, now - SLACK)
                room = min(room, (now - due) * pace + 1)
            if self._believed(now):
                each = {"requests": 1.0, "tokens": max(1.0, self._spent / max(1, self._order))}
                room = min(room, *(bucket.calls(now, each[name]) for name, bucket in self._quotas.items()))
            return max(0, int(room + 1e-9))

    def begin(self, now: float, tokens: float) -> Ticket:
        """Notes that a call begins; `tokens` is what it is thought to cost at most."""
        with self._lock:
            if self._first is None:
                self._first = now
                self._note(now, "start")
            self.counts["calls"] += 1
            self._order += 1
            self._spent += tokens
            self._flying[self._order] = tokens
            if self.in_flight >= self.window:
                self._filled = now
            pace = self.pace(now)
            if pace is not None:
                self._next = (now if self._next is None else max(self._next, now - SLACK)) + 1 / pace
            for name, bucket in self._quotas.items():
                bucket.level -= tokens if name == "tokens" else 1.0
            return Ticket(now, self._order, self._spent, self._believed(now))

    def answered(self, ticket: Ticket, now: float, quotas: Mapping[str, Quota]) -> None:
        """A call got its answer."""
        with self._lock:
            self._land(ticket, "answers")
            insort(self._admitted, ticket.began)
            if self._order % 4096 == 0:
                self._forget(now)
            self._streak = self._lost = 0
            self._learn(ticket, quotas)
            self._time(now - ticket.began)
            if self._halted > 0:
                self._halted -= 1
            elif self._filled >= ticket.began and self._latency <= SLOW * self._least < math.inf:
                self._grow(now)

    def refused(self, ticket: Ticket, now: float, retry_after: float | None, quotas: Mapping[str, Quota]) -> None:
        """A call was refused for the rate or the number of calls (429)."""
        with self._lock:
            crowd = self.in_flight
            self._land(ticket, "refused")
            self._learn(ticket, quotas)
            if ticket.foreseen:
                self._distrusted = now
            if retry_after is not None:
                self._pause(now, retry_after)
            if ticket.began >= self._shrunk:
                self._shrink(ticket.began, now, crowd, retry_after)

    def faulted(self, ticket: Ticket, now: float, retry_after: float | None, *, timeout: bool = False) -> None:
        """A call ended in a server error, a timeout or a lost connection."""
        with self._lock:
            self._land(ticket, "faults")
            self._lost += timeout
            if self.concurrency is None and self._lost > self.window / 2:
                self._window = self._threshold = max(1.0, self._window * OVERSHOT)
                self._lost = 0
                self._note(now, "timeouts")
            if not self._halted:
                self._note(now, "fault: no growth for a while")
            self._halted = float(self.window)
            if retry_after is not None:
                self._pause(now, retry_after)

    def dropped(self, ticket: Ticket) -> None:
        """A call was given up, or ended in a way that tells nothing of a limit."""
        with self._lock:
            self._land(ticket)

    def _land(self, ticket: Ticket, as_what: str = "") -> None:
        self._flying.pop(ticket.order, None)
        if as_what:
            self.counts[as_what] += 1

    def _believed(self, now: float) -> bool:
        return bool(self._quotas) and now - self._distrusted > DOUBT

    def _learn(self, ticket: Ticket, quotas: Mapping[str, Quota]) -> None:
        if not quotas or ticket.order < self._sampled:
            return
        self._sampled = ticket.order
        # Calls may arrive in another order than they began, so those before this one may not be counted yet.
        older = list(itertools.takewhile(lambda item: item[0] < ticket.order, self._flying.items()))
        unseen = {
            "requests": float(self._order - ticket.order + len(older)),
            "tokens": self._spent - ticket.spent + sum(tokens for _, tokens in older),
        }
        for name, quota in quotas.items():
            bucket = self._quotas.get(name) or _Bucket()
            bucket.learn(quota, ticket.began, unseen[name])
            if bucket.rate > 0:  # else nobody knows when it fills again
                self._quotas[name] = bucket

    def _time(self, seconds: float) -> None:
        share = max(1 / self.counts["answers"], 1 / self.window)
        self._latency += (seconds - self._latency) * share
        if self.counts["answers"] >= START:
            self._least = min(self._least, self._latency)

    def _grow(self, now: float) -> None:
        if self.concurrency is not None:
            return
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
        self._learn_rate(began, now, retry_after or 0.0)
        if self.concurrency is None:
            crowded = self._window if self._rate else min(self._window, crowd)
            self._window = max(1.0, crowded * (CROWDED if self._rate or self._threshold < MOST else OVERSHOT))
            self._threshold = self._window
        if retry_after is None or self._streak:  # told to wait, and refused again: the server told too little
            self._pause(now, backoff(self._streak, self.chance))
        self._streak += 1
        self._shrunk = now
        self._next = None
        self._note(now, "refused")

    def _learn_rate(self, began: float, now: float, retry_after: float) -> None:
        """The rate between the oldest remembered episode and this one; of the calls that began in the last
        latency before it, it is not known yet how they end."""
        self._forget(now)
        if retry_after > FLOWS and self._count(began - retry_after, began) > MARGIN + 2:
            self._rate = None
            self._episodes.clear()
        end = began - self._latency
        for episode in self._episodes:
            if end - episode >= 1 and (admitted := self._count(episode, end)) >= ENOUGH:
                lately = self._count(end - LATELY, end) / LATELY if self._rate else 0.0
                self._rate = max(admitted / (end - episode), SUSTAINED * lately)
                break
        self._episodes.append(now)

    def _count(self, start: float, end: float) -> int:
        """How many calls that began between the two were answered."""
        return max(0, bisect_left(self._admitted, end) - bisect_right(self._admitted, start))

    def _forget(self, now: float) -> None:
        for times in (self._admitted, self._episodes):
            del times[: bisect_left(times, now - MEMORY)]

    def _note(self, now: float, reason: str) -> None:
        if len(self.history) < KEPT:
            at = 0.0 if self._first is None else now - self._first
            self.history.append(Change(at, self._window, self.pace(now), reason))
