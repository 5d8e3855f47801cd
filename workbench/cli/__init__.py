"""The command line: a command parses, calls one function, prints.

Each noun or verb is a module of this folder, loaded when it is asked for, so that `--help` is instant.
Exit codes: 0 done, 1 a gate failed, 2 wrong use or a bad file, 3 could not finish (what is left can be
resumed), 4 not enough data, 130 interrupted. `main` is the one place that prints an error.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from workbench import __version__
from workbench.cli.examples import with_examples
from workbench.cli.session import Session
from workbench.errors import WorkbenchError
from workbench.views.format import one_line, printable

COMMANDS = {
    "init": ("workbench.cli.project:init", "Write a small working project."),
    "run": ("workbench.cli.run:run", "Run a suite, or plan it with --dry-run."),
    "runs": ("workbench.cli.runs:runs", "List the runs in the store; join those of shards."),
    "show": ("workbench.cli.show:show", "Show one run: scores, intervals, a grid of answers, failures, one trial."),
    "batches": ("workbench.cli.batches:batches", "Batches that a provider answers later: list, collect, cancel."),
    "jobs": ("workbench.cli.jobs:jobs", "Runs that the app started: waiting, running, ended."),
    "score": ("workbench.cli.runs:score", "Score stored outputs by further scorers; only judges ask models."),
    "judge": ("workbench.cli.judge:judge", "Judges: outputs to label, agreement with people, licences."),
    "cases": ("workbench.cli.cases:cases", "Cases worth a look: hardest, flaky, disputed, suspicious, duplicates."),
    "compare": ("workbench.cli.runs:compare", "Compare variants, paired by case, within or between runs."),
    "report": ("workbench.cli.reports:report", "Write a run as a page, for data tools, or for CI."),
    "gate": ("workbench.cli.gate:gate", "Judge a run by its suite's gates: pass, fail or not enough data."),
    "baseline": ("workbench.cli.baseline:baseline", "Baselines in git: bless a run, show and diff what was blessed."),
    "prompts": ("workbench.cli.prompts:prompts", "The prompt library: list, show, render, diff, lint, label, log."),
    "models": ("workbench.cli.models:models", "What is known of each model, and whether it answers."),
    "scorers": ("workbench.cli.scorers:scorers", "The scorers that a suite can name."),
    "schema": ("workbench.cli.project:schema", "Print the JSON Schema of a suite, of workbench.yaml or of a report."),
    "import": ("workbench.cli.importing:import_", "Prompts, suites and results of other tools: promptfoo, Inspect, …"),
    "export": ("workbench.cli.exporting:export", "Prompts and suites for other tools; a run's trials; training data."),
    "store": ("workbench.cli.store:store", "The store: export, import, merge, prune, verify."),
    "ui": ("workbench.cli.ui:ui", "Open the app in the browser."),
    "serve-fake": ("workbench.cli.serve:serve_fake", "Serve OpenAI's API on this machine, from a script, for tests."),
}
"""Name: where the command is, and its line in `--help`."""


class Lazy(click.Group):
    """Knows its commands' names and help lines; imports one when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return with_examples(command, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="workbench")
@click.option("--project", type=click.Path(path_type=Path), help="Project folder; default: found upwards from here.")
@click.option("--store", help="Store URL, in place of the project's.")
@click.pass_context
def workbench(ctx: click.Context, project: Path | None, store: str | None) -> None:
    """Prompts and models: swept, scored with their uncertainty, compared in pairs, kept."""
    ctx.obj = Session(project, store)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; prints an error as one line on stderr; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no terminal's encoding is a reason to stop
    stdout = sys.stdout
    try:
        result = workbench.main(arguments, prog_name="workbench", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        return _complain("interrupted", 130)
    except click.ClickException as error:
        return _complain(_with_usage(error), 2)
    except WorkbenchError as error:
        return _complain(one_line(str(error)), error.exit_code, error.hint)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except (BrokenPipeError, SystemExit) as error:
        # The reader of a pipe has seen enough; so says click by a SystemExit, with a code that here would mean a
        # failed gate, once it has put another stream in place of stdout. Any other SystemExit comes of code that was
        # called, and is no end that a gate may pass by.
        if isinstance(error, SystemExit) and sys.stdout is stdout:
            return _complain("code of a plug-in or of the project ended the program (SystemExit)", 3)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return 0
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _complain(f"the name of a file is too long: '{Path(str(error.filename)).name[:60]}…'", 2)
        return _complain(f"can't write what was asked for: {error.strerror or error}", 3)


def _with_usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context else ""
    return error.format_message() + hint


def _complain(message: str, code: int, hint: str = "") -> int:
    for line in filter(None, (f"workbench: {message}", hint)):
        click.echo(printable(line), err=True)
    return code
