"""What people said of a run's answers by eye: which of two is better, or how good one is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from workbench.store import database as db
from workbench.store.recording import now

VoteKind = Literal["pair", "rating"]


@dataclass(frozen=True, slots=True)
class VoteRow:
    """One person's vote, with what it was about."""

    rater: str
    said: str
    """Of a pair `first`, `second` or `tie`; else the rating."""
    case: str
    first: str
    """The trial on the left, or the one that was rated."""
    first_variant: str
    second: str = ""
    """The trial on the right; empty for a rating."""
    second_variant: str = ""
    lengths: tuple[int, int] | None = None
    """Characters of the left answer and of the right one, where there are two."""


def keep_vote(connection: sa.Connection, run: str, rater: str, trials: tuple[str, ...], said: str) -> None:
    """Stores a vote on one trial or two, in place of what the same person said of them before."""
    first, second = (*trials, "")[:2]
    v = db.votes.c
    same = sa.or_(sa.and_(v.first == first, v.second == second), sa.and_(v.first == second, v.second == first))
    connection.execute(db.votes.delete().where(v.run == run, v.rater == rater, same))
    row = {"time": now(), "run": run, "rater": rater, "first": first, "second": second, "said": said}
    connection.execute(db.votes.insert(), {**row, "kind": "pair" if second else "rating"})


def take_back(connection: sa.Connection, run: str, rater: str, kind: VoteKind) -> bool:
    """Removes the person's newest vote; whether there was one."""
    v = db.votes.c
    own = sa.select(sa.func.max(v.number)).where(v.run == run, v.rater == rater, v.kind == kind)
    number = connection.execute(own).scalar()
    if number is not None:
        connection.execute(db.votes.delete().where(v.number == number))
    return number is not None


def list_votes(connection: sa.Connection, run: str, kind: VoteKind) -> list[VoteRow]:
    """All votes on a run, in the order in which they were cast."""
    v, first, second = db.votes.c, db.trials.alias("one"), db.trials.alias("two")
    left, right = db.outputs.alias("left"), db.outputs.alias("right")
    lengths = [sa.func.length(side.c.text) for side in (left, right)]
    query = (
        sa.select(v.rater, v.said, first.c.case, v.first, first.c.variant, v.second, second.c.variant, *lengths)
        .join_from(db.votes, first, sa.and_(first.c.run == v.run, first.c.id == v.first))
        .outerjoin(second, sa.and_(second.c.run == v.run, second.c.id == v.second))
        .outerjoin(left, left.c.number == first.c.output)
        .outerjoin(right, right.c.number == second.c.output)
        .where(v.run == run, v.kind == kind)
        .order_by(v.number)
    )
    return [
        VoteRow(rater, said, case, one, of_one, two, of_two or "", None if None in (left, right) else (left, right))
        for rater, said, case, one, of_one, two, of_two, left, right in connection.execute(query)
    ]
