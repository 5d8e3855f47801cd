"""Judges whose rubric asks for one of some choices in words: ModelBasedClassify of OpenAI's evals
(https://github.com/openai/evals, `evals/elsuite/modelgraded/classify_utils.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from workbench.errors import UseError
from workbench.records import Judgement, Output
from workbench.scorers.base import DESK, Answered, ByOneModel, Desk, judged, quote
from workbench.scorers.matching import WITHOUT_PUNCTUATION

LONG = 1024
"""max_tokens of a verdict with its reasoning."""
INVALID = "__invalid__"
"""The label of an answer that names no choice."""

Match = Literal["include", "exact", "endswith", "starts_or_endswith"]


@dataclass(frozen=True)
class Classified(ByOneModel):
    """A model answers a rubric with one of the choices: the choice as a label, or its score."""

    rubric: str
    """The prompt's name, also NAME@LABEL. Its inputs are `output` and the case's."""
    model: str
    """The alias of the judge."""
    choices: list[str]
    """What it may say; where several fit a line, the first of them."""
    scores: dict[str, float] | None = None
    """For each choice its score; an answer that names none gets the lowest. Without it the choice is a label."""
    last: bool = False
    """The last line that names a choice counts, as of a judge that reasons first; else the first such line."""
    match: Match = "starts_or_endswith"
    """How a line, without ASCII punctuation, names a choice."""
    params: dict[str, Any] = field(default_factory=dict)
    """Sampling parameters of the judge; null leaves one out. Default: temperature 0."""
    desk: Desk | None = field(default=None, repr=False, compare=False, metadata=DESK)
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if bad := next((c for c in self.choices if c != c.translate(WITHOUT_PUNCTUATION)), None):
            raise UseError(f"the choice {quote(bad)} holds punctuation, which is not looked at in an answer")
        if not self.choices or "" in self.choices:
            raise UseError("choices lacks a text; give the words that the judge may say")
        if self.scores is not None and self.scores.keys() != set(self.choices):
            raise UseError("scores has to give each of the choices a number, and nothing else")
        self._check()

    @property
    def longest(self) -> int:
        return LONG

    @property
    def form(self) -> str:
        return f"text: {' | '.join(self.choices)}"

    def judge(self, answer: Answered, outputs: Sequence[Output]) -> Judgement:
        said = outputs[0].text
        choice = named_choice(said, self.choices, self.match, self.last)
        told = f"{self.model}: {choice}" if choice else f"{self.model} names no choice: {quote(said)}"
        if self.scores is None:
            return judged(choice or INVALID, "label", told)
        bounded = all(0 <= value <= 1 for value in self.scores.values())
        value = min(self.scores.values()) if choice is None else self.scores[choice]
        return judged(value, "fraction" if bounded else "number", told)


def named_choice(text: str, choices: Sequence[str], match: Match, last: bool) -> str | None:
    """The choice that the first line, or from the end the last, names which names one at all."""
    lines = text.strip().split("\n")
    for line in reversed(lines) if last else lines:
        plain = line.strip().translate(WITHOUT_PUNCTUATION)
        if plain:
            found = next((choice for choice in choices if _fits(plain, choice, match)), None)
            if found is not None:
                return found
    return None


def _fits(line: str, choice: str, match: Match) -> bool:
    if match in ("include", "exact"):  # include: so, and not the other way round, does evals have it
        return line in choice if match == "include" else line == choice
    return line.endswith(choice) or (match == "starts_or_endswith" and line.startswith(choice))
