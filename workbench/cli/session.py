"""What every command has at hand, each opened when first used; and how rows are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.define.library import Library
from workbench.define.project import Project, load_project
from workbench.views.format import printable
from workbench.views.plain import json_text, plain

if TYPE_CHECKING:
    from workbench.store.database import Database


class Session:
    """The project, its library and its store."""

    def __init__(self, project: Path | None, store: str | None) -> None:
        self._project, self._store = project, store

    @cached_property
    def project(self) -> Project:
        return load_project(self._project)

    @cached_property
    def library(self) -> Library:
        return Library(self.project.library_root, self.project.references)

    @property
    def store_url(self) -> str:
        return self._store or self.project.store_url

    def database(self) -> Database:
        from workbench.store.database import Database  # SQLAlchemy takes 0.4 s

        return Database.open(self.store_url)


def pairs(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """What an option that is given as NAME=VALUE, once or several times, says."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"'{text}' is not of the form NAME=VALUE")
        found[name] = value
    return found


only_option = click.option(
    "--only", multiple=True, callback=pairs, metavar="prompt|model|NAME=VALUE", help="Only these variants."
)


def emit(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Prints rows on stdout: JSON Lines, or a plain table with those columns."""
    if as_json:
        for row in rows:
            click.echo(json_text(plain(row)))
        return
    cells = [[printable(_cell(row.get(c))).replace("\n", " ") for c in columns] for row in rows]
    widths = [max([len(c), *(len(line[i]) for line in cells)]) for i, c in enumerate(columns)]
    for line in [[c.upper() for c in columns], *cells]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    return str(value)
