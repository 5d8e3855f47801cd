"""Aliases to open models; what is known of each, and whether it answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit, urlunsplit

from workbench.engines.base import Engine, Measurable, Piece, Speed
from workbench.errors import FileError, SuiteError, UseError, WorkbenchError, named_first
from workbench.records import Message, Model, Output, Request
from workbench.registry import ENGINES

QUESTION = "Say hello in one short sentence."
_ADDRESSES = {"openai": "https://api.openai.com/v1", "bedrock": "https://bedrock-runtime.us-east-1.amazonaws.com"}
"""Engines whose models may be in the table of prices, and where they are asked if nothing else is said."""
_CHECK_TOKENS = 24
_IN_BATCH = {"processing": "batch"}
"""How the table of prices names a batch."""
WORTH_IT = 1.1
"""How many times as fast another quantisation must be to be advised."""


@dataclass(frozen=True, slots=True)
class Check:
    """What came of asking a model one short question."""

    alias: str
    answered: bool
    text: str
    """The answer, or why there is none."""
    seconds: float | None = None
    """The call alone, without loading the model."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_per_second: float | None = None
    """Measured to the first token of the answer: network and queue of a hosted model are in it."""
    output_tokens_per_second: float | None = None
    """Of the tokens after the first."""
    speeds: tuple[Speed, ...] = ()
    """Of a local model: its own, then what other quantisations of the same file would do here."""

    @property
    def advice(self) -> str:
        """One line on what would be faster here; empty where nothing is, or nothing was measured."""
        if not self.speeds:
            return ""
        own, *others = self.speeds
        if max(own.decode) == 1:
            return "this model's state can't be shared: its requests are answered one by one, each from the start"
        best = max(others, key=_gain(own), default=own)
        if best is own or _gain(own)(best) < WORTH_IT:
            return "no other quantisation of this file is clearly faster here"
        prompt, company = best.prompt / own.prompt, best.decode[32] / own.decode[32]
        return (
            f"{best.model} would be faster here: {prompt:.1f}× for prompts, {company:.1f}× for 32 answers together; "
            "its answers differ, so compare the two"
        )


def _gain(own: Speed) -> Callable[[Speed], float]:
    """How many times as fast another is, prompts and company weighing the same (geometric mean)."""
    return lambda other: ((other.prompt / own.prompt) * (other.decode[32] / own.decode[32])) ** 0.5


def with_price(model: Model) -> Model:
    """The model, with the price that the table of genai-prices has for its name at its address; as it is where
    it has a price of its own, computes here, or is not in the table. The table comes with the package: nothing
    is fetched. A price by the amount is taken at 1,000 tokens. A batch that the table prices like any call has
    no price of its own there: unknown."""
    if model.price is not None or model.engine not in _ADDRESSES:
        return model
    from genai_prices import Usage, calc_price

    default = os.environ.get("OPENAI_BASE_URL") if model.engine == "openai" else None
    address = str(model.settings.get("base_url") or default or _ADDRESSES[model.engine])

    def priced(cached: int, context: Mapping[str, str] | None) -> tuple[float, float]:
        usage = Usage(input_tokens=1000, output_tokens=1000, cache_read_tokens=cached)
        name = str(model.settings.get("model"))
        found = calc_price(usage, name, provider_api_url=address, price_context=context)
        return round(float(found.input_price) * 1000, 9), round(float(found.output_price) * 1000, 9)

    try:
        plain, batch = ({"input": i, "output": o} for i, o in (priced(0, None), priced(0, _IN_BATCH)))
        plain["cached_input"], batch["cached_input"] = priced(1000, None)[0], priced(1000, _IN_BATCH)[0]
    except LookupError:
        return model
    in_batch = {f"batch_{name}": price for name, price in batch.items()} if batch != plain else {}
    return replace(model, price=plain | in_batch)


def open_models(models: Mapping[str, Model]) -> dict[str, Engine]:
    """An engine for each alias; see `with_price` for those without a price.

    Raises UnknownName for an engine that is not registered, ModelError where no request could be answered.
    """
    return {alias: _open(model) for alias, model in models.items()}


def describe_models(models: Mapping[str, Model]) -> list[dict[str, object]]:
    """A row for each alias: `alias`, `engine`, `what` (file or address), `bytes`, `quantisation`, `context`
    (tokens), `licence`, `price` (US dollars for a million tokens), `ready` and, where it is not, `reason`.

    Nothing is fetched, hashed or loaded, and a model that cannot be opened is a row like the others.
    """
    return [_described(model) for model in models.values()]


def check_model(model: Model) -> Check:
    """Opens the model and asks it `QUESTION`; whatever goes wrong is an answer of "no"."""
    try:
        engine = _open(model)
        try:
            output = _asked(engine, model.alias)
            answered = output.failure is None
            speeds = tuple(engine.measure()) if answered and isinstance(engine, Measurable) else ()
        finally:
            engine.close()
    except WorkbenchError as error:
        return Check(model.alias, False, str(error))
    if output.failure is not None:
        return Check(model.alias, False, f"{output.failure.kind}: {output.failure.message}")
    first, whole, count = output.first_token_seconds, output.seconds, output.output_tokens
    after = (whole or 0) - (first or 0)
    return Check(
        model.alias,
        True,
        output.text.strip(),
        whole,
        output.prompt_tokens,
        count,
        output.prompt_tokens / first if output.prompt_tokens and first else None,
        (count - 1) / after if count and first and after > 0 else None,
        speeds,
    )


class _One:
    """A single request, for an engine to pull (`engines.base.Requests`)."""

    def __init__(self, request: Request) -> None:
        self._left = [request]

    def take(self, at_most: int, wait: float) -> list[Request]:
        taken, self._left = self._left[:at_most], self._left[at_most:]
        return taken

    def cancelled(self) -> set[str]:
        return set()

    @property
    def closed(self) -> bool:
        return not self._left


def _open(model: Model) -> Engine:
    with _at_setting(model):
        engine: Engine = ENGINES.get(model.engine)(with_price(model))
    return engine


@contextmanager
def _at_setting(model: Model) -> Iterator[None]:
    """Gives an error of a model's settings the file and line of the first that it names, else those of the alias."""
    try:
        yield
    except UseError as error:
        if not model.places or (isinstance(error, FileError) and error.path is not None):
            raise
        message = str(error).removeprefix(f"model '{model.alias}': ")
        name = next(iter(named_first(message, model.places)), "")
        raise SuiteError(f"models.{model.alias}: {message}", *model.places[name]) from error


def _asked(engine: Engine, alias: str) -> Output:
    role = "user" if engine.capabilities.chat else "raw"
    params = {"max_tokens": _CHECK_TOKENS}
    request = Request("check", alias, (Message.of(role, QUESTION),), params, seed=0, stream=True)
    outputs = [event for event in engine.generate(_One(request)) if not isinstance(event, Piece)]
    return outputs[0]


def _shown(place: str) -> str:
    """A file, or an address without a name, password or query, which may be secret."""
    parts = urlsplit(place)
    if not parts.netloc:
        return place
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _described(model: Model) -> dict[str, object]:
    known: dict[str, object] = {}
    reason = None
    try:
        with _at_setting(model):
            factory = ENGINES.get(model.engine)
            # An engine whose opening is not free (it may fetch a file) tells what it knows by `preview`.
            known = factory.preview(model) if hasattr(factory, "preview") else factory(model).describe()
    except WorkbenchError as error:
        reason = str(error)
    settings = model.settings
    places = (known.get("file"), known.get("address"), settings.get("path"), settings.get("base_url"))
    where = next((_shown(str(place)) for place in places if place), None)
    name = settings.get("model")
    what = " at ".join(str(part) for part in (name, where) if part)
    adapters = known.get("adapters")
    return {
        "alias": model.alias,
        "engine": model.engine,
        "what": " with ".join([what, *map(str, adapters if isinstance(adapters, list) else ())]) or None,
        "bytes": known.get("bytes"),
        "quantisation": known.get("quantisation") or settings.get("quantise"),
        "context": known.get("context") or settings.get("context"),
        "licence": known.get("licence"),
        "price": dict(model.price) if model.price is not None else None,
        "ready": reason is None,
        "reason": reason,
    }
