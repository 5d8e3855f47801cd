"""What an edit of a prompt did: a variant against the one in its place in the run before, case by case.

Cases are paired by id and content, so that one whose question or expected answer was changed counts for nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from workbench.records import CaseScores, Run, canonical
from workbench.stats.paired import PairedComparison, compare_paired
from workbench.stats.reduce import of_variants
from workbench.store.grouped import case_scores
from workbench.store.measures import case_rows
from workbench.store.runs import VariantRow, get_run, list_runs, quarantined_cases, run_variants
from workbench.views import format as f
from workbench.views.model import MARGIN, side_by_side

LOOKED_AT = 5
"""So many runs before are searched for what was there before an edit."""
CONFIDENCE = 0.95
MOST_LINES = 8


@dataclass(frozen=True, slots=True)
class Edit:
    """What one scorer says of one edited variant."""

    older: Run
    before: VariantRow
    now: VariantRow
    scorer: str
    comparison: PairedComparison
    quarantined: int
    """Cases of either run that it leaves out."""


def edits(connection: Any, run: str) -> list[Edit]:
    """Each variant of a run whose prompt is another revision than at the same place (prompt's name, model, settings) in
    the newest run of the suite before it, by each scorer that both have on the same terms; their intervals hold
    together for all variants of a scorer. None where data said when a run was to stop: there an interval means less."""
    newer = get_run(connection, run)
    if newer.header.get("stopping"):
        return []
    places = {place_of(v): v for v in run_variants(connection, newer.id)}
    found: dict[str, tuple[Run, VariantRow, VariantRow]] = {}
    for older in list_runs(connection, newer.suite, limit=LOOKED_AT):
        if older.started < newer.started and not older.header.get("stopping"):
            for before in run_variants(connection, older.id):
                now = places.pop(place_of(before), None)
                if now is not None and now.revision != before.revision:
                    found[now.id] = (older, before, now)
    by_run: dict[str, list[tuple[Run, VariantRow, VariantRow]]] = {}
    for one in found.values():
        by_run.setdefault(one[0].id, []).append(one)
    new = with_keys(connection, newer.id, case_scores(connection, newer.id)) if found else {}
    return [edit for pairs in by_run.values() for edit in _between(connection, newer, new, pairs, len(found))]


def edit_lines(found: Sequence[Edit], newer: str) -> list[str]:
    """A line for each, for a terminal."""
    lines = []
    for edit in found:
        row = edit.comparison
        unit = "" if row.kind == "number" else " points"
        revisions = f"{f.short_id(edit.before.revision)} → {f.short_id(edit.now.revision)}"
        told = f"{edit.scorer} {f.difference(row)}{unit} on {f.plural(row.pairs, 'case')}, {f.verdict(row)}"
        lines.append(f.one_line(f"edited, {edit.now.label} ({revisions}): {told}") + f.left_out(edit.quarantined, "; "))
    if more := lines[MOST_LINES:]:
        older = found[0].older.id
        lines[MOST_LINES:] = [f"… and {len(more)} more: workbench compare {older} {newer}"]
    return lines


def against(
    pair: tuple[VariantRow, VariantRow],
    runs: tuple[Run, Run],
    parts: Sequence[CaseScores],
    confidence: float = CONFIDENCE,
) -> PairedComparison | None:
    """The second variant of the second run against the first of the first, by the scorer whose columns both `parts`
    are; None where that can't be: of labels, of unlike kinds, of a run without scores."""
    if not all(len(part.value) for part in parts) or not parts[0].kind == parts[1].kind != "label":
        return None
    both = [of_variants(part, [v.id]) for part, v in zip(parts, pair, strict=True)]
    names = [f"{run.id}/{v.id}" for run, v in zip(runs, pair, strict=True)]
    margin = float(runs[1].header.get("margin") or MARGIN)
    return compare_paired(side_by_side(both, names), names[0], margin, confidence, adjust=False)[0]


def with_keys(connection: Any, run: str, scores: Mapping[str, CaseScores]) -> dict[str, CaseScores]:
    """The same, each case named by its id and by what it holds."""
    keys = {case.id: f"{case.id} {case.key}" for case in case_rows(connection, run)}
    return {name: replace(part, cases=tuple(keys[case] for case in part.cases)) for name, part in scores.items()}


def place_of(v: VariantRow) -> str:
    """What stays the same when a prompt is edited."""
    return canonical([v.prompt, v.model, dict(v.settings)])


def _between(
    connection: Any,
    newer: Run,
    new: Mapping[str, CaseScores],
    pairs: Sequence[tuple[Run, VariantRow, VariantRow]],
    together: int,
) -> list[Edit]:
    """The edits between two runs; `together` is how many intervals of a scorer hold at once (Bonferroni)."""
    older = pairs[0][0]
    old = with_keys(connection, older.id, case_scores(connection, older.id))
    aside = len(set(chain.from_iterable(quarantined_cases(connection, (older.id, newer.id)).values())))
    terms = [run.header.get("terms", {}) for run in (older, newer)]
    made = []
    for name, _, before, now in ((name, *pair) for pair in pairs for name in new if name in old):
        if terms[0].get(name) == terms[1].get(name):
            row = against((before, now), (older, newer), (old[name], new[name]), 1 - (1 - CONFIDENCE) / together)
            if row is not None and row.pairs:
                made.append(Edit(older, before, now, name, row, aside))
    return made
