"""A run as a grid for the terminal: cases as rows, variants as columns, in each cell the answer and its mark.

Repeats are one cell: how many of them passed, and the answer that most of them gave. Rows come as a stream, so that a
big run is read as far as it is looked at. Foreign text is made printable before it is measured and cut.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workbench.errors import UnknownName
from workbench.records import Json, Kind, Output, Run, canonical
from workbench.store.runs import TrialFilter, TrialRow, VariantRow, get_run, run_scorers, run_variants, trial_rows
from workbench.views import format as f
from workbench.views.marks import Shade, mark, marking_scorer, values

LINES = 3
"""Of a cell; what is longer is cut."""
EXPECTED_CHARS = 40
CASE_WIDTH, CELL_WIDTH = (16, 36), (14, 48)
"""Least and most columns of the terminal for a case, and for an answer."""
BORDER = 3
"""Columns that a column of a table takes beside its text."""
ROWS = 25
"""Cases below one heading."""
STYLES: Mapping[Shade, str] = {"yes": "green", "no": "red", "part": "yellow", "fail": "bold red", "none": "dim"}


@dataclass(frozen=True, slots=True)
class GridCell:
    """What one variant made of one case, all repeats together."""

    variant: str
    """Its label."""
    shade: Shade
    sign: str
    """The mark: `✓`, `3/4 ✓`, a mean, a label; `!` without an answer; empty where nothing is scored."""
    scored: int
    mean: float | None
    """Of the scores; None for labels and where there are none."""
    answer: str | None
    """The answer that most repeats gave, of equally many the first; None where there is none."""
    agree: int
    """How many repeats gave it,"""
    answered: int
    """… of how many that have an answer,"""
    failed: int
    """… and how many have none: it failed."""
    failure: str
    """Why, of the first that failed."""


@dataclass(frozen=True, slots=True)
class GridRow:
    """One case."""

    case: str
    inputs: Mapping[str, Json]
    expected: Json
    quarantined: bool
    cells: tuple[GridCell, ...]
    """One for each variant of the grid, in its order."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The rows are read while one goes through them, so the store must stay open."""

    run: Run
    scorer: str
    """The one that marks; empty where nothing is scored."""
    variants: Sequence[VariantRow]
    rows: Iterator[GridRow]


def load_grid(connection: Any, run_id: str, chosen: TrialFilter | None = None, scorer: str | None = None) -> Grid:
    """The cases that `chosen` finds, whole, for its variants.

    Marks are by `scorer`, else by the one that `chosen` filters by, else by the first of passes, else the first.
    Raises UnknownName."""
    chosen, run = chosen or TrialFilter(), get_run(connection, run_id)
    kinds = dict(run_scorers(connection, run.id))
    name = scorer or chosen.wrong or marking_scorer(kinds.items())
    if name and name not in kinds:
        raise UnknownName("scorer", name, kinds)
    variants = [v for v in run_variants(connection, run.id) if not chosen.variants or v.id in chosen.variants]
    some = bool(chosen.case or chosen.failures or chosen.wrong)
    trials = trial_rows(connection, run.id, replace(chosen, whole_cases=some))
    rows = (_row(list(own), variants, name, kinds.get(name)) for _, own in groupby(trials, lambda t: t.case_id))
    return Grid(run, name, variants, rows)


def grid_tables(grid: Grid, console: Console, at_most: int | None = None) -> Iterator[Table]:
    """The grid in tables of a few rows each, as wide as the terminal; where the variants don't fit beside each other,
    one table below the other. Ends after `at_most` cases."""
    case, cell, together = _widths(console.width, len(grid.variants))
    rows = islice(grid.rows, at_most)
    while few := list(islice(rows, ROWS)):
        for start in range(0, len(grid.variants), together):
            columns = grid.variants[start : start + together]
            table = Table(title=_title(grid), title_justify="left", header_style="bold", show_lines=True)
            table.add_column("case", width=case)
            for variant in columns:
                table.add_column(Text(f.one_line(variant.label)), width=cell, overflow="fold")
            for row in few:
                cells = [_cell_text(c) for c in row.cells[start : start + together]]
                table.add_row(_cut(_case_text(row), case, console), *(_cut(text, cell, console) for text in cells))
            yield table


def _widths(width: int, variants: int) -> tuple[int, int, int]:
    """Columns for a case, columns for an answer, and how many variants stand beside each other."""
    case = max(1, min(max(CASE_WIDTH[0], width // 4), CASE_WIDTH[1], width // 3))
    room = width - 1 - case - BORDER
    fitting = max(1, min(variants, room // (CELL_WIDTH[0] + BORDER)))
    tables = -(-variants // fitting)
    together = max(1, -(-variants // tables)) if variants else 1
    return case, max(1, min(CELL_WIDTH[1], room // together - BORDER)), together


def _title(grid: Grid) -> Text:
    marked = f"marked by {grid.scorer}" if grid.scorer else "nothing is scored"
    return Text(f.one_line(f"{grid.run.suite} · {marked} · {grid.run.id}"))


def _row(trials: Sequence[TrialRow], variants: Sequence[VariantRow], scorer: str, kind: Kind | None) -> GridRow:
    own: dict[str, list[TrialRow]] = {v.id: [] for v in variants}
    for trial in trials:
        own[trial.variant_id].append(trial)
    first, cells = trials[0], tuple(_cell(v.label, own[v.id], scorer, kind) for v in variants)
    return GridRow(first.case_id, first.inputs, first.expected, first.quarantined, cells)


def _cell(label: str, trials: Sequence[TrialRow], scorer: str, kind: Kind | None) -> GridCell:
    answers = Counter(_said(t.output) for t in trials if t.output is not None and t.output.failure is None)
    failures = [t.output.failure for t in trials if t.output is not None and t.output.failure is not None]
    answer, agree = next(iter(answers.most_common(1)), (None, 0))
    scored, (shade, sign) = values(trials, scorer), _sign(trials, scorer, kind)
    why = f"{failures[0].kind}: {failures[0].message}" if failures else ""
    mean = sum(scored) / len(scored) if scored else None
    return GridCell(label, shade, sign, len(scored), mean, answer, agree, answers.total(), len(failures), why)


def _sign(trials: Sequence[TrialRow], scorer: str, kind: Kind | None) -> tuple[Shade, str]:
    """The mark of a cell; none where it has an answer that is not scored."""
    found = mark(trials, scorer)
    scored = values(trials, scorer)
    if kind == "label":
        labels = Counter(s.value for t in trials for s in t.scores if s.scorer == scorer and s.value is not None)
        return "none", f.one_line(str(labels.most_common(1)[0][0])) if labels else ""
    if not scored:
        return (found.shade, found.sign) if found.shade == "fail" else ("none", "")
    if kind == "number":
        return "none", f.number(sum(scored) / len(scored))
    if kind == "pass" and len(scored) > 1:
        return found.shade, f"{sum(scored):.0f}/{len(scored)} ✓"
    return found.shade, found.sign


def _said(output: Output) -> str:
    """An answer; tools that it calls as JSON, where it has no text."""
    return output.text or (canonical(list(output.tool_calls)) if output.tool_calls else "")


def _cell_text(cell: GridCell) -> Text:
    text = Text(cell.sign, STYLES[cell.shade])
    if cell.answer is not None:
        told = _short(cell.answer) or "(empty)"
        return text.append(f" {told}" if cell.sign else told, "default").append(_failed(cell), "red")
    if cell.failed:
        return text.append(f" {_short(cell.failure)}", "default")
    return text.append("not asked yet", "dim")


def _failed(cell: GridCell) -> str:
    return f" ({cell.failed} failed)" if cell.failed else ""


def _case_text(row: GridRow) -> Text:
    text = Text(_short(row.case), "bold")
    if row.quarantined:
        text.append(" quarantined", "yellow")
    if row.expected is not None:
        told = _short(_written(row.expected))
        text.append(f" → {told if len(told) <= EXPECTED_CHARS else told[:EXPECTED_CHARS] + '…'}", "default")
    said = " ".join(_short(_written(value)) for value in row.inputs.values())
    return text.append(f" {said}", "dim")


def _written(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    """More than fits any cell, printable, on one line: a long answer is not measured whole."""
    most = LINES * max(CASE_WIDTH[1], CELL_WIDTH[1]) + 1
    return f.one_line(text[:most])


def _cut(text: Text, width: int, console: Console) -> Text:
    """At most LINES lines of that width."""
    lines = text.wrap(console, width, overflow="fold")
    if len(lines) > LINES:
        last = lines[LINES - 1]
        last.rstrip()
        last.truncate(max(0, width - 1))
        last.append("…")
    return Text("\n").join(lines[:LINES])
