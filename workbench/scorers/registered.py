"""A function becomes a scorer that suites of this process can name.

For tests and notebooks. What the command line is to know stands in a file of the project (`python: FILE.py:NAME`) or
in a package's entry points.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from workbench.errors import UseError
from workbench.records import Kind
from workbench.registry import SCORERS
from workbench.scorers.base import PROJECT
from workbench.scorers.python import Python

Function = TypeVar("Function", bound=Callable[..., Any])


def scorer(name: str, kind: Kind | None = None, version: int = 1) -> Callable[[Function], Function]:
    """Registers a function `(text, inputs, expected)` under a name; what it may return stands at `scorers.python`.

    Scores are made anew when the function's own text or `version` changes. Raises UseError where the name is taken,
    or the function takes other arguments.

    >>> @scorer("shouts", kind="pass")
    ... def shouts(text, inputs, expected):
    ...     return text.isupper()
    """

    def register(function: Function) -> Function:
        try:
            inspect.signature(function).bind("", {}, None)
        except TypeError as error:
            raise UseError(f"scorer '{name}' has to take (text, inputs, expected): {error}") from error
        SCORERS.register(name, _scorer_of(name, function, kind, version))
        return function

    return register


def _scorer_of(label: str, called: Callable[..., Any], its_kind: Kind | None, its_version: int) -> type[Python]:
    @dataclass(frozen=True)
    class Registered(Python):
        function: str = label
        kind: Kind | None = its_kind
        root: Path = field(default=Path(), metadata=PROJECT)
        version: ClassVar[int] = its_version
        content = _digest(called)
        _call = staticmethod(called)
        _path = Path(called.__code__.co_filename)

    Registered.__doc__ = inspect.getdoc(called) or f"The function {called.__name__} judges."
    return Registered


def _digest(function: Callable[..., Any]) -> str:
    """Of the function's text; of its code where the text is not at hand."""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        code = function.__code__
        text = repr((code.co_code, code.co_consts, code.co_names))
    return hashlib.sha256(text.encode()).hexdigest()
