"""Small tables as files: CSV that no spreadsheet runs, and Markdown that shows foreign text as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from workbench.views.write import csv_cell, markdown_text

Rows = Sequence[Mapping[str, object]]


def csv_table(rows: Rows) -> str:
    """The rows with the first one's names as head; cells that look like formulas begin with `'`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    if rows:
        writer.writerow(map(csv_cell, rows[0]))
    for row in rows:
        writer.writerow(csv_cell(row.get(name)) for name in rows[0])
    return buffer.getvalue()


def markdown_table(rows: Rows) -> str:
    """The same as a Markdown table; empty text without rows."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    cells = [[_cell(row.get(name)) for name in rows[0]] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in [[markdown_text(n) for n in lines[0]], lines[1], *cells])


def _cell(value: object) -> str:
    return "" if value is None else markdown_text(str(value))
