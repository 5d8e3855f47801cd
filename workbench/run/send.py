"""The dispatcher: every request of a run, of its scorers and of the app goes through it to an engine.

A *lane* is a thread. A hosted engine has a lane of its own; all engines that compute in this process share
one: it drains one engine's queue, closes it, then goes on with the next, so that one model is in memory at
a time. Requests come in *blocks*; an engine in this process sees only one block at once, so that the order
inside a block, and with it each answer, does not depend on timing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType

from workbench.engines.base import Engine, Piece, failed
from workbench.errors import EngineError, WorkbenchError
from workbench.records import Output, Request

OnPiece = Callable[[Piece], None]
Ended = Callable[[Request, int, Future[Output]], None]
"""Told of each request that has ended, before who asked it: when it was asked, in nanoseconds of the clock."""


class Queue:
    """What one engine pulls from (`engines.base.Requests`)."""

    def __init__(self, engine: Engine, lane: Lane, ended: Ended | None = None) -> None:
        self.engine, self._lane, self._ended = engine, lane, ended
        self._waiting: deque[tuple[int, Request]] = deque()
        self._alive: dict[str, Future[Output]] = {}
        self._taken: set[str] = set()
        self._unwanted: set[str] = set()
        self._block = 0

    def take(self, at_most: int, wait: float) -> list[Request]:
        with self._lane.changed:
            if not self._ready() and not self.closed:
                self._lane.changed.wait_for(lambda: self._ready() or self.closed, wait)
            taken: list[Request] = []
            while len(taken) < at_most and self._ready():
                self._block, request = self._waiting.popleft()
                self._taken.add(request.id)
                taken.append(request)
            return taken

    def cancelled(self) -> set[str]:
        with self._lane.changed:
            return self._unwanted & self._taken

    @property
    def closed(self) -> bool:
        """The lane is closing, or another engine of the lane has work and this one has none."""
        return not self._waiting and (self._lane.closing or self._lane.others_wait(self))

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def _ready(self) -> bool:
        """The next request is of the block under way, or that block is done."""
        if not self._waiting:
            return False
        return not self.engine.in_process or not self._taken or self._waiting[0][0] == self._block

    # What the dispatcher calls, with the lane's lock held:

    def add(self, request: Request, block: int) -> Future[Output]:
        if request.id in self._alive:
            return self._alive[request.id]
        future: Future[Output] = Future()
        if self._ended is not None:
            future.add_done_callback(partial(self._ended, request, time.time_ns()))
        self._alive[request.id] = future
        self._waiting.append((block, request))
        return future

    def done(self, output: Output) -> Future[Output] | None:
        self._taken.discard(output.request_id)
        self._unwanted.discard(output.request_id)
        return self._alive.pop(output.request_id, None)

    def cancel(self, under_way: bool, only: Collection[str] | None) -> list[tuple[Future[Output], Output]]:
        """Gives back what has not begun; marks what is under way as unwanted, where that is asked. With `only`
        no other ids."""
        if under_way:
            self._unwanted |= self._taken if only is None else self._taken.intersection(only)
        gone = [request for _, request in self._waiting if only is None or request.id in only]
        dropped = [failed(request, "cancelled", "not asked: it was stopped before") for request in gone]
        ids = {request.id for request in gone}
        self._waiting = deque(pair for pair in self._waiting if pair[1].id not in ids)
        return [(f, output) for output in dropped if (f := self._alive.pop(output.request_id, None))]

    def abandon(self) -> list[Future[Output]]:
        futures = list(self._alive.values())
        self._waiting.clear()
        self._alive.clear()
        self._taken.clear()
        return futures


class Lane:
    """A thread with one engine, or with those that take turns."""

    def __init__(self, name: str, on_piece: OnPiece | None) -> None:
        self.changed = threading.Condition()
        self.closing = False
        self.queues: list[Queue] = []
        self._current: Queue | None = None
        self._on_piece = on_piece
        self._thread = threading.Thread(target=self._work, name=f"lane-{name}", daemon=True)

    def others_wait(self, queue: Queue) -> bool:
        return any(q.busy for q in self.queues if q is not queue)

    def start(self) -> None:
        self._thread.start()

    def submit(self, asked: Iterable[tuple[Queue, Request, int]]) -> list[Future[Output]]:
        """Lines all of them up at once: an engine never sees half a block."""
        with self.changed:
            futures = [queue.add(request, block) for queue, request, block in asked]
            self.changed.notify_all()
        return futures

    def cancel(self, calls_too: bool, only: Collection[str] | None) -> None:
        with self.changed:
            dropped = [pair for q in self.queues for pair in q.cancel(calls_too or q.engine.in_process, only)]
            self.changed.notify_all()
        for future, output in dropped:
            future.set_result(output)

    def close(self) -> None:
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self._thread.join()
        for queue in self.queues:
            queue.engine.close()

    def _next(self) -> Queue | None:
        """The queue to drain now: the one whose model is loaded, if it has work; None at the end."""
        with self.changed:
            while True:
                order = [*([self._current] if self._current else []), *self.queues]
                busy = next((q for q in order if q.busy), None)
                if busy or self.closing:
                    return busy
                self.changed.wait()

    def _work(self) -> None:
        while queue := self._next():
            if self._current not in (None, queue):
                self._current.engine.close()
            self._current = queue
            try:
                for event in queue.engine.generate(queue):
                    self._deliver(queue, event)
            except Exception as error:  # noqa: BLE001 - whatever an engine raises ends its requests, not the lane
                self._give_up(queue, error)

    def _deliver(self, queue: Queue, event: Piece | Output) -> None:
        if isinstance(event, Piece):
            if self._on_piece:
                self._on_piece(event)
            return
        with self.changed:
            future = queue.done(event)
            self.changed.notify_all()
        if future:
            future.set_result(event)

    def _give_up(self, queue: Queue, error: Exception) -> None:
        with self.changed:
            futures = queue.abandon()
        if not isinstance(error, WorkbenchError):
            wrapped = EngineError(f"the engine stopped with {type(error).__name__}: {error}")
            wrapped.__cause__ = error
            error = wrapped
        for future in futures:
            future.set_exception(error)


class Dispatcher:
    """Engines by alias, each behind its lane. Use as a context manager: leaving it closes the engines."""

    def __init__(
        self, engines: Mapping[str, Engine], on_piece: OnPiece | None = None, ended: Ended | None = None
    ) -> None:
        self._ended = ended
        self._places: dict[str, tuple[Lane, Queue]] = {}
        self._shared, self._on_piece, self._started = Lane("in-process", on_piece), on_piece, False
        self._lanes: list[Lane] = []
        for alias, engine in engines.items():
            self.add(alias, engine)

    def __enter__(self) -> Dispatcher:
        self._started = True
        for lane in self._lanes:
            lane.start()
        return self

    def __contains__(self, alias: object) -> bool:
        return alias in self._places

    def add(self, alias: str, engine: Engine) -> None:
        """One more model, also while others are being asked."""
        lane = self._shared if engine.in_process else Lane(alias, self._on_piece)
        queue = Queue(engine, lane, self._ended)
        with lane.changed:
            lane.queues.append(queue)
        self._places[alias] = (lane, queue)
        if lane not in self._lanes:
            self._lanes.append(lane)
            if self._started:
                lane.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel()
        for lane in self._lanes:
            lane.close()

    def submit(self, request: Request, block: int = 0) -> Future[Output]:
        """Asks the request's model; equal requests under way share one future. A failure is an Output; the
        future raises EngineError where the engine can't go on at all."""
        return self.submit_all([(block, request)])[0]

    def submit_all(self, asked: Sequence[tuple[int, Request]]) -> list[Future[Output]]:
        """Asks (block, request) pairs; those of one block that are asked here are seen together."""
        futures: dict[int, Future[Output]] = {}
        for lane in self._lanes:
            own = [i for i, (_, request) in enumerate(asked) if self._places[request.model][0] is lane]
            lined_up = lane.submit((self._places[asked[i][1].model][1], asked[i][1], asked[i][0]) for i in own)
            futures.update(zip(own, lined_up, strict=True))
        return [futures[i] for i in range(len(asked))]

    def cancel(self, *, calls_too: bool = True, only: Collection[str] | None = None) -> None:
        """Asks every engine to stop: what has not begun is dropped, the rest ends as `cancelled` or done.

        Without `calls_too`, calls to other machines end by themselves: they are paid for already. `only` names
        the requests to stop; None: all."""
        for lane in self._lanes:
            lane.cancel(calls_too, only)
