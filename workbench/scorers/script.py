"""A script judges the answer, locked away in the sandbox of `code`: for code that came with a suite from elsewhere.

It is called with `(output, context)`: the answer's text, and `{"vars": the case's inputs, "config": …}`. What it may
give back is that of promptfoo's Python assertions
(https://www.promptfoo.dev/docs/configuration/expected-outputs/python/): a bool, a number, or `{"pass", "score",
"reason"}`. A script that raises fails the answer, as there; one that wants what the sandbox lacks (a package, more
of `context`) leaves it unscored. Code of one's own that needs more belongs into `python`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

from workbench.errors import ScorerError, UseError
from workbench.records import Json, Judgement, canonical
from workbench.scorers.base import PROJECT, Answered, passed, quote
from workbench.scorers.sandbox import Script as Job
from workbench.scorers.sandbox import run_script, sandbox_command

MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Script:
    """Python of a script passes the answer, run in a locked-down process with nothing but Python's own library."""

    code: str = ""
    """An expression over `output` and `context`, or the lines of a function of them, with `return`."""
    file: str = ""
    """In place of `code`: `evals/check.py:get_assert`, a file of the project and the function in it."""
    config: dict[str, Any] = field(default_factory=dict)
    """`context["config"]`."""
    at_least: float | None = None
    """The lowest score that passes; without it a number above 0 does."""
    timeout: float = 5.0
    """Seconds, starting included."""
    memory: int = 512
    """MiB."""
    root: Path = field(default=Path(), metadata=PROJECT)
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "code"

    def __post_init__(self) -> None:
        if bool(self.code.strip()) == bool(self.file):
            raise UseError("a script is given by 'code', or by 'file: evals/check.py:get_assert'")
        if not 0.2 <= self.timeout <= 600:
            raise UseError(f"timeout is {self.timeout:g}; give 0.2 to 600 seconds")
        if not 64 <= self.memory <= 65536:
            raise UseError(f"memory is {self.memory}; give 64 to 65536 MiB")
        try:
            with warnings.catch_warnings(action="ignore"):  # of escapes that mean themselves
                compile(self._source, self.file or "code", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise UseError(f"the script is no Python: {error}") from None
        sandbox_command()  # refused before the run, not at each answer

    def __call__(self, answer: Answered) -> Judgement:
        context = {"vars": dict(answer.case.inputs), "config": self.config}
        job = (self._source, self._function, answer.text, canonical(context), self.timeout, self.memory)
        try:
            state, value = _said(*job)
            return self._verdict(value) if state == "value" else passed(False, f"the script failed: {value}")
        except ScorerError as error:
            raise ScorerError(f"the script can't judge: {error}") from None

    @cached_property
    def content(self) -> str:
        """The script's hash: a score is made anew when the file changes."""
        return hashlib.sha256(self._source.encode()).hexdigest()

    @property
    def _function(self) -> str:
        return self.file.rpartition(":")[2] if self.file else "main"

    @cached_property
    def _source(self) -> str:
        """The file's text; of `code` the function that it stands for."""
        if not self.file:
            return wrapped(self.code)
        file, _, name = self.file.rpartition(":")
        path = (self.root / file).resolve()
        if not file.endswith(".py") or not name.isidentifier():
            raise UseError(f"file {quote(self.file)} must look like 'evals/check.py:get_assert'")
        if not path.is_relative_to(self.root.resolve()):
            raise UseError(f"file {quote(self.file)} lies outside the project's folder; move it inside")
        try:
            if path.stat().st_size > MOST_BYTES:
                raise UseError(f"{path} is larger than {MOST_BYTES >> 20} MiB")
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UseError(f"{path} can't be read: {error}") from None

    def _verdict(self, value: Json) -> Judgement:
        """What the script gave, as pass or fail; raises ScorerError for what is no verdict."""
        if isinstance(value, str):
            value = _of_text(value)
        if isinstance(value, bool):
            return passed(value, f"the script says {value}")
        if isinstance(value, (int, float)) and not math.isnan(value):
            enough = value > 0 if self.at_least is None else value >= self.at_least
            return passed(enough, f"the script says {value:g}, wanted {self._wanted}")
        said = value.get("pass", value.get("pass_")) if isinstance(value, dict) else None
        if not isinstance(said, bool):
            told = "a bool, a number or {pass, score, reason}"
            return passed(False, f"the script has to give {told}, and gave {quote(repr(value))}")
        score, reason = value.get("score"), str(value.get("reason") or "")
        low = self.at_least is not None and not (isinstance(score, (int, float)) and score >= self.at_least)
        told = f"score {score}" + (f", wanted {self._wanted}" if low else "")
        return passed(said and not low, f"{told}: {reason}" if reason else told)

    @property
    def _wanted(self) -> str:
        return "above 0" if self.at_least is None else f"at least {self.at_least:g}"


def wrapped(code: str) -> str:
    """The function `main(output, context)` of an expression, or of lines with `return`."""
    if _is_expression(code.strip()):
        return f"import json\n\ndef main(output, context):\n    return ({code.strip()})\n"
    indent = next(iter(re.findall(r"^[ \t]+(?=\S)", code, re.MULTILINE)), "    ")
    body = "".join(f"{indent}{line}" for line in code.splitlines(keepends=True))
    return f"import json\n\ndef main(output, context):\n{body}\n"


def _is_expression(code: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(code, "code", "eval", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return "\n" not in code


def _of_text(value: str) -> Json:
    """Texts that stand for other values: `true`, `0.5`, `{"pass": …}`."""
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, (dict, int, float)) else value


@lru_cache(maxsize=1024)
def _said(source: str, function: str, text: str, context: str, seconds: float, memory: int) -> tuple[str, Json]:
    """What the script gave. Kept, since comparing scorers judge one answer several times."""
    return run_script(Job(source, function, (text, json.loads(context)), seconds, memory, context=True))
