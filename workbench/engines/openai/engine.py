"""The engine: settings checked, then requests to outputs; see `workbench.engines.openai`."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any, cast
from weakref import WeakValueDictionary

from workbench.engines.base import BatchHost, Capabilities, Piece, Requests, estimated_tokens
from workbench.engines.openai import chat, embeddings, responses
from workbench.engines.openai.batch import open_host
from workbench.engines.openai.client import Place
from workbench.engines.openai.hosts import HOSTS, host_name
from workbench.engines.openai.keys import address, read_key
from workbench.engines.openai.limiter import Change, Limiter
from workbench.engines.openai.session import Plan, Session
from workbench.engines.openai.wire import Form
from workbench.errors import ModelError, suggest
from workbench.records import Json, Model, Output, Request

_SETTINGS = ("model", "base_url", "api_key_env", "api_version", "api", "server", "seed", "stream")
_LIMITS = {"concurrency": None, "timeout": 60, "retries": 5, "requests_per_minute": None}
_FORMS = {"chat": cast(Form, chat), "responses": cast(Form, responses), "embeddings": cast(Form, embeddings)}
_OURS = {"model": "models", "messages": "the prompt", "input": "the prompt", "n": "repeats"}
_OURS |= {"stream": "the model's option `stream`", "tools": "the prompt", "logprobs": "the suite's `logprobs`"}
_OURS |= {"top_logprobs": "the suite's `logprobs`"}
"""Fields of a call that are no sampling parameters, and what sets them."""
_LIMITERS: WeakValueDictionary[tuple[object, ...], Limiter] = WeakValueDictionary()
"""One for each address, model and fixed limit: aliases of one model share it."""


class OpenAIEngine:
    """One model at one address. Raises ModelError for wrong settings or a missing key."""

    in_process = False

    def __init__(self, model: Model) -> None:
        limits = _checked(model)
        self._plan = _plan(model, limits)
        self.name, self.address = self._plan.model, self._plan.place.address
        self._limiter = _limiter(self.address, self.name, limits)
        self._retries = 0
        host, form = self._plan.host, self._plan.place.form
        embeds = form is _FORMS["embeddings"]
        self.capabilities = Capabilities(
            chat=not embeds,
            seeds=host.seeds,
            logprobs=0 if embeds else host.logprobs,
            schema=host.schema and not embeds,
            tools=not embeds,
            images=not embeds,
            embeddings=embeds,
            params=None,
        )
        self._refused = host.refused | form.REFUSED

    @property
    def identity(self) -> str:
        form = self._plan.place.form
        return f"openai:{self.name}@{self.address}{'' if form is _FORMS['chat'] else form.PATH}"

    def check_params(self, params: Mapping[str, Json]) -> None:
        """Refuses what is no parameter, and what the host is known not to take; the rest is the server's to say."""
        for name in sorted(params):
            if name in _OURS:
                raise ModelError(f"'{name}' is no sampling parameter; it is set by {_OURS[name]}")
            if name in self._refused:
                raise ModelError(
                    f"'{name}' is not taken by {self.address} (model '{self.name}'), which would ignore or refuse it; "
                    "leave it out for this model, as with `without: [" + name + "]`"
                )

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

    def open_batches(self) -> AbstractContextManager[BatchHost]:
        """See `engines.base.Batching`."""
        if not self._plan.host.batches:
            raise ModelError(f"{self.address} (model '{self.name}') takes no batches in OpenAI's form")
        return open_host(self._plan)

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


def _checked(model: Model) -> dict[str, Any]:
    """The limits, with defaults; raises ModelError for what is unknown or missing."""
    for what, given, known in (("setting", model.settings, _SETTINGS), ("limit", model.limits, tuple(_LIMITS))):
        for name in given:
            if name not in known:
                raise ModelError(f"model '{model.alias}': unknown {what} '{name}'{suggest(name, known)}")
    if not model.settings.get("model"):
        raise ModelError(f"model '{model.alias}': set `model`, the name that the server knows it by")
    return {**_LIMITS, **model.limits}


def _plan(model: Model, limits: Mapping[str, Any]) -> Plan:
    settings, where = model.settings, address(model)
    api = str(settings.get("api", "chat"))
    if api not in _FORMS:
        raise ModelError(f"model '{model.alias}': unknown api '{api}'{suggest(api, _FORMS)}")
    host = HOSTS[host_name(where, settings.get("server"))]
    seeds = bool(settings.get("seed", host.seeds)) and api == "chat"
    host = replace(host, seeds=seeds, n=host.n and api == "chat")
    place = Place(
        where, read_key(model), _FORMS[api], float(limits["timeout"]), host.key_header, settings.get("api_version")
    )
    return Plan(place, str(settings["model"]), host, model.price, int(limits["retries"]), bool(settings.get("stream")))


def _limiter(where: str, name: str, limits: Mapping[str, Any]) -> Limiter:
    concurrency, minute = limits["concurrency"], limits["requests_per_minute"]
    key = (where, name, concurrency, minute)
    limiter = _LIMITERS.get(key)
    if limiter is None:
        limiter = _LIMITERS[key] = Limiter(concurrency, minute / 60 if minute else None)
    return limiter
