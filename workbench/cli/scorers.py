"""`workbench scorers`."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any

import click

from workbench.cli.session import emit
from workbench.registry import SCORERS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
def scorers(as_json: bool) -> None:
    """List the scorers that a suite can name: what each does, and its settings with their defaults.

    `name: value` in a suite sets the one marked with *.
    """
    rows = [_row(name, SCORERS.get(name)) for name in SCORERS.names()]
    emit(rows, ("name", "settings", "does"), as_json)


def _row(name: str, scorer: type[Any]) -> dict[str, object]:
    """One scorer; what it does is the first sentence of its docstring."""
    settings = [f for f in fields(scorer) if not f.metadata.keys() & {"project", "desk"}]
    does = " ".join((scorer.__doc__ or "").split()).split(". ")[0].rstrip(".")
    return {"name": name, "settings": [_setting(f, scorer.shorthand) for f in settings], "does": does}


def _setting(field: Field[Any], shorthand: str | None) -> str:
    mark = "*" if field.name == shorthand else ""
    default = "" if field.default is MISSING or field.default is None else f"={field.default}"
    return f"{field.name}{mark}{default}"
