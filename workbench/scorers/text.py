"""Scorers that hold the answer's text against another text, a pattern or a size.

Texts are compared in Unicode's composed form (NFC), so that "é" written in two ways is one letter.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Literal

import regex
from rapidfuzz.distance import Indel

from workbench.errors import ScorerError, UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, judged, not_judged, passed, quote, references

PATTERN_SECONDS = 1.0
"""How long one search may take: a pattern that backtracks without end must not stop the run."""


def fold(text: str, ignore_case: bool) -> str:
    """The form in which two texts are compared: NFC, and without case where that is wanted."""
    composed = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", composed.casefold()) if ignore_case else composed


def check_bounds(at_least: float | None, at_most: float | None) -> None:
    """Raises UseError where no value could ever lie between the two."""
    if at_least is not None and at_most is not None and at_least > at_most:
        raise UseError(f"at_least {at_least:g} is above at_most {at_most:g}; no answer can pass")


def measured(value: float, unit: str, at_least: float | None, at_most: float | None) -> Judgement:
    """A number as it is, or, where there is a bound, whether it keeps it."""
    reason = f"{value:.4g} {unit}" if isinstance(value, float) else f"{value} {unit}"
    if at_least is None and at_most is None:
        return judged(float(value), "number", reason)
    if at_least is not None and value < at_least:
        return passed(False, f"{reason}, below {at_least:g}")
    if at_most is not None and value > at_most:
        return passed(False, f"{reason}, above {at_most:g}")
    return passed(True, reason)


@dataclass(frozen=True)
class Exact:
    """The answer is the expected answer; of a list, one of them."""

    ignore_case: bool = False
    strip: bool = True
    """White space at both ends does not count."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = None

    def __call__(self, answer: Answered) -> Judgement:
        right = references(answer)
        if self._form(answer.text) in map(self._form, right):
            return passed(True, f"is {quote(answer.text)}")
        more = f" (or {len(right) - 1} others)" if right[1:] else ""
        return passed(False, f"is {quote(answer.text)}, expected {quote(right[0])}{more}")

    def _form(self, text: str) -> str:
        return fold(text.strip() if self.strip else text, self.ignore_case)


@dataclass(frozen=True)
class Contains:
    """The answer contains a text; of a list, all of them or any."""

    value: str | list[str] | None = None
    """What to look for; without it the expected answer."""
    match: Literal["all", "any"] = "all"
    """How many of a list must be there."""
    ignore_case: bool = False
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "value"

    def __post_init__(self) -> None:
        if self.value is not None and (not self.value or "" in list(self.value)):
            raise UseError("value is empty, which every answer contains; give the text to look for")

    @property
    def needs_expected(self) -> bool:
        return self.value is None

    def __call__(self, answer: Answered) -> Judgement:
        text = fold(answer.text, self.ignore_case)
        wanted = self._wanted(answer)
        found = [w for w in wanted if fold(w, self.ignore_case) in text]
        ok = len(found) == len(wanted) if self.match == "all" else bool(found)
        if ok:
            return passed(True, "contains " + ", ".join(map(quote, found)))
        lacking = " and ".join(quote(w) for w in wanted if w not in found)
        return passed(False, f"lacks {lacking}: {quote(answer.text)}")

    def _wanted(self, answer: Answered) -> list[str]:
        if self.value is not None:
            return [self.value] if isinstance(self.value, str) else self.value
        wanted = references(answer)
        if "" in wanted:
            raise ScorerError(f"case '{answer.case.id}' expects an empty text, which every answer contains")
        return wanted


@dataclass(frozen=True)
class Regex:
    """A pattern is found in the answer, or matches all of it. The syntax is Python's, with the additions
    of the `regex` package."""

    pattern: str
    full: bool = False
    """The pattern must match the whole answer, white space at its ends aside."""
    ignore_case: bool = False
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "pattern"

    def __post_init__(self) -> None:
        try:
            regex.compile(self.pattern)
        except regex.error as error:
            raise UseError(f"pattern {quote(self.pattern)} is not a regular expression: {error}") from None

    def __call__(self, answer: Answered) -> Judgement:
        flags = regex.IGNORECASE if self.ignore_case else 0
        try:
            if self.full:
                found = regex.fullmatch(self.pattern, answer.text.strip(), flags, timeout=PATTERN_SECONDS)
            else:
                found = regex.search(self.pattern, answer.text, flags, timeout=PATTERN_SECONDS)
        except TimeoutError:
            return not_judged("pass", f"the pattern took over {PATTERN_SECONDS:g} s; simplify it")
        if found:
            return passed(True, f"matches at {found.start()}: {quote(found.group())}")
        return passed(False, f"no match in {quote(answer.text)}")


@dataclass(frozen=True)
class Similarity:
    """How alike the answer and the expected answer are, 0…1: 1 − insertions and deletions from one to the
    other ÷ length of both (rapidfuzz, `Indel.normalized_similarity`). Of a list, the most alike."""

    ignore_case: bool = False
    at_least: float | None = None
    """With it, pass or fail."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "at_least"

    def __post_init__(self) -> None:
        if self.at_least is not None and not 0 <= self.at_least <= 1:
            raise UseError(f"at_least {self.at_least:g} is not between 0 and 1")

    def __call__(self, answer: Answered) -> Judgement:
        text = fold(answer.text, self.ignore_case)
        alike, nearest = max(
            (float(Indel.normalized_similarity(text, fold(right, self.ignore_case))), right)
            for right in references(answer)
        )
        reason = f"{alike:.3f} like {quote(nearest)}"
        if self.at_least is None:
            return judged(alike, "fraction", reason)
        return passed(alike >= self.at_least, f"{reason}, wanted {self.at_least:g}")


@dataclass(frozen=True)
class Length:
    """How long the answer is: a number, or, with a bound, pass or fail."""

    unit: Literal["chars", "words", "tokens"] = "chars"
    """Unicode characters, pieces between white space, or tokens as the engine counted them."""
    at_most: int | None = None
    at_least: int | None = None
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "at_most"

    def __post_init__(self) -> None:
        check_bounds(self.at_least, self.at_most)

    def __call__(self, answer: Answered) -> Judgement:
        if self.unit == "tokens":
            size = answer.output.output_tokens
        else:
            size = len(answer.text) if self.unit == "chars" else len(answer.text.split())
        if size is None:
            bounded = self.at_most is not None or self.at_least is not None
            return not_judged("pass" if bounded else "number", "the engine counted no tokens")
        return measured(size, self.unit, self.at_least, self.at_most)
