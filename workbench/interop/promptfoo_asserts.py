"""Assertions of promptfoo as our scorers: https://www.promptfoo.dev/docs/configuration/expected-outputs/.

A scorer judges all cases of a suite, so what differs from test to test goes into the case: its field holds the
value, and the scorer's `expected` names the field. Tests with other assertions make another suite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.interop.report import Left
from workbench.records import Json

KEYS = {"type", "value", "threshold", "weight", "metric", "provider", "description"}
JUDGED = {
    "llm-rubric": "You grade an answer by a criterion.\n\nAnswer:\n{{ output }}\n\nCriterion:\n{{ %s }}\n\n"
    "Does the answer meet the criterion? Say pass or fail.",
    "model-graded-closedqa": "You check a submission against a criterion.\n\nSubmission:\n{{ output }}\n\n"
    "Criterion:\n{{ %s }}\n\nDoes the submission meet the criterion? Say pass or fail.",
    "factuality": "You compare the facts of a submission with an expert's answer; style does not count.\n\n"
    "Expert's answer:\n{{ %s }}\n\nSubmission:\n{{ output }}\n\nDoes the submission agree with the expert's answer, "
    "also where it says less or more? Say pass or fail.",
}
"""The rubric of each kind, with the field that holds its criterion: our words for what promptfoo asks."""
CONTAINS = {"contains": {}, "contains-all": {}, "contains-any": {"match": "any"}}
SIMILAR = 0.75
"""promptfoo's default threshold."""


@dataclass(frozen=True, slots=True)
class Scored:
    """An assertion as a scorer of the suite."""

    name: str
    entry: Mapping[str, Json]
    """As a suite writes it, without its name."""
    fields: Mapping[str, Json]
    """What the case must hold for it."""
    weight: float
    judge: str | None = None
    """The kind of its rubric, where a model judges."""
    note: str = ""
    """What is only approximated."""


def scorer_of(given: Mapping[str, Json], number: int, judge_model: str) -> Scored:
    """The scorer of one assertion, the `number`th of its test; raises Left."""
    kind = str(given.get("type"))
    if odd := [name for name in given if name not in KEYS]:
        raise Left(f"'{odd[0]}' of the assertion {kind}")
    negated, bare = kind.startswith("not-"), kind.removeprefix("not-")
    field = f"assert_{number}"
    value = given.get("value")
    if isinstance(value, str) and value.startswith("file://"):
        raise Left(f"assertion {kind}: its value is a file")
    name = _name(str(given.get("metric") or kind))
    weight = given.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
        raise Left(f"assertion {kind}: its weight is no number")
    if bare in JUDGED:
        if given.get("provider") is not None:
            raise Left(f"assertion {kind}: a provider of its own")
        if not isinstance(value, str) or not value.strip():
            raise Left(f"assertion {kind} without a text to judge by")
        if given.get("threshold") is not None:
            raise Left(f"assertion {kind}: a threshold on the judge's own score")
        settings: Json = {"rubric": f"judges/{bare}-{number}", "model": judge_model, "scale": ["pass", "fail"]}
        settings["passes"] = ["pass"]
        note = "the rubric is in our words, and the judge says pass or fail"
        return Scored(name, _negated({"judge": settings}, negated), {field: value}, weight, bare, note)
    entry, values, note = _plain(bare, value, given.get("threshold"), field)
    return Scored(name, _negated(entry, negated), values, weight, None, note)


def _plain(kind: str, value: Json, threshold: Any, field: str) -> tuple[dict[str, Json], dict[str, Json], str]:
    """(the scorer, the case's fields, what is approximated) of an assertion without a judge."""
    expected, held = {"expected": "{{ %s }}" % field}, {field: value}  # noqa: UP031
    bare = kind.removeprefix("i") if kind.startswith("icontains") else kind
    if kind == "equals" and isinstance(value, (str, int, float)) and value != "":
        return {"exact": {**expected, "strip": False}}, {field: str(value)}, ""
    if bare in CONTAINS and _texts(value):
        texts = [str(v) for v in value] if isinstance(value, list) else [str(value)]
        fold = {"ignore_case": True} if kind != bare else {}
        held = {field: texts if isinstance(value, list) else texts[0]}
        return {"contains": {**expected, **CONTAINS[bare], **fold}}, held, ""
    if kind == "regex" and isinstance(value, str):
        return {"regex": {"pattern": value}}, {}, "the pattern is read as Python's"
    if kind == "starts-with" and isinstance(value, str):
        return {"regex": {"pattern": r"\A" + re.escape(value)}}, {}, ""
    if kind == "is-json" and value is None:
        return {"json": {"fence": False}}, {}, ""
    if kind == "is-json" and isinstance(value, dict):
        return {"json_schema": {"schema": value, "fence": False}}, {}, "the schema is read as draft 2020-12"
    if kind == "latency" and isinstance(threshold, (int, float)) and threshold > 0:
        return {"latency": {"at_most": threshold / 1000}}, {}, ""
    if kind == "similar" and _texts(value):
        at_least = threshold if isinstance(threshold, (int, float)) else SIMILAR
        return {"semantic": {**expected, "model": "embedder", "at_least": at_least}}, held, ""
    raise Left(f"assertion {kind}" + ("" if kind in _KNOWN or value is None else " with this value"))


_KNOWN = {"javascript", "python", "cost", "webhook", "max-score", "select-best", "finish-reason"}


def _texts(value: Json) -> bool:
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(i, (str, int, float)) and not isinstance(i, bool) and i != "" for i in items)


def _negated(entry: dict[str, Json], negated: bool) -> dict[str, Json]:
    return {"not": entry} if negated else entry


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-") or "assertion"
