"""The seam between a plan and whoever answers it.

Synchronous; outputs come in the order in which they are done. An engine takes as many requests as it can
use and never waits for more while it has work alive; how it gets concurrency is its own business.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol, runtime_checkable

from workbench.errors import ModelError, suggest
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
        """Raises ModelError for a sampling parameter that the model can't take. What `capabilities.params` does not
        name is refused by `check_known`; an engine that has better words for it may do so before."""

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


def check_known(engine: Engine, params: Mapping[str, Json]) -> None:
    """Raises ModelError for a sampling parameter that the engine can't take, or does not have among those that it
    declares; an engine that declares none takes any name."""
    engine.check_params(params)
    known = engine.capabilities.params
    for name in params:
        if known is not None and name not in known:
            raise ModelError(f"unknown parameter '{name}'{suggest(name, known)}")


def estimated_tokens(request: Request) -> int:
    """Of the prompt, where the model's own tokens are not known: four characters a token, and four tokens a message."""
    return sum(math.ceil(len(message.text) / 4) + 4 for message in request.messages)


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


BatchStatus = Literal["submitted", "completed", "expired", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class BatchState:
    """How a batch stands with the provider."""

    id: str
    """The provider's."""
    status: BatchStatus
    """`submitted` until it has ended; what an `expired` or `cancelled` one has answered can still be had."""
    said: str
    """The status in the provider's own words."""
    total: int = 0
    answered: int = 0
    failed: int = 0
    files: tuple[str, ...] = ()
    """Where its answers and errors are."""
    problem: str = ""
    """Why it failed as a whole."""
    began: float | None = None
    ended: float | None = None
    """When, by the provider's clock: seconds since 1970; None where it does not say."""


class BatchHost(Protocol):
    """An open connection to a provider that answers many requests later, for less. Raises EngineError where the
    provider does not do what is asked of it."""

    @property
    def most_requests(self) -> int:
        """… in a batch."""

    @property
    def most_bytes(self) -> int:
        """… in a batch's file."""

    @property
    def price_factor(self) -> float | None:
        """What a request costs here, as a share of a single call; None: unknown."""

    def line(self, request: Request) -> bytes:
        """A request as it stands in a batch's file. Raises ModelError for what the API can't take."""

    def upload(self, name: str, content: IO[bytes]) -> str:
        """Gives the file's id."""

    def find_file(self, name: str) -> str | None:
        """The id of a file that was uploaded under that name."""

    def create(self, file: str, marks: Mapping[str, str]) -> BatchState:
        """Begins a batch that carries `marks`. When this ends in an error, it may have begun all the same."""

    def find(self, marks: Mapping[str, str], file: str) -> BatchState | None:
        """The batch of this file, or that carries all these marks."""

    def state(self, batch: str) -> BatchState: ...

    def cancel(self, batch: str) -> BatchState:
        """Asks for its end; it may have ended before."""

    def outputs(self, state: BatchState, ids: Collection[str]) -> Iterator[Output]:
        """What an ended batch has for these request ids, answers and failures; each id at most once."""


@runtime_checkable
class Batching(Protocol):
    """An engine whose provider may take batches."""

    def open_batches(self) -> AbstractContextManager[BatchHost]:
        """Raises ModelError where the provider takes none."""


class EngineFactory(Protocol):
    def __call__(self, model: Model) -> Engine: ...


class Submit(Protocol):
    """How scorers, chains and the app ask a model: through the run's own dispatcher."""

    def __call__(self, request: Request) -> Future[Output]: ...


def failed(request: Request, kind: str, message: str, *, retry: bool = False) -> Output:
    """The output of a request that has no answer."""
    return Output(request.id, finish_reason="failed", failure=Failure(kind, message, retry))
