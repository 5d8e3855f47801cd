"""The filters and tests of a prompt's template: jinja2's own, each paying from the render's budget.

Left out are those that depend on chance or are meant for HTML; `escape` gives plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from jinja2 import Environment, TemplateRuntimeError, Undefined
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.tests import TESTS as JINJA_TESTS
from markupsafe import escape

from workbench.define.budget import BUDGET, MAX_STEPS, kind, limit, text, weigh
from workbench.records import Json

MAX_WIDTH = 1000
"""Of a field in a format string."""


def names(words: str) -> frozenset[str]:
    return frozenset(words.split())


def each(value: Any) -> Any:
    """What a `for` goes through, its steps paid."""
    if isinstance(value, Undefined):
        return value
    if not isinstance(value, str | list | tuple | dict):
        raise TemplateRuntimeError(f"can't loop over a {kind(value)}")
    BUDGET.get().step(len(value))
    return list(value)


def weighed(value: Any) -> Any:
    if isinstance(value, str | list | tuple | dict):
        weigh(value)
    return value


def concat(values: list[Any]) -> str:
    parts = [text(value) for value in values]
    limit(sum(map(len, parts)))
    return "".join(parts)


def counted_range(*bounds: int) -> list[int]:
    numbers = range(*bounds)
    budget = BUDGET.get()
    if len(numbers) > MAX_STEPS:
        budget.step(len(numbers))
    budget.charge(len(numbers))
    return list(numbers)


def _tojson(value: Json, indent: int | None = None) -> str:
    """JSON with sorted keys; only what JSON itself escapes is escaped, not `<`, `&` or `é`."""
    if indent is not None and indent > 16:
        raise TemplateRuntimeError("tojson takes an indent of at most 16")
    return json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=False)


def _escape(value: Any) -> str:
    return str(escape(text(value)))


def _sum_size(_: Any, attribute: Any = None, start: Any = 0) -> int:
    if not isinstance(start, int | float):
        raise TemplateRuntimeError("sum adds numbers only")
    return 0


def _round_size(_: Any, precision: int = 0, method: str = "common") -> int:
    if abs(precision) > 100:
        raise TemplateRuntimeError("round takes a precision of at most 100")
    return 0


def _replace_size(s: Any, old: Any, new: Any, count: Any = None) -> int:
    whole = text(s)
    return len(whole) + whole.count(text(old)) * len(text(new))


def _indent_size(s: Any, width: Any = 4, first: bool = False, blank: bool = False) -> int:
    whole = text(s)
    return len(whole) + (whole.count("\n") + 2) * (width if isinstance(width, int) else len(width))


def _wrap_size(
    s: str,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    break_on_hyphens: bool = True,
) -> int:
    lines = 2 * len(s) // max(width, 1) + s.count("\n") + 1
    return len(s) + lines * len(wrapstring or "\n")


def percent_size(template: Any, *args: Any, **named: Any) -> int:
    """Size of `template % args`, at most; raises for widths that are computed or huge, and for `%c`, which
    could make a reserved character of a number."""
    template, widths = text(template), 0
    for width, precision, letter in re.findall(
        r"%(?:\([^)]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?[hlL]?(.)", template, re.DOTALL
    ):
        wide = any(part == "*" or int(part or 0) > MAX_WIDTH for part in (width, precision))
        if wide or letter == "c":
            raise TemplateRuntimeError(f"format fields are at most {MAX_WIDTH} wide, and never %c or %*")
        widths += int(width or 0) + int(precision or 0)
    size = weigh(list(args)) + weigh(named)
    by_name = bool(named) or any(isinstance(arg, dict) for arg in args)
    return len(template) + widths + size * (template.count("%") if by_name else 1)


def _wide_size(_: Any, width: int = 80, fillchar: str = " ") -> int:
    return width


FILTER_SIZES: dict[str, Callable[..., int]] = {
    "batch": lambda value, linecount, fill_with=None: linecount,
    "center": _wide_size,
    "format": percent_size,
    "indent": _indent_size,
    "join": lambda value, d="", attribute=None: weigh(value) + len(value) * len(text(d)),
    "replace": _replace_size,
    "round": _round_size,
    "slice": lambda value, slices, fill_with=None: slices,
    "sum": _sum_size,
    "wordwrap": _wrap_size,
}
"""For filters whose result can outgrow what went in: its size at most."""

METHOD_SIZES: dict[str, Callable[..., int]] = {
    "center": _wide_size,
    "expandtabs": lambda s, tabsize=8: len(s) + s.count("\t") * tabsize,
    "join": lambda s, items: weigh(items) + len(items) * len(s),
    "ljust": _wide_size,
    "replace": _replace_size,
    "rjust": _wide_size,
    "zfill": _wide_size,
}
"""The same for methods of texts."""

KEPT_FILTERS = names(
    "abs batch capitalize center count d default dictsort filesizeformat first float format groupby indent int "
    "items join last length list lower map max min reject rejectattr replace reverse round select selectattr "
    "slice sort string sum title trim truncate unique upper urlencode wordcount wordwrap"
)


def _guarded(function: Callable[..., Any], size: Callable[..., int] | None = None) -> Callable[..., Any]:
    """A filter that pays for what it is given and gives data back."""

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        given = [arg for arg in args if not isinstance(arg, Context | EvalContext | Environment)]
        for value in (*given, *kwargs.values()):
            if not isinstance(value, Undefined):
                weigh(value)
        if size is not None and not isinstance(given[0], Undefined):
            limit(size(*given, **kwargs))
        result = function(*args, **kwargs)
        if isinstance(result, Iterator):
            result = list(_drained(result))
        if not isinstance(result, Undefined):
            limit(weigh(result))
        return result

    return guarded


def _drained(items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
        BUDGET.get().charge(1)
        yield item


def _guarded_test(function: Any) -> Callable[..., Any]:
    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            weighed(value)
        return function(*args, **kwargs)

    return guarded


FILTERS: dict[str, Callable[..., Any]] = {
    **{name: _guarded(JINJA_FILTERS[name], FILTER_SIZES.get(name)) for name in KEPT_FILTERS},
    "tojson": _guarded(_tojson),
    "escape": _escape,
    "e": _escape,
    "_each": each,
    "_weighed": weighed,
    "_concat": concat,
}
TESTS: dict[str, Callable[..., Any]] = {
    name: _guarded_test(test) for name, test in JINJA_TESTS.items() if name not in {"sameas", "escaped"}
}
"""Without those that look at Python's identity or at markup."""
