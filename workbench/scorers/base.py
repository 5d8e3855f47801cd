"""The seam of scorers: settings are fields, one answered trial goes in, a judgement comes out.

A scorer is a frozen dataclass. Its fields are its settings in a suite; `version` is raised whenever its
judgement of the same answer changes, so that stored scores are made anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from workbench.errors import ScorerError
from workbench.records import Case, Json, Judgement, Kind, Output, canonical

REASON_LIMIT = 200
"""The most characters of a reason: it is one line of a table."""

PROJECT = {"project": True}
"""Metadata of a field that is not a setting: `build` fills it with the project's folder. A scorer that reads
a file of the project has one, and a `content` property that tells what it read: it enters the score's key."""


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
    shorthand: ClassVar[str | None]
    """The setting that `{scorer: value}` in a suite stands for."""

    @property
    def needs_expected(self) -> bool:
        """A case without an expected answer is refused before the run."""

    def __call__(self, answer: Answered) -> Judgement:
        """Raises ScorerError where the case, or the project's own code, is wrong: not for a bad answer."""


def passed(ok: bool, reason: str) -> Judgement:
    return judged(float(ok), "pass", reason)


def judged(value: float | str | None, kind: Kind, reason: str) -> Judgement:
    """A judgement whose reason is one printable line of at most `REASON_LIMIT` characters."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in reason[: REASON_LIMIT + 1])
    return Judgement(value, kind, line if len(line) <= REASON_LIMIT else line[: REASON_LIMIT - 1] + "…")


def quote(text: str, limit: int = 60) -> str:
    """Text for a reason: in quotes, control characters escaped, a long one's middle left out."""
    if len(text) <= limit:
        return repr(text)
    half = limit // 2
    return repr(f"{text[:half]} … {text[-half:]}")


def references(answer: Answered) -> list[str]:
    """The expected answers as texts: a list holds several of which each is right, all else is one.

    Text stays as it is; other values are their JSON (`true`, `42`, `{"a":1}`).
    """
    expected = answer.expected if isinstance(answer.expected, list) else [answer.expected]
    if answer.expected is None or not expected:
        raise ScorerError(f"case '{answer.case.id}' has no expected answer; give it one or drop the scorer")
    return [value if isinstance(value, str) else canonical(value) for value in expected]
