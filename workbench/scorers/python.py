"""A function of the project's own as a scorer.

This runs the project's own code, with all the rights of the workbench: use it in projects that you trust,
as you would their tests. The file is read anew for each run, nothing is written beside it, and it must lie
in the project's folder.
"""

from __future__ import annotations

import copy
import hashlib
import linecache
import math
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, get_args

from workbench.errors import FileError, ScorerError, UseError
from workbench.records import Judgement, Kind
from workbench.scorers.base import MOST_VALUE, PROJECT, Answered, judged, quote


@dataclass(frozen=True)
class Python:
    """A function of the project judges: `fn(text, inputs, expected)` returns a bool (pass), a number, a text
    (label), a pair (value, reason), or a Judgement; None: it has nothing to say of this answer."""

    function: str
    """`evals/scorers.py:polite`: a file of the project and the function in it."""
    kind: Kind | None = None
    """What its values are; without it, what their type tells. A `fraction` must be 0…1."""
    root: Path = field(default=Path(), metadata=PROJECT)
    version: ClassVar[int] = 1
    needs_expected: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "function"

    def __post_init__(self) -> None:
        self._call  # noqa: B018  a wrong name is told before the run

    def __call__(self, answer: Answered) -> Judgement:
        inputs, expected = copy.deepcopy((dict(answer.case.inputs), answer.expected))
        try:
            with redirect_stdout(sys.stderr):  # stdout is for data
                given = self._call(answer.text, inputs, expected)
        except (Exception, SystemExit) as error:  # the project's code may raise anything
            raise ScorerError(f"{self._place(error)}: {_message(error)}") from error
        if isinstance(given, Judgement):
            value, kind, reason, failed = given.value, given.kind, given.reason, given.failed
        else:
            failed = False
            value, reason = given if isinstance(given, tuple) and len(given) == 2 else (given, "")
            value, kind = self._typed(value)
        if not self._fits(value, kind):
            raise ScorerError(f"{self.function} returned {quote(repr(value))}, which is no {kind} value")
        return judged(value, kind, str(reason), failed and value is None)

    @cached_property
    def content(self) -> str:
        """The file's hash: a score is made anew when the file changes."""
        return hashlib.sha256(self._source.encode()).hexdigest()

    @cached_property
    def _path(self) -> Path:
        file, _, name = self.function.rpartition(":")
        if not file.endswith(".py") or not name.isidentifier():
            raise UseError(f"function {quote(self.function)} must look like 'evals/scorers.py:my_scorer'")
        path = (self.root / file).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise UseError(f"function {quote(self.function)} lies outside the project's folder; move it inside")
        return path

    @cached_property
    def _source(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UseError(f"{self._path} can't be read: {_message(error)}") from None

    @cached_property
    def _call(self) -> Callable[[str, dict[str, Any], Any], Any]:
        name = self.function.rpartition(":")[2]
        module = self._load()
        found = getattr(module, name, None)
        if not callable(found):
            raise FileError(f"there is no function '{name}' in this file", self._path)
        return found  # type: ignore[no-any-return]

    def _load(self) -> ModuleType:
        """The file as a module. Not by importlib: it would keep byte code beside the file, and take the
        old one for a file that was saved twice within a second."""
        module = ModuleType(f"workbench_project_{self.content[:16]}")
        module.__file__ = str(self._path)
        linecache.checkcache(module.__file__)
        sys.modules[module.__name__] = module  # dataclasses look their module up
        try:
            code = compile(self._source, module.__file__, "exec", dont_inherit=True)
            exec(code, module.__dict__)  # noqa: S102  trusted: see above
        except SyntaxError as error:
            raise FileError(f"SyntaxError: {error.msg}", error.filename, error.lineno) from None
        except (Exception, SystemExit) as error:  # the project's code may raise anything
            raise UseError(f"{self._place(error)}: {_message(error)}") from error
        return module

    def _place(self, error: BaseException) -> str:
        """`file:line` of the project's own last frame."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if frame.filename == str(self._path)]
        return f"{self._path}:{own[-1]}" if own else str(self._path)

    def _typed(self, value: Any) -> tuple[Any, Kind]:
        """A plain value and its kind; numpy's scalars become Python's."""
        if type(value).__module__ == "numpy" and hasattr(value, "item"):
            value = value.item()
        if isinstance(value, str):
            return value, self.kind or "label"
        if isinstance(value, bool):
            return float(value), self.kind or "pass"
        if isinstance(value, int):
            value = float(value) if abs(value) <= MOST_VALUE else math.inf
        return value, self.kind or "number"

    def _fits(self, value: Any, kind: Kind) -> bool:
        if value is None:
            return kind in get_args(Kind)
        if kind == "label":
            return isinstance(value, str)
        if not isinstance(value, float) or not math.isfinite(value):
            return False
        return {"pass": value in (0.0, 1.0), "fraction": 0 <= value <= 1, "number": True}.get(kind, False)


def _message(error: BaseException) -> str:
    """`KeyError: 'label'`, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
