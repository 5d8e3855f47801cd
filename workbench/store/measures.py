"""What the store knows of a run's trials beside scores, as columns; and what a comparison with it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from workbench.records import CaseScores, Kind, ScoreColumns
from workbench.store import database as db
from workbench.store.runs import is_counted, run_variants

Measure = Literal["cost", "latency", "errors"]


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A case of a run."""

    id: str
    key: str
    """Content id of everything that can change a request or a score."""
    cluster: str | None
    quarantined: bool
    """It counts in no number."""


def measure_columns(connection: sa.Connection, run: str, measure: Measure) -> ScoreColumns:
    """US dollars or seconds of each answer, or 1 for a trial that failed and 0 for one that was answered.

    What is not known of a trial, and what is of a quarantined case, has no entry."""
    o, t = db.outputs.c, db.trials.c
    failed = sa.case((o.finish_reason == "failed", 1.0), else_=0.0)
    value: Any = {"cost": o.cost, "latency": o.seconds, "errors": failed}[measure]
    query = (
        sa.select(t.variant, t.case, t.repeat, value.label("value"))
        .join_from(db.trials, db.outputs, t.output == o.number)
        .where(t.run == run, is_counted(run, t.case))
    )
    if measure != "errors":
        query = query.where(o.finish_reason != "failed", value.is_not(None))
    variants = [v.id for v in run_variants(connection, run)]
    cases = case_rows(connection, run)
    at_variant = {name: i for i, name in enumerate(variants)}
    at_case = {case.id: i for i, case in enumerate(cases)}
    rows = connection.execute(query).all()
    kind: Kind = "pass" if measure == "errors" else "number"
    return ScoreColumns(
        scorer=measure,
        kind=kind,
        variants=tuple(variants),
        cases=tuple(case.id for case in cases),
        clusters=tuple(case.cluster for case in cases),
        variant=[at_variant[r.variant] for r in rows],
        case=[at_case[r.case] for r in rows],
        repeat=[r.repeat for r in rows],
        value=[float(r.value) for r in rows],
    )


def spent_scores(connection: sa.Connection, run: str) -> dict[str, CaseScores]:
    """`cost` (US dollars), `seconds` and `tokens` (prompt and answer) → those of each answer, as scores that are added
    up over repeats; without quarantined cases. Cost and tokens of a variant have no entry where those of any answer
    are not known; times stand for the answers that have one."""
    o, t = db.outputs.c, db.trials.c
    values = {"cost": o.cost, "seconds": o.seconds, "tokens": o.prompt_tokens + o.output_tokens}
    sums = [part for value in values.values() for part in (sa.func.count(value), sa.func.sum(value))]
    query = (
        sa.select(t.variant, t.case, sa.func.count(), *sums)
        .join_from(db.trials, db.outputs, t.output == o.number)
        .where(t.run == run, is_counted(run, t.case), o.finish_reason != "failed")
        .group_by(t.variant, t.case)
    )
    variants, cases = [v.id for v in run_variants(connection, run)], case_rows(connection, run)
    at_variant = {name: i for i, name in enumerate(variants)}
    at_case = {case.id: i for i, case in enumerate(cases)}
    rows = sorted((at_variant[r[0]], at_case[r[1]], *r[2:]) for r in connection.execute(query))
    found = {}
    for place, name in enumerate(values):
        unknown = {row[0] for row in rows if name != "seconds" and row[3 + 2 * place] < row[2]}
        known = [(row[0], row[1], *row[3 + 2 * place : 5 + 2 * place]) for row in rows if row[0] not in unknown]
        known = [row for row in known if row[2]]
        found[name] = CaseScores(
            scorer=name,
            kind="number",
            variants=tuple(variants),
            cases=tuple(case.id for case in cases),
            clusters=tuple(case.cluster for case in cases),
            variant=[row[0] for row in known],
            case=[row[1] for row in known],
            count=[row[2] for row in known],
            value=[float(row[3]) for row in known],
        )
    return found


def case_rows(connection: sa.Connection, run: str) -> list[CaseRow]:
    """The cases of a run, in their order."""
    c = db.cases.c
    query = sa.select(c.id, c.key, c.cluster, c.quarantined).where(c.run == run).order_by(c.position)
    return [CaseRow(row.id, row.key, row.cluster, bool(row.quarantined)) for row in connection.execute(query)]


def case_score_keys(connection: sa.Connection, run: str, scorer: str) -> dict[str, str]:
    """Case → the key of the scores that a scorer gave it; its variants and repeats share one."""
    t, s = db.trials.c, db.scores.c
    query = (
        sa.select(t.case, sa.func.max(s.key))
        .join_from(db.scores, db.trials, sa.and_(t.run == s.run, t.id == s.trial))
        .where(s.run == run, s.scorer == scorer, s.key != "")
        .group_by(t.case)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def asked_by(connection: sa.Connection, run: str) -> dict[str, set[str]]:
    """Variant → the runs that asked for the answers of its trials: others than `run` where they were reused."""
    o, t = db.outputs.c, db.trials.c
    query = (
        sa.select(t.variant, o.run)
        .join_from(db.trials, db.outputs, t.output == o.number)
        .where(t.run == run)
        .distinct()
    )
    found: dict[str, set[str]] = {}
    for variant, asker in connection.execute(query):
        found.setdefault(variant, set()).add(asker)
    return found


def pair_lengths(connection: sa.Connection, run: str, scorer: str, rival: str) -> list[tuple[str, str, float, int]]:
    """(variant, case, score, by how many characters its answer is longer than the rival's) of each score by a pairwise
    scorer whose two answers are there, for all variants but the rival; without quarantined cases."""
    s, mine, other = db.scores.c, db.trials.alias("mine"), db.trials.alias("other")
    answer, rivals = db.outputs.alias("answer"), db.outputs.alias("rivals")
    same = sa.and_(
        other.c.run == run, other.c.variant == rival, other.c.case == mine.c.case, other.c.repeat == mine.c.repeat
    )
    gap = sa.func.length(answer.c.text) - sa.func.length(rivals.c.text)
    query = (
        sa.select(mine.c.variant, mine.c.case, s.number, gap)
        .join_from(db.scores, mine, sa.and_(mine.c.run == s.run, mine.c.id == s.trial))
        .join(answer, mine.c.output == answer.c.number)
        .join(other, same)
        .join(rivals, other.c.output == rivals.c.number)
        .where(s.run == run, s.scorer == scorer, s.number.is_not(None), mine.c.variant != rival)
        .where(is_counted(run, mine.c.case))
    )
    return [(row[0], row[1], float(row[2]), int(row[3])) for row in connection.execute(query)]
