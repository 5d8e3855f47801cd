"""`workbench judge sample | calibrate | list`: outputs to label, agreement with people, licences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import click

from workbench.asking import Judging
from workbench.cli.session import Session, emit
from workbench.define.yamlfile import parse_value
from workbench.judges.calibrate import (
    DAYS,
    Wanted,
    calibrate,
    licence_name,
    licence_state,
    licences,
    state_now,
    write_licence,
)
from workbench.judges.estimates import people_estimates
from workbench.judges.labelling import Sample, draw, write_labels
from workbench.records import Json
from workbench.store import runs as stored
from workbench.store.database import Database
from workbench.views.format import money, one_line, plural


def judging_lines(judging: Judging, what: str = "judging") -> list[str]:
    """What judging (or retrieval) took, in a line, and why it could not be traced; none where nothing was judged."""
    if not judging.planned:
        return []
    traced = [one_line(judging.tracing)] if judging.tracing else []
    cost = money(judging.cost) + (f" and {judging.unpriced} answers of unknown price" if judging.unpriced else "")
    failed = f", {judging.failed} failed" if judging.failed else ""
    asked = f"{plural(judging.requests, 'request')}, {judging.reused} reused{failed}"
    return [f"{what}: {asked}, {judging.tokens:,} tokens, {cost}", *traced]


def judging_of(database: Database, run: str) -> list[str]:
    """The same of a stored run; what it embedded to look passages up counts in."""
    with database.read() as connection:
        judged = stored.run_header(connection, run).get("judges")
        used = stored.judging_usage(connection, run)
    if not used.trials:
        return []
    tokens = used.prompt_tokens + used.output_tokens
    what = "judging" if judged else "retrieval"
    return [f"{what}: {plural(used.trials, 'request')}, {tokens:,} tokens, {money(used.cost)}"]


def unlicensed(session: Session, run: str, database: Database) -> Iterator[str]:
    """A line for each judge of the run that has no licence which holds."""
    with database.read() as connection:
        judges = stored.run_header(connection, run).get("judges") or {}
    for scorer, parts in judges.items():
        for part in parts:
            if "rubric" in part:
                terms = [str(part[name]) for name in ("rubric", "identity", "revision", "form")]
                state = licence_state(session.project.root, *terms)
                if state.state != "licensed":
                    yield one_line(f"{scorer}: judge {state.state} ({part['model']}): {state.reason}")


def people_lines(session: Session, run: str, database: Database) -> Iterator[str]:
    """A line for each judge and variant of which enough outputs are labelled: what people would say on the whole."""
    with database.read() as connection:
        labels = {v.id: v.label for v in stored.run_variants(connection, run)}
    for (scorer, variant), found in people_estimates(session.project.root, database, run).items():
        interval = f"[{found.interval[0]:.3f}, {found.interval[1]:.3f}]" if found.interval else "[?]"
        rests = f"{found.labels} labels and {found.judged:,} judged; the judge alone says {found.judge_alone:.3f}"
        yield one_line(f"{scorer}, {labels[variant]}: people would say {found.value:.3f} {interval} ({rests})")


@click.group()
def judge() -> None:
    """Judges: outputs to label, how a judge agrees with people, and the licence that says so."""


@judge.command()
@click.argument("run")
@click.option("-n", "count", type=click.IntRange(1), default=100, show_default=True, help="How many to draw.")
@click.option("--scorer", help="Only answers that this scorer has scored.")
@click.option("--against", metavar="VARIANT", help="Draw pairs: each answer with this variant's, in random order.")
@click.option("--cases", is_flag=True, help="Draw cases, each with the answers of all variants: for differences.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which ones are drawn.")
@click.option("--out", metavar="FILE", help="In the project; default: evals/labels/RUN.jsonl.")
@click.pass_obj
def sample(session: Session, /, run: str, out: str | None, **asked: Any) -> None:
    """Draw outputs of RUN at random, for people to fill in each row's `label`."""
    rows = draw(session.database(), run, Sample(**asked))
    name = out or f"evals/labels/{rows[0]['run']}.jsonl"
    write_labels(session.project.root, name, rows)
    click.echo(name)
    drawn = f"{len(rows)} of {rows[0]['of']:,} drawn"
    click.echo(f"{drawn}; fill in each row's label, then: workbench judge calibrate", err=True)


@judge.command("calibrate")
@click.argument("rubric")
@click.option("--labels", required=True, metavar="FILE", help="JSON Lines with labels, in the project.")
@click.option("--model", required=True, metavar="ALIAS", help="The judge.")
@click.option("--scale", metavar="LIST", help="In place of the rubric's own, such as '[1, 2, 3]'.")
@click.option("--explain", is_flag=True, help="The judge gives its reason before its verdict.")
@click.option("--days", type=click.IntRange(1), default=DAYS, show_default=True, help="How long the licence holds.")
@click.option("--name", help="The licence's name; default: RUBRIC-ALIAS.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def calibrate_command(session: Session, /, rubric: str, labels: str, model: str, as_json: bool, **options: Any) -> int:
    """Measure how the judge ALIAS agrees by RUBRIC with people's labels; write a licence if it is above the bar."""
    settings: dict[str, Json] = {"explain": True} if options["explain"] else {}
    if options["scale"]:
        settings["scale"] = parse_value(options["scale"], "--scale")
    wanted = Wanted(rubric, model, PurePath(labels).as_posix(), settings, options["days"])
    root = session.project.root
    made = calibrate(root, wanted, session.database(), session.project.budget)
    _print_figures(made.licence, as_json)
    for line in judging_lines(made.judging):
        click.echo(line, err=True)
    if made.judging.stopped_by:
        click.echo(f"stopped before a limit: {made.judging.stopped_by}", err=True)
        return 3
    place = write_licence(root, options["name"] or licence_name(rubric, model), made)
    click.echo(f"licence: {place.relative_to(root)}, until {made.licence['expires']}", err=True)
    return 0


@judge.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def list_command(session: Session, as_json: bool) -> None:
    """List the licences, and whether each holds now."""
    rows = []
    for name, licence in licences(session.project.root).items():
        state, kappa = state_now(session.project.root, licence), licence["figures"]["kappa"]
        rows.append(
            {
                "name": name, "rubric": licence["rubric"], "model": licence["model"], "n": licence["figures"]["n"],
                "kappa": f"{kappa['value']:.2f} [{kappa['low']:.2f}, {kappa['high']:.2f}]" if kappa else None,
                "expires": licence["expires"], "state": state.state, "reason": state.reason,
            }
        )  # fmt: skip
    if not rows and not as_json:
        how = "workbench judge calibrate RUBRIC --labels FILE --model ALIAS"
        click.echo(f"no licence yet; make one with: {how}", err=True)
        return
    emit(rows, ["name", "rubric", "model", "n", "kappa", "expires", "state", "reason"], as_json)


def _print_figures(licence: Mapping[str, Json], as_json: bool) -> None:
    figures = licence["figures"]
    if as_json:
        emit([{**{k: licence[k] for k in ("rubric", "revision", "model", "form")}, **figures}], [], True)
        return
    rows = [
        {"figure": name.replace("_", " "), "value": _shown(value)}
        for name, value in figures.items()
        if value is not None
    ]
    emit(rows, ["figure", "value"], False)


def _shown(value: Json) -> str:
    if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
        return f"{value['value']:.3f}, 95 % interval {value['low']:.3f} to {value['high']:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one:g}" for name, one in value.items())
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
