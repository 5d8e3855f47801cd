"""What the server does, as plain data: written in Python or in a YAML file.

seed: 1
answers: {'capital of France': Paris, 'tell me': [one thing, another]}
latency: {kind: lognormal, seconds: 0.2, spread: 0.5}
limits: {requests_per_minute: 600, tokens_per_minute: 90000, burst: 1}
faults:
  - {kind: status, status: 503, share: 0.05}
  - {kind: reset, calls: [3, 7]}
  - {kind: stall, match: poison, seconds: 5}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from statistics import NormalDist
from typing import Literal

from workbench.records import EMPTY

FaultKind = Literal["status", "reset", "cut", "stall", "drip", "not_json", "no_choices", "body", "redirect"]
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from a call's arrival to its answer."""

    kind: Literal["constant", "uniform", "lognormal"] = "constant"
    seconds: float = 0.0
    """The constant, the lower bound, or the median."""
    spread: float = 0.0
    """uniform: the width of the interval above `seconds`; lognormal: sigma of the logarithm."""
    between_pieces: float = 0.0
    """Seconds from one piece of a streamed answer to the next."""

    def __post_init__(self) -> None:
        if min(self.seconds, self.spread, self.between_pieces) < 0:
            raise ValueError("must not be negative")

    def drawn(self, share: float) -> float:
        """The quantile of the distribution at `share`, which lies within 0…1."""
        if self.kind == "uniform":
            return self.seconds + self.spread * share
        if self.kind == "lognormal" and self.spread:
            return self.seconds * math.exp(self.spread * _NORMAL.inv_cdf(min(max(share, 1e-9), 1 - 1e-9)))
        return self.seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """What more than is allowed gets a 429, with OpenAI's headers and bodies; None: no limit."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Counted as OpenAI does: the prompt's and `max_tokens`, or the answer's where that is not set."""
    burst: float = 60.0
    """So many seconds' worth can be used at once after a rest."""
    at_once: int | None = None
    """Calls under way at one time."""

    def __post_init__(self) -> None:
        if any(limit is not None and limit <= 0 for limit in (self.requests_per_minute, self.tokens_per_minute)):
            raise ValueError("a limit must be above 0")
        if self.burst <= 0:
            raise ValueError("burst must be above 0 seconds")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with some calls. Of several that fit a call, the first does."""

    kind: FaultKind = "status"
    """status: an error; reset: the connection is torn (in a stream: in its middle); cut: it ends in the middle
    of the body; stall: silence for `seconds` in the middle of the body; drip: the body takes `seconds`;
    not_json, no_choices, body: a wrong answer with status 200; redirect: to `location`."""
    match: str = ""
    """A regular expression searched in the question; empty: every call."""
    calls: tuple[int, ...] = ()
    """Which of the matching calls, counted from 1; empty: all, or `share` of them."""
    share: float = 1.0
    """The share of matching calls, drawn by the seed from a call's content and how often it came before."""
    times: int | None = None
    """At most so many calls."""
    status: int = 500
    code: str = ""
    """The error's code, such as `insufficient_quota`."""
    headers: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    seconds: float = 1.0
    body: str = ""
    location: str = ""
    """Where a redirect points; the path is added."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must lie within 0 and 1, not be {self.share}")
        if self.kind == "redirect" and not self.location:
            raise ValueError("redirect needs a location, such as http://localhost:9000")
        if not 200 <= self.status < 600:
            raise ValueError(f"status must be one of HTTP's, not {self.status}")
        _check_pattern(self.match)


@dataclass(frozen=True, slots=True)
class Script:
    """How a server behaves."""

    seed: int = 0
    answers: Mapping[str, str | tuple[str, ...]] = field(default_factory=lambda: EMPTY)
    """Regular expression, searched in the last message → the answer, or several of which the call's seed,
    else its content, chooses one. A question that none fits is answered by itself."""
    latency: Latency = Latency()
    limits: Limits = Limits()
    faults: tuple[Fault, ...] = ()
    key: str | None = None
    """Calls without it get a 401."""
    models: tuple[str, ...] = ()
    """Others get a 404; empty: any name is served."""
    max_context: int | None = None
    """Prompts of more tokens get a 400."""
    refuse_params: tuple[str, ...] = ()
    """Fields of a call that get a 400."""
    reasoning_tokens: int = 0
    """What an answer has thought, where a call asks for reasoning."""
    dimensions: int = 64
    """Of embeddings, where the call does not say."""
    batch_seconds: float = 1.0
    """From a batch's creation to its end."""
    batch_expires: float | None = None
    """The share of its requests after which a batch expires; None: it does not."""

    def __post_init__(self) -> None:
        for pattern in self.answers:
            _check_pattern(pattern)
        if self.dimensions < 1 or self.batch_seconds < 0:
            raise ValueError("dimensions must be at least 1, batch_seconds at least 0")


def drawn(*parts: object) -> float:
    """A number within 0…1 that looks random and depends on nothing but `parts`."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{pattern}' is no regular expression: {error}") from error
