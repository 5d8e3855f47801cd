"""`workbench runs | show | compare | report`: what the store keeps, for reading."""

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
from workbench.errors import UnknownName, UseError
from workbench.registry import SCORERS
from workbench.store import runs as stored
from workbench.views import tables
from workbench.views.format import one_line
from workbench.views.model import RunView, load_view
from workbench.views.write import view_json, write_report

COULD_NOT_FINISH = 3


def print_view(view: RunView, as_json: bool) -> None:
    """A run's table and its sentences; or its JSON, a line a scorer."""
    if as_json:
        for row in view_json(view)["scorers"]:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    console = Console()
    for table in tables.run_tables(view, console.width):
        console.print(table)
    for part in view.scorers:
        console.print(part.sentence, markup=False, highlight=False)
        for line in tables.length_lines(view, part):
            console.print(line)
    console.print(tables.run_line(view))


def write_report_file(connection: Any, run_id: str, form: str, path: Path | None) -> None:
    """Writes a report to a file, or to stdout where there is none."""
    view = load_view(connection, run_id)
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
@click.argument("run")
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
def show(session: Session, /, run: str, reference: str | None, as_json: bool, **chosen: Any) -> None:
    """Show RUN (an id, its beginning, or 'latest')."""
    from workbench.cli.findings import print_findings
    from workbench.cli.judge import judging_of, people_lines, unlicensed

    database = session.database()
    wanted = {name: chosen.pop(name) for name in ("axes", "repeats", "k")}
    if any(wanted.values()):
        if any(chosen.values()) or reference:
            others = "--failures, --wrong, --trial, --case and --reference"
            raise UseError(f"--axes and --repeats show the whole run; leave out {others}")
        with database.read() as connection:
            print_findings(connection, stored.find_run(connection, run), as_json, **wanted)
        return
    with database.read() as connection:
        found = stored.find_run(connection, run)
        if not any(chosen.values()):
            print_view(load_view(connection, found, reference), as_json)
            about = (session, found, database)
            for line in [*judging_of(database, found), *people_lines(*about), *unlicensed(*about)]:
                click.echo(line, err=True)
            return
        _check_chosen(connection, found, **chosen)
        rows = list(stored.trial_rows(connection, found, stored.TrialFilter(**chosen)))
        labels = {v.id: v.label for v in stored.run_variants(connection, found)}
    if not rows:
        click.echo(one_line(_none(**chosen)), err=True)
    if as_json:
        for row in rows:
            click.echo(json.dumps(tables.trial_json(row, labels[row.variant_id]), ensure_ascii=False))
        return
    console = Console()
    for row in rows:
        console.print(tables.trial_panel(row, labels[row.variant_id]))


def _check_chosen(connection: Any, run: str, wrong: str | None, trial: str | None, case: str | None, **_: Any) -> None:
    """Raises UseError where the run has no such trial, case or scorer, or the scorer only counts."""
    if trial and not any(stored.trial_rows(connection, run, stored.TrialFilter(trial=trial, limit=1))):
        raise UseError(f"run {run} has no trial '{trial}'; show --case ID tells the ids of a case's trials")
    if case and case not in (cases := stored.run_cases(connection, run)):
        raise UnknownName("case", case, cases)
    if wrong:
        kinds = dict(stored.run_scorers(connection, run))
        if wrong not in kinds:
            raise UnknownName("scorer", wrong, kinds)
        if kinds[wrong] not in ("pass", "fraction"):
            raise UseError(f"scorer '{wrong}' gives a {kinds[wrong]}, and none of those is wrong; name one of passes")


def _none(failures: bool, wrong: str | None, **others: str | None) -> str:
    """Why no trial is shown."""
    if any(others.values()) or (failures and wrong):
        return "no trial is all that was asked for"
    if wrong:
        return f"scorer '{wrong}' marks no answer down"
    return "every trial has an answer; '--wrong SCORER' shows those that a scorer marks down"


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
        view = load_view(connection, ids, reference)
    parts = [p for p in view.scorers if scorer in (None, p.name)]
    if not view.scorers:
        raise UseError("there are no scores to compare; add some with 'workbench score RUN --with SCORER'")
    if not parts:
        raise UnknownName("scorer", scorer or "", [p.name for p in view.scorers])
    if as_json:
        for row in view_json(view)["scorers"]:
            if scorer in (None, row["name"]):
                click.echo(json.dumps(row, ensure_ascii=False))
        return
    console = Console()
    for part in parts:
        console.print(tables.compare_table(view, part, console.width))
        for line in [*tables.effect_lines(view, part), *tables.length_lines(view, part)]:
            console.print(line)
        if part.sentence:
            console.print(part.sentence, markup=False, highlight=False)


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
    from workbench.asking import Desk, project_budget
    from workbench.cli.judge import judging_lines, unlicensed
    from workbench.judging import judge_stored, split_scorers
    from workbench.scoring import Scorers, build_scorers, score_run

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
    judging = judge_stored(database, found.id, asking, desk, project_budget(session.project.budget, database, desk))
    with database.read() as connection:
        print_view(load_view(connection, found.id), as_json)
    click.echo(f"{done.made + judging.made} scores made, {done.kept + judging.kept} kept", err=True)
    for line in [*judging_lines(judging), *unlicensed(session, found.id, database)]:
        click.echo(line, err=True)
    unscored = done.unscored + judging.unscored
    if unscored:
        message, count = unscored.most_common(1)[0]
        click.echo(f"{unscored.total()} could not be made; most often ({count}): {one_line(message)}", err=True)
    if judging.stopped_by:
        click.echo(f"stopped before a limit: {judging.stopped_by}", err=True)
    return COULD_NOT_FINISH if unscored or judging.stopped_by else 0
