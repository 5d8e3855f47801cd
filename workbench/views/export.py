"""Small tables as files: CSV that no spreadsheet runs, and Markdown that shows foreign text as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from workbench.views.write import csv_cell, markdown_text

Rows = Sequence[Mapping[str, object]]


def csv_table(rows: Rows) -> str:
    """The rows under all their names; cells that look like formulas begin with `'`."""
    buffer, names = io.StringIO(), _names(rows)
    writer = csv.writer(buffer)
    if rows:
        writer.writerow(map(csv_cell, names))
    for row in rows:
        writer.writerow(csv_cell(row.get(name)) for name in names)
    return buffer.getvalue()


def markdown_table(rows: Rows) -> str:
    """The same as a Markdown table; empty text without rows."""
    if not rows:
        return ""
    names = _names(rows)
    head = [[markdown_text(name) for name in names], ["---"] * len(names)]
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in [*head, *cells])


def _names(rows: Rows) -> list[str]:
    """Columns in the order in which the rows first have them."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _cell(value: object) -> str:
    return "" if value is None else markdown_text(str(value))
