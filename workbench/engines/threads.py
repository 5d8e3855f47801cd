"""Requests asked by plain blocking calls, each in a thread, so many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from workbench.engines.base import Requests, failed
from workbench.records import Output, Request

_IDLE_SECONDS = 0.2
_LOOK_SECONDS = 0.02
"""How often free threads look for new requests."""


def answered_in_threads(
    requests: Requests, ask: Callable[[Request], Output], at_once: int, name: str
) -> Iterator[Output]:
    """What an engine's `generate` yields. `ask` raises nothing; a call that runs can't be interrupted: cancelling drops
    what has not begun, and what runs when the iterator is closed is waited for. `name` is that of the threads."""
    with ThreadPoolExecutor(at_once, name) as pool:
        alive: set[Future[Output]] = set()
        while alive or not requests.closed:
            free = at_once - len(alive)
            for request in requests.take(free, 0 if alive else _IDLE_SECONDS) if free else ():
                if request.id in requests.cancelled():
                    yield failed(request, "cancelled", "nobody waits for this answer any more")
                else:
                    alive.add(pool.submit(ask, request))
            done, alive = wait(alive, _LOOK_SECONDS if free else None, FIRST_COMPLETED)
            yield from (future.result() for future in done)
