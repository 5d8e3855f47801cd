"""Gates: the rules of a suite that turn a run's numbers into pass, fail or not enough data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from workbench.define.yamlfile import Located, Strict
from workbench.errors import UnknownName
from workbench.records import Json, Variant

Positive = Annotated[float, Field(gt=0)]
MOST_CONFIDENCE = 0.999999
"""Of which gates and looks each take a share of the error; what is left below it would be rounding."""


class AtMost(Strict):
    """A bound from above."""

    at_most: Annotated[float, Field(ge=0)]
    """The mean must be at most this."""


class AtMostShare(Strict):
    """A bound on a share from above."""

    at_most: Annotated[float, Field(ge=0, lt=1)]
    """The share must be at most this."""


class LatencyBound(Strict):
    """A bound on seconds: one of the two."""

    at_most: Positive | None = None
    """The mean must be at most so many seconds."""
    p50: Positive | None = None
    """Half of the answers must take at most so many seconds."""
    p90: Positive | None = None
    """Nine of ten answers must take at most so many seconds."""
    p95: Positive | None = None
    """95 of 100 answers must take at most so many seconds."""
    p99: Positive | None = None
    """99 of 100 answers must take at most so many seconds."""

    @model_validator(mode="after")
    def _one(self) -> LatencyBound:
        if len(self.given) != 1:
            raise ValueError("needs exactly one of at_most, p50, p90, p95, p99")
        return self

    @property
    def given(self) -> list[tuple[str, float]]:
        return [(name, value) for name, value in self if value is not None]


class GateEntry(Strict):
    """A rule that turns what was measured into pass, fail or not enough data."""

    scorer: str | None = None
    """The scorer's name in this suite; then one of at_least, at_most, no_worse_than."""
    at_least: float | None = None
    """The mean must be at least this."""
    at_most: float | None = None
    """The mean must be at most this."""
    no_worse_than: str | None = None
    """`baseline`, the file that `workbench baseline bless` writes, or `reference`, the suite's reference."""
    margin: Annotated[float, Field(ge=0)] | None = None
    """With `no_worse_than`: the loss that is accepted; default: the suite's margin."""
    cost: AtMost | None = None
    """US dollars an answer, on average."""
    latency: LatencyBound | None = None
    """Seconds an answer."""
    errors: AtMostShare | None = None
    """The share of trials without an answer."""
    confidence: Annotated[float, Field(ge=0.5, le=MOST_CONFIDENCE)] = 0.95
    """How sure a verdict must be, on one side."""
    variant: dict[str, Any] | None = None
    """Which variants it is about, such as {prompt: few-shot, model: smollm2}; default: every one."""
    unlicensed: Literal["allow"] | None = None
    """`allow`: a judge may decide without a licence."""

    @model_validator(mode="after")
    def _one_rule(self) -> GateEntry:
        about = [n for n in ("scorer", "cost", "latency", "errors") if getattr(self, n) is not None]
        rules = [n for n in ("at_least", "at_most", "no_worse_than") if getattr(self, n) is not None]
        if len(about) != 1:
            raise ValueError("needs exactly one of scorer, cost, latency, errors")
        if self.scorer is None and rules:
            raise ValueError(f"gives {rules[0]}, which stands inside: {about[0]}: {{at_most: …}}")
        if self.scorer is not None and len(rules) != 1:
            raise ValueError("needs exactly one of at_least, at_most, no_worse_than")
        if self.margin is not None and self.no_worse_than is None:
            raise ValueError("gives a margin, which only no_worse_than has")
        if self.no_worse_than not in (None, "baseline", "reference"):
            raise ValueError(f"can be no worse than 'baseline' or 'reference', not '{self.no_worse_than}'")
        return self


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule, resolved."""

    measure: Literal["scorer", "cost", "latency", "errors"]
    """What is judged: a scorer's mean, US dollars an answer, seconds an answer, the share without an answer."""
    rule: Literal["at_least", "at_most", "no_worse_than"]
    bound: float
    """What the mean is held to; for `no_worse_than` the loss that is accepted."""
    scorer: str | None = None
    against: Literal["baseline", "reference"] | None = None
    quantile: float | None = None
    """For latency: the share of answers that must keep the bound; None: their mean must."""
    confidence: float = 0.95
    """Of one side."""
    variants: tuple[str, ...] | None = None
    """Ids of the variants it is about; None: every one."""
    unlicensed: bool = False
    line: int | None = None
    """In the suite's file."""

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Gate:
        variants = data.get("variants")
        return cls(**{**data, "variants": None if variants is None else tuple(variants)})

    def to_json(self) -> dict[str, Json]:
        return {**asdict(self), "variants": None if self.variants is None else list(self.variants)}

    @property
    def name(self) -> str:
        """As people say it: `choice no worse than baseline by 0.05`."""
        what = self.scorer or self.measure
        if self.quantile is not None:
            return f"{what} p{100 * self.quantile:g} at most {self.bound:g}"
        if self.rule == "no_worse_than":
            return f"{what} no worse than {self.against} by {self.bound:g}"
        return f"{what} {self.rule.replace('_', ' ')} {self.bound:g}"


def resolve_gates(
    entries: Sequence[GateEntry],
    scorers: Collection[str],
    margin: float,
    located: Located,
    select: Callable[[Mapping[str, Json]], list[Variant]],
) -> tuple[Gate, ...]:
    """The gates of a suite's file; `select` finds variants by what a gate's `variant` says, and raises
    SuiteError where there is none. Raises SuiteError for a scorer that the suite does not have."""
    gates = []
    for i, entry in enumerate(entries):
        with located.at("gates", i):
            if entry.scorer is not None and entry.scorer not in scorers:
                raise UnknownName("scorer", entry.scorer, scorers)
        variants = None
        if entry.variant is not None:
            with located.at("gates", i, "variant"):
                variants = tuple(v.id for v in select(entry.variant))
        gates.append(_resolved(entry, margin, variants, located.line(("gates", i))))
    return tuple(gates)


def _resolved(entry: GateEntry, margin: float, variants: tuple[str, ...] | None, line: int | None) -> Gate:
    common: dict[str, Any] = {
        "confidence": entry.confidence, "variants": variants, "unlicensed": entry.unlicensed == "allow", "line": line,
    }  # fmt: skip
    if entry.cost is not None:
        return Gate("cost", "at_most", entry.cost.at_most, **common)
    if entry.errors is not None:
        return Gate("errors", "at_most", entry.errors.at_most, **common)
    if entry.latency is not None:
        ((name, seconds),) = entry.latency.given
        quantile = int(name[1:]) / 100 if name != "at_most" else None
        return Gate("latency", "at_most", seconds, quantile=quantile, **common)
    if entry.no_worse_than is not None:
        accepted = margin if entry.margin is None else entry.margin
        against: Any = entry.no_worse_than
        return Gate("scorer", "no_worse_than", accepted, entry.scorer, against, **common)
    rule: Any = "at_least" if entry.at_least is not None else "at_most"
    bound = entry.at_least if entry.at_least is not None else entry.at_most
    return Gate("scorer", rule, float(bound or 0.0), entry.scorer, **common)
