"""`workbench import`: what other tools have becomes a project's prompts and suites, or a run to compare with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from workbench.cli.session import Session, emit
from workbench.errors import UseError
from workbench.interop.dotprompt import import_dotprompt
from workbench.interop.github_models import import_github_models
from workbench.interop.langchain import import_langchain
from workbench.interop.lm_eval_task import Options as TaskOptions
from workbench.interop.lm_eval_task import import_lm_eval_task
from workbench.interop.openai_evals import MATCHES, Options, import_openai_evals
from workbench.interop.promptfoo import find_configs, import_promptfoo, name_of
from workbench.interop.report import Report, write_files
from workbench.views.format import one_line, plural

REFUSED = 2
COLUMNS = ("config", "result", "carried", "approximated", "reason")
file_argument = click.argument("file", type=click.Path(path_type=Path, exists=True))
out_option = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="The folder to write into; default: the project's."
)
dry_option = click.option("--dry-run", is_flag=True, help="Only report; write nothing.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON Lines.")


@click.group("import")
def import_() -> None:
    """Import prompts and suites of other tools, or their results as runs. Each says what became of what."""


@import_.command()
@file_argument
@out_option
@dry_option
@json_option
@click.option("--run-python", is_flag=True, help="Run Python functions that make tests, once, in the sandbox.")
@click.pass_obj
def promptfoo(session: Session, file: Path, out: Path | None, dry_run: bool, as_json: bool, run_python: bool) -> int:
    """Import a promptfoo config, or all below a folder, each into a folder of its own. A config of which anything
    would be left out is refused, with the reason."""
    configs = find_configs(file)
    if not configs:
        raise UseError(f"there is no promptfooconfig.yaml in {file}")
    reports = [import_promptfoo(config, run_python) for config in configs]
    return _finish(session, reports, out, dry_run, as_json)


@import_.command("github-models")
@file_argument
@out_option
@dry_option
@json_option
@click.pass_obj
def github_models(session: Session, file: Path, out: Path | None, dry_run: bool, as_json: bool) -> int:
    """Import a .prompt.yml of GitHub Models: its prompt, and its test data and evaluators as a suite."""
    return _finish(session, [import_github_models(file)], out, dry_run, as_json)


@import_.command()
@file_argument
@out_option
@dry_option
@json_option
@click.pass_obj
def langchain(session: Session, file: Path, out: Path | None, dry_run: bool, as_json: bool) -> int:
    """Import a prompt that LangChain saved as JSON."""
    return _finish(session, [import_langchain(file)], out, dry_run, as_json)


@import_.command()
@file_argument
@out_option
@dry_option
@json_option
@click.pass_obj
def dotprompt(session: Session, file: Path, out: Path | None, dry_run: bool, as_json: bool) -> int:
    """Import a .prompt file of dotprompt (Genkit): its template, inputs, options and model."""
    return _finish(session, [import_dotprompt(file)], out, dry_run, as_json)


@import_.command("openai-evals")
@file_argument
@click.option("--eval", "name", metavar="NAME", help="The only eval of the file that is wanted.")
@click.option("--match", type=click.Choice(list(MATCHES)), help="How samples alone are compared; default: match.")
@click.option("--model", default="echo", show_default=True, metavar="ALIAS", help="The model that is asked.")
@click.option("--judge", metavar="ALIAS", help="The model that grades; default: the one that is asked.")
@out_option
@dry_option
@json_option
@click.pass_obj
def openai_evals(session: Session, /, file: Path, out: Path | None, dry_run: bool, as_json: bool, **given: Any) -> int:
    """Import evals of OpenAI's evals: a registry's evals/NAME.yaml with its samples, or a samples.jsonl alone."""
    options = Options(given["name"], given["match"], given["model"], given["judge"])
    return _finish(session, [import_openai_evals(file, options)], out, dry_run, as_json)


@import_.command("lm-eval-task")
@file_argument
@click.option("--data", "files", multiple=True, metavar="[SPLIT=]FILE", help="Documents; without SPLIT those asked.")
@click.option("--num-fewshot", type=click.IntRange(min=0), metavar="N", help="How many few shots; default: the task's.")
@click.option("--chat", is_flag=True, help="Ask in messages, few shots as turns; default: in raw text.")
@click.option("--model", default="echo", show_default=True, metavar="ALIAS", help="The model that is asked.")
@out_option
@dry_option
@json_option
@click.pass_obj
def lm_eval_task(session: Session, /, file: Path, out: Path | None, dry_run: bool, as_json: bool, **given: Any) -> int:
    """Import a task of lm-evaluation-harness from its YAML: multiple choice or free text, without Python."""
    data = dict(map(_split_file, given["files"]))
    options = TaskOptions(data, given["num_fewshot"], given["model"], given["chat"])
    return _finish(session, [import_lm_eval_task(file, options)], out, dry_run, as_json)


def _split_file(given: str) -> tuple[str, Path]:
    """`SPLIT=FILE`, or a file by itself; raises UseError."""
    split, named, file = given.partition("=") if not Path(given).is_file() else ("", "", given)
    path = Path(file if named or not split else given)
    if not path.is_file():
        raise UseError(f"--data {given}: there is no file '{path}'; give [SPLIT=]FILE")
    return split, path


@import_.command("inspect")
@file_argument
@json_option
@click.pass_obj
def inspect_(session: Session, file: Path, as_json: bool) -> None:
    """Take in a log of Inspect (.eval or JSON) as a run, to show and to compare."""
    from workbench.interop.inspect_log import read_inspect

    _keep(session, read_inspect, file, as_json)


@import_.command("lm-eval")
@file_argument
@json_option
@click.pass_obj
def lm_eval(session: Session, file: Path, as_json: bool) -> None:
    """Take in a samples_*.jsonl of lm-evaluation-harness (--log_samples) as a run, to show and to compare."""
    from workbench.interop.lm_eval import read_lm_eval

    _keep(session, read_lm_eval, file, as_json)


@import_.command("openai-evals-log")
@file_argument
@json_option
@click.pass_obj
def openai_evals_log(session: Session, file: Path, as_json: bool) -> None:
    """Take in a record of OpenAI's evals (the .jsonl of oaieval) as a run, to show and to compare."""
    from workbench.interop.openai_evals_log import read_openai_log

    _keep(session, read_openai_log, file, as_json)


def _keep(session: Session, read: Callable, file: Path, as_json: bool) -> None:  # type: ignore[type-arg]
    from workbench.interop.foreign import keep_foreign

    foreign = read(file)
    run, new = keep_foreign(session.database(), foreign)
    for note in foreign.notes:
        click.echo(one_line(note), err=True)
    said = "taken in" if new else "was here already"
    click.echo(f"{plural(len(foreign.trials), 'trial')} {said}; see them with: workbench show {run}", err=True)
    emit([{"run": run, "new": new}], [], True) if as_json else click.echo(run)


def _finish(session: Session, reports: list[Report], out: Path | None, dry_run: bool, as_json: bool) -> int:
    """Writes what stands, and tells what became of each; exit code 2 where one is refused."""
    for report in reports if not dry_run else ():
        if not report.refused:
            root = out or session.project.root
            write_files(report.files, root / name_of(Path(report.source)) if len(reports) > 1 else root)
    if as_json:
        emit([_json(report) for report in reports], [], True)
    elif len(reports) > 1:
        emit([_row(report) for report in reports], COLUMNS, False)
    else:
        rows = [{"what": x.what, "fate": x.fate, "note": one_line(x.note)} for x in reports[0].lines]
        emit(rows, ("what", "fate", "note"), False)
    for report in reports if len(reports) == 1 and not as_json else ():
        made = "would be written" if dry_run else "written"
        names = ", ".join(report.files)
        click.echo(f"refused: {one_line(report.refused)}" if report.refused else f"{made}: {names}", err=True)
    return REFUSED if any(report.refused for report in reports) else 0


def _row(report: Report) -> dict[str, object]:
    fates = {"carried": report.count("carried"), "approximated": report.count("approximated")}
    result = "refused" if report.refused else "imported"
    return {"config": report.source, "result": result, **fates, "reason": one_line(report.refused)}


def _json(report: Report) -> dict[str, object]:
    lines = [{"what": x.what, "fate": x.fate, "note": x.note} for x in report.lines]
    return {"source": report.source, "refused": report.refused, "lines": lines, "files": list(report.files)}
