"""`workbench baseline`: what later runs are held against, as files in git."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from workbench.cli.gate import baseline_option
from workbench.cli.session import Session, emit
from workbench.define.baseline import Baseline, baseline_path, find_baseline, write_baseline
from workbench.define.shards import narrowed
from workbench.define.suite import Overrides, load_suite
from workbench.errors import UseError, WorkbenchError
from workbench.records import Run
from workbench.registry import SCORERS
from workbench.views.format import printable, short_id


@click.group()
def baseline() -> None:
    """Baselines: evals/baselines/SUITE.json, to be committed."""


@baseline.command()
@click.argument("run")
@click.option("--variant", metavar="VARIANT", help="Only this one (label or id); of several, with --again.")
@click.option("--again", is_flag=True, help="Measure the variant again with new seeds, and bless that run.")
@click.option("-m", "--message", default="", help="Why this is the baseline.")
@click.pass_obj
def bless(session: Session, run: str, variant: str | None, again: bool, message: str) -> None:
    """Make RUN the baseline of its suite, all variants or one.

    The best of many looks better than it is. So one of several variants is blessed only with --again.
    """
    from workbench.gates.bless import make_baseline, refuse_picked
    from workbench.store import runs as stored
    from workbench.views.model import find_variant

    database = session.database()
    with database.read() as connection:
        found = stored.get_run(connection, run)
        variants = stored.run_variants(connection, found.id)
        if variant is None and again:
            raise UseError("--again measures one picked variant again; name it with --variant")
        wanted = next(v for v in variants if v.id == find_variant(variants, variant))
        if not again:
            refuse_picked(connection, found, wanted if variant is not None else None)
    measured = _measure_again(session, found, wanted) if again else found.id
    with database.read() as connection:
        blessed = stored.get_run(connection, measured)
        made = make_baseline(connection, blessed, message, len(variants) if again else None)
    path = baseline_path(session.project.evals_root, found.suite)
    write_baseline(made, path, session.project.root)
    told = f"{len(made.variants)} variants" if len(made.variants) > 1 else made.variants[0].label
    click.echo(printable(f"{session.project.shown(path)}: run {measured}, {told}, {len(made.cases):,} cases"))
    for note in narrowed(blessed):
        click.echo(printable(f"note: {note}"), err=True)
    click.echo("commit it: gates hold later runs against it", err=True)


@baseline.command()
@click.argument("suite")
@baseline_option
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def show(session: Session, suite: str, baseline_file: Path | None, as_json: bool) -> None:
    """Show what is blessed for SUITE: its variants and their means."""
    blessed = _blessed(session, suite, baseline_file)
    picked = f", picked of {blessed.picked_of} and measured again" if blessed.picked_of else ""
    if not as_json:
        message = f": {blessed.message}" if blessed.message else ""
        click.echo(printable(f"run {blessed.run}, {len(blessed.cases):,} cases{picked}{message}").replace("\n", " "))
    rows = []
    for i, v in enumerate(blessed.variants):
        means = {name: _mean(blessed, name, i) for name in blessed.scorers}
        shown = {name: "–" if mean is None else f"{mean:.4g}" for name, mean in means.items()}
        row = {"variant": v.label, "prompt": v.prompt, "revision": v.revision, "model": v.model}
        rows.append({**row, "scores": means} if as_json else {**row, "revision": short_id(v.revision), **shown})
    emit(rows, ["variant", "prompt", "revision", "model", *blessed.scorers], as_json)


@baseline.command()
@click.argument("run", default="latest")
@baseline_option
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def diff(session: Session, run: str, baseline_file: Path | None, as_json: bool) -> None:
    """Show what RUN (default: the latest) changes against its suite's baseline: prompts, models, cases, scores."""
    from workbench.define.gates import Gate
    from workbench.gates.check import case_changes, check_gates
    from workbench.store import runs as stored
    from workbench.views.gates import numbers
    from workbench.views.plain import json_text, plain

    with session.database().read() as connection:
        found = stored.get_run(connection, run)
        blessed = _blessed(session, found.suite, baseline_file)
        margin = float(found.header.get("margin", 0.05))
        kinds = dict(stored.run_scorers(connection, found.id))
        names = [name for name, kind in blessed.scorers.items() if kind != "number" and name in kinds]
        gates = [Gate("scorer", "no_worse_than", margin, name, "baseline", unlicensed=True) for name in names]
        report = check_gates(connection, found, gates, blessed, session.project.root)
        changes = case_changes(connection, found, blessed)
        labels = {v.id: v.label for v in stored.run_variants(connection, found.id)}
    if as_json:
        for record in (*report.results, *changes):
            click.echo(json_text(plain(record)))
        return
    for result in report.results:
        click.echo(printable(f"{result.measure} · {result.label}: {numbers(result)}"))
    for note in report.notes:
        click.echo(printable(f"note: {note}"))
    rows = [
        {"case": c.case, "variant": labels[c.variant], "scorer": c.scorer, "was": f"{c.before:g}", "is": f"{c.after:g}"}
        for c in changes
    ]
    if rows:
        emit(rows, ["case", "variant", "scorer", "was", "is"], False)


def _blessed(session: Session, suite: str, given: Path | None) -> Baseline:
    from workbench.gates.check import missing_baseline

    found = find_baseline(session.project, suite, given)
    if found is None:
        raise UseError(missing_baseline(suite))
    return found


def _measure_again(session: Session, run: Run, wanted: Any) -> str:
    """The id of a new run of one variant, with new seeds and no reuse. Raises UseError, WorkbenchError."""
    from workbench.begin import RunOptions
    from workbench.evaluate import run_suite
    from workbench.prepare import prepare_suite

    project = session.project
    only = Overrides(only={"label": wanted.label})
    suite = load_suite(str(run.header["path"]), project, session.library, SCORERS.names(), only)
    if [v.id for v in suite.variants] != [wanted.id]:
        raise UseError(f"'{wanted.label}' has changed since run {run.id}; run the suite again, and bless that run")
    prepared = prepare_suite(suite, project.root, project.budget)
    progress, status = run_suite(prepared, session.database(), RunOptions(fresh=True))
    if status != "complete":
        raise WorkbenchError(f"run {progress.run} is {status}, so nothing is blessed: {progress.stopped_by}")
    return progress.run


def _mean(blessed: Baseline, scorer: str, variant: int) -> float | None:
    """Over cases, each the mean of its repeats."""
    found = [c.scores[scorer].of[variant] for c in blessed.cases.values() if scorer in c.scores]
    means = [of[0] / of[1] for of in found if of is not None]
    return sum(means) / len(means) if means else None
