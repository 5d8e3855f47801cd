"""A store made smaller: old runs and the answers that only they refer to go, and the file shrinks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from workbench.records import Json
from workbench.store import database as db
from workbench.store.recording import is_alive
from workbench.store.retrieved import index_names
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

    An answer that a run got from an older one, for a trial, a scorer or the looking up of passages, is referred to, and
    stays. With `begins`, so do those that no run here asked for: a run that is not written down yet did. Roll the
    transaction back for a look ahead.
    """
    chosen, spared, busy = _chosen(connection, keep, before)
    o, t, r = db.outputs.c, db.trials.c, db.reused.c
    written = sa.select(db.runs.c.id)
    names = sa.union(*(sa.select(c).where(c.not_in(written), c != PLAYGROUND) for c in (o.run, r.run)))
    unwritten = connection.execute(names).scalars().all()
    beginning = unwritten if begins else []
    _hand_on(connection, chosen, unwritten)
    for start in range(0, len(chosen), db.CHUNK):
        connection.execute(db.runs.delete().where(db.runs.c.id.in_(chosen[start : start + db.CHUNK])))
    connection.execute(db.reused.delete().where(r.run.not_in(written), r.run.not_in(beginning)))
    outputs = connection.execute(
        db.outputs.delete().where(
            o.run.not_in(written),
            o.run.not_in([PLAYGROUND, *beginning]),
            o.number.not_in(sa.select(t.output).where(t.output.is_not(None))),
            o.number.not_in(sa.select(db.tries.c.output)),
            o.number.not_in(sa.select(r.output)),
            o.request.not_in(sa.select(t.request).where(sa.or_(t.output.is_(None), t.run.in_(busy)))),
        )
    )
    requests = connection.execute(
        db.requests.delete().where(
            db.requests.c.id.not_in(sa.select(o.request)), db.requests.c.id.not_in(sa.select(t.request))
        )
    )
    return Pruned(tuple(chosen), outputs.rowcount, requests.rowcount, tuple(spared))


def _hand_on(connection: sa.Connection, going: Sequence[str], unwritten: Sequence[str]) -> None:
    """Gives what these runs asked or took beside their trials to runs that stay and may need it; one of them is enough,
    since it is handed on again when that one goes.

    The embeddings of an index go to a run that names it: one that found the index made took none. What a model said
    goes to a run that asks this model and is not complete, or is older than the table `reused`.
    """
    owners, named = set(going), dict[str, list[str]]()
    of_index, of_model = dict[str, str](), dict[str, str]()
    query = sa.select(db.runs.c.id, db.runs.c.status, db.runs.c.header).order_by(db.runs.c.started.desc())
    for run, status, header in connection.execute(query):
        if run in owners:
            named[run] = index_names(header)
            continue
        for index in index_names(header):
            of_index.setdefault(index, run)
        if status != "complete" or not header.get("reuse_noted"):
            for identity in _identities([header.get("models"), header.get("judges")]):
                of_model.setdefault(identity, run)
    r = db.requests.c
    for index, heir in of_index.items():
        _give(
            connection,
            [run for run in going if index in named[run]],
            heir,
            r.settings["answer"]["embedding"].as_boolean(),
        )
    for identity, heir in of_model.items():
        _give(connection, [*going, *unwritten], heir, r.identity == identity)


def _give(connection: sa.Connection, owners: Sequence[str], heir: str, which: sa.ColumnElement[bool]) -> None:
    """The run `heir` takes what these asked or took beside trials, as far as the request is such."""
    o = db.outputs.c
    for start in range(0, len(owners), db.CHUNK):
        some = owners[start : start + db.CHUNK]
        theirs = sa.or_(o.run.in_(some), o.number.in_(sa.select(db.reused.c.output).where(db.reused.c.run.in_(some))))
        rows = sa.select(sa.literal(heir), o.number).join(db.requests, db.requests.c.id == o.request)
        rows = rows.where(theirs, which, o.request.not_in(sa.select(db.trials.c.request)))
        connection.execute(db.insert_new(connection, db.reused).from_select(["run", "output"], rows))


def _identities(value: Json) -> Iterator[str]:
    """Of the models that parts of a header name, wherever."""
    if isinstance(value, dict):
        if isinstance(value.get("identity"), str):
            yield value["identity"]
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _identities(item)


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
