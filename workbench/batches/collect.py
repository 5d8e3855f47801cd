"""What batches have answered: fetched → kept → scored, judges included; see `batch` for how they were submitted.

Each step is committed before the next and can be done again: an answer that was kept is not kept twice, a judge is
asked only for what the store has no answer to, and nothing is submitted here. Rights and words as in `evaluate`.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from workbench.asking import Desk, Judging, run_budgets
from workbench.batches.submit import FindModel, find_batch, hosted, note, put_down
from workbench.engines.base import BatchHost, BatchState, Engine
from workbench.errors import WorkbenchError
from workbench.judges.judging import judge_stored
from workbench.records import EMPTY, Json, Model, Output
from workbench.scoring import Scorers, score_run
from workbench.store import batches, recording, runs
from workbench.store.batches import BatchRow
from workbench.store.database import CHUNK, Database
from workbench.tracing import Spans, open_spans


@dataclass(frozen=True, slots=True)
class Scoring:
    """By what collected answers are scored."""

    desk: Desk
    alone: Scorers = ()
    asking: Scorers = ()
    """Scorers that ask models: when none of the run's batches is open any more, by calls of their own."""
    budget: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """The project's. The run's own is in its header."""


@dataclass(slots=True)
class Collected:
    """What was fetched of a run."""

    run: str
    answered: int = 0
    failed: int = 0
    open: int = 0
    """Batches that have not ended."""
    lost: Counter[str] = field(default_factory=Counter)
    """How a batch ended → requests that it left unanswered."""
    problems: list[str] = field(default_factory=list)
    """Why batches failed as a whole."""
    unscored: Counter[str] = field(default_factory=Counter)
    """What scorers complained of, counted, and why scorers could not go to work."""
    judging: Judging = field(default_factory=Judging)
    """What scorers that ask models took."""
    unjudged: bool = False
    """Their turn comes when the open batches have ended."""
    tracing: str = ""
    """Why traces that were asked for could not be sent, in words."""
    status: str = ""


def collect_batches(database: Database, run: str, find_model: FindModel, scoring: Scoring) -> Collected:
    """Fetches what the run's batches have answered, keeps and scores it; a batch that has not ended stays.

    The run's suite, prompts and cases need not be as they were, its models must: raises ModelError where an
    alias means another model now. Raises StoreError where another process is at work on the run, EngineError.
    """
    done = Collected(run)
    with database.write() as connection:
        recording.take_up(connection, run)
        header = runs.get_run(connection, run)
    try:
        _fetch(database, find_model, done)
        _attach_known(database, run, header.started)
        done.unscored += score_run(database, run, scoring.alone).unscored if scoring.alone else {}
        with database.read() as connection:
            done.unjudged = bool(scoring.asking) and batches.standing(connection, run) == "waiting"
        if not done.unjudged:
            _judge(database, header.header.get("budget") or EMPTY, scoring, done)
    finally:
        done.status = put_down(database, run)
    return done


def _fetch(database: Database, find_model: FindModel, done: Collected) -> None:
    """What the open batches have, told to the collector of traces where one is asked for."""
    models: dict[str, Model] = {}
    engines: dict[str, Engine] = {}
    spans, done.tracing = open_spans(f"collect {done.run}", {"workbench.run.id": done.run}, models, engines)
    status = "failed"
    try:
        for row, engine, host in hosted(database, done.run, find_model):
            models[row.model], engines[row.model] = find_model(row.model), engine
            _collect(row, host, database, done, spans)
        status = "complete"
    finally:
        if spans is not None:
            done.tracing = spans.close(status)


def _judge(database: Database, own: Mapping[str, Json], scoring: Scoring, done: Collected) -> None:
    """What keeps a judge from its work is said, and keeps nothing else from being done."""
    try:
        budgets = run_budgets(own, scoring.budget, done.run, database, scoring.desk)
        done.judging = judge_stored(database, done.run, scoring.asking, scoring.desk, budgets)
        done.unscored += done.judging.unscored
    except WorkbenchError as error:
        done.unscored[str(error)] += 1


def _collect(row: BatchRow, host: BatchHost, database: Database, done: Collected, spans: Spans | None) -> None:
    state = find_batch(row, host)
    if state is None:  # it was never begun: `run --resume --batch` does
        return
    if state.status == "submitted":
        done.open += 1
        counts = {"answered": state.answered, "failed": state.failed}
        note(database, row, status="submitted", batch=state.id, said=state.said, **counts)
        return
    with database.read() as connection:
        ids = batches.batch_requests(connection, row.id)
    good = bad = 0
    fetched = host.outputs(state, ids)
    while outputs := list(itertools.islice(fetched, CHUNK)):
        new = _keep(database, row, outputs)
        if spans is not None:
            _trace(spans, database, row, state, new)
        done.answered += sum(o.failure is None for o in new)
        done.failed += sum(o.failure is not None for o in new)
        good += sum(o.failure is None for o in outputs)
        bad += sum(o.failure is not None for o in outputs)
    if lost := len(ids) - good - bad:
        done.lost[state.status] += lost
    if state.problem:
        done.problems.append(state.problem)
    said = state.problem or state.said
    note(database, row, status=state.status, batch=state.id, said=said, answered=good, failed=bad)


def _keep(database: Database, row: BatchRow, outputs: Sequence[Output]) -> list[Output]:
    """Commits outputs, but for those that an earlier, killed process has committed."""
    with database.write() as connection:
        there = batches.outputs_since(connection, row.run, [o.request_id for o in outputs], row.time)
        new = [output for output in outputs if output.request_id not in there]
        recording.keep_outputs(connection, row.run, new)
    return new


def _trace(spans: Spans, database: Database, row: BatchRow, state: BatchState, outputs: Sequence[Output]) -> None:
    """A span for each answer. In a batch a call has no times of its own: those of the batch are told."""
    began = datetime.fromisoformat(row.time).timestamp() if state.began is None else state.began
    ended = time.time() if state.ended is None else state.ended
    found = {output.request_id: output for output in outputs}
    with database.read() as connection:
        for request in batches.stored_requests(connection, list(found)):
            about = {"workbench.batch.id": state.id}
            spans.told(request, found[request.id], int(began * 1e9), int(max(began, ended) * 1e9), about)


def _attach_known(database: Database, run: str, since: str) -> None:
    """Gives the trials that still wait the answers that other runs' batches brought since the run began."""
    with database.read() as connection:
        waiting = batches.unanswered(connection, run)
        known = recording.known(connection, waiting, since) if waiting else {}
    with database.write() as connection:
        recording.attach(connection, run, known.values())
