"""`workbench show`: one run, whole, as a grid of answers, or trial by trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console

from workbench.cli.paging import print_paged
from workbench.cli.runs import print_view
from workbench.cli.session import Session, only_option
from workbench.errors import UnknownName, UseError
from workbench.store import runs as stored
from workbench.store.runs import TrialFilter
from workbench.views import tables
from workbench.views.format import one_line
from workbench.views.grid import grid_tables, load_grid
from workbench.views.model import load_view
from workbench.views.plain import json_text, plain
from workbench.views.selected import select_some
from workbench.views.unsettled import unsettled_cases, unsettled_lines, unsettled_table

GOES_WITH: Mapping[str, tuple[str, ...]] = {
    "axes": ("repeats", "k"),
    "repeats": ("axes", "k"),
    "k": ("axes", "repeats"),
    "grid": ("failures", "wrong", "case", "only", "scorer"),
    "unsettled": ("only", "scorer"),
}
"""Option: what may stand beside it."""


@click.command()
@click.argument("run")
@click.option("--grid", is_flag=True, help="The answers: cases as rows, variants as columns, repeats as one cell.")
@click.option("--unsettled", is_flag=True, help="The cases whose repeats are scored differently, and how often.")
@click.option(
    "--scorer", metavar="NAME", help="The one that --grid and --unsettled go by.  [default: the first of passes]"
)
@only_option
@click.option("--failures", is_flag=True, help="The trials without an answer, and why.")
@click.option("--wrong", metavar="SCORER", help="The answers that this scorer gives less than all, and why.")
@click.option("--trial", metavar="ID", help="One trial: the exact messages, the output, scores and reasons.")
@click.option("--case", metavar="ID", help="All outputs for one case.")
@click.option("--axes", is_flag=True, help="Which axis of the sweep matters, and the curve along its numbers.")
@click.option("--repeats", is_flag=True, help="Best and worst of k answers (pass@k, pass^k), and how often two differ.")
@click.option("--k", type=click.IntRange(1), help="For --repeats: of how many answers.  [default: all repeats]")
@click.option("--reference", metavar="VARIANT", help="Compare with this variant (label or id).")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def show(session: Session, /, run: str, as_json: bool, **chosen: Any) -> None:
    """Show RUN (an id, its beginning, or 'latest').

    --failures, --wrong, --case and --only narrow what is shown, of the trials and of --grid.
    """
    _check_together(chosen)
    database = session.database()
    with database.read() as connection:
        found = stored.find_run(connection, run)
        if chosen["axes"] or chosen["repeats"] or chosen["k"]:
            from workbench.cli.findings import print_findings

            print_findings(connection, found, as_json, **{name: chosen[name] for name in ("axes", "repeats", "k")})
        elif chosen["unsettled"]:
            _print_unsettled(connection, found, chosen, as_json)
        elif any(chosen[name] for name in ("grid", "failures", "wrong", "trial", "case")):
            _print_trials(connection, found, chosen, as_json)
        else:
            print_view(load_view(connection, found, chosen["reference"]), as_json)
            for line in _about_judges(session, database, found):
                click.echo(line, err=True)


def _check_together(chosen: Mapping[str, Any]) -> None:
    """Raises UseError for options that can't stand beside each other."""
    given = [name for name, value in chosen.items() if value]
    for name in given:
        wrong = [other for other in given if other not in (name, *GOES_WITH.get(name, given))]
        if wrong:
            raise UseError(f"--{name} does not go with --{wrong[0]}; leave one of them out")
    if chosen["scorer"] and not (chosen["grid"] or chosen["unsettled"]):
        raise UseError("--scorer belongs to --grid or --unsettled; add one of them")
    narrowed = ("grid", "unsettled", "failures", "wrong", "trial", "case")
    if chosen["only"] and not any(chosen[name] for name in narrowed):
        raise UseError("--only narrows --grid, --unsettled, --failures, --wrong or --case; add one of them")
    if chosen["reference"] and any(chosen[name] for name in narrowed):
        raise UseError("--reference belongs to the table of all variants; leave it out")


def _about_judges(session: Session, database: Any, run: str) -> list[str]:
    from workbench.cli.judge import judging_of, people_lines, unlicensed

    about = (session, run, database)
    return [*judging_of(database, run), *people_lines(*about), *unlicensed(*about)]


def print_grid(
    connection: Any, run: str, chosen: TrialFilter | None = None, scorer: str | None = None, at_most: int | None = None
) -> None:
    """Prints a run's grid: all of it, through a pager where there is a terminal; or its first cases as they are."""
    grid, console = load_grid(connection, run, chosen, scorer), Console()
    if at_most is None:
        print_paged(console, grid_tables(grid, console))
        return
    for table in grid_tables(grid, console, at_most):
        console.print(table)
    if next(grid.rows, None) is not None:
        click.echo(f"the first {at_most} cases; all of them with: workbench show {run} --grid")


def _print_unsettled(connection: Any, run: str, chosen: Mapping[str, Any], as_json: bool) -> None:
    variants = select_some(stored.run_variants(connection, run), chosen["only"])
    found = unsettled_cases(connection, run, chosen["scorer"], variants)
    if as_json:
        for row in found.rows:
            click.echo(json_text({"run": run, "scorer": found.scorer, **plain(row)}))
        return
    console = Console()
    print_paged(console, [unsettled_table(found)])
    for line in unsettled_lines(found, str(stored.run_header(connection, run).get("path") or "the suite")):
        console.print(line, markup=False, highlight=False)


def _print_trials(connection: Any, run: str, chosen: Mapping[str, Any], as_json: bool) -> None:
    """The trials that are asked for, or the grid of their cases."""
    narrowing = {name: chosen[name] for name in ("failures", "wrong", "trial", "case")}
    _check_chosen(connection, run, **narrowing)
    variants = stored.run_variants(connection, run)
    wanted = TrialFilter(select_some(variants, chosen["only"]) if chosen["only"] else (), **narrowing)
    labels = {v.id: v.label for v in variants}
    if not any(stored.trial_rows(connection, run, TrialFilter(wanted.variants, **narrowing, limit=1))):
        click.echo(one_line(_none(**narrowing, only=chosen["only"])), err=True)
    elif chosen["grid"] and as_json:
        for row in load_grid(connection, run, wanted, chosen["scorer"]).rows:
            click.echo(json_text(plain(row)))
    elif chosen["grid"]:
        print_grid(connection, run, wanted, chosen["scorer"])
    elif as_json:
        for trial in stored.trial_rows(connection, run, wanted):
            click.echo(json.dumps(tables.trial_json(trial, labels[trial.variant_id]), ensure_ascii=False))
    else:
        trials = stored.trial_rows(connection, run, wanted)
        print_paged(Console(), (tables.trial_panel(trial, labels[trial.variant_id]) for trial in trials))


def _check_chosen(connection: Any, run: str, wrong: str | None, trial: str | None, case: str | None, **_: Any) -> None:
    """Raises UseError where the run has no such trial, case or scorer, or the scorer only counts."""
    if trial and not any(stored.trial_rows(connection, run, TrialFilter(trial=trial, limit=1))):
        raise UseError(f"run {run} has no trial '{trial}'; show --case ID tells the ids of a case's trials")
    if case and case not in (cases := stored.run_cases(connection, run)):
        raise UnknownName("case", case, cases)
    if wrong:
        kinds = dict(stored.run_scorers(connection, run))
        if wrong not in kinds:
            raise UnknownName("scorer", wrong, kinds)
        if kinds[wrong] not in ("pass", "fraction"):
            raise UseError(f"scorer '{wrong}' gives a {kinds[wrong]}, and none of those is wrong; name one of passes")


def _none(failures: bool, wrong: str | None, **others: Any) -> str:
    """Why no trial is shown."""
    if any(others.values()) or (failures and wrong):
        return "no trial is all that was asked for"
    if wrong:
        return f"scorer '{wrong}' marks no answer down"
    return "every trial has an answer; '--wrong SCORER' shows those that a scorer marks down"
