"""The limiter against simulated servers, on a clock of its own: no sleeping, no network."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from workbench.engines.openai.limiter import CROWDED, LONGEST, MOST, START, Limiter, Quota, Ticket, backoff

STEP = 0.01
Verdict = tuple[bool, float | None, Mapping[str, Quota]]
"""Admitted, Retry-After, what the headers tell."""


@dataclass
class Bucket:
    """An allowance that flows: `per_minute`, of which `size` can be saved up."""

    per_minute: float
    size: float
    tells: bool = False
    retry_after: float | None = None
    limit: float | None = None
    """What it calls its limit, where that is none a minute."""
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.size

    def ask(self, now: float) -> Verdict:
        rate = self.per_minute / 60
        self.level, self.at = min(self.size, self.level + rate * (now - self.at)), now
        admitted = self.level >= 1
        self.level -= admitted
        told = {"requests": Quota(self.limit or self.per_minute, int(self.level), (self.size - self.level) / rate)}
        return admitted, None if admitted else self.retry_after, told if self.tells else {}

    def done(self) -> None: ...


@dataclass
class FixedWindow:
    """So many calls a minute, counted anew each minute; a refusal says how long it is to the next."""

    per_minute: int
    tells: bool = False
    counts: dict[int, int] = field(default_factory=dict)

    def ask(self, now: float) -> Verdict:
        window, left = int(now // 60), 60 - now % 60
        admitted = self.counts.get(window, 0) < self.per_minute
        self.counts[window] = self.counts.get(window, 0) + admitted
        told = {"requests": Quota(self.per_minute, self.per_minute - self.counts[window], left)}
        return admitted, None if admitted else left, told if self.tells else {}

    def done(self) -> None: ...


@dataclass
class AtOnce:
    """So many calls at a time."""

    most: int
    under_way: int = 0

    def ask(self, now: float) -> Verdict:
        admitted = self.under_way < self.most
        self.under_way += admitted
        return admitted, None, {}

    def done(self) -> None:
        self.under_way -= 1


@dataclass
class Seen:
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    most: int = 0

    def share_refused(self, after: float) -> float:
        refused = sum(t > after for t in self.refused)
        return refused / max(1, refused + sum(t > after for t in self.answered))


def simulate(
    limiter: Limiter,
    server: Bucket | FixedWindow | AtOnce,
    seconds: float,
    latency: Callable[[], float] = lambda: 0.2 * random.uniform(0.8, 1.3),
) -> Seen:
    """Always more to ask than may be asked."""
    events: list[tuple[float, int, Ticket, Verdict]] = []
    seen, number = Seen(), 0
    for tick in range(int(seconds / STEP)):
        now = tick * STEP
        while events and events[0][0] <= now:
            _, _, ticket, (admitted, wait, told) = heapq.heappop(events)
            if admitted:
                server.done()
                seen.answered.append(now)
                limiter.answered(ticket, now, told)
            else:
                seen.refused.append(now)
                limiter.refused(ticket, now, wait, told)
        for _ in range(limiter.free(now)):
            number += 1
            verdict = server.ask(now + STEP)
            ends = now + (latency() if verdict[0] else 2 * STEP)
            heapq.heappush(events, (ends, number, limiter.begin(now, 100), verdict))
        seen.most = max(seen.most, limiter.in_flight)
    return seen


@pytest.mark.parametrize(
    ("server", "rate", "refused"),
    [
        pytest.param(Bucket(600, 600, tells=True), 0.99, 0.0, id="headers tell all"),
        pytest.param(Bucket(600, 10, tells=True), 0.97, 0.01, id="headers, little saved up"),
        pytest.param(Bucket(600, 10, tells=True, limit=10), 0.97, 0.01, id="headers of a limit a second"),
        pytest.param(Bucket(600, 600), 0.96, 0.02, id="bare refusals"),
        pytest.param(Bucket(600, 600, retry_after=1), 0.96, 0.02, id="Retry-After in whole seconds"),
        pytest.param(Bucket(600, 10, retry_after=1), 0.95, 0.02, id="Retry-After, little saved up"),
        pytest.param(Bucket(6000, 6000), 0.96, 0.02, id="ten times as many"),
        pytest.param(Bucket(6000, 100, retry_after=0.01), 0.95, 0.02, id="ten times as many, little saved up"),
    ],
)
def test_an_allowance_is_used_and_seldom_passed(server: Bucket, rate: float, refused: float) -> None:
    """600 calls a minute and nothing set: at least 0.95 of it, below 2 % refused after the first 30 s."""
    for seed in range(3):
        random.seed(seed)
        fresh = Bucket(server.per_minute, server.size, server.tells, server.retry_after, server.limit)
        seen = simulate(Limiter(chance=random.random), fresh, 150)
        late = sum(t > 30 for t in seen.answered) / 120
        assert late >= rate * server.per_minute / 60
        assert seen.share_refused(after=30) <= refused


@pytest.mark.parametrize("tells", [False, True])
def test_a_window_that_begins_anew_is_used_up(tells: bool) -> None:
    random.seed(1)
    seen = simulate(Limiter(chance=random.random), FixedWindow(600, tells), 179)
    assert len(seen.answered) >= 0.99 * 3 * 600
    assert seen.share_refused(after=30) < (0.02 if tells else 0.04)


def test_calls_at_a_time_are_learnt() -> None:
    random.seed(1)
    limiter = Limiter(chance=random.random)
    seen = simulate(limiter, AtOnce(20), 60)
    assert 15 <= limiter.window <= 22
    assert len(seen.answered) >= 0.65 * 20 / 0.21 * 60
    assert seen.share_refused(after=10) < 0.01


def test_without_limits_it_grows_to_the_most() -> None:
    limiter = Limiter()
    seen = simulate(limiter, AtOnce(10_000), 5)
    assert limiter.window == MOST == seen.most
    assert [change.window for change in limiter.history] == sorted(change.window for change in limiter.history)
    assert limiter.history[0].window == START


def test_a_server_that_queues_is_not_flooded() -> None:
    """Four slots: more in flight only wait longer. The window stays far below the most."""
    busy: list[float] = [0.0] * 4
    limiter, events, number = Limiter(), [], 0
    for tick in range(6000):
        now = tick * STEP
        while events and events[0][0] <= now:
            limiter.answered(heapq.heappop(events)[2], now, {})
        for _ in range(limiter.free(now)):
            slot = min(range(4), key=busy.__getitem__)
            busy[slot], number = max(now, busy[slot]) + 0.5, number + 1
            heapq.heappush(events, (busy[slot], number, limiter.begin(now, 1)))
    assert 4 <= limiter.window <= 96


def test_a_fixed_limit_stays() -> None:
    random.seed(1)
    limiter = Limiter(concurrency=7, chance=random.random)
    seen = simulate(limiter, Bucket(6000, 100), 30)
    assert seen.most == limiter.window == 7


@pytest.mark.parametrize("per_second", [5.0, 50.0])
def test_calls_a_minute_are_not_passed(per_second: float) -> None:
    seen = simulate(Limiter(per_second=per_second), AtOnce(10_000), 20)
    assert 0.97 * per_second * 19.7 <= len(seen.answered) <= per_second * 20 + 1


def full(limiter: Limiter, now: float) -> list[Ticket]:
    return [limiter.begin(now, 1) for _ in range(limiter.free(now))]


def test_an_episode_shrinks_once_and_a_pause_is_kept() -> None:
    limiter = Limiter()
    tickets = full(limiter, 0.0)
    assert len(tickets) == START
    for ticket in tickets:
        limiter.refused(ticket, 0.1, 2.0, {})
    assert limiter.window == START // 2, "slow start overshoots by up to two"
    assert (limiter.free(2.0), limiter.free(2.2)) == (0, START // 2)
    for ticket in full(limiter, 2.2):
        limiter.refused(ticket, 2.3, 1.0, {})
    assert limiter.window == int(START // 2 * CROWDED)
    assert [change.reason for change in limiter.history] == [
        "start", "pause of 2 s", "refused", "pause of 1 s", "refused",
    ]  # fmt: skip


def test_refusals_of_calls_from_before_the_episode_do_not_count_again() -> None:
    limiter = Limiter()
    early, late, *_ = full(limiter, 0.0)
    limiter.refused(early, 0.1, 0.0, {})
    shrunk = limiter.window
    limiter.refused(late, 5.0, 0.0, {})
    assert limiter.window == shrunk


def test_a_fault_halts_growth_and_timeouts_alone_shrink() -> None:
    limiter = Limiter()
    faulty, *fine = full(limiter, 0.0)
    limiter.faulted(faulty, 0.1, None)
    for ticket in fine:
        limiter.answered(ticket, 0.2, {})
    assert limiter.window == START, "no growth for a window of answers"
    again = full(limiter, 0.3)
    for ticket in again:
        limiter.answered(ticket, 0.4, {})
    assert limiter.window > START
    window = limiter.window
    for ticket in full(limiter, 0.5):
        limiter.faulted(ticket, 60.5, None, timeout=True)
    assert limiter.window <= window // 2 + 1


def test_tokens_are_a_limit_too() -> None:
    limiter = Limiter()
    tickets = [limiter.begin(0.0, 1_000) for _ in range(3)]
    limiter.answered(tickets[0], 0.1, {"tokens": Quota(60_000, 1_000, 59.0)})
    assert limiter.free(0.1) == 0
    for ticket in tickets[1:]:
        limiter.dropped(ticket)
    big = limiter.begin(0.2, 5_000)
    limiter.answered(big, 0.3, {"tokens": Quota(60_000, 1_000, 59.0)})
    assert limiter.free(0.3) == 0
    assert limiter.free(3.3) > 0, "1000 tokens a second flow"


def test_a_quota_smaller_than_one_call_lets_one_through() -> None:
    limiter = Limiter()
    for _ in range(3):
        ticket = limiter.begin(0.0, 50_000)
        limiter.answered(ticket, 0.1, {"tokens": Quota(1_000, 0, 60.0)})
    assert limiter.free(300.0) == 1


@pytest.mark.parametrize(("tries", "bound"), [(0, 0.5), (1, 1.0), (3, 4.0), (50, LONGEST)])
def test_backoff_is_full_jitter(tries: int, bound: float) -> None:
    assert backoff(tries, lambda: 0.0) == 0.0
    assert backoff(tries, lambda: 1.0) == bound


def test_a_dropped_call_gives_its_place_back() -> None:
    limiter = Limiter(concurrency=2)
    first, _ = full(limiter, 0.0)
    assert limiter.free(0.0) == 0
    limiter.dropped(first)
    limiter.dropped(first)
    assert (limiter.free(0.0), limiter.in_flight) == (1, 1)
