"""Many runs at a glance: what is open, and how far each came, counted in the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from workbench.records import EMPTY, Json
from workbench.store import database as db
from workbench.store.kept import kept_usage
from workbench.store.recording import is_alive


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an open run is."""

    id: str
    suite: str
    status: str
    started: str
    planned: int
    done: int
    """Trials with an output, failed ones among them."""
    failed: int
    stopping: Mapping[str, Json]
    """Where the question of `until` or `race` stood at the last look; empty where there is none."""


def open_runs(connection: sa.Connection, limit: int) -> list[Progress]:
    """Runs that a living process works on or that wait for their batches, newest first."""
    query = sa.select(db.runs).where(db.runs.c.status.in_(("running", "waiting")))
    rows = connection.execute(query.order_by(db.runs.c.started.desc())).mappings()
    live = [row for row in rows if row["status"] == "waiting" or is_alive(row)][:limit]
    return [
        Progress(
            row["id"], row["suite"], row["status"], row["started"], row["planned"], *_done(connection, row["id"]),
            row["header"].get("stopping", EMPTY),
        )
        for row in live
    ]  # fmt: skip


def _done(connection: sa.Connection, run: str) -> tuple[int, int]:
    """Trials with an output, and how many of these failed."""
    failed = sa.func.coalesce(sa.func.sum(sa.case((db.outputs.c.finish_reason == "failed", 1), else_=0)), 0)
    query = sa.select(sa.func.count(), failed).join_from(
        db.trials, db.outputs, db.outputs.c.number == db.trials.c.output
    )
    done, bad = connection.execute(query.where(db.trials.c.run == run)).one()
    return int(done), int(bad)


@dataclass(frozen=True, slots=True)
class RunHead:
    """A run without its trials and its suite's text: what a list of many runs needs."""

    id: str
    suite: str
    stage: str
    status: str
    """As of `records.Run`."""
    started: str
    ended: str | None
    planned: int


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; empty text means all."""

    suite: str = ""
    stage: str = ""
    words: str = ""
    """Part of the id or of the suite's name."""
    offset: int = 0
    limit: int | None = None


def run_heads(connection: sa.Connection, chosen: RunFilter | None = None) -> list[RunHead]:
    """The runs, newest first."""
    chosen, r = chosen or RunFilter(), db.runs.c
    named = [c for c in r if c.name not in ("header", "plan")]
    query = sa.select(*named).order_by(r.started.desc(), r.id).offset(chosen.offset).limit(chosen.limit)
    return [_head(row) for row in connection.execute(query.where(*_conditions(chosen))).mappings()]


def heads_of(connection: sa.Connection, runs: Sequence[str]) -> list[RunHead]:
    """Those of these ids that are there, in their order."""
    named = [c for c in db.runs.c if c.name not in ("header", "plan")]
    rows = connection.execute(sa.select(*named).where(db.runs.c.id.in_(runs))).mappings()
    found = {row["id"]: _head(row) for row in rows}
    return [found[run] for run in runs if run in found]


def count_runs(connection: sa.Connection, chosen: RunFilter) -> int:
    query = sa.select(sa.func.count()).select_from(db.runs).where(*_conditions(chosen))
    count: int = connection.execute(query).scalar_one()
    return count


def done_counts(connection: sa.Connection, runs: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Run → how many of its trials have an output, and how many of these failed."""
    counts: dict[str, tuple[int, int]] = {}
    for run, used in kept_usage(connection, runs).items():
        failed = sum(u["failed"] for u in used.values())
        counts[run] = (failed + sum(u["answered"] for u in used.values()), failed)
    return {run: counts[run] if run in counts else _done(connection, run) for run in runs}


def case_tags(connection: sa.Connection, runs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Case id → its tags, of all cases of the runs that have some."""
    c = db.cases.c
    rows = connection.execute(sa.select(c.id, c.tags).where(c.run.in_(runs)))
    return {case: tuple(tags) for case, tags in rows if tags}


def suite_names(connection: sa.Connection) -> list[str]:
    """The suites that have runs, by name."""
    return list(connection.execute(sa.select(db.runs.c.suite).distinct().order_by(db.runs.c.suite)).scalars())


def scorers_named(connection: sa.Connection) -> dict[str, int]:
    """Scorer → how many runs name it in their header, the most frequent first; no score is read."""
    counts: Counter[str] = Counter()
    for names in connection.execute(sa.select(db.runs.c.header["scorers"])).scalars():
        counts.update(names or ())
    return dict(counts.most_common())


def _conditions(chosen: RunFilter) -> list[sa.ColumnElement[bool]]:
    r = db.runs.c
    found: list[sa.ColumnElement[bool]] = []
    if chosen.suite:
        found.append(r.suite == chosen.suite)
    if chosen.stage:
        found.append(r.stage == chosen.stage)
    if chosen.words:
        found.append(sa.or_(*(c.icontains(chosen.words, autoescape=True) for c in (r.id, r.suite))))
    return found


def _head(row: sa.RowMapping) -> RunHead:
    status = row["status"]
    if status == "running" and not is_alive(row):
        status = "interrupted"
    return RunHead(row["id"], row["suite"], row["stage"], status, row["started"], row["ended"], row["planned"])


def references(connection: sa.Connection, runs: Sequence[str]) -> dict[str, str]:
    """Run → the id of its reference variant, where its header names one."""
    query = sa.select(db.runs.c.id, db.runs.c.header["reference"]).where(db.runs.c.id.in_(runs))
    return {run: reference for run, reference in connection.execute(query) if reference}
