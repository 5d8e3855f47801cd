"""A store looked through for rows that can't be: pages, pointers, ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from workbench.records import Json, content_id
from workbench.store import database as db
from workbench.store.summaries import wrong_summaries

RESTORE = "take a copy of the store from before, or start a new one and import an export"
AGAIN = "run its suite again with --fresh"
RESCORE = "make them anew with 'workbench score RUN'"
MOST_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault."""

    what: str
    count: int
    example: str
    advice: str


IdCheck = Callable[[Mapping[str, Json], frozenset[int]], bool | None]
"""Whether a request's id is that of its content, by the run seeds that are known; None: it can't be told."""


def check_store(connection: sa.Connection, fits: IdCheck) -> Iterator[Finding]:
    """Every fault that is found; none means that all is well."""
    yield from _pages(connection)
    yield from dangling(connection)
    yield from _counted("requests whose id is not that of their content", _wrong_requests(connection, fits), AGAIN)
    yield from _counted("variants whose id is not that of their content", _wrong_variants(connection), AGAIN)
    yield from _counted("trials whose id is not that of their content", _wrong_trials(connection), AGAIN)
    yield from _counted("runs whose kept sums are not those of their scores", wrong_summaries(connection), RESCORE)


def run_seeds(connection: sa.Connection) -> frozenset[int]:
    """The seeds that requests can rest on: those of all runs, and 0."""
    headers = connection.execute(sa.select(db.runs.c.header)).scalars()
    return frozenset({0, *(h["seed"] for h in headers if isinstance(h.get("seed"), int))})


def _pages(connection: sa.Connection) -> Iterator[Finding]:
    if connection.dialect.name != "sqlite":
        return
    said = [str(s) for s in connection.execute(sa.text("PRAGMA integrity_check")).scalars()]
    if said != ["ok"]:
        yield Finding("damaged pages", len(said), said[0], RESTORE)
    lost = connection.execute(sa.text("PRAGMA foreign_key_check")).all()
    if lost:
        yield Finding("rows that point to nothing", len(lost), f"{lost[0][0]} → {lost[0][2]}", RESTORE)


def dangling(connection: sa.Connection, run: str | None = None) -> Iterator[Finding]:
    """Rows of a run, or of all, that belong to nothing: where no key of the database ties them to it."""
    t, s, o, v, c = db.trials.c, db.scores.c, db.outputs.c, db.variants.c, db.cases.c
    of_run = db.trials.outerjoin(db.variants, sa.and_(v.run == t.run, v.id == t.variant))
    of_run = of_run.outerjoin(db.cases, sa.and_(c.run == t.run, c.id == t.case))
    queries = {
        "scores without a trial": sa.select(s.trial)
        .select_from(db.scores.outerjoin(db.trials, sa.and_(t.run == s.run, t.id == s.trial)))
        .where(t.id.is_(None)),
        "trials without a variant or a case": sa.select(t.id)
        .select_from(of_run)
        .where(sa.or_(v.id.is_(None), c.id.is_(None))),
        "trials with the answer to another request": sa.select(t.id)
        .join_from(db.trials, db.outputs, o.number == t.output)
        .where(o.request != t.request),
    }
    for what, query in queries.items():
        own = query if run is None else query.where((s if what.startswith("scores") else t).run == run)
        yield from _counted(what, connection.execute(own).scalars(), RESTORE)


def _wrong_requests(connection: sa.Connection, fits: IdCheck) -> Iterator[str]:
    seeds = run_seeds(connection)
    for row in connection.execute(sa.select(db.requests)).mappings():
        if fits(dict(row), seeds) is False:
            yield row["id"]


def _wrong_variants(connection: sa.Connection) -> Iterator[str]:
    for row in connection.execute(sa.select(db.variants)).mappings():
        parts = [row["revision"], row["model"], *(row["settings"][name] for name in ("params", "vars", "answer"))]
        # how many log-probabilities a variant asks for is not stored with it
        if all(content_id("va1", [*parts, n]) != row["id"] for n in range(MOST_LOGPROBS + 1)):
            yield row["id"]


def _wrong_trials(connection: sa.Connection) -> Iterator[str]:
    t = db.trials.c
    for trial, variant, case, repeat in connection.execute(sa.select(t.id, t.variant, t.case, t.repeat)):
        if content_id("tr1", [variant, case, repeat]) != trial:
            yield trial


def _counted(what: str, found: Iterator[str] | sa.ScalarResult[str], advice: str) -> Iterator[Finding]:
    ids = list(found)
    if ids:
        yield Finding(what, len(ids), ids[0], advice)
