"""A store made smaller: old runs and the answers that only they refer to go, and the file shrinks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import sqlalchemy as sa

from workbench.store import database as db
from workbench.store.recording import is_alive
from workbench.store.tries import RUN as PLAYGROUND


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would go."""

    runs: tuple[str, ...]
    outputs: int
    requests: int
    spared: tuple[str, ...]
    """Runs that the rule would take, but that are at work, wait for batches, or were written on by people."""


def prune(
    connection: sa.Connection, keep: int | None = None, before: str | None = None, begins: bool = False
) -> Pruned:
    """Removes the runs beyond the newest `keep` of each suite, or those started before a time (ISO 8601, UTC), then
    every output that no run or try left refers to or could be about to take, and every request without a trial or an
    output.

    An answer that a run got from an older one is referred to, and stays. With `begins`, so do those that no run here
    asked for: a run that is not written down yet did. Roll the transaction back for a look ahead.
    """
    chosen, spared, busy = _chosen(connection, keep, before)
    o, t = db.outputs.c, db.trials.c
    unwritten = sa.select(o.run).where(o.run.not_in(sa.select(db.runs.c.id))).distinct()
    beginning = connection.execute(unwritten).scalars().all() if begins else []
    for start in range(0, len(chosen), db.CHUNK):
        connection.execute(db.runs.delete().where(db.runs.c.id.in_(chosen[start : start + db.CHUNK])))
    outputs = connection.execute(
        db.outputs.delete().where(
            o.run.not_in(sa.select(db.runs.c.id)),
            o.run.not_in([PLAYGROUND, *beginning]),
            o.number.not_in(sa.select(t.output).where(t.output.is_not(None))),
            o.number.not_in(sa.select(db.tries.c.output)),
            o.request.not_in(sa.select(t.request).where(sa.or_(t.output.is_(None), t.run.in_(busy)))),
        )
    )
    requests = connection.execute(
        db.requests.delete().where(
            db.requests.c.id.not_in(sa.select(o.request)), db.requests.c.id.not_in(sa.select(t.request))
        )
    )
    return Pruned(tuple(chosen), outputs.rowcount, requests.rowcount, tuple(spared))


def _chosen(connection: sa.Connection, keep: int | None, before: str | None) -> tuple[list[str], list[str], list[str]]:
    """The runs that go, those that are spared, and all that are at work."""
    r = db.runs.c
    written = set(connection.execute(sa.select(db.notes.c.run).union(sa.select(db.votes.c.run))).scalars())
    seen: Counter[str] = Counter()
    chosen: list[str] = []
    spared: list[str] = []
    at_work: list[str] = []
    query = sa.select(r.id, r.suite, r.started, r.status, r.pid, r.host, r.heartbeat).order_by(r.started.desc(), r.id)
    for row in connection.execute(query).mappings():
        seen[row["suite"]] += 1
        busy = row["status"] == "waiting" or (row["status"] == "running" and is_alive(row))
        at_work += [row["id"]] if busy else []
        if not (keep is not None and seen[row["suite"]] > keep) and not (before and row["started"] < before):
            continue
        (spared if busy or row["id"] in written else chosen).append(row["id"])
    return chosen, spared, at_work
