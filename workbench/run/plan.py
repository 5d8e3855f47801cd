"""Trials to requests: what is asked, under which id, with which seed.

The request id is a hash of the rendered messages, the model's identity, every parameter that can change
the answer, and what tells repeats apart: the repeat index and the seed. Greedy repeats on an engine whose
greedy answers repeat are one request, and then neither counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from workbench.engines.base import Capabilities
from workbench.errors import ModelError
from workbench.records import Json, Request, Trial, Variant, canonical, content_id


@dataclass(frozen=True, slots=True)
class Planned:
    """A trial and the request that answers it."""

    trial: Trial
    request: Request


@dataclass(frozen=True, slots=True)
class Asked:
    """What the plan must know of the model that a trial asks."""

    identity: str
    capabilities: Capabilities


def plan_block(
    trials: Iterable[Trial], draft: Callable[[Trial], Request], asked: Mapping[str, Asked], run_seed: int
) -> Iterator[Planned]:
    """The requests of some trials, in their order. `draft` gives a trial's request, without id and seed."""
    for trial in trials:
        yield Planned(trial, _identified(draft(trial), trial, asked[trial.variant.model], run_seed))


def _identified(request: Request, trial: Trial, asked: Asked, run_seed: int) -> Request:
    own = trial.variant.params.get("seed")
    return identified(request, asked, trial.repeat, run_seed if own is None else int(own))


def identified(request: Request, asked: Asked, repeat: int = 0, seed: int = 0) -> Request:
    """The request with its id and, where the model takes one, its seed, which `seed` and `repeat` enter."""
    messages = [m.to_json() for m in request.messages]
    how = [dict(request.params), dict(request.answer), request.logprobs, list(request.tools)]
    content = [messages, asked.identity, how]
    if asked.capabilities.repeatable and is_greedy(request.params):
        return replace(request, id=content_id("rq1", content))
    own = derived_seed(content, repeat, seed)
    request = replace(request, id=content_id("rq1", [content, repeat, own]), repeat=repeat)
    return replace(request, seed=own) if asked.capabilities.seeds else request


def is_greedy(params: Mapping[str, Json]) -> bool:
    """Whether the most probable token is always taken: only a temperature of 0 that is written down."""
    temperature = params.get("temperature")
    return temperature is not None and float(temperature) <= 0


def derived_seed(content: object, repeat: int, run_seed: int) -> int:
    """A seed of 31 bits: hash(messages, model, parameters, repeat index, run seed)."""
    digest = hashlib.sha256(canonical([content, repeat, run_seed]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def check_capabilities(variant: Variant, capabilities: Capabilities) -> None:
    """Raises ModelError where a variant asks for what its model can't do."""
    forms = {"choices": "choices", "text": "choices", "grammar": "grammar", "schema": "schema"}
    cannot = [f"answer: {form}" for form in forms if form in variant.answer and not getattr(capabilities, forms[form])]
    if variant.logprobs > capabilities.logprobs:
        cannot.append(f"logprobs: {variant.logprobs} (at most {capabilities.logprobs})")
    if cannot:
        raise ModelError(f"model '{variant.model}' can't do {', '.join(cannot)}; leave it out, or take another model")
