"""Scorers of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workbench.errors import UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, judged
from workbench.scorers.text import measured


@dataclass(frozen=True)
class Latency:
    """Seconds from asking to the answer's last byte, waiting for a turn aside: a number, or, with a bound,
    pass or fail. An answer without a time of its own is unscored."""

    at_most: float | None = None
    """Seconds."""
    first_token: bool = False
    """Until the first token instead of the last."""
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "at_most"

    def __post_init__(self) -> None:
        if self.at_most is not None and self.at_most <= 0:
            raise UseError(f"at_most {self.at_most:g} is no time; give seconds above 0")

    def __call__(self, answer: Answered) -> Judgement:
        output = answer.output
        seconds = output.first_token_seconds if self.first_token else output.seconds
        if seconds is None:
            return judged(None, "number" if self.at_most is None else "pass", "unscored: the engine gave no time")
        return measured(seconds, "s", None, self.at_most)
