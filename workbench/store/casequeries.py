"""What is read of a run's cases: values counted by the database, inputs, and answers to a few of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from workbench.errors import UnknownName
from workbench.records import Json, Kind
from workbench.store import database as db
from workbench.store.runs import is_counted, run_header, run_scorers


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One case of a run."""

    id: str
    key: str
    """Content id of everything that can change a request or a score."""
    cluster: str | None
    tags: tuple[str, ...]
    inputs: Mapping[str, Json]
    """Without the field that the suite names as the expected answer."""
    expected: Json
    asked: bool
    """At least one of its trials has an output."""
    quarantined: bool
    """It counts in no number."""


@dataclass(frozen=True, slots=True)
class CountedValues:
    """How often each variant was given each value on each case, by one scorer."""

    kind: Kind
    variant: list[str]
    """One entry a (variant, case, value) from here on: ids,"""
    case: list[str]
    value: list[float | str]
    count: list[int]
    """… and how many repeats."""


def said(inputs: Mapping[str, Json]) -> str:
    """What a case's inputs say, a line each."""
    return "\n".join(value if isinstance(value, str) else str(value) for value in inputs.values())


def case_rows(connection: sa.Connection, run: str) -> list[CaseRow]:
    """The cases in their order."""
    c, t = db.cases.c, db.trials.c
    answered = sa.select(t.case).where(t.run == run, t.output.is_not(None)).distinct()
    asked = set(connection.execute(answered).scalars())
    answer = run_header(connection, run).get("expected_field")
    query = sa.select(c.id, c.key, c.cluster, c.tags, c.inputs, c.expected, c.quarantined).where(c.run == run)
    return [
        CaseRow(
            row.id,
            row.key,
            row.cluster,
            tuple(row.tags),
            {name: value for name, value in row.inputs.items() if name != answer},
            row.expected,
            row.id in asked,
            bool(row.quarantined),
        )
        for row in connection.execute(query.order_by(c.position))
    ]


def counted_values(connection: sa.Connection, run: str, scorer: str, quarantined: bool = False) -> CountedValues:
    """A scorer's values, counted by variant, case and value; with `quarantined` also those of quarantined cases.
    Raises UnknownName."""
    kinds = dict(run_scorers(connection, run))
    if scorer not in kinds:
        raise UnknownName("scorer", scorer, kinds)
    t, s = db.trials.c, db.scores.c
    query = (
        sa.select(t.variant, t.case, s.number, s.label, sa.func.count())
        .join_from(db.scores, db.trials, sa.and_(t.run == s.run, t.id == s.trial))
        .where(s.run == run, s.scorer == scorer, sa.or_(s.number.is_not(None), s.label.is_not(None)))
        .group_by(t.variant, t.case, s.number, s.label)
    )
    if not quarantined:
        query = query.where(is_counted(run, t.case))
    rows = connection.execute(query).all()
    return CountedValues(
        kind=kinds[scorer],
        variant=[row[0] for row in rows],
        case=[row[1] for row in rows],
        value=[row[3] if row[2] is None else row[2] for row in rows],
        count=[row[4] for row in rows],
    )


def same_answers(connection: sa.Connection, reference: tuple[str, str], run: str) -> set[str]:
    """The variants of a run all of whose answers are the very ones that `reference`, (run, variant), has for the
    same cases and repeats."""
    a, b = db.trials.alias(), db.trials.alias()
    same = sa.func.sum(sa.case((a.c.output == b.c.output, 1), else_=0))
    query = (
        sa.select(b.c.variant)
        .join_from(a, b, sa.and_(a.c.case == b.c.case, a.c.repeat == b.c.repeat))
        .where(a.c.run == reference[0], a.c.variant == reference[1], b.c.run == run)
        .where(a.c.output.is_not(None), b.c.output.is_not(None))
        .group_by(b.c.variant)
        .having(same == sa.func.count())
    )
    return set(connection.execute(query).scalars())


def answer_counts(
    connection: sa.Connection, run: str, cases: Sequence[str], variants: Sequence[str]
) -> Iterator[tuple[str, str, int]]:
    """(case, text, how often) of the answers that these variants gave to these cases."""
    t, o = db.trials.c, db.outputs.c
    for start in range(0, len(cases), db.CHUNK):
        query = (
            sa.select(t.case, o.text, sa.func.count())
            .join_from(db.trials, db.outputs, o.number == t.output)
            .where(t.run == run, t.case.in_(cases[start : start + db.CHUNK]), o.finish_reason != "failed")
            .where(t.variant.in_(variants[: db.CHUNK]))
            .group_by(t.case, o.text)
        )
        yield from ((row[0], row[1], row[2]) for row in connection.execute(query))
