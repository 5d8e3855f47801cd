"""Scorers made of scorers.

`all`, `any` and `not` take parts that pass or fail, with Kleene's three values (Kleene 1952, § 64): a part
that is unscored is unknown, and leaves the whole unscored unless another part has decided it; the whole could not be
judged where a part could not. Parts are asked in their order, and no further than needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NotRequired

from pydantic import ConfigDict
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from workbench.errors import ScorerError, UseError
from workbench.records import Judgement, Kind
from workbench.scorers.base import Answered, judged, passed
from workbench.scorers.parts import BuiltPart, Part
from workbench.scorers.text import check_bounds


def _verdict(part: BuiltPart, answer: Answered) -> Judgement:
    """Whether a part passes, with its name before its reason; raises ScorerError for a measure."""
    found = part(answer)
    if found.kind != "pass":
        raise ScorerError(
            f"part '{part.spec.name}' gives a {found.kind}, not pass or fail; set its bound, or put it in 'threshold'"
        )
    return judged(found.value, "pass", f"{part.spec.name}: {found.reason}", found.failed)


def _first(parts: Sequence[BuiltPart], answer: Answered, deciding: bool) -> Judgement | None:
    """The verdict of the first part that decides, else of the first that could not be judged, or is unscored; None
    where all are on the other side."""
    unknown: list[Judgement] = []
    for part in parts:
        found = _verdict(part, answer)
        if found.value == float(deciding):
            return found
        unknown += [found] if found.value is None else []
    return next((found for found in unknown if found.failed), unknown[0] if unknown else None)


def _check_parts(parts: Sequence[object]) -> None:
    if not parts:
        raise UseError("parts is empty; give at least one scorer")


def _list(parts: Sequence[BuiltPart]) -> str:
    return ", ".join(part.spec.name for part in parts)


@dataclass(frozen=True)
class _Parts:
    """What `all` and `any` have in common: a list of parts, of which the first that decides is enough."""

    parts: list[Part]
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "parts"

    def __post_init__(self) -> None:
        _check_parts(self.parts)

    @property
    def needs_expected(self) -> bool:
        return any(part.needs_expected for part in self.parts)


@dataclass(frozen=True)
class All(_Parts):
    """Every part passes; the reason is that of the first that does not."""

    def __call__(self, answer: Answered) -> Judgement:
        return _first(self.parts, answer, deciding=False) or passed(True, f"all pass: {_list(self.parts)}")


@dataclass(frozen=True)
class Any(_Parts):
    """At least one part passes; the reason is that of the first that does."""

    def __call__(self, answer: Answered) -> Judgement:
        return _first(self.parts, answer, deciding=True) or passed(False, f"none passes: {_list(self.parts)}")


@dataclass(frozen=True)
class Not:
    """The part fails."""

    score: Part
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "score"

    @property
    def needs_expected(self) -> bool:
        return self.score.needs_expected

    def __call__(self, answer: Answered) -> Judgement:
        found = _verdict(self.score, answer)
        value = None if found.value is None else float(found.value != 1)
        return judged(value, "pass", f"not {found.reason}", found.failed)


class WeightedPart(TypedDict):
    """A part and what it counts for."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    score: Part
    weight: NotRequired[float]
    """Above 0; default 1."""


@dataclass(frozen=True)
class Weighted:
    """The weighted mean of parts that pass, fail or give a fraction, as a fraction: Σ weight·value ÷ Σ weight. One
    unscored part leaves the whole unscored: a mean over the others would be of another scale."""

    parts: list[WeightedPart]
    at_least: float | None = None
    """With it, pass or fail."""
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "parts"

    def __post_init__(self) -> None:
        _check_parts(self.parts)
        for part in self.parts:
            if not 0 < part.get("weight", 1.0) < math.inf:
                raise UseError(f"the weight of '{part['score'].spec.name}' must be above 0")
        if self.at_least is not None and not 0 <= self.at_least <= 1:
            raise UseError(f"at_least {self.at_least:g} is not between 0 and 1")

    @property
    def needs_expected(self) -> bool:
        return any(part["score"].needs_expected for part in self.parts)

    def __call__(self, answer: Answered) -> Judgement:
        total, told = [], []
        for part in self.parts:
            name, weight = part["score"].spec.name, part.get("weight", 1.0)
            found = part["score"](answer)
            if found.value is None:
                kind: Kind = "fraction" if self.at_least is None else "pass"
                return judged(None, kind, f"{name}: {found.reason}", found.failed)
            if isinstance(found.value, str) or found.kind not in ("pass", "fraction"):
                raise ScorerError(f"part '{name}' gives a {found.kind}, not a fraction; put it in 'threshold'")
            total.append(weight * found.value)
            told.append(f"{weight:g} × {found.value:.3g} {name}")
        mean = math.fsum(total) / math.fsum(part.get("weight", 1.0) for part in self.parts)
        reason = f"{mean:.3f} = " + " + ".join(told)
        if self.at_least is None:
            return judged(min(mean, 1.0), "fraction", reason)
        return passed(mean >= self.at_least, f"{reason}, wanted {self.at_least:g}")


@dataclass(frozen=True)
class Threshold:
    """The part's value lies within the bounds: a measure becomes pass or fail."""

    score: Part
    at_least: float | None = None
    at_most: float | None = None
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise UseError("threshold needs at_least, at_most or both")
        check_bounds(self.at_least, self.at_most)

    @property
    def needs_expected(self) -> bool:
        return self.score.needs_expected

    def __call__(self, answer: Answered) -> Judgement:
        found, name = self.score(answer), self.score.spec.name
        if found.value is None:
            return judged(None, "pass", f"{name}: {found.reason}", found.failed)
        if isinstance(found.value, str):
            raise ScorerError(f"part '{name}' gives a label, which has no threshold")
        if self.at_least is not None and found.value < self.at_least:
            return passed(False, f"{name} {found.value:.4g}, below {self.at_least:g}: {found.reason}")
        if self.at_most is not None and found.value > self.at_most:
            return passed(False, f"{name} {found.value:.4g}, above {self.at_most:g}: {found.reason}")
        return passed(True, f"{name} {found.value:.4g}: {found.reason}")


@dataclass(frozen=True)
class OnlyIf:
    """The judgement of `then`, where `when` passes; else the answer is unscored, and counts for nothing."""

    when: Part
    then: Part
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = None

    @property
    def needs_expected(self) -> bool:
        return self.when.needs_expected or self.then.needs_expected

    def __call__(self, answer: Answered) -> Judgement:
        found = _verdict(self.when, answer)
        if found.value == 1:
            return self.then(answer)
        return judged(None, "pass", f"unscored, for {found.reason}", found.failed)
