"""How a run stands while it goes, counted in SQL: rate, cost, the newest answers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from workbench.store import database as db

WINDOW_SECONDS = 60.0
"""The rate is that of the last minute."""
WINDOW_OUTPUTS = 300
"""… or of so many answers, where more came."""


@dataclass(frozen=True, slots=True)
class Newest:
    """One of the newest answers."""

    variant: str
    case: str
    text: str
    """Its first characters."""
    failure: str
    """Why there is none; empty where there is one."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A run under way."""

    rate: float | None
    """Trials a second, of late; None where nothing was answered within the last minute."""
    cost: float | None
    """US dollars of the answers that this run asked for; None where the price of one is unknown."""
    newest: tuple[Newest, ...]


def run_of_process(connection: sa.Connection, pid: int, since: float) -> str | None:
    """The run that a process of this machine has begun or taken up; `since` in seconds since 1970."""
    r = db.runs.c
    query = sa.select(r.id).where(r.pid == pid, r.host == socket.gethostname(), r.heartbeat >= since)
    found: str | None = connection.execute(query.order_by(r.heartbeat.desc()).limit(1)).scalar()
    return found


def standing(connection: sa.Connection, run: str, newest: int = 3, chars: int = 200) -> Standing:
    """How a run stands now; an id that no run has stands still."""
    return Standing(_rate(connection, run), _cost(connection, run), _newest(connection, run, newest, chars))


def _rate(connection: sa.Connection, run: str) -> float | None:
    """Trials answered since the oldest answer of the window, for each second since then."""
    o, t = db.outputs.c, db.trials.c
    query = sa.select(o.number, o.time).where(o.run == run).order_by(o.number.desc()).limit(WINDOW_OUTPUTS)
    now = datetime.now(UTC)
    begin = (now - timedelta(seconds=WINDOW_SECONDS)).isoformat(timespec="milliseconds")
    within = [row for row in connection.execute(query) if row.time >= begin]
    if len(within) < 2:
        return None
    first = within[-1]
    seconds = (now - datetime.fromisoformat(first.time)).total_seconds()
    counted = sa.select(sa.func.count()).where(t.run == run, t.output > first.number)
    done: int = connection.execute(counted).scalar_one()
    return done / seconds if seconds > 0 else None


def _cost(connection: sa.Connection, run: str) -> float | None:
    o, t = db.outputs.c, db.trials.c
    own = sa.select(t.output).where(t.run == run, t.output.is_not(None))
    query = sa.select(sa.func.coalesce(sa.func.sum(o.cost), 0.0), sa.func.count(), sa.func.count(o.cost))
    cost, answers, priced = connection.execute(
        query.where(o.number.in_(own), o.run == run, o.finish_reason != "failed")
    ).one()
    return float(cost) if priced == answers else None


def _newest(connection: sa.Connection, run: str, count: int, chars: int) -> tuple[Newest, ...]:
    o, t, v = db.outputs.c, db.trials.c, db.variants.c
    latest = sa.select(o.number).where(o.run == run).order_by(o.number.desc()).limit(count)
    numbers = list(connection.execute(latest).scalars())
    query = (
        sa.select(o.number, v.label, t.case, sa.func.substr(o.text, 1, chars).label("text"), o.failure)
        .join_from(db.outputs, db.trials, sa.and_(t.run == run, t.request == o.request))
        .join(db.variants, sa.and_(v.run == t.run, v.id == t.variant))
        .where(o.number.in_(numbers))
        .order_by(o.number.desc(), t.repeat)
    )
    rows = {row.number: row for row in reversed(connection.execute(query).all())}
    return tuple(
        Newest(row.label, row.case, row.text, (row.failure or {}).get("message", ""))
        for _, row in sorted(rows.items(), reverse=True)
    )
