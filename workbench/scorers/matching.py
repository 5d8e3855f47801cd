"""How two well-known harnesses compare an answer with the expected one, so that their suites measure the same here.

`starts_with`, `fuzzy`, `word_f1` and `json_match` are Match, FuzzyMatch and JsonMatch of OpenAI's evals
(https://github.com/openai/evals, `evals/elsuite/basic` and `utils.py`); `extracted` is the filters and the metric
`exact_match` of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness, `filters/extraction.py`,
`api/metrics.py`). `contains` with `match: any` is evals' Includes.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NotRequired

import regex
from pydantic import ConfigDict
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from workbench.errors import ScorerError, UseError
from workbench.records import Json, Judgement
from workbench.scorers.base import Answered, judged, not_judged, passed, quote, references
from workbench.scorers.text import PATTERN_SECONDS, fold

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
WITHOUT_DIGITS = str.maketrans("", "", string.digits)


@dataclass(frozen=True)
class StartsWith:
    """The answer begins with the expected answer; of a list, with one of them."""

    ignore_case: bool = False
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = None

    def __call__(self, answer: Answered) -> Judgement:
        text = fold(answer.text, self.ignore_case)
        wanted = references(answer)
        if "" in wanted:
            raise ScorerError(f"case '{answer.case.id}' expects an empty text, with which every answer begins")
        for right in wanted:
            if text.startswith(fold(right, self.ignore_case)):
                return passed(True, f"begins with {quote(right)}")
        return passed(False, f"does not begin with {' or '.join(map(quote, wanted[:3]))}: {quote(answer.text)}")


def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and extra white space: SQuAD's normalisation
    (Rajpurkar et al. 2016, arXiv:1606.05250, its evaluation script)."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


@dataclass(frozen=True)
class Fuzzy:
    """Normalised, the answer contains the expected answer or is contained in it; of a list, one of them."""

    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = None

    def __call__(self, answer: Answered) -> Judgement:
        said = normalised(answer.text)
        for right in references(answer):
            wanted = normalised(right)
            if said == wanted or (said and wanted and (said in wanted or wanted in said)):
                return passed(True, f"{quote(said)} matches {quote(wanted)}")
        return passed(False, f"{quote(said)} matches none of {', '.join(map(quote, references(answer)[:3]))}")


@dataclass(frozen=True)
class WordF1:
    """F₁ of the words that answer and expected answer share, normalised, as a fraction; of a list, the highest
    (SQuAD's F1)."""

    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = None

    def __call__(self, answer: Answered) -> Judgement:
        value, nearest = max((word_f1(answer.text, right), right) for right in references(answer))
        return judged(value, "fraction", f"{value:.3f} of the words shared with {quote(nearest)}")


def word_f1(text: str, right: str) -> float:
    """2·precision·recall ÷ (precision + recall) over normalised words, each counted as often as it stands."""
    said, wanted = normalised(text).split(), normalised(right).split()
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0


@dataclass(frozen=True)
class JsonMatch:
    """The answer is JSON and equal to the expected JSON, part by part; of a list of texts, to one of them. A null is
    equal to nothing."""

    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = None

    def __call__(self, answer: Answered) -> Judgement:
        wanted = [self._expected(answer, text) for text in references(answer)]
        try:
            said = json.loads(answer.text)
            ok = any(json_equal(said, right) for right in wanted)
        except ValueError as error:
            return passed(False, f"not JSON: {error}")
        except RecursionError:
            return passed(False, "not JSON: it is nested too deeply")
        return passed(ok, f"is {'' if ok else 'not '}the expected JSON: {quote(answer.text.strip())}")

    def _expected(self, answer: Answered, text: str) -> Json:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ScorerError(f"case '{answer.case.id}' expects {quote(text)}, which is not JSON: {error}") from error


def json_equal(said: Json, right: Json) -> bool:
    """Equality part by part, where a null, or a missing key, is equal to nothing."""
    if said is None or right is None:
        return False
    if isinstance(said, dict) and isinstance(right, dict):
        return all(json_equal(said.get(key), right.get(key)) for key in said.keys() | right.keys())
    if isinstance(said, list) and isinstance(right, list):
        return len(said) == len(right) and all(map(json_equal, said, right))
    return type(said) not in (dict, list) and bool(said == right)


class Find(TypedDict):
    """A step that takes what a pattern finds: of a pattern with groups the first group that is not empty."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    find: str
    pick: NotRequired[int]
    """Which of several places: 0 the first (default), -1 the last."""
    fallback: NotRequired[str]
    """What stands for it where nothing is found; default `[invalid]`."""


Step = Literal["strip", "lower", "upper"] | Find


@dataclass(frozen=True)
class Extracted:
    """What is left of the answer after the steps is the expected answer; of a list, one of them."""

    steps: list[Step] = field(default_factory=list)
    """In their order: `{find: PATTERN, pick, fallback}`, `strip`, `lower`, `upper`."""
    ignore: list[str] = field(default_factory=list)
    """Patterns that are taken out of both texts before they are compared."""
    ignore_case: bool = False
    ignore_punctuation: bool = False
    """ASCII's."""
    ignore_numbers: bool = False
    """The digits 0 to 9."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = True
    shorthand: ClassVar[str | None] = "steps"

    def __post_init__(self) -> None:
        for pattern in [*(step["find"] for step in self.steps if not isinstance(step, str)), *self.ignore]:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise UseError(f"pattern {quote(pattern)} is not a regular expression: {error}") from None

    def __call__(self, answer: Answered) -> Judgement:
        try:
            said = extract(answer.text, self.steps)
            form = self._form(said)
            ok = any(form == self._form(right) for right in references(answer))
        except TimeoutError:
            return not_judged("pass", f"a pattern took over {PATTERN_SECONDS:g} s; simplify it")
        wanted = "" if ok else f", expected {' or '.join(map(quote, references(answer)[:3]))}"
        return passed(ok, f"left is {quote(said)}{wanted}")

    def _form(self, text: str) -> str:
        for pattern in self.ignore:
            text = regex.sub(pattern, "", text, timeout=PATTERN_SECONDS)
        text = text.lower() if self.ignore_case else text
        text = text.translate(WITHOUT_PUNCTUATION) if self.ignore_punctuation else text
        return text.translate(WITHOUT_DIGITS) if self.ignore_numbers else text


def extract(text: str, steps: Sequence[Step]) -> str:
    """The text after the steps; raises TimeoutError."""
    for step in steps:
        if isinstance(step, str):
            text = {"strip": text.strip, "lower": text.lower, "upper": text.upper}[step]()
        else:
            text = _found(text, step)
    return text


def _found(text: str, step: Find) -> str:
    fallback = step.get("fallback", "[invalid]")
    found = regex.findall(step["find"], text, timeout=PATTERN_SECONDS)
    pick = step.get("pick", 0)
    if not -len(found) <= pick < len(found):
        return fallback
    taken = found[pick]
    if isinstance(taken, tuple):
        taken = next((group for group in taken if group), fallback)
    return str(taken).strip()
