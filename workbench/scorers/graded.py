"""Judges whose rubric says itself how to answer: in JSON `{pass, score, reason}`, as promptfoo's grading prompts do
(https://www.promptfoo.dev/docs/configuration/expected-outputs/model-graded/)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from workbench.records import Json, Judgement, Output
from workbench.scorers.base import DESK, Answered, ByOneModel, Desk, judged, not_judged, passed, quote

LONG = 1024
"""max_tokens of a grade with its reason."""


@dataclass(frozen=True)
class Graded(ByOneModel):
    """A model grades by a rubric that asks for JSON with `pass`, `score`, `reason`: pass or fail, or the score."""

    rubric: str
    """The prompt's name, also NAME@LABEL. Its inputs are `output` and the case's."""
    model: str
    """The alias of the judge."""
    give: Literal["pass", "score"] = "pass"
    at_least: float | None = None
    """Of the score: below it, no pass."""
    params: dict[str, Any] = field(default_factory=dict)
    """Sampling parameters of the judge; null leaves one out. Default: temperature 0."""
    desk: Desk | None = field(default=None, repr=False, compare=False, metadata=DESK)
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        self._check()

    @property
    def longest(self) -> int:
        return LONG

    @property
    def form(self) -> str:
        return "JSON: pass, score, reason"

    def judge(self, answer: Answered, outputs: Sequence[Output]) -> Judgement:
        kind: Literal["pass", "number"] = "pass" if self.give == "pass" else "number"
        grade = read_grade(outputs[0].text)
        if grade is None:
            return not_judged(kind, f"{self.model} gives no grade: {quote(outputs[0].text)}")
        good, score, reason = grade
        good = good and (self.at_least is None or score >= self.at_least)
        told = f"{self.model}: {'pass' if good else 'fail'}, score {score:g}" + (f", {reason}" if reason else "")
        return passed(good, told) if self.give == "pass" else judged(score, "number", told)


def read_grade(text: str) -> tuple[bool, float, str] | None:
    """Pass, score and reason of the first JSON object in an answer that has a grade; None where there is none.

    As promptfoo reads it: without `pass` it is a pass, without a score 1 or 0 stand for pass and fail."""
    for found in _objects(text):
        if not found.keys() & {"pass", "score"}:
            continue
        said, number = found.get("pass", True), found.get("score")
        good = said if isinstance(said, bool) else str(said).strip().lower() in ("true", "yes", "pass", "y")
        try:
            score = float(good) if number is None else float(number)
        except (TypeError, ValueError):
            return None
        return (good, score, str(found.get("reason") or "")) if math.isfinite(score) else None
    return None


def _objects(text: str) -> Iterator[dict[str, Json]]:
    """The JSON objects that begin somewhere in a text, the outermost only."""
    decoder, end = json.JSONDecoder(), 0
    for found in re.finditer(r"\{", text):
        if found.start() >= end:
            try:
                value, end = decoder.raw_decode(text, found.start())
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value
