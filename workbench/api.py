"""The workbench from Python: a run, a comparison, a verdict, each one call.

A project is given by its folder, or found upwards from the working directory. The calls are those that the command
line makes, with the project's own store: what was answered once is not asked again.

>>> result = run_suite("sentiment")                                    # doctest: +SKIP
>>> result.trials().groupby("variant")["choice"].mean()                # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import evaluate
from workbench.begin import RunOptions
from workbench.define import changed, suite
from workbench.define.baseline import baseline_for
from workbench.define.gates import Gate
from workbench.define.library import Library
from workbench.define.project import Project, find_root, load_project
from workbench.define.suite import Overrides
from workbench.errors import UseError
from workbench.evaluate import Progress
from workbench.gates import check
from workbench.interop.frames import load_runs
from workbench.prepare import prepare_suite
from workbench.records import Suite
from workbench.registry import SCORERS
from workbench.stats.gates import GateReport
from workbench.store import runs as stored
from workbench.store import whole
from workbench.store.database import Database
from workbench.views.format import one_line
from workbench.views.gates import gate_lines
from workbench.views.model import RunView, load_whole

if TYPE_CHECKING:
    import pandas as pd

Where = str | Path | Project | None
"""A project, its folder, or None: the one around the working directory."""


@dataclass(frozen=True)
class Result:
    """A run that has ended, and what the store has of it."""

    run: str
    """Its id."""
    status: str
    """`complete`, `stopped` or `failed`."""
    progress: Progress
    """What was asked, reused, failed and spent."""
    suite: Suite
    project: Project

    @property
    def problem(self) -> str:
        """Why the run's numbers are not whole, in one line; empty where they are."""
        progress = self.progress
        if progress.stopped_by:
            return f"stopped before a limit: {progress.stopped_by}"
        if self.status != "complete":
            return f"run {self.run} is {self.status} after {progress.done} of {progress.planned} trials"
        with _reading(self.project) as connection:
            return one_line(whole.lacking(connection, stored.get_run(connection, self.run)).problem)

    @cached_property
    def view(self) -> RunView:
        """Means, intervals and comparisons with the suite's reference, as `workbench show` has them."""
        return compare_runs([self.run], self.project)

    def trials(self) -> pd.DataFrame:
        """A row a trial, with the columns of `load_runs`."""
        return load_runs(self.project, self.run)

    def summary(self) -> pd.DataFrame:
        """A row a variant and scorer: mean, the bounds of its 95 % interval (`low`, `high`), cases."""
        labels = self.view.labels
        return _frame(
            [
                {
                    "scorer": part.name, "variant": labels[s.variant], "mean": s.mean,
                    "low": s.interval and s.interval[0], "high": s.interval and s.interval[1], "cases": s.cases,
                }
                for part in self.view.scorers
                for s in part.summaries
            ]
        )  # fmt: skip

    def check_gates(self, gates: Sequence[Gate] | None = None) -> GateReport:
        """How the run stands by the suite's gates, or by those given."""
        return check_gates(self.run, self.project, gates)


def load_suite(name: str | Path, project: Where = None, overrides: Overrides | None = None) -> Suite:
    """The suite of a file, or of a name below `evals/`, resolved and checked; nothing is asked.

    Raises SuiteError, DataError, PromptError with file and line, UnknownName, UseError.
    """
    place = open_project(project)
    return suite.load_suite(name, place, Library(place.library_root, place.references), SCORERS.names(), overrides)


def run_suite(
    suite: str | Path | Suite,
    project: Where = None,
    overrides: Overrides | None = None,
    options: RunOptions | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Runs a suite, by name, file, or as `load_suite` gave it; answers that the store has are reused.

    `watch` is called with the counts while it goes. Raises what `load_suite` raises, ModelError, and
    WorkbenchError where going on is impossible; what was answered is kept.
    """
    place = open_project(project)
    chosen = suite if isinstance(suite, Suite) else load_suite(suite, place, overrides)
    prepared = prepare_suite(chosen, place.root, place.budget)
    with closing(Database.open(place.store_url)) as database:
        progress, status = evaluate.run_suite(prepared, database, options, watch)
    return Result(progress.run, status, progress, chosen, place)


def compare_runs(runs: Sequence[str], project: Where = None, reference: str | None = None) -> RunView:
    """The variants of one or several stored runs, compared by case with the reference (a label or an id).

    A run is named by its id, the beginning of it, or `latest`. Raises UnknownName, UseError.
    """
    with _reading(open_project(project)) as connection:
        return load_whole(connection, [stored.get_run(connection, run).id for run in runs], reference)


def check_gates(run: str, project: Where = None, gates: Sequence[Gate] | None = None) -> GateReport:
    """How a stored run stands by the gates it had, or by those given; no model is asked.

    Raises UnknownName, UseError without gates, SuiteError where one can't be judged.
    """
    place = open_project(project)
    with _reading(place) as connection:
        found = stored.get_run(connection, run)
        wanted = list(gates) if gates is not None else [Gate.from_json(g) for g in found.header.get("gates", ())]
        if not wanted:
            raise UseError(f"suite '{found.suite}' has no gates; add some, such as {{scorer: NAME, at_least: 0.8}}")
        shown = str(found.header.get("path") or "")
        baseline = baseline_for(place, found.suite, wanted)
        return check.check_gates(connection, found, wanted, baseline, place.root, shown)


def verdict_lines(report: GateReport) -> list[str]:
    """What gates say, in words: a line a gate and variant, the notes, a line on the whole."""
    return list(gate_lines(report))


def changed_since(ref: str, project: Where = None, names: Sequence[str] | None = None) -> list[str]:
    """The suites, of those named or of all, that ask something else than at a git ref; see `define.changed`."""
    place = open_project(project)
    chosen = suite.suite_names(place) if names is None else names
    return changed.changed_suites(place, chosen, ref, SCORERS.names())


def open_project(project: Where = None) -> Project:
    """The project of a folder, or around the working directory. Raises SuiteError or UseError."""
    if isinstance(project, Project):
        return project
    return load_project(None if project is None else Path(project))


def project_root(start: Path) -> Path:
    """The folder of the project in or above a folder. Raises UseError."""
    return find_root(start)


@contextmanager
def _reading(project: Project) -> Iterator[Any]:
    with closing(Database.open(project.store_url)) as database, database.read() as connection:
        yield connection


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)
