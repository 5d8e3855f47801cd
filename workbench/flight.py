"""Requests on their way: lined up, asked as far as the budgets allow, committed before they count.

A run's trials and the questions of its judges go this way, each with what waits for the answers.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event

from workbench.engines.base import Engine
from workbench.errors import StoreError
from workbench.records import Output, Request
from workbench.run.budget import Budget
from workbench.run.send import Dispatcher
from workbench.spending import landing, settled, turn
from workbench.store import recording
from workbench.store.database import Database
from workbench.store.recording import Kept

AHEAD = 1000
"""How many requests are lined up at least, in whole blocks: enough to keep engines busy, few enough to stay small."""
TURN_SECONDS = recording.STALE_SECONDS / 4
"""How long what is in flight stays reserved without a sign of life, at most."""
GATHER_SECONDS = 0.01
"""How long to wait for others after a first answer has come: they are committed together."""

Arrived = Sequence[tuple[Request, Future[Output]]]


@dataclass(frozen=True, slots=True)
class Room:
    """What asking works with."""

    database: Database
    run: str
    """What outputs are kept under: a run's id, or what else they were asked for."""
    engines: Mapping[str, Engine]
    budgets: Sequence[Budget] = ()
    newer_than: str = ""
    """Answers older than this time (ISO 8601, UTC) are not reused."""
    stop: Event = field(default_factory=Event)


@dataclass(frozen=True, slots=True)
class Landed:
    """What became of requests that arrived."""

    kept: Sequence[Kept] = ()
    """Committed: answers and failures."""
    requests: Sequence[Request] = ()
    """Theirs, in the same order."""
    cancelled: Sequence[str] = ()
    """Ids of those that were given back."""


class Flight:
    """Requests that are lined up or under way. Lives in one thread, the store's writer."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._arrived: SimpleQueue[tuple[Request, Future[Output]]] = SimpleQueue()
        self._pending: deque[tuple[int, Request]] = deque()
        """What is not asked yet, with its block."""
        self.flying: set[str] = set()
        """Ids of what is asked and has not arrived."""
        self._unkept: list[tuple[Request, str, Output]] = []
        """What arrived when the store could not be written: it is paid for, and kept as soon as that can be."""
        self._turned = time.monotonic()
        """When the last turn was."""
        self._waited = False
        """Whether it has waited for what others have in flight."""

    def line_up(self, block: int, request: Request) -> None:
        self._pending.append((block, request))

    def submit(self, dispatcher: Dispatcher) -> str:
        """Asks what is lined up, as far as the budgets allow; all at once, so that blocks are seen whole. Returns
        which budget ended it, in words."""
        ended, asked = "", list[tuple[int, Request]]()
        if self._pending or (self.flying and time.monotonic() - self._turned > TURN_SECONDS):
            self._turned = time.monotonic()
            with turn(self._room.database, self._room.budgets):
                ended, asked = self._choose()
        self.flying |= {request.id for _, request in asked}
        for (_, request), future in zip(asked, dispatcher.submit_all(asked), strict=True):
            future.add_done_callback(partial(self._arrive, request))
        return ended

    def _choose(self) -> tuple[str, list[tuple[int, Request]]]:
        """Which budget ended it, in words, and what can be asked."""
        asked: list[tuple[int, Request]] = []
        while self._pending and not self._room.stop.is_set():
            _, request = self._pending[0]
            for budget in self._room.budgets:
                if why := budget.passed_by(request):
                    # answers may take less than their worst case: only with none under way it is the end
                    return "" if self.flying or asked or self._waits_for(budget) else why, asked
            asked.append(self._pending.popleft())
            for budget in self._room.budgets:
                budget.ask(request)
        return "", asked

    def _waits_for(self, budget: Budget) -> bool:
        """Whether another process has some of the budget in flight; says once whose (a warning in the log)."""
        if budget.awaited and not self._waited:
            self._waited = True
            logging.getLogger("workbench").warning(
                "%s is left to what is in flight for %s; waiting for it", budget.what, budget.awaited
            )
        return bool(budget.awaited)

    def out_of_time(self) -> str:
        """Which budget has no time left, in words."""
        return next((late for budget in self._room.budgets if (late := budget.out_of_time)), "")

    def give_up(self, dispatcher: Dispatcher) -> list[str]:
        """Ends what is under way, calls to other machines only at a stop; returns the ids of what was not asked."""
        dispatcher.cancel(calls_too=self._room.stop.is_set())
        given_up = [request.id for _, request in self._pending]
        self._pending.clear()
        return given_up

    def take(self, wait: float) -> Arrived:
        """Waits a moment for the first arrival, then takes all that are there."""
        arrived = []
        try:
            arrived.append(self._arrived.get(timeout=wait) if wait else self._arrived.get_nowait())
            if wait:
                time.sleep(GATHER_SECONDS)
            while True:
                arrived.append(self._arrived.get_nowait())
        except Empty:
            return arrived

    def keep(self, arrived: Arrived, *, last: bool = False) -> Landed:
        """Commits the outputs among what has arrived in one transaction; a cancelled request has none. Raises
        StoreError where that can't be; then they are held for the next call, and at the `last` one are lost."""
        self.flying -= {request.id for request, _ in arrived}
        answered, cancelled = self._unkept, []
        for request, future in arrived:
            if future.exception() is not None:
                for budget in self._room.budgets:
                    budget.drop(request.id)
                continue
            output = settled(future.result(), self._room.budgets)
            if output.failure and output.failure.kind == "cancelled":
                cancelled.append(request.id)
            else:
                answered.append((request, self._room.engines[request.model].identity, output))
        if not answered:
            if arrived:  # nothing to keep, and less in flight
                with turn(self._room.database, self._room.budgets):
                    pass
            return Landed(cancelled=cancelled)
        try:
            with landing(self._room.database, self._room.budgets) as connection:
                kept = recording.keep(connection, self._room.run, answered)
                recording.beat(connection, self._room.run)
        except StoreError as error:
            if last:
                count = f"{len(answered):,} {'answer' if len(answered) == 1 else 'answers'}"
                raise StoreError(f"{error}; the last {count} could not be kept, and will be asked again") from error
            raise
        self._unkept = []
        return Landed(kept, [request for request, _, _ in answered], cancelled)

    def _arrive(self, request: Request, future: Future[Output]) -> None:
        self._arrived.put((request, future))


def raise_first_error(arrived: Arrived) -> None:
    """Raises what an engine raised."""
    for _, future in arrived:
        if error := future.exception():
            raise error
