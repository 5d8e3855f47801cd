"""`workbench show RUN --axes | --repeats`: what the sweep's axes do, and what several answers to a case are worth."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from workbench.errors import UseError
from workbench.views import format as f
from workbench.views.axes import axes_json, axes_tables, axes_view
from workbench.views.model import load_columns, load_frame, scorer_names
from workbench.views.plain import json_text, plain
from workbench.views.repeats import repeats_table, repeats_view


def print_findings(connection: Any, run_id: str, as_json: bool, *, axes: bool, repeats: bool, k: int | None) -> None:
    """A table, or a line of JSON, a scorer. Raises UseError for a run without scores, and a k that it does not have."""
    if k is not None and not repeats:
        raise UseError("--k belongs to --repeats; add it")
    view = load_frame(connection, run_id)
    names = scorer_names(connection, view)
    if not names:
        raise UseError("there are no scores to look at; add some with 'workbench score RUN --with SCORER'")
    console, stopped = Console(), bool(view.run.header.get("stopping"))
    for name in names:
        columns = load_columns(connection, view, name)
        shown: list[Any] = []
        if axes:
            found = axes_view(columns, view.variants, stopped)
            shown += [axes_json(found)] if as_json else axes_tables(found)
        if repeats:
            worth = repeats_view(columns, k)
            shown.append(worth if as_json else repeats_table(worth, view.labels))
        for one in shown:
            if as_json:
                click.echo(json_text({**plain(one), "quarantined": list(view.quarantined)}))
            else:
                console.print(one)
    if view.quarantined and not as_json:
        console.print(f.left_out(len(view.quarantined)))
