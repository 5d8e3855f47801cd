"""`workbench cases`: the cases of a run that deserve a look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from rich.console import Console

from workbench.cli.session import Session, emit
from workbench.errors import UseError
from workbench.views import cases as found
from workbench.views.format import one_line
from workbench.views.plain import json_text, plain

LISTS: dict[str, Callable[..., found.CaseList]] = {
    "hardest": found.hardest_cases,
    "flaky": found.flaky_cases,
    "suspicious": found.suspicious_cases,
}


@click.command()
@click.argument("run")
@click.option("--hardest", "what", flag_value="hardest", help="Lowest mean over all variants (default).")
@click.option("--flaky", "what", flag_value="flaky", help="Repeats that are scored differently.")
@click.option("--suspicious", "what", flag_value="suspicious", help="Every strong variant fails: look at the label.")
@click.option("--duplicates", "what", flag_value="duplicates", help="Inputs that nearly say the same.")
@click.option("--not-asked", "what", flag_value="not asked", help="Without an output, and why.")
@click.option("--disagree", nargs=2, metavar="A B", help="Where variants A and B differ most.")
@click.option("--scorer", help="By this scorer; default: the first.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def cases(
    session: Session,
    run: str,
    what: str | None,
    disagree: tuple[str, str] | None,
    scorer: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the cases of RUN that deserve a look."""
    if what and disagree:
        raise UseError(f"choose one list: --disagree or --{what.replace(' ', '-')}")
    with session.database().read() as connection:
        if what == "duplicates":
            _print_duplicates(found.duplicate_cases(connection, run), limit, as_json)
            return
        if what == "not asked":
            rows = found.cases_not_asked(connection, run, limit)
        elif disagree:
            rows = found.disputed_cases(connection, run, *disagree, scorer, limit)
        else:
            rows = LISTS[what or "hardest"](connection, run, scorer, limit)
    if as_json:
        about = {name: getattr(rows, name) for name in ("run", "what", "scorer", "left_out")}
        emit([{**about, **plain(row)} for row in rows.rows], [], True)
        return
    _print(found.cases_table(rows), rows.note)


def _print_duplicates(rows: found.DuplicateCases, limit: int, as_json: bool) -> None:
    if as_json:
        click.echo(json_text({**plain(rows), "note": rows.note}))
        return
    _print(found.duplicates_table(rows, limit), rows.note)


def _print(table: Any, note: str) -> None:
    console = Console()
    console.print(table)
    if note:
        console.print(one_line(note), markup=False, highlight=False)
