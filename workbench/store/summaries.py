"""When a run's sums are made and kept: at its end, after it was scored again, and where the app finds none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from workbench.records import Json
from workbench.store import database as db
from workbench.store import kept
from workbench.store.grouped import case_scores, sums_of
from workbench.store.recording import is_alive
from workbench.store.runs import run_scorers, usage


def keep_summary(connection: sa.Connection, run: str) -> None:
    """Adds up a run's trials and scores and keeps the sums. Of a run whose scores can't be added up nothing is kept."""
    kept.forget(connection, run)
    found = _made_anew(connection, run)
    if found is not None:
        kept.keep(connection, run, *found)


def wrong_summaries(connection: sa.Connection) -> Iterator[str]:
    """The runs whose kept sums are not those of their trials and scores."""
    for run in connection.execute(sa.select(db.summaries.c.run)).scalars().all():
        if not _alike(_summary(connection, run), _made_anew(connection, run)):
            yield run


def _made_anew(connection: sa.Connection, run: str) -> tuple[Json, Json, dict[str, Json]] | None:
    """None where a sum is one of infinities, or a trial points to nothing."""
    try:
        with kept.unseen(connection):
            found = _summary(connection, run)
    except KeyError:
        return None
    return None if None in found[2].values() else found


def _summary(connection: sa.Connection, run: str) -> tuple[Json, Json, dict[str, Json]]:
    used = {variant: asdict(u) for variant, u in usage(connection, run).items()}
    sums = {name: sums_of(scores) for name, scores in case_scores(connection, run).items()}
    return used, [list(pair) for pair in run_scorers(connection, run)], sums


def _alike(one: Any, other: Any) -> bool:
    """The same but for the last digits of sums, which depend on the order of adding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def keep_ended(connection: sa.Connection, runs: Iterable[str]) -> None:
    """The same for those of the runs that nobody works on; of the others nothing stays kept."""
    for run in runs:
        row = connection.execute(sa.select(db.runs).where(db.runs.c.id == run)).mappings().one()
        kept.forget(connection, run)
        if row["status"] != "running" or not is_alive(row):
            keep_summary(connection, run)


def keep_missing(database: db.Database) -> None:
    """Keeps the sums of all ended runs that have none, the newest first, a short transaction each. Raises StoreError
    where the store can't be written."""
    with database.read() as connection:
        lacking = sa.select(db.runs.c.id).where(db.runs.c.id.not_in(sa.select(db.summaries.c.run)))
        runs = list(connection.execute(lacking.order_by(db.runs.c.started.desc())).scalars())
    for run in runs:
        with database.write() as connection:
            if connection.execute(sa.select(db.runs.c.id).where(db.runs.c.id == run)).first():
                keep_ended(connection, [run])
