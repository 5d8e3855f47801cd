"""A function becomes an engine that suites of this process can name.

For tests and notebooks. What the command line is to know stands in workbench.yaml (`engine: python`) or in a
package's entry points.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from workbench.engines.calls import Source
from workbench.engines.python import PythonEngine
from workbench.errors import UseError
from workbench.records import Model
from workbench.registry import ENGINES

Function = TypeVar("Function", bound=Callable[..., Any])


def engine(name: str) -> Callable[[Function], Function]:
    """Registers a function `(messages, params, seed)` as an engine; what it may return stands at `engines.python`.

    A suite names it as `models: ["NAME:anything"]`, workbench.yaml as `engine: NAME`. It is called from several
    threads. Edited, it is asked anew. Raises UseError where the name is taken, or it takes other arguments.

    >>> @engine("parrot")
    ... def parrot(messages, params, seed):
    ...     return messages[-1]["content"]
    """

    def register(function: Function) -> Function:
        try:
            inspect.signature(function).bind([], {}, None)
        except TypeError as error:
            raise UseError(f"engine '{name}' has to take (messages, params, seed): {error}") from error
        ENGINES.register(name, _engine_of(function))
        return function

    return register


def _engine_of(function: Callable[..., Any]) -> type[PythonEngine]:
    source = Source(function.__qualname__, function.__name__, function.__code__.co_filename, _text(function))

    class Registered(PythonEngine):
        __doc__ = inspect.getdoc(function)

        def __init__(self, model: Model) -> None:
            self._model, self._source, self._function = model, source, function
            self._at_once = int(model.limits.get("concurrency", 4))

        @classmethod
        def preview(cls, model: Model) -> dict[str, object]:
            return {"file": source.target}

    return Registered


def _text(function: Callable[..., Any]) -> bytes:
    """The function's text; its code where the text is not at hand."""
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = function.__code__
        return repr((code.co_code, code.co_consts, code.co_names)).encode()
