"""Scores reduced in SQL to one value a case, for pages that must not read every score of a big run."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from workbench.records import Kind, ScoreColumns
from workbench.store import database as db


def grouped_scores(
    connection: sa.Connection, run: str, scorer: str, by: Literal["model", "revision"], prompt: str | None = None
) -> ScoreColumns:
    """One scorer's scores by model or by revision (in place of variants): a group's value for a case is the mean of
    its variants and repeats. Labels have no mean: their columns are empty. `prompt` leaves out all others.
    """
    s, t, v = db.scores.c, db.trials.c, db.variants.c
    group = v[by]
    query = (
        sa.select(group, t.case, sa.func.avg(s.number), sa.func.count(), sa.func.max(s.kind))
        .join_from(db.scores, db.trials, sa.and_(t.run == s.run, t.id == s.trial))
        .join(db.variants, sa.and_(v.run == t.run, v.id == t.variant))
        .where(s.run == run, s.scorer == scorer, s.number.is_not(None))
        .group_by(group, t.case)
    )
    planned = sa.select(group, sa.func.count(), sa.func.min(v.position)).join_from(
        db.trials, db.variants, sa.and_(v.run == t.run, v.id == t.variant)
    )
    planned = planned.where(t.run == run).group_by(group).order_by(sa.func.min(v.position))
    if prompt is not None:
        query, planned = query.where(v.prompt == prompt), planned.where(v.prompt == prompt)
    rows = connection.execute(query).all()
    counts = {name: count for name, count, _ in connection.execute(planned)}
    cases = connection.execute(
        sa.select(db.cases.c.id, db.cases.c.cluster).where(db.cases.c.run == run).order_by(db.cases.c.position)
    ).all()
    at_group = {name: i for i, name in enumerate(counts)}
    at_case = {case.id: i for i, case in enumerate(cases)}
    for name, _, _, count, _ in rows:
        counts[name] -= count
    kind: Kind = rows[0][4] if rows else "number"
    several = any(count > 1 for _, _, _, count, _ in rows)
    return ScoreColumns(
        scorer=scorer,
        kind="fraction" if kind == "pass" and several else kind,
        variants=tuple(at_group),
        cases=tuple(case.id for case in cases),
        clusters=tuple(case.cluster for case in cases),
        variant=[at_group[row[0]] for row in rows],
        case=[at_case[row[1]] for row in rows],
        repeat=[0] * len(rows),
        value=[row[2] for row in rows],
        missing=tuple(counts.values()),
    )


def newest_runs(
    connection: sa.Connection, prompt: str | None = None, suite: str | None = None, limit: int = 50
) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
    """(run, suite, started, revision or model, scorers) of the newest run that has each revision of a prompt, or each
    model of a suite, newest first. Scorers as the run's header names them."""
    v, r = db.variants.c, db.runs.c
    what = v.revision if prompt is not None else v.model
    where = v.prompt == prompt if prompt is not None else r.suite == suite
    newest = sa.select(what.label("what"), sa.func.max(r.started).label("started"))
    latest = newest.join_from(db.variants, db.runs, r.id == v.run).where(where).group_by(what).subquery()
    query = (
        sa.select(r.id, r.suite, r.started, what, r.header)
        .join_from(db.variants, db.runs, r.id == v.run)
        .join(latest, sa.and_(latest.c.what == what, latest.c.started == r.started))
        .where(where)
        .distinct()
        .order_by(r.started.desc())
        .limit(limit)
    )
    rows = connection.execute(query)
    return [(run, name, started, which, tuple(header.get("scorers", ()))) for run, name, started, which, header in rows]


def suites_run(connection: sa.Connection, limit: int = 200) -> list[str]:
    """The names of suites that have a run, the latest first; those of the stage `select` before all others."""
    r = db.runs.c
    first = sa.func.max(sa.case((r.stage == "select", 1), else_=0))
    query = sa.select(r.suite).group_by(r.suite).order_by(first.desc(), sa.func.max(r.started).desc()).limit(limit)
    return list(connection.execute(query).scalars())


def usage_by_model(connection: sa.Connection, run: str) -> dict[str, tuple[int, float | None, float]]:
    """Model → tokens, cost in US dollars (None where the price of an answer is unknown) and seconds of the calls, of
    a run's trials."""
    t, v, o = db.trials.c, db.variants.c, db.outputs.c
    tokens = sa.func.coalesce(o.prompt_tokens, 0) + sa.func.coalesce(o.output_tokens, 0)
    unpriced = sa.func.sum(sa.case((sa.and_(o.cost.is_(None), o.finish_reason != "failed"), 1), else_=0))
    query = (
        sa.select(
            v.model, sa.func.sum(tokens), sa.func.sum(o.cost), unpriced, sa.func.coalesce(sa.func.sum(o.seconds), 0.0)
        )
        .join_from(db.trials, db.variants, sa.and_(v.run == t.run, v.id == t.variant))
        .join(db.outputs, o.number == t.output)
        .where(t.run == run)
        .group_by(v.model)
    )
    return {
        model: (int(count), None if unknown else float(cost or 0.0), float(seconds))
        for model, count, cost, unknown, seconds in connection.execute(query)
    }
