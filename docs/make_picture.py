"""Makes docs/demo.svg, the README's picture: what `workbench show latest` prints of the newest demo run."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from workbench.define.project import load_project
from workbench.store.database import Database
from workbench.store.runs import list_runs
from workbench.views.model import load_view
from workbench.views.tables import run_line, run_tables

WIDTH = 112
FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Without the fonts that rich would fetch from another host."""


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    database = Database.open(load_project(root).store_url)
    with database.read() as connection:
        view = load_view(connection, list_runs(connection, "demo", 1)[0].id)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print("$ make demo", style="bold")
    for table in run_tables(view):
        console.print(table)
    for part in view.scorers:
        console.print(part.sentence, markup=False, highlight=False)
    console.print(run_line(view))
    target = root / "docs" / "demo.svg"
    console.save_svg(str(target), title="workbench run evals/demo.yaml", unique_id="demo", code_format=FORMAT)
    print(target)


if __name__ == "__main__":
    main()
