"""`workbench gate`, and what `run --gate` and the reports share with it: a run and its gates, judged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from workbench.cli.session import Session
from workbench.define.baseline import Baseline, baseline_for
from workbench.define.gates import Gate
from workbench.define.suite import ENDINGS, load_suite, suite_names
from workbench.errors import SuiteError, UseError
from workbench.records import Run, Suite
from workbench.registry import SCORERS

PASSED, FAILED, COULD_NOT_FINISH, OPEN = 0, 1, 3, 4
ANSWERS = {"pass": PASSED, "unchanged": PASSED, "fail": FAILED, "not enough data": OPEN}
IN_DOUBT = {"pass": PASSED, "fail": FAILED, "4": OPEN}

baseline_option = click.option(
    "--baseline", "baseline_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="In place of evals/baselines/SUITE.json.",
)  # fmt: skip
in_doubt_option = click.option(
    "--not-enough-data", "in_doubt", type=click.Choice(list(IN_DOUBT)), default="4", show_default=True,
    help="The exit code where a gate can't be decided: that of pass, of fail, or 4.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """A run with how its gates stand."""

    run: Run
    report: Any
    """A `stats.gates.GateReport`."""
    baseline: Baseline | None

    def exit_code(self, in_doubt: str) -> int:
        """1 where a gate failed, 3 for a run that is not whole, 4 (or what `in_doubt` says), 0."""
        if self.report.problem:
            return COULD_NOT_FINISH
        code = ANSWERS[self.report.answer]
        return IN_DOUBT[in_doubt] if code == OPEN else code


@click.command()
@click.argument("what", metavar="SUITE|RUN")
@baseline_option
@in_doubt_option
@click.option("--json", "as_json", is_flag=True, help="JSON Lines.")
@click.pass_obj
def gate(session: Session, what: str, baseline_file: Path | None, in_doubt: str, as_json: bool) -> int:
    """Judge a run by gates: those of the suite as its file stands now, or those that RUN had.

    Of a SUITE its newest run is judged that was made of prompts, models, cases and scorers as they are now. No model
    is asked.
    Exit codes: 0 pass, 1 a gate failed, 2 wrong use or a bad file, 3 the run is not whole, 4 not enough data.
    """
    from workbench.store import runs as stored

    with session.database().read() as connection:
        if what.endswith(ENDINGS) or what in suite_names(session.project):
            suite = load_suite(what, session.project, session.library, SCORERS.names())
            run, gates = _newest_run(session, connection, suite), suite.gates
        else:
            run = stored.get_run(connection, what)
            gates = run.header.get("gates", ())
        judged = judge(session, connection, run, gates, baseline_file)
    for line in told(judged, as_json):
        click.echo(line)
    return judged.exit_code(in_doubt)


def judge(
    session: Session, connection: Any, run: Run, gates: Sequence[Mapping[str, Any]], baseline_file: Path | None = None
) -> Judged:
    """Raises UseError for a suite without gates, and what `check_gates` raises."""
    from workbench.gates.check import check_gates

    if not gates:
        raise UseError(f"suite '{run.suite}' has no gates; add some, such as gates: [{{scorer: NAME, at_least: 0.8}}]")
    resolved = [Gate.from_json(gate) for gate in gates]
    baseline = baseline_for(session.project, run.suite, resolved, baseline_file)
    shown = str(run.header.get("path") or "")
    return Judged(run, check_gates(connection, run, resolved, baseline, session.project.root, shown), baseline)


def before_run(session: Session, suite: Suite, gated: bool, baseline_file: Path | None) -> list[str]:
    """What is said of a suite's gates before anything is asked: what they can't show with so many cases.

    Where the run is to be judged (`gated`), raises SuiteError for what would keep it from it: no gates, or no
    baseline where one is needed."""
    from workbench.gates.check import missing_baseline
    from workbench.gates.foresight import notes_before

    gates = [Gate.from_json(gate) for gate in suite.gates]
    if not gates:
        if gated:
            raise SuiteError("has no gates to judge a run by; add some, or leave --gate out", suite.path)
        return []
    baseline = baseline_for(session.project, suite.name, gates, baseline_file)
    needing = [gate for gate in gates if gate.against == "baseline"]
    if gated and needing and baseline is None:
        raise SuiteError(missing_baseline(suite.name), suite.path, needing[0].line)
    counted = sum(not case.quarantined for case in suite.cases)
    notes = notes_before(gates, counted, suite.repeats, baseline)
    return notes if gated else [*notes, "gates are judged with --gate, or later: workbench gate RUN"]


def after_run(session: Session, run_id: str, baseline_file: Path | None) -> Judged:
    """The gates of a run that has just ended."""
    from workbench.store import runs as stored

    with session.database().read() as connection:
        run = stored.get_run(connection, run_id)
        return judge(session, connection, run, run.header["gates"], baseline_file)


def told(judged: Judged, as_json: bool) -> Iterator[str]:
    """The lines to print."""
    from workbench.views.gates import gate_lines
    from workbench.views.plain import json_text, plain

    if as_json:
        for result in judged.report.results:
            yield json_text(plain(result))
        about = {name: getattr(judged.report, name) for name in ("problem", "notes", "quarantined")}
        yield json.dumps({"run": judged.run.id, "answer": judged.report.answer, **about})
        return
    yield from gate_lines(judged.report)


def _newest_run(session: Session, connection: Any, suite: Suite) -> Run:
    """The newest run of the suite as it stands now: all that is asked, and by what it is scored. Raises UseError."""
    from workbench.prepare import prepare_suite
    from workbench.store import runs as stored
    from workbench.store.measures import case_rows

    prepared = prepare_suite(suite, session.project.root)
    suite = prepared.suite
    variants, cases = {v.id for v in suite.variants}, {(c.id, c.key, c.quarantined) for c in suite.cases}
    identities = {alias: prepared.engines[alias].identity for alias in sorted({v.model for v in suite.variants})}
    terms = prepared.terms.items()
    for run in stored.list_runs(connection, suite.name, 20):
        header = run.header
        models = {alias: model["identity"] for alias, model in header.get("models", {}).items()}
        if (
            identities.items() <= models.items()
            and terms <= header.get("terms", {}).items()
            and header.get("repeats") == suite.repeats
            and {v.id for v in stored.run_variants(connection, run.id)} == variants
            and {(c.id, c.key, c.quarantined) for c in case_rows(connection, run.id)} == cases
        ):
            return run
    raise UseError(
        f"there is no run of suite '{suite.name}' as its prompts, models, cases and scorers stand now; run it with: "
        f"workbench run {suite.path or suite.name} --gate"
    )
