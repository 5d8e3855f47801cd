"""`init` and `schema`: what a project's files look like."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from workbench.define.project import create_project, project_schema
from workbench.define.suite import suite_schema

SCHEMAS = {"suite": suite_schema, "project": project_schema}
WHAT = (*sorted(SCHEMAS), "report")


@click.command()
@click.argument("folder", metavar="[DIR]", default=Path(), type=click.Path(path_type=Path, file_okay=False))
def init(folder: Path) -> None:
    """Write a small working project into DIR (default: here); no file is overwritten."""
    for path in create_project(folder):
        click.echo(f"wrote {path}")
    here = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    click.echo(f"\nNext:\n  {here}workbench run sentiment\n  workbench show RUN, with the id that the run prints last")


@click.command()
@click.argument("what", type=click.Choice(WHAT))
def schema(what: str) -> None:
    """Print the JSON Schema of a suite's file or of workbench.yaml, for editors, or of the JSON report.

    Write it to a file and name it in the first line of a suite: # yaml-language-server: $schema=FILE
    """
    if what == "report":
        from workbench.views.schema import report_schema

        click.echo(json.dumps(report_schema(), indent=2))
        return
    click.echo(json.dumps(SCHEMAS[what](), indent=2))
