"""`workbench export`: prompts for other tools, runs for data tools."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from workbench.cli.session import Session
from workbench.cli.training import training
from workbench.define.prompt import render_prompt
from workbench.define.suite import load_suite
from workbench.errors import UnknownName, UseError
from workbench.interop.frames import load_runs, write_parquet
from workbench.interop.inspect_write import inspect_log
from workbench.interop.langchain import to_langchain
from workbench.interop.openai_evals_write import evals_registry
from workbench.interop.report import Left, write_files
from workbench.records import Json
from workbench.store import runs as stored
from workbench.views.format import one_line
from workbench.views.write import write_chunks


@click.group("export")
def export() -> None:
    """Export a prompt, a suite, the trials of a run, or examples to fine-tune a model on."""


export.add_command(training)


@export.command()
@click.argument("name")
@click.option("--to", "form", type=click.Choice(["langchain", "messages"]), required=True)
@click.option("--var", "given", multiple=True, metavar="NAME=VALUE", help="An input, for --to messages.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file; default: standard output.")
@click.pass_obj
def prompt(session: Session, name: str, form: str, given: tuple[str, ...], out: Path | None) -> None:
    """Print the prompt NAME: as LangChain's JSON, or rendered as a list of messages."""
    found = session.library.find(name)
    if form == "langchain":
        try:
            text = to_langchain(found)
        except Left as why:
            raise UseError(f"prompt '{name}' can't be LangChain's: {why}") from why
    else:
        if bad := [pair for pair in given if "=" not in pair]:
            raise UseError(f"--var {bad[0]} is no NAME=VALUE")
        inputs: dict[str, Json] = {}
        for declared in found.inputs:
            if declared.default is None and declared.example is not None:
                inputs[declared.name] = declared.example
        inputs |= dict(pair.split("=", 1) for pair in given)
        messages = [m.to_json() for m in render_prompt(found, inputs)]
        text = json.dumps(messages, indent=2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        write_chunks(iter([text]), out)
        click.echo(out)


@export.command()
@click.argument("name")
@click.option("--to", "form", type=click.Choice(["openai-evals"]), required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="The folder; default: reports/NAME-evals."
)
@click.pass_obj
def suite(session: Session, name: str, form: str, out: Path | None) -> None:
    """Write the suite NAME as a registry of OpenAI's evals: an eval for each prompt and scorer, and its samples."""
    found = load_suite(name, session.project, session.library)
    try:
        registry = evals_registry(found)
    except Left as why:
        raise UseError(f"suite '{found.name}' can't be evals of OpenAI: {why}") from why
    root = out or session.project.root / "reports" / f"{Path(name).stem}-evals"
    for path in write_files(registry.files, root):
        click.echo(path)
    click.echo(f"not part of it: {one_line('; '.join(registry.apart))}", err=True)
    click.echo(f"run it with: oaieval MODEL {one_line(registry.names[0])} --registry_path {root}", err=True)


@export.command()
@click.argument("run")
@click.option("--to", "form", type=click.Choice(["parquet", "jsonl", "inspect"]), default="parquet", show_default=True)
@click.option("--variant", metavar="LABEL", help="Which one, for --to inspect, where RUN has several.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file; default: reports/RUN.FORMAT.")
@click.pass_obj
def run(session: Session, run: str, form: str, variant: str | None, out: Path | None) -> None:
    """Write the trials of RUN, one a row, with the columns of workbench.load_runs; or those of one variant as a log
    of Inspect, in JSON. '--out -' prints what is text."""
    printed = out is not None and str(out) == "-"
    if form == "inspect":
        path = _inspect(session, run, variant, out, printed)
        if not printed:
            click.echo(path)
        return
    if variant is not None:
        raise UseError("--variant goes with --to inspect; the other forms have all variants")
    if form == "parquet" and printed:
        raise UseError("Parquet is no text to print; give --out a file, or use --to jsonl")
    database = session.database()
    frame = load_runs(database, run)
    path = out or session.project.root / "reports" / f"{frame['run'].iloc[0]}.{form}"
    if form == "parquet":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(frame, path)
    else:
        lines = frame.to_json(orient="records", lines=True, force_ascii=False, date_format="iso")
        write_chunks(iter([lines]), sys.stdout if printed else path)
    if not printed:
        click.echo(path)


def _inspect(session: Session, run: str, label: str | None, out: Path | None, printed: bool) -> Path:
    """Writes the log of one variant, or prints it; returns its path."""
    with session.database().read() as connection:
        found = stored.get_run(connection, run)
        variants = {v.label: v for v in stored.run_variants(connection, found.id)}
        if label is None and len(variants) > 1:
            raise UseError(f"a log of Inspect has one model; say which with --variant: {one_line(', '.join(variants))}")
        if label is not None and label not in variants:
            raise UnknownName("variant", label, list(variants))
        variant = next(iter(variants.values())) if label is None else variants[label]
        path = out or session.project.root / "reports" / f"{found.id}.{variant.id[4:12]}.inspect.json"
        rows = stored.trial_rows(connection, found.id, stored.TrialFilter((variant.id,)))
        write_chunks(inspect_log(found, variant, rows), sys.stdout if printed else path)
    return path
