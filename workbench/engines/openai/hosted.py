"""What engines of hosted models share: a plan, a limiter, and the event loop that asks (`session`)."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakValueDictionary

from workbench.engines.base import Capabilities, Piece, Requests, estimated_tokens
from workbench.engines.openai.limiter import Change, Limiter
from workbench.engines.openai.session import Plan, Session
from workbench.errors import ModelError, suggest
from workbench.records import Model, Output, Request

LIMITS: Mapping[str, float | None] = {"concurrency": None, "timeout": 60, "retries": 5, "requests_per_minute": None}
"""What `limits` may say of a hosted model, with its defaults."""
_LIMITERS: WeakValueDictionary[tuple[object, ...], Limiter] = WeakValueDictionary()
"""One for each address, model and fixed limit: aliases of one model share it."""


def checked_limits(model: Model, settings: Collection[str]) -> dict[str, Any]:
    """The limits, with defaults; raises ModelError for a setting or a limit that is unknown, or no `model`."""
    for what, given, known in (("setting", model.settings, settings), ("limit", model.limits, LIMITS)):
        for name in given:
            if name not in known:
                raise ModelError(f"model '{model.alias}': unknown {what} '{name}'{suggest(name, known)}")
    if not model.settings.get("model"):
        raise ModelError(f"model '{model.alias}': set `model`, the name that the server knows it by")
    return {**LIMITS, **model.limits}


class HostedEngine:
    """One model at one address. What is left to an engine: its `identity`, `capabilities` and `check_params`."""

    in_process = False
    capabilities: Capabilities

    def __init__(self, plan: Plan, limits: Mapping[str, Any]) -> None:
        self._plan = plan
        self.name, self.address = plan.model, plan.place.address
        self._limiter = _limiter(self.address, self.name, limits)
        self._retries = 0

    def count_tokens(self, request: Request) -> int:
        return estimated_tokens(request)

    def describe(self) -> dict[str, object]:
        return {"model": self.name, "address": self.address, "seeds": self.capabilities.seeds}

    def work(self) -> dict[str, float]:
        """Calls, answers, refusals for the rate, faults and retries; calls in flight that are allowed now."""
        counts = self._limiter.counts
        if not counts["calls"]:
            return {}
        return {**counts, "retries": float(self._retries), "window": float(self._limiter.window)}

    def history(self) -> list[Change]:
        """How the limit changed, and why."""
        return list(self._limiter.history)

    def close(self) -> None:
        """Holds nothing: each `generate` opens its own connections."""

    def generate(self, requests: Requests) -> Iterator[Piece | Output]:
        """As many calls at a time as the limit allows; see `engines.base.Engine`.

        Raises EngineError where the address is down, or refuses the key, the model or every request.
        """
        told: queue.SimpleQueue[Piece | Output | BaseException | None] = queue.SimpleQueue()
        session = Session(self._plan, self._limiter, requests, told.put)
        try:
            with _running(session, told):
                while (item := told.get()) is not None:
                    if isinstance(item, BaseException):
                        raise item
                    yield item
        finally:
            self._retries += session.retries


@contextmanager
def _running(session: Session, told: queue.SimpleQueue[Any]) -> Iterator[None]:
    """The session in an event loop in a thread of its own; ends with None or the error. What still runs when
    the block is left is cancelled."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(session.run())

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop):
                loop.run_until_complete(task)
            told.put(None)
        except asyncio.CancelledError:
            told.put(None)
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits
            told.put(error)

    thread = threading.Thread(target=work, name="openai", daemon=True)
    thread.start()
    try:
        yield
    finally:
        if thread.is_alive():
            with suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _limiter(where: str, name: str, limits: Mapping[str, Any]) -> Limiter:
    concurrency, minute = limits["concurrency"], limits["requests_per_minute"]
    key = (where, name, concurrency, minute)
    limiter = _LIMITERS.get(key)
    if limiter is None:
        limiter = _LIMITERS[key] = Limiter(concurrency, minute / 60 if minute else None)
    return limiter
