"""Whether code in the answer passes tests, in the form of HumanEval (Chen et al. 2021, arXiv 2107.03374).

The tests run in a process of their own and reach the answer's functions only by calls with plain data
(numbers, texts, lists, tuples, sets, dicts …), so an answer can't read the tests, change how they compare, or
pretend that they passed: see `sandbox.py`. Arguments are copies: tests of changes in place, and of classes, fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workbench.errors import ScorerError, UseError
from workbench.records import Judgement
from workbench.scorers.base import Answered, passed
from workbench.scorers.parts import check_names, filled
from workbench.scorers.sandbox import Program, run_tests, sandbox_command

WORDED = ("tests", "entry_point", "prompt")


@dataclass(frozen=True)
class Code:
    """The Python code of the answer passes the tests, run in a locked-down process."""

    tests: str | None = None
    """Python: asserts, or `def check(candidate)` as HumanEval has it; without it the expected answer. In this and
    the next two `{{ name }}` is the case's input of that name."""
    entry_point: str = ""
    """The function that `check` is given. Without it the tests call the answer's functions by name."""
    prompt: str = ""
    """Code that the answer continues: put before it, unless the answer holds the whole function."""
    timeout: float = 5.0
    """Seconds for all, starting included."""
    memory: int = 512
    """MiB for each of the two processes."""
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "tests"

    def __post_init__(self) -> None:
        for name in WORDED:
            check_names(getattr(self, name) or "", name)
        if not 0.2 <= self.timeout <= 600:
            raise UseError(f"timeout is {self.timeout:g}; give 0.2 to 600 seconds")
        if not 64 <= self.memory <= 65536:
            raise UseError(f"memory is {self.memory}; give 64 to 65536 MiB")
        sandbox_command()  # refused before the run, not at each answer

    @property
    def needs_expected(self) -> bool:
        return self.tests is None

    def __call__(self, answer: Answered) -> Judgement:
        case = answer.case
        words = {name: filled(getattr(self, name) or "", case) for name in WORDED}
        if self.tests is None:
            words["tests"] = answer.expected
        for name, value in words.items():
            if not isinstance(value, str):
                raise ScorerError(f"case '{case.id}': {name} is no text, but {type(value).__name__}")
        if not words["tests"].strip():
            raise ScorerError(f"case '{case.id}' has no tests")
        if not answer.text.strip():
            return passed(False, "the answer is empty")
        try:
            return passed(*run_tests(Program(answer.text, **words, seconds=self.timeout, memory=self.memory)))
        except ScorerError as error:
            raise ScorerError(f"case '{case.id}': {error}") from None
