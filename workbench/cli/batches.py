"""`workbench batches` and the end of `workbench run --batch`: what is asked now and answered another day."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from workbench.asking import Desk
from workbench.batches.collect import Collected, Scoring, collect_batches
from workbench.batches.submit import Submitted, cancel_batches, show_batches, submit_batches
from workbench.begin import RunOptions
from workbench.cli.judge import judging_lines
from workbench.cli.session import Session, emit
from workbench.define.suite import at_scorers, load_scorers
from workbench.errors import UseError, WorkbenchError, most_often
from workbench.judges.judging import split_scorers
from workbench.prepare import Prepared
from workbench.registry import SCORERS
from workbench.scoring import build_scorers
from workbench.store import batches as stored_batches
from workbench.store import runs as stored
from workbench.store.batches import BatchRow
from workbench.store.database import Database
from workbench.views.format import money, one_line, plural, seconds

COULD_NOT_FINISH = 3
COLUMNS = ("run", "batch", "model", "status", "requests", "answered", "failed", "age", "cost at most", "provider's id")
WAIT_SECONDS = (1.0, 60.0)
"""Between two looks with --wait: at first, and at most."""


def submit(prepared: Prepared, database: Database, options: RunOptions, *, quiet: bool, as_json: bool) -> int:
    """Submits a run, says how to collect it, and leaves. The run's id is the last line."""
    done = submit_batches(prepared, database, options)
    if not quiet:
        for line in _submitted_lines(done):
            click.echo(line, err=True)
    emit([{"run": done.run, "status": done.status}], [], True) if as_json else click.echo(done.run)
    return COULD_NOT_FINISH if done.left or done.status == "stopped" else 0


def _submitted_lines(done: Submitted) -> list[str]:
    asked = sum(row.count for row in done.batches)
    costs = [row.cost for row in done.batches]
    cost = money(None if None in costs else sum(c for c in costs if c is not None))
    lines = []
    if done.reused:
        lines.append(f"{done.reused:,} of {done.planned:,} trials had an answer already")
    if done.elsewhere:
        lines.append(f"{plural(done.elsewhere, 'request')} on the way in batches of other runs: not asked again")
    if done.batches:
        lines.append(f"{plural(asked, 'request')} under way in {plural(len(done.batches), 'batch')}, at most {cost}")
        lines.append(f"see them with: workbench batches {done.run}; fetch: workbench batches collect {done.run}")
    if done.left:
        lines.append(f"{plural(done.left, 'request')} not submitted: {one_line(done.stopped_by)}")
    if done.status == "complete":
        lines.append(f"nothing was left to ask; see the run with: workbench show {done.run}")
    if done.asking:
        names = one_line(", ".join(done.asking))
        lines.append(f"{names}: models are asked by calls of their own at: workbench batches collect {done.run}")
    return lines


class _RunFirst(click.Group):
    """`workbench batches RUN` lists a run's batches: what is no command is a run."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "list", self.commands["list"], args
        return super().resolve_command(ctx, args)


@click.group(cls=_RunFirst, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_context
def batches(ctx: click.Context, as_json: bool) -> None:
    """Batches that a provider answers later: list, collect, cancel. 'batches RUN' lists those of one run."""
    if ctx.invoked_subcommand is None:
        _list(ctx.obj, None, as_json)


@batches.command("list")
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def list_(session: Session, run: str | None, as_json: bool) -> None:
    """List the batches of RUN, or of all runs, as their providers see them now."""
    _list(session, run, as_json)


def _list(session: Session, run: str | None, as_json: bool) -> None:
    database = session.database()
    found = [(row, why) for row, why in show_batches(database, _full_id(database, run), session.project.model)]
    emit([_shown(row) for row, _ in found], COLUMNS, as_json)
    for why in dict.fromkeys(why for _, why in found if why):
        click.echo(f"not brought up to date: {one_line(why)}", err=True)
    if not found and not as_json:
        click.echo("no batch yet; submit some with: workbench run SUITE --batch", err=True)


def _shown(row: BatchRow) -> dict[str, object]:
    age = (datetime.now(UTC) - datetime.fromisoformat(row.time)).total_seconds()
    return {
        "run": row.run,
        "batch": row.number,
        "model": row.model,
        "status": row.status if row.status == row.said or not row.said else f"{row.status} ({one_line(row.said)})",
        "requests": row.count,
        "answered": row.answered,
        "failed": row.failed,
        "age": seconds(age),
        "cost at most": money(row.cost),
        "provider's id": row.batch,
    }


@batches.command()
@click.argument("run", required=False)
@click.option("--all", "every", is_flag=True, help="All runs that wait for batches.")
@click.option("--wait", is_flag=True, help="Look again until all have ended.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def collect(session: Session, run: str | None, every: bool, wait: bool, as_json: bool) -> int:
    """Fetch, keep and score what the batches of RUN (or --all) have answered.

    When all have ended, scorers that ask models (judge, semantic) make calls of their own, within the run's budget.
    """
    database = session.database()
    left = _chosen(database, run, every)
    code, pause = 0, WAIT_SECONDS[0]
    while left:
        results = [_collect(session, database, one) for one in left]
        left = [done.run for done in results if done.open] if wait else []
        for done in results:
            if done.run in left:
                continue
            code = max(code, _tell(done, as_json))
        if left:
            time.sleep(pause)
            pause = min(2 * pause, WAIT_SECONDS[1])
    return code


def _collect(session: Session, database: Database, run: str) -> Collected:
    scoring, problem = _scoring(session, database, run)
    done = collect_batches(database, run, session.project.model, scoring)
    if problem:
        done.unscored[f"{problem}; what was fetched is kept: now 'workbench score {run}'"] += 1
    return done


def _scoring(session: Session, database: Database, run: str) -> tuple[Scoring, str]:
    """The scorers that the run's suite has now, as for `workbench score`; or none, and why. A suite that is
    gone or broken by now must not keep what was paid for from being fetched."""
    with database.read() as connection:
        path = str(stored.get_run(connection, run).header.get("path") or "")
    root, budget = session.project.root, session.project.budget
    desk = Desk(root, {})
    try:
        with at_scorers(path, session.project):
            specs = load_scorers(path, session.project, SCORERS.names())
            alone, asking = split_scorers(build_scorers(specs, root, path, desk))
    except WorkbenchError as error:
        return Scoring(desk), str(error)
    return Scoring(desk, alone, asking, budget), ""


def _tell(done: Collected, as_json: bool) -> int:
    """Says what became of a run's batches; 3 where something is left or could not be done."""
    again = f"workbench run SUITE --resume {done.run} [--batch]"
    lines = [f"{done.answered:,} answers and {plural(done.failed, 'failure')} fetched; run {done.run}: {done.status}"]
    lines += [f"{plural(count, 'request')} of batches that {_ended(how)}: ask again with {again}"
              for how, count in done.lost.items()]  # fmt: skip
    lines += [f"why: {one_line(problem)}" for problem in dict.fromkeys(done.problems)]
    if done.open:
        lines.append(f"{plural(done.open, 'batch')} not ended yet: collect again later, or with --wait")
    elif done.status == "stopped" and not done.lost:
        lines.append(f"some trials have no answer: ask again with {again}")
    if done.unjudged:
        lines.append("scorers that ask models come when all batches have ended")
    lines += judging_lines(done.judging)
    if done.judging.stopped_by:
        resume = f"go on with: workbench batches collect {done.run}"
        lines.append(f"judging stopped before a limit: {one_line(done.judging.stopped_by)}; {resume}")
    if done.tracing:
        lines.append(one_line(done.tracing))
    if done.unscored:
        count = plural(done.unscored.total(), "score")
        lines.append(f"{count} could not be made; {one_line(most_often(done.unscored))}")
    for line in lines:
        click.echo(line, err=True)
    if as_json:
        row = {"run": done.run, "status": done.status, "answered": done.answered, "failed": done.failed}
        emit([{**row, "open": done.open, "lost": dict(done.lost)}], [], True)
    else:
        click.echo(done.run)
    whole = done.status in ("complete", "waiting") and not done.unscored and not done.judging.stopped_by
    return 0 if whole else COULD_NOT_FINISH


def _ended(how: str) -> str:
    return {"completed": "left them out", "failed": "failed as a whole"}.get(
        how, how if how == "expired" else f"were {how}"
    )


@batches.command()
@click.argument("run")
@click.option("--forget", is_flag=True, help="Count them as ended here, whatever the provider does: may be paid twice.")
@click.pass_obj
def cancel(session: Session, run: str, forget: bool) -> None:
    """Ask the provider to end the batches of RUN; 'collect' fetches what they have answered."""
    database = session.database()
    found = cancel_batches(database, str(_full_id(database, run)), session.project.model, forget=forget)
    emit([_shown(row) for row in found], COLUMNS, False)


def _chosen(database: Database, run: str | None, every: bool) -> Sequence[str]:
    if (run is None) != every:
        raise UseError("name one run, or give --all")
    if run is not None:
        return [str(_full_id(database, run))]
    with database.read() as connection:
        rows = stored_batches.list_batches(connection)
        waiting, in_batches = [row.run for row in rows if row.is_open], {row.run for row in rows}
        for one in stored.list_runs(connection):  # one that was interrupted may have judges to ask
            if one.status == "waiting" or (one.status == "interrupted" and one.id in in_batches):
                waiting.append(one.id)
    return list(dict.fromkeys(waiting))


def _full_id(database: Database, run: str | None) -> str | None:
    if run is None:
        return None
    with database.read() as connection:
        return stored.get_run(connection, run).id
