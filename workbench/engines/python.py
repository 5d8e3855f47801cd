"""A function of the project's own answers.

    engine: python
    path: evals/mine.py:answer

    def answer(messages: list[dict], params: dict, seed: int | None) -> str | dict: ...

A message is `{"role", "content"}`; a dict holds `text` and, where they are known, `prompt_tokens`,
`output_tokens` and `cost` (US dollars). It is called from several threads at a time; `limits:
{concurrency: 1}` calls it from one. Further settings: `engines.calls`.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from workbench.engines.base import Capabilities
from workbench.engines.calls import Answer, BadAnswerError, CallEngine
from workbench.errors import ModelError, suggest
from workbench.records import Model, Request

_FIELDS = ("text", "prompt_tokens", "output_tokens", "cost")


class PythonEngine(CallEngine):
    """Raises ModelError for a function that can't be loaded, or not be called with three arguments."""

    capabilities = Capabilities(seeds=True)

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._function = _checked(self._source.load(), self._source.target)

    def answer(self, request: Request) -> Answer:
        messages = [message.to_json() for message in request.messages]
        given = self._function(messages, copy.deepcopy(dict(request.params)), request.seed)
        return _answer(given)


def _checked(function: Any, target: str) -> Callable[..., Any]:
    if not callable(function):
        raise ModelError(f"{target} is of type {type(function).__name__}; it has to be a function")
    if inspect.iscoroutinefunction(function):
        raise ModelError(f"{target} is async; it has to be a plain function, such as one that calls asyncio.run")
    try:
        inspect.signature(function).bind([], {}, None)
    except TypeError as error:
        raise ModelError(f"{target} has to take (messages, params, seed): {error}") from error
    except ValueError:  # a function written in C tells no signature
        pass
    return function  # type: ignore[no-any-return]


def _answer(given: Any) -> Answer:
    fields = {"text": given} if isinstance(given, str) else given
    if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
        raise BadAnswerError(f"it returned {given!r:.80}; it has to return a text, or a dict with a `text`")
    if unknown := [key for key in fields if key not in _FIELDS]:
        raise BadAnswerError(f"it returned a dict with '{unknown[0]}'{suggest(str(unknown[0]), _FIELDS)}")
    price = fields.get("cost")
    if price is not None and not (_is_number(price, Real) and math.isfinite(price)):
        raise BadAnswerError(f"cost is {price!r:.80}; it has to be US dollars, from 0 up")
    asked, told = (_tokens(fields, key) for key in ("prompt_tokens", "output_tokens"))
    return Answer(str(fields["text"]), "stop", asked, told, None if price is None else float(price))


def _tokens(fields: dict[str, Any], key: str) -> int | None:
    value = fields.get(key)
    if value is not None and not _is_number(value, Integral):
        raise BadAnswerError(f"{key} is {value!r:.80}; it has to be a count")
    return None if value is None else int(value)


def _is_number(value: Any, kind: type) -> bool:
    """numpy's are of these kinds, too."""
    return isinstance(value, kind) and not isinstance(value, bool) and value >= 0  # type: ignore[operator]
