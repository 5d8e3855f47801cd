"""What each process may have to pay for what it has in flight: a row each, void where its process is dead."""

from __future__ import annotations

import sqlalchemy as sa

from workbench.store import database as db
from workbench.store.recording import alive, is_alive


def hold(connection: sa.Connection) -> None:
    """To the transaction's end nobody else reserves or stores what was reserved. In SQLite whoever writes is alone."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE reservations IN EXCLUSIVE MODE"))


def reserve(connection: sa.Connection, account: str, run: str, cost: float, tokens: int) -> None:
    """This process has so many US dollars and tokens in flight for a run, in place of what it had."""
    release(connection, account)
    row = {"account": account, "run": run, "cost": cost, "tokens": tokens, **alive()}
    connection.execute(db.reservations.insert(), row)


def release(connection: sa.Connection, account: str) -> None:
    connection.execute(db.reservations.delete().where(db.reservations.c.account == account))


def reserved_by_others(connection: sa.Connection, account: str) -> tuple[float, int, list[str]]:
    """US dollars and tokens that live processes have reserved under other accounts, and for which runs; what dead ones
    reserved is removed."""
    rows = connection.execute(sa.select(db.reservations).where(db.reservations.c.account != account)).mappings().all()
    living = [row for row in rows if is_alive(row)]
    for row in rows:
        if row not in living:
            release(connection, row["account"])
    runs = sorted({row["run"] for row in living})
    return sum(row["cost"] for row in living), sum(row["tokens"] for row in living), runs
