"""Whether an answer is the best of those that the run's variants gave to a case."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from workbench.errors import ScorerError
from workbench.records import Judgement, Output
from workbench.scorers.base import Answered, judged, passed
from workbench.scorers.parts import Part


@dataclass(frozen=True)
class Best:
    """The part's value is no lower than for any other variant's answer to the same case at the same repeat; of
    equals all pass. It stands by itself, in no other scorer."""

    score: Part
    at_least: float | None = None
    """The value that the best must have to pass."""
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "score"

    @property
    def needs_expected(self) -> bool:
        return self.score.needs_expected

    def __call__(self, answer: Answered) -> Judgement:
        rivals = answer.rivals()
        if not rivals:
            raise ScorerError(f"case '{answer.case.id}' has no second answer to compare with")
        found = [self._judge(answer, output) for output in (answer.output, *rivals)]
        lacking = [one for one in found if one.value is None]
        if lacking:
            told = f"unscored: {self.score.spec.name} leaves one of the answers unscored"
            return judged(None, "pass", told, any(one.failed for one in lacking))
        own, *others = (float(one.value) for one in found if one.value is not None)
        highest = max(others)
        told = f"{self.score.spec.name} {own:.4g}, the best of {len(others)} others {highest:.4g}"
        if self.at_least is not None and own < self.at_least:
            return passed(False, f"{told}, wanted {self.at_least:g}")
        return passed(own >= highest, told)

    def _judge(self, answer: Answered, output: Output) -> Judgement:
        found = self.score(replace(answer, output=output))
        if isinstance(found.value, str):
            raise ScorerError(f"part '{self.score.spec.name}' gives a label, which has no order")
        return found
