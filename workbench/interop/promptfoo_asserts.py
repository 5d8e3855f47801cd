"""Assertions of promptfoo as our scorers: https://www.promptfoo.dev/docs/configuration/expected-outputs/.

A scorer judges all cases of a suite, so what differs from test to test goes into the case: its field holds the
value, and the scorer's `expected` names the field. Tests with other assertions make another suite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.interop.promptfoo_judged import CONVERSATION, Grading, judged_by, relevance
from workbench.interop.promptfoo_python import script_of
from workbench.interop.promptfoo_scored import Scored, name_of, negated
from workbench.interop.report import Left
from workbench.records import EMPTY, Json

KEYS = {"type", "value", "threshold", "weight", "metric", "provider", "description"}
WITH_CONFIG = {"python", CONVERSATION}
CONTAINS = {"contains": {}, "contains-all": {}, "contains-any": {"match": "any"}}
SIMILAR = 0.75
"""promptfoo's default threshold."""
ENDINGS = {"stop", "length", "tool_calls", "content_filter"}
OF_CALLS = {"is-valid-openai-tools-call", "is-valid-openai-function-call", "is-valid-function-call"}
WITH_TOOLS = {"finish-reason", "latency", *OF_CALLS}
"""What judges an answer whatever it is: promptfoo makes a text of tool calls, which the others would judge."""


@dataclass(frozen=True, slots=True)
class Around:
    """What an assertion's test has for it."""

    base: Path
    """The folder that its files are named from."""
    place: str
    """The folder of the project that takes them, such as `evals/scripts/NAME`."""
    grading: Grading = field(default_factory=Grading)
    turns: Json = None
    """The conversation to be judged."""
    tools: Sequence[Json] = ()
    """Those of all providers."""


def scorers_of(given: Mapping[str, Json], number: int, around: Around) -> list[Scored]:
    """The scorers of one assertion, the `number`th of its test; raises Left."""
    kind = str(given.get("type"))
    bare = kind.removeprefix("not-")
    known = KEYS | ({"config"} if bare in WITH_CONFIG else set())
    if odd := [name for name in given if name not in known]:
        raise Left(f"'{odd[0]}' of the assertion {kind}")
    if around.tools and bare not in WITH_TOOLS:
        raise Left(f"assertion {kind} on an answer that may be tool calls, of which promptfoo makes a text")
    weight = given.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
        raise Left(f"assertion {kind}: its weight is no number")
    found = _scorers(bare, given, number, around)
    if kind != bare and bare in ("python", CONVERSATION):
        raise Left(f"assertion {kind}")  # where it can't judge at all, promptfoo lets it fail, too
    named = name_of(str(given.get("metric") or kind))
    for i, one in enumerate(found):
        entry = negated(one.entry) if kind != bare and not one.aside else one.entry
        name = f"{named}-score" if one.aside else named
        found[i] = replace(one, name=name, entry=entry, weight=weight, kind=bare)
    return found


def _scorers(bare: str, given: Mapping[str, Json], number: int, around: Around) -> list[Scored]:
    value, kind = given.get("value"), str(given.get("type"))
    if bare == "python":
        return [script_of(given, around.base, around.place)]
    if isinstance(value, str) and value.startswith("file://"):
        raise Left(f"assertion {kind}: its value is a file")
    if bare == CONVERSATION:
        return [relevance(given, number, around.grading, around.turns)]
    if (found := judged_by(bare, given, number, around.grading)) is not None:
        return found
    if bare == "finish-reason" and isinstance(value, str) and value.lower() in ENDINGS:
        return [Scored({"finish_reason": value.lower()})]
    if bare in OF_CALLS and value is None and around.tools:
        note = "functions are given as tools" if "function-call" in bare else ""
        return [Scored({"valid_tool_calls": {"tools": _all_tools(around.tools)}}, note=note)]
    entry, values, note = _plain(bare, value, given.get("threshold"), f"assert_{number}")
    return [Scored(entry, values, note=note)]


def _all_tools(tools: Sequence[Json]) -> list[Json]:
    """Each once; raises Left where two of one name differ, for the scorer has all providers' answers."""
    found: dict[str, Json] = {}
    for tool in tools:
        if found.setdefault(tool["function"]["name"], tool) != tool:
            raise Left(f"two tools '{tool['function']['name']}' that differ, to check the calls by")
    return list(found.values())


def best_of(given: Mapping[str, Json], scorers: Sequence[Scored]) -> Scored:
    """The scorer of `max-score`, over those of the test's other assertions; raises Left."""
    value = given.get("value") or {}
    weights = value.get("weights", {}) if isinstance(value, dict) else None
    if weights is None or value.keys() - {"weights", "method", "threshold"} or not isinstance(weights, dict):
        raise Left("assertion max-score with this value")
    if odd := [name for name in given if name not in ("type", "value", "metric", "description")]:
        raise Left(f"'{odd[0]}' of the assertion max-score")
    counted = [(s, weights.get(s.kind, 1)) for s in scorers if not s.aside]
    if any(isinstance(w, bool) or not isinstance(w, (int, float)) or not 0 <= w < math.inf for _, w in counted):
        raise Left("assertion max-score: a weight that is no number")
    parts: list[Json] = [{"score": {**s.entry, "as": s.name}, "weight": w} for s, w in counted if w > 0]
    if not parts:
        raise Left("assertion max-score without another to score by")
    at_least = value.get("threshold")
    if at_least is not None:
        if isinstance(at_least, bool) or not isinstance(at_least, (int, float)):
            raise Left("assertion max-score: a threshold that is no number")
        total = sum(w for _, w in counted) if value.get("method") == "sum" else 1
        at_least /= total
    bound = {} if at_least is None else {"at_least": at_least}
    entry = {"best": {"score": {"weighted": {"parts": parts}}, **bound}}
    note = "of equals all pass, not the first; other assertions count as passed or failed"
    return Scored(entry, EMPTY, aside=True, note=note, name=name_of(str(given.get("metric") or "max-score")))


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


_KNOWN = {"javascript", "cost", "webhook", "select-best"}


def _texts(value: Json) -> bool:
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(i, (str, int, float)) and not isinstance(i, bool) and i != "" for i in items)
