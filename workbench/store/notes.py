"""What people wrote about a run or one of its cases, and what they pinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from workbench.store import database as db
from workbench.store.recording import now


@dataclass(frozen=True, slots=True)
class Note:
    number: int
    run: str
    case: str
    """The case's id; empty where the note is about the whole run."""
    time: str
    """ISO 8601 in UTC."""
    text: str
    """Empty where something is only pinned."""
    pinned: bool


def add_note(connection: sa.Connection, run: str, text: str, case: str = "", pinned: bool = False) -> int:
    """Stores a note on a run that is there; gives its number."""
    row = {"run": run, "case": case, "time": now(), "text": text, "pinned": pinned}
    number: int = connection.execute(db.notes.insert().returning(db.notes.c.number), row).scalar_one()
    return number


def list_notes(connection: sa.Connection, runs: Sequence[str]) -> list[Note]:
    """The runs' notes: pinned ones first, then the newest."""
    n = db.notes.c
    query = sa.select(db.notes).where(n.run.in_(runs)).order_by(n.pinned.desc(), n.number.desc())
    return [Note(**row) for row in connection.execute(query).mappings()]


def pin_note(connection: sa.Connection, number: int, pinned: bool) -> None:
    connection.execute(db.notes.update().where(db.notes.c.number == number).values(pinned=pinned))


def delete_note(connection: sa.Connection, number: int) -> None:
    connection.execute(db.notes.delete().where(db.notes.c.number == number))


def pinned_runs(connection: sa.Connection) -> set[str]:
    """Runs with a pinned note that is about the whole run."""
    n = db.notes.c
    return set(connection.execute(sa.select(n.run).where(n.pinned, n.case == "").distinct()).scalars())
