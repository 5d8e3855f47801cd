"""The calls under way: an event loop in a thread of its own, from requests to outputs.

All happens in the loop's thread, so that one call's end begins the next at once: it takes requests, asks the
limiter, calls, tries again, and tells what came. The engine's generator only hands on what is told.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from workbench.engines.base import Piece, Requests, failed
from workbench.engines.openai.client import WHOLE, Place, Reply, open_client
from workbench.engines.openai.faults import Trouble
from workbench.engines.openai.hosts import Host
from workbench.engines.openai.limiter import Limiter, Ticket, backoff
from workbench.engines.openai.wire import Timing, outputs
from workbench.errors import EngineError, ModelError
from workbench.records import Output, Request, canonical

LOOK = 0.02
"""Seconds between two looks at what is new, cancelled, or may begin by now."""
MERGED = 8
"""The most answers that are asked of one call; some hosts take no more."""

Tell = Callable[[Piece | Output], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How an engine asks."""

    place: Place
    model: str
    host: Host
    price: Mapping[str, float] | None
    retries: int
    streams: bool
    """Every call streams, to measure the time to its first token."""

    @property
    def merges(self) -> bool:
        """Repeats can share a call: the host gives several answers, and no seed tells them apart."""
        return self.host.n and not self.host.seeds and not self.streams

    def streaming(self, request: Request) -> bool:
        """Whether a request's call streams."""
        return (self.streams or request.stream) and self.place.form.STREAM_PATH is not None


@dataclass(eq=False, slots=True)
class Call:
    """One or more requests that a single call answers."""

    requests: list[Request]
    body: bytes
    tokens: float
    """What it is thought to cost at most."""
    tries: int = 0
    """Tries that ended in a fault."""
    lost: int = 0
    """Tries before this one whose answer was lost on the way, and may have been paid for."""
    down_since: float | None = None
    """When the first of the latest tries began that found no connection; None: the last one found one."""
    since: float = field(default_factory=time.monotonic)
    told: bool = False
    """Some text of it has been told."""


class Session:
    """Answers requests until there will be no more. Lives in one event loop."""

    def __init__(self, plan: Plan, limiter: Limiter, requests: Requests, tell: Tell) -> None:
        self._plan, self._limiter, self._requests, self._tell = plan, limiter, requests, tell
        self._ready: deque[Call] = deque()
        self._later: list[tuple[float, int, Call]] = []
        """A heap of calls to try again, by the time when."""
        self._running: dict[Call, asyncio.Task[None]] = {}
        self._numbers = itertools.count()
        self._idle = asyncio.Event()
        self._reached = 0.0
        """When the latest try began that found a connection. Not when it was answered: an address that goes
        down may still answer what it has begun."""
        self._ended = False
        """No request can be answered: the group of tasks is closing and takes no more."""
        self.retries = 0

    async def run(self) -> None:
        """Raises EngineError where no request can be answered."""
        try:
            async with open_client(self._plan.place) as self._client, asyncio.TaskGroup() as self._tasks:
                while True:
                    self._begin()
                    self._cancel(self._requests.cancelled())
                    if not (self._ready or self._later or self._running) and self._requests.closed:
                        return
                    self._idle.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._idle.wait(), LOOK)
        except BaseExceptionGroup as group:
            raise _first(group) from None

    def _begin(self) -> None:
        """Begins as many calls as the limiter lets, those to try again first."""
        if self._ended:
            return
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._ready.appendleft(heapq.heappop(self._later)[2])
        free = self._limiter.free(now)
        if free > len(self._ready):
            self._take(free - len(self._ready))
        for _ in range(min(free, len(self._ready))):
            call = self._ready.popleft()
            ticket = self._limiter.begin(now, call.tokens)
            self._running[call] = self._tasks.create_task(self._ask(call, ticket))
        if not self._running:
            self._idle.set()

    def _take(self, calls: int) -> None:
        """New requests; repeats that wait together become one call where the host allows."""
        wanted = calls * MERGED if self._plan.merges else calls
        groups: dict[object, list[Request]] = {}
        for request in self._requests.take(wanted, 0):
            alone = request.stream or request.alone or not self._plan.merges
            groups.setdefault(request.id if alone else _question(request), []).append(request)
        for group in groups.values():
            for start in range(0, len(group), MERGED):
                self._add(group[start : start + MERGED])

    def _add(self, requests: list[Request]) -> None:
        plan, request = self._plan, requests[0]
        try:
            body = plan.place.form.body(plan.model, plan.host, request)
        except ModelError as error:
            for refused in requests:
                self._tell(failed(refused, "refused", str(error)))
            return
        if len(requests) > 1:
            body["n"] = len(requests)
        if plan.streaming(request):
            body = plan.place.form.streaming(body)
        raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        most = request.params.get("max_tokens")
        tokens = len(raw) / 4 + len(requests) * (float(most) if isinstance(most, (int, float)) else 0.0)
        self._ready.append(Call(requests, raw, tokens))

    async def _ask(self, call: Call, ticket: Ticket) -> None:
        """One try of a call."""
        request, now = call.requests[0], time.monotonic
        began = now()

        def on_text(text: str) -> None:
            if request.stream:
                call.told = True
                self._tell(Piece(request.id, text))

        try:
            reply = await self._client.ask(call.body, on_text if self._plan.streaming(request) else None)
        except asyncio.CancelledError:
            self._limiter.dropped(ticket)
            raise
        except Trouble as trouble:
            self._note(trouble, ticket)
            if trouble.unreachable:
                call.down_since = call.down_since or began
            else:
                call.down_since, self._reached = None, max(self._reached, began)
            try:
                self._settle(call, trouble)
            except EngineError:
                self._ended = True
                raise
        else:
            self._reached = max(self._reached, began)
            self._limiter.answered(ticket, now(), reply.quotas)
            self._deliver(call, reply)
        finally:
            self._running.pop(call, None)
        self._begin()

    def _deliver(self, call: Call, reply: Reply) -> None:
        wanted, choices = call.requests, reply.answer.choices
        timing: Timing = reply.timing
        for output in outputs([r.id for r in wanted], reply.answer, timing, self._plan.price):
            self._tell(_with_lost(output, call))
        for missing in wanted[len(choices) :]:  # the host gave fewer answers than were asked for
            self._add([missing])

    def _note(self, trouble: Trouble, ticket: Ticket) -> None:
        """Tells the limiter."""
        now = time.monotonic()
        if trouble.effect == "crowded":
            self._limiter.refused(ticket, now, trouble.wait, trouble.quotas)
        elif trouble.effect == "faulty":
            self._limiter.faulted(ticket, now, trouble.wait, timeout=trouble.kind == "timeout")
        else:
            self._limiter.dropped(ticket)

    def _settle(self, call: Call, trouble: Trouble) -> None:
        """Tries again, fails the requests, or raises EngineError."""
        place = self._plan.place
        if trouble.stops:
            raise EngineError(_stopped(self._plan, trouble))
        patience = WHOLE * place.timeout
        if trouble.wait is not None and trouble.wait > patience:
            reason = f"asks to wait {trouble.wait:.0f} s: {trouble.message}"
            raise EngineError(f"{place.address} {reason}; resume the run then")
        waited = time.monotonic() - call.since
        if trouble.effect == "crowded":  # no fault of the call: it waits for its turn
            again = self._plan.retries > 0 and waited + (trouble.wait or 0.0) < patience
        else:
            call.tries += 1
            again = trouble.again and call.tries <= self._plan.retries
        if again and not call.told:
            self.retries += 1
            call.lost += trouble.maybe_paid
            wait = 0.0 if trouble.effect == "crowded" else max(trouble.wait or 0.0, backoff(call.tries))
            heapq.heappush(self._later, (time.monotonic() + wait, next(self._numbers), call))
            return
        if call.down_since is not None and self._reached < call.down_since:
            raise EngineError(f"{place.address} is down: {trouble.message}; start it, then resume the run")
        for request in call.requests:
            self._tell(_with_lost(failed(request, trouble.kind, trouble.message, retry=trouble.again), call))

    def _cancel(self, gone: set[str]) -> None:
        """Drops requests that nobody wants; a call ends when it has none left."""
        if not gone:
            return
        for call in [*self._running, *self._ready, *(entry[2] for entry in self._later)]:
            dropped = [request for request in call.requests if request.id in gone]
            for request in dropped:
                self._tell(failed(request, "cancelled", "nobody waits for this answer any more"))
            if dropped:
                self._shorten(call, [request for request in call.requests if request.id not in gone])

    def _shorten(self, call: Call, left: Sequence[Request]) -> None:
        call.requests = list(left)
        if left:
            return
        if task := self._running.pop(call, None):
            task.cancel()
        if call in self._ready:
            self._ready.remove(call)
        self._later = [entry for entry in self._later if entry[2] is not call]
        heapq.heapify(self._later)


def _with_lost(output: Output, call: Call) -> Output:
    return replace(output, extra={**output.extra, "lost_tries": call.lost}) if call.lost else output


def _question(request: Request) -> str:
    """What repeats of a trial have in common."""
    messages = [message.to_json() for message in request.messages]
    return canonical([messages, dict(request.params), dict(request.answer), request.logprobs, list(request.tools)])


def _stopped(plan: Plan, trouble: Trouble) -> str:
    """Why no request can be answered."""
    address, variable = plan.place.address, plan.place.key.variable
    reasons = {
        "auth": f"refuses the key ({variable or 'none sent'})",
        "no_model": f"knows no model '{plan.model}', or is no such API",
        "quota": "has no budget left for this key",
    }
    reason = reasons.get(trouble.kind)
    return f"{address} {reason}: {trouble.message}" if reason else f"{address}: {trouble.message}"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the calls; a user error before a fault of ours."""
    errors = [_first(e) if isinstance(e, BaseExceptionGroup) else e for e in group.exceptions]
    return next((error for error in errors if isinstance(error, EngineError)), errors[0])
