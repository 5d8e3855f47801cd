"""The seam of scorers: settings are fields, one answered trial goes in, a judgement comes out.

A scorer is a frozen dataclass. Its fields are its settings in a suite; `version` is raised whenever its
judgement of the same answer changes, so that stored scores are made anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from workbench.records import Case, Json, Judgement, Output


@dataclass(frozen=True, slots=True)
class Answered:
    """What a scorer looks at: an output that is an answer, never a failure."""

    output: Output
    case: Case
    expected: Json
    """The expected answer, rendered; None where there is none."""

    @property
    def text(self) -> str:
        return self.output.text


class Scorer(Protocol):
    version: ClassVar[int]
    needs_expected: ClassVar[bool]
    """A case without an expected answer is refused before the run."""

    def __call__(self, answer: Answered) -> Judgement: ...


def passed(ok: bool, reason: str) -> Judgement:
    return Judgement(float(ok), "pass", reason)
