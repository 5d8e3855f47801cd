"""The share of a conversation's answers that a model finds fitting for what was said before.

Each answer is judged with the turns before it, at most a window of them: the measure that promptfoo
(https://www.promptfoo.dev/docs/configuration/expected-outputs/model-graded/conversation-relevance/) has from
DeepEval's conversation relevancy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from workbench.errors import ScorerError, UseError
from workbench.records import Judgement, Output, Request
from workbench.scorers.base import DESK, Answered, ByOneModel, Desk, judged, not_judged, passed, quote
from workbench.scorers.parts import check_names, filled
from workbench.scorers.verdict import Form, answer_form, form_for, form_name, read_scale, read_verdict

POINTS = read_scale(["yes", "no"])
SHORT = 32
"""max_tokens of a verdict."""


@dataclass(frozen=True)
class Conversation(ByOneModel):
    """The share of a conversation's answers to which a judge says yes, as a fraction, or pass or fail."""

    rubric: str
    """A prompt with the input `turns`, a list of {input, output}: it asks for yes or no about the last of them."""
    model: str
    """The alias of the judge."""
    turns: str
    """`{{ name }}`: the case's input that is the conversation, a list of {input, output}; a turn without an output
    is answered by the answer that is scored."""
    window: int = 5
    """How many turns the judge sees at most, the judged one among them."""
    at_least: float | None = None
    """With it, pass or fail."""
    params: dict[str, Any] = field(default_factory=dict)
    """Sampling parameters of the judge; null leaves one out. Default: temperature 0."""
    desk: Desk | None = field(default=None, repr=False, compare=False, metadata=DESK)
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = None
    shows: ClassVar[tuple[str, str]] = ("conversation", "turns")

    def __post_init__(self) -> None:
        check_names(self.turns, "turns")
        if self.window < 1:
            raise UseError(f"window is {self.window}; give 1 or more turns")
        if self.at_least is not None and not 0 <= self.at_least <= 1:
            raise UseError(f"at_least {self.at_least:g} is not between 0 and 1")
        self._check()

    @cached_property
    def _form(self) -> Form:
        assert self.desk is not None
        return form_for(self.desk.engine(self.model).capabilities, explain=False)

    @property
    def longest(self) -> int:
        return SHORT

    @property
    def most_requests(self) -> int:
        """Conversations differ in length: what a window holds stands for it."""
        return self.window

    @property
    def form(self) -> str:
        return form_name(self._form, POINTS, False)

    def requests(self, answer: Answered) -> Sequence[Request]:
        turns = self._turns(answer)
        form = answer_form(self._form, POINTS, False)
        windows = [turns[max(0, i + 1 - self.window) : i + 1] for i in range(len(turns))]
        inputs = answer.case.inputs
        shown = [self._render({**inputs, "turns": window}, answer.case.id) for window in windows]
        return [Request("", self.model, messages, self._params, answer=form) for messages in shown]

    def judge(self, answer: Answered, outputs: Sequence[Output]) -> Judgement:
        kind = "fraction" if self.at_least is None else "pass"
        good = 0
        for number, output in enumerate(outputs, 1):
            point, _ = read_verdict(self._form, output.text, POINTS)
            if point is None:
                told = f"{self.model} says neither yes nor no of turn {number}: {quote(output.text)}"
                return not_judged(kind, told)  # type: ignore[arg-type]
            good += point.label == "yes"
        share = good / len(outputs)
        told = f"{good} of {len(outputs)} answers fit"
        if self.at_least is None:
            return judged(share, "fraction", told)
        return passed(share >= self.at_least - 1e-12, f"{told}, wanted {self.at_least:g}")

    def _turns(self, answer: Answered) -> list[dict[str, str]]:
        given = filled(self.turns, answer.case)
        turns = []
        for turn in given if isinstance(given, (list, tuple)) else ():
            said = turn.get("input") if isinstance(turn, dict) else None
            told = turn.get("output", answer.text) if isinstance(turn, dict) else None
            if not isinstance(said, str) or not isinstance(told, str):
                raise ScorerError(f"case '{answer.case.id}': a turn has to be {{input, output}}, both texts")
            turns.append({"input": said, "output": told})
        if not turns:
            raise ScorerError(f"case '{answer.case.id}': the conversation has no turns")
        return turns
