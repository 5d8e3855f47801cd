"""`workbench run`: a suite, start to end, or its plan."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import Any

import click
from rich.console import Console

from workbench.batches.submit import plan_batches
from workbench.begin import RunOptions
from workbench.cli.batches import submit
from workbench.cli.gate import after_run, baseline_option, before_run, in_doubt_option, told
from workbench.cli.judge import judging_lines, unlicensed
from workbench.cli.runs import print_view, write_report_file
from workbench.cli.session import Session, emit, only_option, pairs
from workbench.cli.show import print_grid
from workbench.define.changed import changed_suites
from workbench.define.shards import Shard, parse_shard, take_shard
from workbench.define.suite import Overrides, load_suite, suite_names
from workbench.define.yamlfile import parse_value
from workbench.errors import UseError, WorkbenchError
from workbench.evaluate import Progress, run_suite
from workbench.prepare import Plan, Prepared, plan_suite, prepare_suite
from workbench.records import Suite
from workbench.registry import SCORERS
from workbench.store import recording, whole
from workbench.store import runs as stored
from workbench.store.database import Database
from workbench.store.prompts import history
from workbench.views.edits import edit_lines, edits
from workbench.views.format import money, one_line, short_id, work_line
from workbench.views.live import LiveView
from workbench.views.model import load_view

COULD_NOT_FINISH, INTERRUPTED = 3, 130
STOPPING = "stopping: what is under way is given back (Ctrl-C again: at once)"
MOST_GRID = 20
"""Cases of the grid that stands at the end of a run."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options of `workbench run` say."""

    resume: str | None
    fresh: bool
    seed: int | None
    dry_run: bool
    batch: bool
    as_json: bool
    quiet: bool
    report: Path | None
    gate: bool
    baseline_file: Path | None
    in_doubt: str
    grid: bool
    shard: Shard | None = None


@click.command()
@click.argument("suite", required=False)
@only_option
@click.option("--set", "set_params", multiple=True, callback=pairs, metavar="NAME=VALUE", help="Fix a parameter.")
@click.option("--limit", type=click.IntRange(1), help="At most so many cases, sampled.")
@click.option("--repeats", type=click.IntRange(1), help="In place of the suite's.")
@click.option("--shard", metavar="N/M", help="Only this part of the cases; see 'runs join'.")
@click.option("--changed-since", metavar="REF", help="Only if it asks something else than at a git ref; or all such.")
@click.option("--seed", type=int, help="The run seed, in place of the suite's.")
@click.option("--fresh", is_flag=True, help="Ask again; reuse no answer.")
@click.option("--resume", metavar="RUN", help="Take up a run that was stopped or interrupted.")
@click.option("--dry-run", is_flag=True, help="Print the plan and what it would cost; ask nothing.")
@click.option("--batch", is_flag=True, help="Submit to the provider's batch endpoint and leave; see 'batches'.")
@click.option("--watch", is_flag=True, help="Run again at each save; only what changed is asked.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write an HTML report there at the end."
)
@click.option("--gate", is_flag=True, help="Judge the run by the suite's gates; exit code 1: one failed, 4: in doubt.")
@baseline_option
@in_doubt_option
@click.option("--grid", is_flag=True, help=f"At the end the answers, cases × variants; the first {MOST_GRID} cases.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines on stdout.")
@click.option("--quiet", is_flag=True, help="Print the run's id and nothing else.")
@click.pass_obj
def run(session: Session, /, suite: str | None, watch: bool, changed_since: str | None, **options: Any) -> int:
    """Run the suite SUITE (a file, or its name in evals/); with --changed-since and no SUITE, all that changed."""
    shard = options.pop("shard")
    overrides = Overrides(
        only=options.pop("only"),
        set_params={k: _value(k, v) for k, v in options.pop("set_params").items()},
        limit=options.pop("limit"),
        repeats=options.pop("repeats"),
        seed=options["seed"],
    )
    settings = Settings(**options, shard=parse_shard(shard) if shard else None)
    if settings.shard and settings.gate:
        raise UseError("gates need all cases; run the shards, 'workbench runs join' them, then 'workbench gate RUN'")
    if watch and changed_since:
        raise UseError("--watch runs at each change anyway; leave --changed-since out")
    if settings.batch and (watch or settings.report or settings.gate or settings.grid):
        raise UseError("--batch leaves before there are answers; leave --watch, --report, --gate and --grid out")
    if settings.grid and (settings.as_json or settings.quiet):
        raise UseError("--grid is for reading; leave --json and --quiet out, or use 'workbench show RUN --grid --json'")
    if changed_since:
        names = _changed(session, suite, changed_since)
        return first_of([_once(session, name, overrides, settings) for name in names])
    if suite is None:
        raise UseError("name a SUITE, or give --changed-since REF for all that changed; see 'workbench run --help'")
    if not watch:
        return _once(session, suite, overrides, settings)
    return _again_and_again(session, suite, overrides, settings)


def _changed(session: Session, suite: str | None, ref: str) -> list[str]:
    """The suites that changed since a git ref, of all or of the one that is named; says what is left out."""
    names = [suite] if suite else suite_names(session.project)
    changed = changed_suites(session.project, names, ref, SCORERS.names())
    if left := [name for name in names if name not in changed]:
        click.echo(f"asks nothing else than at {ref}, not run: {one_line(', '.join(left))}", err=True)
    return changed


def first_of(codes: Sequence[int]) -> int:
    """Of several exit codes the first that applies."""
    return next((code for code in (INTERRUPTED, 2, COULD_NOT_FINISH, 1, 4) if code in codes), 0)


def _value(name: str, text: str) -> Any:
    """What a suite would read the text as. Raises SuiteError."""
    return parse_value(text, f"--set {name}")


def _once(session: Session, name: str, overrides: Overrides, settings: Settings) -> int:
    suite = load_suite(name, session.project, session.library, SCORERS.names(), overrides)
    suite = take_shard(suite, settings.shard) if settings.shard else suite
    prepared = prepare_suite(suite, session.project.root, session.project.budget)
    errors = Console(stderr=True)
    notes = before_run(session, suite, settings.gate, settings.baseline_file)
    for note in () if settings.quiet else notes:
        errors.out(one_line(note), highlight=False)
    database = session.database()
    if settings.dry_run:
        if settings.resume is not None:
            raise UseError("--dry-run plans a new run; leave --resume out")
        planned = plan_batches if settings.batch else plan_suite
        _print_plan(prepared, planned(prepared, None if settings.fresh else database), settings)
        return 0
    if not settings.quiet:
        _say_new_revisions(prepared, database, errors)
    if settings.batch:
        how = RunOptions(settings.resume, settings.fresh, settings.seed)
        return submit(prepared, database, how, quiet=settings.quiet, as_json=settings.as_json)
    for note in _company(prepared, database):
        errors.out(one_line(note), highlight=False)
    progress, status = _run(prepared, database, settings, errors)
    _print_end(session, database, progress.run, settings)
    if not settings.quiet:
        took = [*judging_lines(progress.retrieving, "retrieval"), *judging_lines(progress.judging)]
        for line in [*took, *unlicensed(session, progress.run, database)]:
            errors.out(line, highlight=False)
        for alias, work in progress.work.items():
            errors.out(f"{alias}: {work_line(work)}", highlight=False)
    if progress.tracing:
        errors.out(one_line(progress.tracing), highlight=False)
    code = _exit_code(prepared, database, (progress, status), errors)
    if not settings.gate or code == INTERRUPTED:
        return code
    judged = after_run(session, progress.run, settings.baseline_file)
    for line in told(judged, False):
        errors.out(line, highlight=False)
    return code or judged.exit_code(settings.in_doubt)


def _run(prepared: Prepared, database: Database, settings: Settings, errors: Console) -> tuple[Progress, str]:
    options = RunOptions(settings.resume, settings.fresh, settings.seed)
    labels = {v.id: v.label for v in prepared.suite.variants}
    names = [spec.name for spec in prepared.suite.scorers]
    aside = sum(case.quarantined for case in prepared.suite.cases)
    with stop_on_signal(errors) as stop, LiveView(labels, names, errors, aside) as live:
        latest: list[Progress] = []

        def watch(progress: Progress) -> None:
            latest[:] = [progress] if progress.run else []
            if not settings.quiet:
                live(progress)

        try:
            return run_suite(prepared, database, options, watch, stop)
        except KeyboardInterrupt:
            if latest:
                errors.out(_resume_line(prepared.suite, latest[0].run), highlight=False)
            raise
        except WorkbenchError as error:
            if latest:
                error.hint = _resume_line(prepared.suite, latest[0].run)
                error.exit_code = COULD_NOT_FINISH  # whatever ended the run: what was answered is kept
            raise


def _resume_line(suite: Suite, run_id: str) -> str:
    shard = f" --shard {suite.shard}" if suite.shard else ""
    return f"what was answered is kept; go on with: workbench run {suite.path or suite.name}{shard} --resume {run_id}"


@contextmanager
def stop_on_signal(errors: Console) -> Iterator[Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; a second one ends the program at once."""
    stop = Event()

    def handler(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # Not from here: the signal may have come in the midst of a line to the same stream.
        Thread(target=errors.print, args=(STOPPING,), kwargs={"highlight": False}, daemon=True).start()

    old = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


def _exit_code(prepared: Prepared, database: Database, ended: tuple[Progress, str], errors: Console) -> int:
    say, (progress, status) = errors.out, ended
    if progress.stopped_by:
        say(f"stopped before a limit after {_so_far(progress)}: {progress.stopped_by}")
        say(f"with a higher limit, {_resume_line(prepared.suite, progress.run)}")
        return COULD_NOT_FINISH
    if status == "stopped":
        say(f"stopped after {_so_far(progress)}; {_resume_line(prepared.suite, progress.run)}")
        return INTERRUPTED
    with database.read() as connection:
        lacking = whole.lacking(connection, stored.get_run(connection, progress.run))
    if lacking.told:
        say(one_line(lacking.told))
    if not lacking.problem:
        return 0
    if lacking.failed:
        say(f"see them with: workbench show {progress.run} --failures; {_resume_line(prepared.suite, progress.run)}")
    if lacking.unscored:
        again = "only judges that gave no answer are asked" if progress.judging.failed else "no model is asked for it"
        say(f"mend what scorers complain of and run again: what was answered is kept, {again}")
    return COULD_NOT_FINISH


def _so_far(progress: Progress) -> str:
    judging = progress.judging
    judged = f" and {judging.done} of {judging.planned} judgements" if judging.planned else ""
    return f"{progress.done} of {progress.planned} trials{judged}"


def _say_new_revisions(prepared: Prepared, database: Database, errors: Console) -> None:
    """A prompt that was edited becomes a new revision, never silently."""
    with database.read() as connection:
        for prompt in prepared.suite.prompts.values():
            old = history(connection, prompt.name)
            if not any(r.revision == prompt.revision for r in old):
                was = f", was {short_id(old[0].revision)}" if old else ""
                errors.out(f"{prompt.name}: new revision {short_id(prompt.revision)}{was}", highlight=False)


def _company(prepared: Prepared, database: Database) -> Iterator[str]:
    """What is to be known of other runs in the store: those at work at the same time, and one from the future."""
    with database.read() as connection:
        newest = stored.list_runs(connection, limit=1)
        others = recording.at_work(connection) if prepared.project_budget else []
    if newest and newest[0].started > recording.now():
        what = f"by its clock run {newest[0].id} began at {newest[0].started}, which is not yet"
        yield f"{what}: 'latest' stays that one; name this run by its id"
    if others:
        what = "both spend from the project's budget, and one may wait for what the other has in flight"
        yield f"in this store run {', '.join(others)} is at work, too: {what}"


def _print_plan(prepared: Prepared, plan: Plan, settings: Settings) -> None:
    suite = prepared.suite
    if settings.as_json:
        row = {name: getattr(plan, name) for name in plan.__slots__}
        emit([{"suite": suite.name, "variants": len(suite.variants), "cases": len(suite.cases), **row}], [], True)
        return
    for variant in suite.variants:
        click.echo(f"  {one_line(variant.label)}")
    answers = "no max_tokens is set" if plan.output_tokens is None else f"at most {plan.output_tokens:,}"
    cost = f"{money(plan.cost_low)} to {money(plan.cost)}" if plan.cost else money(plan.cost)
    embedding = [("texts to embed", f"{plan.retrieving:,}, not in the cost")] if plan.retrieving else []
    more = [("judging requests", f"at most {plan.judging:,}, not in the cost")] if plan.judging else []
    more += [("asked for latency", f"at most {plan.timing:,} again, one at a time")] if plan.timing else []
    if plan.unpriced:
        cost = f"unknown (no price {'of a batch ' if settings.batch else ''}for {', '.join(plan.unpriced)})"
    for what, value in (
        ("variants", len(suite.variants)),
        ("cases", len(suite.cases)),
        ("repeats", suite.repeats),
        ("trials", f"at most {plan.trials}" if suite.until or suite.race else plan.trials),
        ("distinct requests", plan.requests),
        ("already answered", plan.answered),
        *embedding,
        ("prompt tokens to ask", f"about {plan.prompt_tokens:,}"),
        ("output tokens", answers),
        ("cost in batches" if settings.batch else "cost", cost),
        *more,
    ):
        click.echo(f"{what:<22}{value}")


def _print_end(session: Session, database: Database, run_id: str, settings: Settings) -> None:
    with database.read() as connection:
        if not settings.quiet:
            print_view(load_view(connection, run_id), settings.as_json)
            for line in edit_lines(edits(connection, run_id), run_id):
                click.echo(line, err=settings.as_json)
        if settings.grid:
            print_grid(connection, run_id, at_most=MOST_GRID)
        if settings.report:
            write_report_file(connection, run_id, "html", settings.report)
            if not settings.quiet:
                click.echo(f"report: {settings.report}", err=settings.as_json)
        run_id = stored.get_run(connection, run_id).id
    click.echo(json.dumps({"run": run_id}) if settings.as_json else run_id)


def _again_and_again(session: Session, name: str, overrides: Overrides, settings: Settings) -> int:
    """Runs now and at each change of a file of the project, until Ctrl-C."""
    errors = Console(stderr=True)
    while True:
        seen = _stamps(session.project.root)
        try:
            code = _once(session, name, overrides, settings)
            if code == INTERRUPTED:
                return code
        except WorkbenchError as error:
            if not isinstance(error, UseError):
                raise
            errors.out(f"workbench: {error}", highlight=False)
        errors.out("watching prompts/ and evals/; Ctrl-C ends", highlight=False)
        while _stamps(session.project.root) == seen:
            time.sleep(0.3)


def _stamps(root: Path) -> dict[Path, int]:
    folders = [root / name for name in ("prompts", "evals", "data")]
    files = [root / "workbench.yaml", *(f for folder in folders for f in folder.rglob("*"))]
    return {f: f.stat().st_mtime_ns for f in files if f.is_file()}
