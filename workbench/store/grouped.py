"""Scores reduced in SQL to one value a case, for pages that must not read every score of a big run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import sqlalchemy as sa

from workbench.records import CaseScores, Kind, ScoreColumns
from workbench.store import database as db
from workbench.store.runs import planned_trials, run_variants, suite_order


def case_scores(connection: sa.Connection, run: str, scorer: str | None = None) -> dict[str, CaseScores]:
    """Scorer → its scores, added up over repeats, of all scorers in the suite's order; or of the one asked for, which
    may have none."""
    s, t = db.scores.c, db.trials.c
    query = (
        sa.select(
            s.scorer, t.variant, t.case, s.label, sa.func.count(s.number), sa.func.count(s.label),
            sa.func.sum(s.number), sa.func.min(s.number), sa.func.max(s.number), sa.func.min(s.kind),
            sa.func.sum(sa.case((sa.or_(s.number.is_(None), s.number.in_((0, 1))), 0), else_=1)),
        )
        .join_from(db.scores, db.trials, sa.and_(t.run == s.run, t.id == s.trial))
        .where(s.run == run)
        .group_by(t.variant, t.case, s.scorer, s.label)
    )  # fmt: skip
    if scorer is not None:
        query = query.where(s.scorer == scorer)
    found: dict[str, list[Any]] = {}
    for row in connection.execute(query).all():
        found.setdefault(row[0], []).append(row)
    names = [scorer] if scorer is not None else suite_order(connection, run, found)
    variants = tuple(variant.id for variant in run_variants(connection, run))
    cases = connection.execute(
        sa.select(db.cases.c.id, db.cases.c.cluster).where(db.cases.c.run == run).order_by(db.cases.c.position)
    ).all()
    planned = planned_trials(connection, run)
    ids, clusters = tuple(c.id for c in cases), tuple(c.cluster for c in cases)
    empty = CaseScores("", "number", variants, ids, clusters, (), (), (), ())
    return {name: _added_up(replace(empty, scorer=name), found.get(name, ()), planned) for name in names}


def _added_up(empty: CaseScores, rows: Sequence[Any], planned: Mapping[str, int]) -> CaseScores:
    """`empty`, filled with the rows of `case_scores`."""
    scored = [row for row in rows if row[4] or row[5]]
    at_variant = {name: i for i, name in enumerate(empty.variants)}
    at_case = {name: i for i, name in enumerate(empty.cases)}
    _, variant, case, label, numbers, labelled, total, low, high, kinds, others = (
        zip(*scored, strict=True) if scored else ((),) * 11
    )
    texts = {text: i for i, text in enumerate(sorted({text for text in label if text is not None}))}
    count = [a or b for a, b in zip(numbers, labelled, strict=True)]
    had: Counter[str] = Counter()
    for name, number in zip(variant, count, strict=True):
        had[name] += number
    return replace(
        empty,
        kind=cast(Kind, min(kinds) if scored else rows[0][9] if rows else "number"),
        variant=[at_variant[name] for name in variant],
        case=[at_case[name] for name in case],
        count=count,
        # A sum without a value is one of infinities, which statistics refuse.
        value=[
            float(texts[text]) if text is not None else math.nan if x is None else x
            for x, text in zip(total, label, strict=True)
        ],
        lowest=min((x for x in low if x is not None), default=0.0),
        highest=max((x for x in high if x is not None), default=0.0),
        zero_or_one=not any(others),
        missing=tuple(planned.get(name, 0) - had[name] for name in empty.variants),
        labels=tuple(texts),
    )


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


def usage_by_model(connection: sa.Connection, run: str) -> dict[str, tuple[int, float | None, float | None]]:
    """Model → tokens, cost in US dollars (None where the price of an answer is unknown) and seconds of the calls (None
    where no answer has a time of its own), of a run's trials."""
    t, v, o = db.trials.c, db.variants.c, db.outputs.c
    tokens = sa.func.coalesce(o.prompt_tokens, 0) + sa.func.coalesce(o.output_tokens, 0)
    unpriced = sa.func.sum(sa.case((sa.and_(o.cost.is_(None), o.finish_reason != "failed"), 1), else_=0))
    query = (
        sa.select(v.model, sa.func.sum(tokens), sa.func.sum(o.cost), unpriced, sa.func.sum(o.seconds))
        .join_from(db.trials, db.variants, sa.and_(v.run == t.run, v.id == t.variant))
        .join(db.outputs, o.number == t.output)
        .where(t.run == run)
        .group_by(v.model)
    )
    return {
        model: (int(count), None if unknown else float(cost or 0.0), seconds)
        for model, count, cost, unknown, seconds in connection.execute(query)
    }
