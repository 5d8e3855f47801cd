"""The seam between a plan and whoever answers it.

Synchronous; outputs come in the order in which they are done. An engine takes as many requests as it can
use and never waits for more while it has work alive; how it gets concurrency is its own business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from workbench.records import Failure, Json, Model, Output, Request


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do with one model; a suite that asks for more is refused before it starts."""

    chat: bool = True
    raw: bool = False
    """Takes a text as it is, without a chat template."""
    seeds: bool = False
    """Honours the seed of a request."""
    repeatable: bool = False
    """The same greedy request gives the same answer, so greedy repeats are one request."""
    exact: bool = False
    """Any request gives the same answer again, whatever is asked beside it; else only in distribution."""
    logprobs: int = 0
    """The most alternatives a token that it can report."""
    choices: bool = False
    grammar: bool = False
    schema: bool = False
    tools: bool = False
    images: bool = False
    embeddings: bool = False
    """Answers `answer: {"embedding": true}` with a unit vector in `Output.extra["embedding"]`."""
    max_context: int | None = None
    params: frozenset[str] | None = None
    """Names of the sampling parameters it knows; None: it takes any."""


@dataclass(frozen=True, slots=True)
class Piece:
    """New text of a request that streams."""

    request_id: str
    text: str


class Requests(Protocol):
    """What an engine pulls from."""

    def take(self, at_most: int, wait: float) -> list[Request]:
        """Up to `at_most` requests; waits at most `wait` seconds for the first."""

    def cancelled(self) -> set[str]:
        """Ids of taken requests that nobody wants any more."""

    @property
    def closed(self) -> bool:
        """Nothing more will come."""


class Engine(Protocol):
    """One model, ready to answer. The factory is called with a `records.Model`; it may read the model's
    file or header, but loads nothing heavy before `generate`. Raises ModelError where no request could
    ever be answered (no such file, no key)."""

    in_process: bool
    """Computes on this machine: such engines take turns."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def identity(self) -> str:
        """What makes two models the same: enters the request id."""

    def check_params(self, params: Mapping[str, Json]) -> None:
        """Raises ModelError for a sampling parameter that the model does not know or can't take."""

    def generate(self, requests: Requests) -> Iterator[Piece | Output]:
        """Answers until `requests.closed` and nothing is alive. A request that fails is an Output with a
        failure; what is raised (EngineError) makes every request impossible. A cancelled request gives an
        Output with the failure `cancelled`."""

    def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt, exactly where the engine can, else an estimate."""

    def describe(self) -> dict[str, object]:
        """What is known of the model, for people: size, quantisation, context, licence, address, …"""

    def work(self) -> dict[str, float]:
        """What was done since the engine was made, counted; empty where nothing is counted."""

    def close(self) -> None:
        """Gives back memory and connections; `generate` may be called again and opens anew."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a local model does on this machine, in tokens a second."""

    model: str
    """The alias, or what it would be called in another quantisation."""
    prompt: float
    decode: Mapping[int, float]
    """Branches that decode together → tokens a second of all of them."""
    memory: int
    """Bytes that loading it took."""


@runtime_checkable
class Measurable(Protocol):
    """An engine that can tell how fast it is here."""

    def measure(self) -> list[Speed]:
        """Its own speed first, then that of other quantisations of the same file, where they can be tried."""


class Change(Protocol):
    """A step of a limit that learns."""

    at: float
    """Seconds since the engine began."""
    window: float
    """Calls at a time."""
    pace: float | None
    """Calls a second, where that is limited."""
    reason: str


@runtime_checkable
class Limited(Protocol):
    """An engine that limits its calls by what the answers tell."""

    def history(self) -> Sequence[Any]:
        """The steps of its limit (`Change`), the oldest first."""


class EngineFactory(Protocol):
    def __call__(self, model: Model) -> Engine: ...


class Submit(Protocol):
    """How scorers, chains and the app ask a model: through the run's own dispatcher."""

    def __call__(self, request: Request) -> Future[Output]: ...


def failed(request: Request, kind: str, message: str, *, retry: bool = False) -> Output:
    """The output of a request that has no answer."""
    return Output(request.id, finish_reason="failed", failure=Failure(kind, message, retry))
