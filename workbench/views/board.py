"""What a comparison shows beside its means: the axes of a sweep, cases by what stands out, costs, differences in words.

Pure: no reading, no drawing.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from workbench.records import CaseScores, Json, ScoreColumns, canonical
from workbench.stats.cases import CaseValues
from workbench.store.runs import Usage, VariantRow
from workbench.views.format import printable

Change = Literal["same", "removed", "added"]

MOST_WORDS = 3_000
"""Of a text that is compared word by word; the time grows with their product."""


def axes_of(variants: Sequence[VariantRow]) -> dict[str, list[Json]]:
    """What differs between the variants: name of the axis → the value that each variant has on it.

    Numbers stay numbers, all else is text; a variant without the setting has None."""
    tables: list[dict[str, Json]] = []
    for v in variants:
        row: dict[str, Json] = {"prompt": v.prompt, "revision": v.revision, "model": v.model}
        for part in ("params", "vars", "answer"):
            row |= dict(v.settings.get(part) or {})
        tables.append(row)
    names = dict.fromkeys(name for row in tables for name in row)
    found = {name: [_value(row.get(name)) for row in tables] for name in names}
    found = {name: values for name, values in found.items() if len(set(map(canonical, values))) > 1}
    if "prompt" in found and _same_split(found["prompt"], found.get("revision", [])):
        found.pop("revision")
    return found


def is_numeric(values: Sequence[Json]) -> bool:
    """An axis along which a curve can be drawn: numbers only, three or more of them, or two."""
    return len(set(map(canonical, values))) > 1 and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )


def _value(value: Json) -> Json:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    return value if isinstance(value, str) else canonical(value)


def _same_split(first: Sequence[Json], second: Sequence[Json]) -> bool:
    """Each value of the first goes with one value of the second."""
    pairs = set(zip(map(canonical, first), map(canonical, second), strict=False))
    return len(pairs) == len(set(map(canonical, first)))


@dataclass(frozen=True, slots=True)
class Spending:
    """What one answer of a variant took on average; None where it is not known."""

    cost: float | None
    """US dollars."""
    seconds: float | None
    tokens: float | None


def spending(used: Usage | None) -> Spending:
    if used is None or not used.answered:
        return Spending(None, None, None)
    n = used.answered
    cost = None if used.cost is None else used.cost / n
    return Spending(cost, used.seconds / n if used.seconds else None, (used.prompt_tokens + used.output_tokens) / n)


def pareto_front(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """Of (price, quality) by name: those that no other equals or beats in both and beats in one."""
    return {
        name
        for name, (price, quality) in points.items()
        if not any(p <= price and q >= quality and (p < price or q > quality) for p, q in points.values())
    }


def summed_values(scores: CaseScores) -> CaseValues:
    """The sums as `stats.cases` takes them: of `pass` each score, of other kinds the mean in place of each repeat's."""
    variant, case = np.asarray(scores.variant, dtype=np.int64), np.asarray(scores.case, dtype=np.int64)
    count, value = np.asarray(scores.count, dtype=np.int64), np.asarray(scores.value, dtype=np.float64)
    values = value / np.maximum(count, 1)
    if scores.kind == "pass" and scores.zero_or_one:
        passed = value.astype(np.int64)
        some = [passed > 0, count > passed]
        variant, case = (np.concatenate([place[kept] for kept in some]) for place in (variant, case))
        values = np.repeat([1.0, 0.0], [kept.sum() for kept in some])
        count = np.concatenate([passed[some[0]], (count - passed)[some[1]]])
    return CaseValues(len(scores.variants), len(scores.cases), variant, case, values, count)


def case_values(columns: ScoreColumns) -> CaseValues:
    """The columns counted, as `stats.cases` takes them."""
    variant, case = np.asarray(columns.variant, dtype=np.int64), np.asarray(columns.case, dtype=np.int64)
    value = np.asarray(columns.value, dtype=np.float64)
    values, number = np.unique(value, return_inverse=True)
    size = max(1, len(values))
    cell, count = np.unique((variant * len(columns.cases) + case) * size + number, return_counts=True)
    place, number = np.divmod(cell, size)
    at_variant, at_case = np.divmod(place, max(1, len(columns.cases)))
    return CaseValues(len(columns.variants), len(columns.cases), at_variant, at_case, values[number], count)


def word_diff(old: str, new: str) -> list[tuple[Change, str]]:
    """How `old` becomes `new`, word by word, spaces and marks counting as words; in pieces, in order."""
    a, b = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (old, new))
    if max(len(a), len(b)) > MOST_WORDS:
        return [("same", new)] if old == new else [("removed", old), ("added", new)]
    found: list[tuple[Change, str]] = []
    for what, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if what == "equal":
            found.append(("same", "".join(a[i:j])))
        else:
            found += [("removed", "".join(a[i:j]))] if j > i else []
            found += [("added", "".join(b[k:m]))] if m > k else []
    return found


def diff_html(pieces: Sequence[tuple[Change, str]]) -> str:
    """The pieces as HTML of three tags: removed words struck out, added ones underlined, so that colour only helps."""
    tags = {"same": "span", "removed": "del", "added": "ins"}
    return "".join(f"<{tags[what]}>{html.escape(printable(text))}</{tags[what]}>" for what, text in pieces)
