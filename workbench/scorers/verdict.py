"""What a judge may say, and how its answer is read: the points of a scale, the form of the answer, the verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from workbench.engines.base import Capabilities
from workbench.errors import UseError
from workbench.records import Json
from workbench.scorers.base import quote

Form = Literal["choices", "schema", "text"]
STRIPPED = " \t\r\n\"'“”‘’*_`()[]{}.:"
LAST_LINE = re.compile(r"(?:(?:final )?(?:verdict|answer|rating|score|grade)\s*(?:is|:|=)\s*)?(.+?)", re.IGNORECASE)
POINT_KEYS = {"value", "means", "example", "says"}


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a scale."""

    value: float | str
    means: str = ""
    """What it stands for, for the judge."""
    example: str = ""
    """An answer that deserves it."""
    says: str = ""
    """The mark by which the rubric has the judge write it, as `[[A]]`; empty: its label."""

    @property
    def label(self) -> str:
        """As a judge writes it, unless the rubric has marks of its own."""
        return self.value if isinstance(self.value, str) else f"{self.value:g}"

    def to_json(self) -> dict[str, Json]:
        return {"value": self.label, "means": self.means, "example": self.example}


def read_scale(given: Json) -> tuple[Point, ...]:
    """The points of `[1, 2, 3]`, `[bad, good]` or `[{value: 1, means: …, example: …}, …]`; raises UseError."""
    if not isinstance(given, (list, tuple)) or len(given) < 2:
        raise UseError(f"the scale is {quote(str(given))}; it has to be a list of two or more numbers or labels")
    points = tuple(_point(entry) for entry in given)
    if len({isinstance(point.value, str) for point in points}) > 1:
        raise UseError("the scale mixes numbers and labels; put numbers that are labels in quotes")
    labels = [point.label.casefold() for point in points]
    if len(set(labels)) < len(labels):
        raise UseError("two points of the scale are the same")
    marks = [point.says for point in points]
    if any(marks) and (not all(marks) or any(one in other for one, other in permutations(marks, 2))):
        raise UseError("'says' of a scale is a mark for every point, and none of them holds another")
    return points


def _point(entry: Json) -> Point:
    told = entry if isinstance(entry, dict) else {"value": entry}
    value = told.get("value")
    if isinstance(value, bool):
        raise UseError(f"the scale has {value}; put a word in quotes")
    if unknown := told.keys() - POINT_KEYS:
        raise UseError(f"a point of the scale has an unknown '{min(unknown)}'; it has value, means, example")
    rest = [str(told.get(name) or "") for name in ("means", "example", "says")]
    if isinstance(value, str) and value.strip(STRIPPED) == value and value:
        return Point(value, *rest)
    if isinstance(value, (int, float)):
        return Point(float(value), *rest)
    raise UseError(f"{quote(str(value))} is no point of a scale; it has to be a number or a word")


def form_for(capabilities: Capabilities, explain: bool, points: Sequence[Point] = ()) -> Form:
    """How a model is held to the scale: one of the points by likelihood, a JSON object, or by words alone, as where
    the rubric has marks of its own."""
    if any(point.says for point in points):
        return "text"
    if capabilities.choices and not explain:
        return "choices"
    return "schema" if capabilities.schema else "text"


def answer_form(form: Form, points: Sequence[Point], explain: bool) -> dict[str, Json]:
    """`Request.answer`."""
    labels = [point.label for point in points]
    if form == "choices":
        return {"choices": labels}
    if form == "text":
        return {}
    properties: dict[str, Json] = {"reason": {"type": "string"}} if explain else {}
    properties["verdict"] = {"type": "string", "enum": labels}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"schema": schema}


def form_name(form: Form, points: Sequence[Point], explain: bool) -> str:
    """The form in words: a licence holds for just one."""
    return f"{form}{' with a reason' if explain else ''}: {' | '.join(point.says or point.label for point in points)}"


def read_verdict(form: Form, text: str, points: Sequence[Point]) -> tuple[Point | None, str]:
    """The point that an answer names, and the judge's reason; None where it names none, or more than one.

    Words alone must be nothing but a point, or end in a line that is nothing but one, as in `Verdict: good` or
    `[[good]]`; the rest is the reason. Where points have marks, the answer must hold just one of these, anywhere.
    """
    if points[0].says:
        marked = [point for point in points if point.says in text]
        point = marked[0] if len(marked) == 1 else None
        return point, " ".join((text.replace(point.says, "") if point else text).split())
    named = {point.label.casefold(): point for point in points}
    if form == "schema":
        try:
            found = json.loads(text)
            return named.get(str(found["verdict"]).casefold()), str(found.get("reason", ""))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None, ""
    if form == "choices":
        return named.get(text.strip().casefold()), ""
    lines = [line for line in text.strip().splitlines() if line.strip(STRIPPED)]
    whole = LAST_LINE.fullmatch(lines[-1].strip(STRIPPED)) if lines else None
    point = named.get(whole[1].strip(STRIPPED).casefold()) if whole else None
    return point, " ".join(lines[:-1])
