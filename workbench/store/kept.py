"""What an ended run adds up to, kept beside its trials: usage by variant, scores by variant and case.

Derived, and never the only copy: `summaries.keep_summary` writes it in the transaction that ends a run, whatever
changes a trial's answer or a score removes it in the same transaction (`forget`), and who finds none adds up the
trials anew. It is not exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from workbench.records import Json
from workbench.store import database as db


def forget(connection: sa.Connection, run: str) -> None:
    """Removes what is kept of a run, before one of its trials or scores changes."""
    connection.execute(db.summaries.delete().where(db.summaries.c.run == run))


def forget_users(connection: sa.Connection, output: int) -> None:
    """Removes what is kept of the runs that have this output."""
    t, o, kept = db.trials.c, db.outputs.c, db.summaries.c.run
    request = sa.select(o.request).where(o.number == output).scalar_subquery()
    has_it = sa.exists().where(t.run == kept, t.request == request, t.output == output)
    connection.execute(db.summaries.delete().where(has_it))


@contextmanager
def unseen(connection: sa.Connection) -> Iterator[None]:
    """Within it nothing kept is found, so that all is added up anew."""
    connection.execution_options(workbench_unseen=True)
    try:
        yield
    finally:
        connection.execution_options(workbench_unseen=False)


def _seen(connection: sa.Connection) -> bool:
    return not connection.get_execution_options().get("workbench_unseen", False)


def keep(connection: sa.Connection, run: str, usage: Json, scorers: Json, sums: Mapping[str, Json]) -> None:
    """Keeps a run's usage, its scorers as [name, kind], and scorer → its sums, in place of what was kept."""
    forget(connection, run)
    connection.execute(db.summaries.insert(), {"run": run, "usage": usage, "scorers": scorers})
    if sums:
        connection.execute(
            db.score_sums.insert(), [{"run": run, "scorer": name, "sums": value} for name, value in sums.items()]
        )


def kept_usage(connection: sa.Connection, runs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Run → variant → its usage, of those runs that are kept."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(runs) if _seen(connection) else 0, db.CHUNK):
        query = sa.select(db.summaries.c.run, db.summaries.c.usage)
        rows = connection.execute(query.where(db.summaries.c.run.in_(runs[start : start + db.CHUNK])))
        found.update(map(tuple, rows))
    return found


def kept_scorers(connection: sa.Connection, run: str) -> list[tuple[str, str]] | None:
    """(name, kind) of each scorer that has a score; None where the run is not kept."""
    query = sa.select(db.summaries.c.scorers).where(db.summaries.c.run == run)
    found = connection.execute(query).scalar() if _seen(connection) else None
    return None if found is None else [(name, kind) for name, kind in found]


def kept_sums(connection: sa.Connection, runs: Sequence[str], scorer: str | None) -> dict[str, dict[str, Any]]:
    """Run → scorer → its sums, of one scorer or of all; of those runs that are kept."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(runs) if _seen(connection) else 0, db.CHUNK):
        some = runs[start : start + db.CHUNK]
        there = connection.execute(sa.select(db.summaries.c.run).where(db.summaries.c.run.in_(some))).scalars()
        found.update({run: {} for run in there})
        query = sa.select(db.score_sums.c.run, db.score_sums.c.scorer, db.score_sums.c.sums)
        query = query.where(db.score_sums.c.run.in_(some))
        for run, name, sums in connection.execute(query if scorer is None else query.where(_is(scorer))):
            found[run][name] = sums
    return found


def _is(scorer: str) -> sa.ColumnElement[bool]:
    return db.score_sums.c.scorer == scorer
