"""The tool calls of an answer against the wanted ones.

Calls are read in the two forms in use: `{"name", "arguments"}` and OpenAI's `{"function": {"name",
"arguments"}}`; arguments that are a text are parsed as JSON. Values are equal as JSON values are: 1 is 1.0,
true is not 1, the order of keys does not count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from workbench.errors import ScorerError, UseError
from workbench.records import Json, Judgement
from workbench.scorers.base import Answered, passed, quote


class Call(NamedTuple):
    name: str
    arguments: Json
    """A mapping; where it can't be read as one, what was there."""


class NotACallError(Exception):
    """Why a value is no tool call."""


def read_call(value: Json) -> Call:
    """A tool call in either form, or a bare name; raises NotACallError."""
    if isinstance(value, str):
        return Call(value, {})
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise NotACallError(f"{_shown(value)} is no tool call; it needs a name and arguments")
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return Call(inner["name"], arguments)
    return Call(inner["name"], {} if arguments is None else arguments)


def difference(wanted: Json, found: Json, part: bool, path: str = "") -> str | None:
    """The first place where two JSON values differ, told; None where there is none. With `part` a mapping of
    `found` may hold more keys than that of `wanted`."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return _keys_differ(wanted, found, part, path)
    if isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            return f"{path or 'the list'} has {len(found)} items, wanted {len(wanted)}"
        told = (difference(w, f, part, f"{path}[{i}]") for i, (w, f) in enumerate(zip(wanted, found, strict=True)))
        return next((each for each in told if each), None)
    if isinstance(wanted, bool) == isinstance(found, bool) and wanted == found:
        return None
    return f"{path or 'it'} is {_shown(found)}, wanted {_shown(wanted)}"


def _keys_differ(wanted: dict[str, Json], found: dict[str, Json], part: bool, path: str) -> str | None:
    for key, value in wanted.items():
        place = f"{path}.{key}" if path else key
        if key not in found:
            return f"{place} is missing"
        if told := difference(value, found[key], part, place):
            return told
    more = [key for key in found if key not in wanted]
    return f"{path + '.' if path else ''}{more[0]} is not wanted" if more and not part else None


@dataclass(frozen=True)
class ToolCalls:
    """The answer's tool calls are the expected ones: names and arguments, in any order or in the given one."""

    calls: list[Any] | None = None
    """The wanted calls, `{name, arguments}` each, or a bare name for one whose arguments are empty; without it the
    expected answer. An empty list: no tool may be called."""
    order: Literal["any", "exact"] = "any"
    arguments: Literal["exact", "subset", "ignore"] = "exact"
    """`subset`: a call may give more than the wanted arguments; `ignore`: only names count."""
    version: ClassVar[int] = 1
    shorthand: ClassVar[str | None] = "calls"

    def __post_init__(self) -> None:
        try:
            for call in self.calls or ():
                read_call(call)
        except NotACallError as error:
            raise UseError(f"calls: {error}") from None

    @property
    def needs_expected(self) -> bool:
        return self.calls is None

    def __call__(self, answer: Answered) -> Judgement:
        wanted = self._wanted(answer)
        try:
            found = [read_call(call) for call in answer.output.tool_calls]
        except NotACallError as error:
            return passed(False, str(error))
        paired = self._paired(wanted, found)
        for number, (right, call) in enumerate(paired, 1):
            if told := self._difference(right, call):
                return passed(False, f"call {number}: {told}")
        if len(found) != len(wanted):
            return passed(False, self._miscounted(wanted, found))
        return passed(True, "calls " + ", ".join(call.name for call in found) if found else "calls no tool")

    def _wanted(self, answer: Answered) -> list[Call]:
        given = answer.expected if self.calls is None else self.calls
        if isinstance(given, (dict, str)):
            given = [given]
        if not isinstance(given, (list, tuple)):
            raise ScorerError(f"case '{answer.case.id}': the expected answer is no list of tool calls")
        try:
            return [read_call(call) for call in given]
        except NotACallError as error:
            raise ScorerError(f"case '{answer.case.id}': the expected answer: {error}") from None

    def _paired(self, wanted: Sequence[Call], found: Sequence[Call]) -> list[tuple[Call, Call]]:
        """Each wanted call with the one that it is held against. In any order: equal ones first, then those of
        the same name, then what is left, so that the first difference told is the one that matters."""
        if self.order == "exact":
            return list(zip(wanted, found, strict=False))
        match = self._matching(wanted, found)
        pairs = [(wanted[i], found[j]) for j, i in match.items()]
        open_wanted = [w for i, w in enumerate(wanted) if i not in match.values()]
        open_found = [f for j, f in enumerate(found) if j not in match]
        open_found.sort(key=lambda call: call.name not in {w.name for w in open_wanted})
        for right in open_wanted:
            near = next((call for call in open_found if call.name == right.name), None) or next(iter(open_found), None)
            if near is not None:
                open_found.remove(near)
                pairs.append((right, near))
        return pairs

    def _matching(self, wanted: Sequence[Call], found: Sequence[Call]) -> dict[int, int]:
        """A largest matching of equal calls, found → wanted, by augmenting paths (Kuhn 1955): with `subset`
        the first fit is not always part of one."""
        owner: dict[int, int] = {}

        def place(i: int, seen: set[int]) -> bool:
            for j, call in enumerate(found):
                if j not in seen and self._difference(wanted[i], call) is None:
                    seen.add(j)
                    if j not in owner or place(owner[j], seen):
                        owner[j] = i
                        return True
            return False

        for i in range(len(wanted)):
            place(i, set())
        return owner

    def _difference(self, wanted: Call, found: Call) -> str | None:
        if wanted.name != found.name:
            return f"{quote(found.name)} is called, wanted {quote(wanted.name)}"
        if self.arguments == "ignore":
            return None
        if not isinstance(found.arguments, dict):
            return f"{found.name}: the arguments are no JSON mapping: {_shown(found.arguments)}"
        told = difference(wanted.arguments, found.arguments, self.arguments == "subset")
        return f"{found.name}: {told}" if told else None

    def _miscounted(self, wanted: Sequence[Call], found: Sequence[Call]) -> str:
        more = "calls no tool" if not found else "calls " + ", ".join(call.name for call in found)
        return f"{more}; wanted " + (", ".join(call.name for call in wanted) or "no call")


def _shown(value: Json) -> str:
    return quote(json.dumps(value, ensure_ascii=False, default=repr))
