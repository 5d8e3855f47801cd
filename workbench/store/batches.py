"""The batches of a run: planned first, then each step noted before the next, so that a kill leaves none unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from workbench.records import Message, Request
from workbench.store import database as db

OPEN = ("planned", "uploaded", "submitted")
"""Not ended. A `planned` one may have been uploaded, an `uploaded` one submitted, by a process that died before
it could note it. Afterwards: `completed`, `expired`, `cancelled` or `failed`."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch, without its requests."""

    id: str
    """Ours; the provider's batch carries it."""
    run: str
    number: int
    """Its place in the run, from 1."""
    model: str
    """The model's alias."""
    identity: str
    status: str
    """One of `OPEN`, or how it ended."""
    said: str
    """The provider's own word for it, or why it failed."""
    file: str | None
    batch: str | None
    """The provider's ids of the file and of the batch."""
    time: str
    """When it was planned; ISO 8601 in UTC."""
    count: int
    """How many requests it has, …"""
    answered: int
    failed: int
    cost: float | None
    """US dollars that it may cost at most; None where that is unknown."""
    tokens: int
    """… and tokens."""
    price: Mapping[str, float] | None
    """For a million tokens, in this batch."""

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


_COLUMNS = [db.batches.c[name] for name in BatchRow.__slots__]


def add_batches(connection: sa.Connection, rows: Sequence[tuple[BatchRow, Sequence[str]]]) -> None:
    """Plans batches, each with the ids of its requests, which are in the store."""
    for row, requests in rows:
        values = {name: getattr(row, name) for name in BatchRow.__slots__}
        connection.execute(db.batches.insert().values(**values, requests=list(requests)))


def list_batches(connection: sa.Connection, run: str | None = None, *, only_open: bool = False) -> list[BatchRow]:
    """The batches of a run, or of all, in the order in which they were planned."""
    query = sa.select(*_COLUMNS).order_by(db.batches.c.time, db.batches.c.run, db.batches.c.number)
    if run is not None:
        query = query.where(db.batches.c.run == run)
    if only_open:
        query = query.where(db.batches.c.status.in_(OPEN))
    return [BatchRow(**row) for row in connection.execute(query).mappings()]


def batch_requests(connection: sa.Connection, batch: str) -> list[str]:
    """The ids of a batch's requests, in their order."""
    found: list[str] = connection.execute(sa.select(db.batches.c.requests).where(db.batches.c.id == batch)).scalar_one()
    return found


def note(connection: sa.Connection, row: str, /, **values: Any) -> None:
    """Notes a step of the batch of that id."""
    connection.execute(db.batches.update().where(db.batches.c.id == row).values(**values))


def in_flight(connection: sa.Connection, run: str | None = None) -> tuple[float, int]:
    """US dollars and tokens that the open batches may take at most; unknown costs are left out."""
    b = db.batches.c
    query = sa.select(sa.func.coalesce(sa.func.sum(b.cost), 0.0), sa.func.coalesce(sa.func.sum(b.tokens), 0))
    query = query.where(b.status.in_(OPEN))
    cost, tokens = connection.execute(query if run is None else query.where(b.run == run)).one()
    return float(cost), int(tokens)


def requests_in_flight(connection: sa.Connection) -> dict[str, str]:
    """Request id → run, of all open batches."""
    query = sa.select(db.batches.c.run, db.batches.c.requests).where(db.batches.c.status.in_(OPEN))
    return {request: run for run, requests in connection.execute(query) for request in requests}


def stored_requests(connection: sa.Connection, ids: Sequence[str]) -> Iterator[Request]:
    """The requests of these ids, in their order."""
    for start in range(0, len(ids), db.CHUNK):
        part = ids[start : start + db.CHUNK]
        query = sa.select(db.requests).where(db.requests.c.id.in_(part))
        rows = {row["id"]: row for row in connection.execute(query).mappings()}
        yield from (_request_of(rows[i]) for i in part)


def outputs_since(connection: sa.Connection, run: str, ids: Sequence[str], time: str) -> set[str]:
    """Which of these requests got an output in this run after that time, or an answer at any: the clock may have been
    set back; at most `database.CHUNK` at once."""
    o = db.outputs.c
    new = sa.or_(o.time >= time, o.finish_reason != "failed")
    query = sa.select(o.request).where(o.request.in_(ids), o.run == run, new)
    return set(connection.execute(query).scalars())


def unanswered(connection: sa.Connection, run: str) -> list[str]:
    """The ids of the requests for which trials of the run still wait."""
    t = db.trials.c
    query = sa.select(t.request).distinct().where(t.run == run, t.output.is_(None))
    return list(connection.execute(query).scalars())


def standing(connection: sa.Connection, run: str) -> str:
    """How a run stands for its batches: `waiting` for its own or others', `complete` or `stopped`."""
    left = unanswered(connection, run)
    flying = requests_in_flight(connection) if left else {}
    waiting = any(request in flying for request in left)
    return "waiting" if waiting else "stopped" if left else "complete"


def _request_of(row: sa.RowMapping) -> Request:
    how = row["settings"]
    return Request(
        row["id"], row["model"], tuple(Message.from_json(m) for m in row["messages"]), how["params"], how["seed"],
        how["repeat"], how["answer"], how["logprobs"], tuple(how["tools"]),
    )  # fmt: skip
