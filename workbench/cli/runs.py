"""`workbench runs | compare | score`, and a run's table: what the store keeps, for reading."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from workbench.cli.join import join
from workbench.cli.session import Session, emit
from workbench.define.suite import at_scorers, load_scorers
from workbench.errors import UnknownName, UseError, most_often
from workbench.registry import SCORERS
from workbench.store import runs as stored
from workbench.views import tables
from workbench.views.format import one_line
from workbench.views.looks import run_looks
from workbench.views.model import RunView, load_view, load_whole
from workbench.views.write import view_json, write_report

COULD_NOT_FINISH = 3


def print_view(view: RunView, as_json: bool) -> None:
    """A run's table and its sentences; or its JSON, a line a scorer."""
    if as_json:
        _print_json(view)
        return
    console = Console()
    for table in tables.run_tables(view, console.width):
        console.print(table)
    for part in view.scorers:
        console.print(part.sentence, markup=False, highlight=False)
        for line in [*tables.power_lines(part), *tables.length_lines(view, part)]:
            console.print(line)
    for told in run_looks(view.run, view.labels):
        console.print(told, markup=False, highlight=False)
    console.print(tables.run_line(view))


def _print_json(view: RunView, scorer: str | None = None) -> None:
    """A line a scorer, or that of one alone, each with the cases that it leaves out, whether the numbers may still
    change, and, where `until` or `race` of the run goes by it, how that stood at the last look."""
    found = view_json(view)
    looks = view.run.header.get("stopping") if len(view.runs) == 1 else None
    incomplete = any(run.status != "complete" for run in view.runs)
    for row in found["scorers"]:
        if scorer in (None, row["name"]):
            own = looks if looks and looks["scorer"] == row["name"] else None
            more = {"quarantined": found["quarantined"], "stopping": own, "incomplete": incomplete}
            click.echo(json.dumps({**row, **more}, ensure_ascii=False))


def write_report_file(connection: Any, run_id: str, form: str, path: Path | None) -> None:
    """Writes a report to a file, or to stdout where there is none."""
    view = load_whole(connection, run_id)
    write_report(view, stored.trial_rows(connection, view.run.id), form, path or sys.stdout)


@click.group(invoke_without_command=True)
@click.option("--suite", help="Only runs of this suite.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_context
def runs(context: click.Context, suite: str | None, limit: int, as_json: bool) -> None:
    """List the runs, newest first."""
    if context.invoked_subcommand:
        return
    session: Session = context.obj
    with session.database().read() as connection:
        rows = [
            {
                "run": r.id, "suite": r.suite, "stage": r.stage, "status": r.status, "started": r.started,
                "trials": r.planned, "answered": r.answered, "failed": r.failed,
            }
            for r in stored.list_runs(connection, suite, limit)
        ]  # fmt: skip
    if not rows and not as_json:
        click.echo("no run yet; start one with: workbench run SUITE", err=True)
        return
    emit(rows, ["run", "suite", "stage", "status", "started", "trials", "answered", "failed"], as_json)


runs.add_command(join)


@click.command()
@click.argument("run", nargs=-1, required=True)
@click.option("--reference", metavar="VARIANT", help="The variant that the others are held against.")
@click.option("--scorer", help="Only this scorer.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def compare(session: Session, run: tuple[str, ...], reference: str | None, scorer: str | None, as_json: bool) -> None:
    """Compare the variants of one or several runs, paired on their common cases."""
    with session.database().read() as connection:
        ids = [stored.get_run(connection, r).id for r in run]
        view = (load_view if as_json else load_whole)(connection, ids, reference)
    parts = [p for p in view.scorers if scorer in (None, p.name)]
    if not view.scorers:
        raise UseError("there are no scores to compare; add some with 'workbench score RUN --with SCORER'")
    if not parts:
        raise UnknownName("scorer", scorer or "", [p.name for p in view.scorers])
    if as_json:
        _print_json(view, scorer)
        return
    console = Console()
    for part in parts:
        console.print(tables.compare_table(view, part, console.width))
        for line in [*tables.effect_lines(view, part), *tables.length_lines(view, part)]:
            console.print(line)
        if part.sentence:
            console.print(part.sentence, markup=False, highlight=False)
    for line in tables.took_lines(view):
        console.print(line)


@click.command()
@click.argument("run")
@click.option("--with", "scorers", multiple=True, metavar="SCORER|SUITE.yaml", help="A scorer, or those of a suite.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def score(session: Session, run: str, scorers: tuple[str, ...], as_json: bool) -> int:
    """Score the stored outputs of RUN anew, or by further scorers. Only scorers that ask models (judge,
    semantic) make calls, their own.

    Without --with: by the scorers that its suite has now.
    """
    from workbench.asking import Desk
    from workbench.cli.judge import judging_lines, unlicensed
    from workbench.judges.judging import judge_stored, split_scorers
    from workbench.scoring import Scorers, build_scorers, score_run
    from workbench.spending import project_budget

    database, root = session.database(), session.project.root
    with database.read() as connection:
        found = stored.get_run(connection, run)
    desk = Desk(root, {})

    def built(text: str) -> Scorers:
        with at_scorers(text, session.project):
            return build_scorers(load_scorers(text, session.project, SCORERS.names()), root, None, desk)

    texts = scorers or [str(found.header["path"])]
    alone, asking = split_scorers([pair for text in texts for pair in built(text)])
    done = score_run(database, found.id, alone)
    budgets = project_budget(session.project.budget, desk.worst_case, found.id)
    judging = judge_stored(database, found.id, asking, desk, budgets)
    with database.read() as connection:
        print_view(load_view(connection, found.id), as_json)
    click.echo(f"{done.made + judging.made} scores made, {done.kept + judging.kept} kept", err=True)
    for line in [*judging_lines(judging), *unlicensed(session, found.id, database)]:
        click.echo(line, err=True)
    unscored = done.unscored + judging.unscored
    if unscored:
        click.echo(f"{unscored.total()} could not be made; {one_line(most_often(unscored))}", err=True)
    if judging.stopped_by:
        click.echo(f"stopped before a limit: {judging.stopped_by}", err=True)
    return COULD_NOT_FINISH if unscored or judging.stopped_by else 0
