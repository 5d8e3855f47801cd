"""What one render of a template may use: steps, work, characters; and what a value weighs.

Nothing is bounded by time, so the same template fails at the same place on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateRuntimeError, Undefined
from jinja2.runtime import Macro

from workbench.records import Json

MAX_STEPS = 100_000
"""Loop steps and calls of one render."""
MAX_CHARACTERS = 1 << 20
"""Of the output, and of any text or list made on the way."""
MAX_WORK = 5_000_000
"""Elements and eighths of characters that one render may handle in all."""
MAX_DEPTH = 40
"""Macros inside macros; below what Python's own stack bears."""
MAX_BITS = 4096
"""Of an integer."""
RESERVED = "\ufdd0\ufdd1"
"""Two of Unicode's noncharacters, meant for internal use: they mark messages and are refused in values."""


class Thread(list[Json]):
    """A conversation as a template sees it: a list of messages that is written as a mark, `token`."""

    def __init__(self, messages: Iterable[Json], token: str) -> None:
        super().__init__(messages)
        self.token = token


@dataclass(slots=True)
class Budget:
    """What one render may still use."""

    names: frozenset[str] = frozenset()
    """The variables there are, for messages."""
    steps: int = MAX_STEPS
    work: int = MAX_WORK
    depth: int = 0

    def step(self, count: int = 1) -> None:
        self.steps -= count
        if self.steps < 0:
            raise TemplateRuntimeError(f"the template takes more than {MAX_STEPS:,} loop steps; shorten its loops")

    def charge(self, work: int) -> None:
        self.work -= work
        if self.work < 0:
            raise TemplateRuntimeError("the template handles too much data; loop over less, or make less text")


BUDGET: ContextVar[Budget] = ContextVar("budget")


def limit(size: int) -> None:
    """Raises where a text or list would be larger than allowed."""
    if size > MAX_CHARACTERS:
        raise TemplateRuntimeError(f"the template makes more than {MAX_CHARACTERS:,} characters; make it shorter")


def weigh(value: Any) -> int:
    """Charges for the whole of a value, however often a part occurs in it, and gives its size.

    Raises where something in it is not data: a macro, a namespace, a method.
    """
    budget, size, todo = BUDGET.get(), 0, [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            budget.charge(1 + len(item) // 8)
            size += len(item)
        elif isinstance(item, list | tuple):
            budget.charge(1 + len(item))
            todo.extend(item)
        elif isinstance(item, dict):
            budget.charge(1 + 2 * len(item))
            todo.extend(item)
            todo.extend(item.values())
        elif isinstance(item, Undefined):
            str(item)
        elif item is None or isinstance(item, int | float):
            bits(item)
            budget.charge(1)
        else:
            raise TemplateRuntimeError(f"a {kind(item)} is not a value; call it, or use what is in it")
        size += 1
    return size


def plain(value: Any) -> Json:
    """A copy of a variable in plain lists and dicts; raises TypeError or ValueError for what is not JSON,
    and for reserved characters. Charged like all work, since YAML can nest a value in itself."""
    BUDGET.get().charge(1 + (len(value) // 8 if isinstance(value, str) else 0))
    if value is None or isinstance(value, bool | int | float | Undefined | Thread):
        return value
    if isinstance(value, str):
        if RESERVED[0] in value or RESERVED[1] in value:
            raise ValueError("it contains U+FDD0 or U+FDD1, which are reserved for marking messages; remove them")
        return str(value)
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"it is a {type(value).__name__}, not a JSON value; write it as text")


def text(value: Any) -> str:
    """What `{{ value }}` writes."""
    if isinstance(value, Thread):
        return value.token
    if not isinstance(value, str | Undefined):
        limit(weigh(value))
    written = str(value)
    limit(len(written))
    return written


def kind(value: Any) -> str:
    return "macro" if isinstance(value, Macro) else type(value).__name__


def bits(value: Any) -> int:
    length = value.bit_length() if isinstance(value, int) else 0
    if length > MAX_BITS:
        raise TemplateRuntimeError("the template computes an integer that is too large")
    return length
