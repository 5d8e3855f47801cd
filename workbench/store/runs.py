"""What is read of runs: headers, variants, scores as columns, trials a page at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import sqlalchemy as sa

from workbench.errors import UnknownName
from workbench.records import EMPTY, Json, Kind, Output, Run, Score, ScoreColumns
from workbench.store import database as db
from workbench.store.kept import kept_scorers, kept_usage
from workbench.store.recording import is_alive, output_of
from workbench.store.retrieved import passages_of

PAGE = 500
"""Trials that are read at once."""


@dataclass(frozen=True, slots=True)
class VariantRow:
    id: str
    position: int
    label: str
    prompt: str
    revision: str
    model: str
    settings: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Usage:
    """What the trials of one variant took; an answer that several trials share is counted for each."""

    trials: int
    answered: int
    failed: int
    prompt_tokens: int
    output_tokens: int
    cost: float | None
    """US dollars; None where the price of any answer is unknown."""
    seconds: float
    """Sum of the calls' times."""


@dataclass(frozen=True, slots=True)
class TrialRow:
    """All there is to see of one trial."""

    trial_id: str
    variant_id: str
    case_id: str
    repeat: int
    request_id: str
    messages: list[Json]
    inputs: Mapping[str, Json]
    expected: Json
    tags: tuple[str, ...]
    output: Output | None
    scores: tuple[Score, ...]
    quarantined: bool = False
    """Its case counts in no number."""
    retrieved: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """The input that holds the passages that were looked up for it, `{name: passages}`; empty where none were."""


def list_runs(connection: sa.Connection, suite: str | None = None, limit: int | None = None) -> list[Run]:
    """The runs, newest first."""
    query = sa.select(db.runs).order_by(db.runs.c.started.desc(), db.runs.c.id)
    if suite:
        query = query.where(db.runs.c.suite == suite)
    rows = connection.execute(query.limit(limit)).mappings().all()
    counts = _counts(connection, [row["id"] for row in rows])
    return [_run_of(row, counts.get(row["id"], (0, 0))) for row in rows]


def get_run(connection: sa.Connection, run: str) -> Run:
    """The run that `find_run` finds. Raises UnknownName."""
    found = find_run(connection, run)
    row = connection.execute(sa.select(db.runs).where(db.runs.c.id == found)).mappings().one()
    return _run_of(row, _counts(connection, [found]).get(found, (0, 0)))


def find_run(connection: sa.Connection, run: str) -> str:
    """The id that is so, or the one that begins so; `latest` is the newest's. Its trials are not counted, which
    in a big run takes a while. Raises UnknownName."""
    ids = list(connection.execute(sa.select(db.runs.c.id).order_by(db.runs.c.started.desc())).scalars())
    chosen = ids[:1] if run == "latest" else [i for i in ids if i == run] or [i for i in ids if i.startswith(run)]
    if len(chosen) != 1:
        raise UnknownName("run", run, chosen or ids)
    return str(chosen[0])


def run_header(connection: sa.Connection, run: str) -> Mapping[str, Json]:
    """The header of the run of exactly that id."""
    found: Mapping[str, Json] = connection.execute(sa.select(db.runs.c.header).where(db.runs.c.id == run)).scalar_one()
    return found


def run_variants(connection: sa.Connection, run: str) -> list[VariantRow]:
    return variants_of(connection, [run]).get(run, [])


def variants_of(connection: sa.Connection, runs: Sequence[str]) -> dict[str, list[VariantRow]]:
    """Run → its variants in the suite's order."""
    v, found = db.variants.c, dict[str, list[VariantRow]]()
    columns = [v[name] for name in VariantRow.__slots__]
    for start in range(0, len(runs), PAGE):
        query = sa.select(v.run, *columns).where(v.run.in_(runs[start : start + PAGE])).order_by(v.position)
        for run, *values in connection.execute(query):
            found.setdefault(run, []).append(VariantRow(*values))
    return found


def run_cases(connection: sa.Connection, run: str) -> list[str]:
    """The ids of a run's cases, in their order."""
    query = sa.select(db.cases.c.id).where(db.cases.c.run == run).order_by(db.cases.c.position)
    return list(connection.execute(query).scalars())


def quarantined_cases(connection: sa.Connection, runs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Run → the ids of its cases that count in no number, of those runs that have some."""
    c, found = db.cases.c, dict[str, tuple[str, ...]]()
    for start in range(0, len(runs), PAGE):
        query = sa.select(c.run, c.id).where(c.quarantined, c.run.in_(runs[start : start + PAGE]))
        for run, case in connection.execute(query.order_by(c.position)):
            found[run] = (*found.get(run, ()), case)
    return found


def is_counted(run: str, case: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Leaves out the cases of a run that count in no number; every query that adds scores up has it."""
    c = db.cases.c
    return case.not_in(sa.select(c.id).where(c.quarantined, c.run == run))


def run_clusters(connection: sa.Connection, run: str) -> dict[str, str | None]:
    """Case → the cluster that it belongs to."""
    c = db.cases.c
    return dict(map(tuple, connection.execute(sa.select(c.id, c.cluster).where(c.run == run))))


def run_scorers(connection: sa.Connection, run: str) -> list[tuple[str, Kind]]:
    """(name, kind) of each scorer that has a score, in the suite's order where the header tells it."""
    kept = kept_scorers(connection, run)
    if kept is not None:
        return [(name, cast(Kind, kind)) for name, kind in kept]
    query = sa.select(db.scores.c.scorer, sa.func.min(db.scores.c.kind)).where(db.scores.c.run == run)
    kinds = {row[0]: row[1] for row in connection.execute(query.group_by(db.scores.c.scorer))}
    return [(name, cast(Kind, kinds[name])) for name in suite_order(connection, run, kinds)]


def suite_order(connection: sa.Connection, run: str, scorers: Iterable[str]) -> list[str]:
    """Scorers in the suite's order where the run's header tells it, those of later last, by name."""
    header = connection.execute(sa.select(db.runs.c.header).where(db.runs.c.id == run)).scalar() or {}
    order = {name: i for i, name in enumerate(header.get("scorers", []))}
    return sorted(scorers, key=lambda name: (order.get(name, len(order)), name))


def score_columns(connection: sa.Connection, run: str, scorer: str) -> ScoreColumns:
    """The scores of one scorer as columns, those of quarantined cases left out; a label's value is its position among
    the labels, sorted."""
    variants = [v.id for v in run_variants(connection, run)]
    cases = connection.execute(
        sa.select(db.cases.c.id, db.cases.c.cluster).where(db.cases.c.run == run).order_by(db.cases.c.position)
    ).all()
    at_variant, at_case = _positions(variants), _positions(c.id for c in cases)
    rows = connection.execute(_scores_query(run, scorer)).all()
    scored = [row for row in rows if row[3] is not None or row[4] is not None]
    in_variant, in_case, repeat, number, label, kind = zip(*scored, strict=True) if scored else ((),) * 6
    labels = _positions(sorted({text for text in label if text is not None}))
    planned = planned_trials(connection, run)
    had = Counter(in_variant)
    return ScoreColumns(
        scorer=scorer,
        kind=cast(Kind, kind[0] if scored else rows[0].kind if rows else "number"),
        variants=tuple(variants),
        cases=tuple(c.id for c in cases),
        clusters=tuple(c.cluster for c in cases),
        variant=[at_variant[name] for name in in_variant],
        case=[at_case[name] for name in in_case],
        repeat=repeat,
        value=[float(labels[text]) if value is None else value for value, text in zip(number, label, strict=True)],
        missing=tuple(planned.get(name, 0) - had[name] for name in variants),
        labels=tuple(labels),
    )


def usage(connection: sa.Connection, run: str) -> dict[str, Usage]:
    """Variant id → what its trials took."""
    return usage_of(connection, [run])[run]


def usage_of(connection: sa.Connection, runs: Sequence[str]) -> dict[str, dict[str, Usage]]:
    """Run → variant id → what its trials took."""
    kept = kept_usage(connection, runs)
    return {
        run: {name: Usage(**used) for name, used in kept[run].items()} if run in kept else _used(connection, run)
        for run in runs
    }


def _used(connection: sa.Connection, run: str) -> dict[str, Usage]:
    o, t = db.outputs.c, db.trials.c
    ok = sa.case((o.finish_reason != "failed", 1), else_=0)
    query = (
        sa.select(
            t.variant, sa.func.count(), sa.func.coalesce(sa.func.sum(ok), 0), sa.func.count(o.number),
            sa.func.coalesce(sa.func.sum(o.prompt_tokens), 0), sa.func.coalesce(sa.func.sum(o.output_tokens), 0),
            sa.func.sum(o.cost), sa.func.count(o.cost), sa.func.coalesce(sa.func.sum(o.seconds), 0.0),
        )
        .select_from(db.trials.outerjoin(db.outputs, t.output == o.number))
        .where(t.run == run, _wanted(run))
        .group_by(t.variant)
    )  # fmt: skip
    return {
        variant: Usage(trials, answered, had - answered, int(asked), int(got), cost if priced >= answered else None, s)
        for variant, trials, answered, had, asked, got, cost, priced, s in connection.execute(query)
    }


def has_clusters(connection: sa.Connection, run: str) -> bool:
    """Whether cases of a run belong together."""
    c = db.cases.c
    return connection.execute(sa.select(c.id).where(c.run == run, c.cluster.is_not(None)).limit(1)).first() is not None


def judging_usage(connection: sa.Connection, run: str) -> Usage:
    """What a run's requests took that answer no trial of it: those of scorers that ask models, each counted once."""
    o = db.outputs.c
    ok = sa.case((o.finish_reason != "failed", 1), else_=0)
    query = sa.select(
        sa.func.count(), sa.func.coalesce(sa.func.sum(ok), 0), sa.func.coalesce(sa.func.sum(o.prompt_tokens), 0),
        sa.func.coalesce(sa.func.sum(o.output_tokens), 0), sa.func.sum(o.cost), sa.func.count(o.cost),
        sa.func.coalesce(sa.func.sum(o.seconds), 0.0),
    ).where(o.run == run, o.request.not_in(sa.select(db.trials.c.request).where(db.trials.c.run == run)))  # fmt: skip
    asked, answered, prompt, output, cost, priced, seconds = connection.execute(query).one()
    known = cost if priced >= answered else None
    return Usage(asked, answered, asked - answered, int(prompt), int(output), known, float(seconds))


@dataclass(frozen=True, slots=True)
class TrialFilter:
    """Which trials to read; None, False and nothing mean all."""

    variants: tuple[str, ...] = ()
    case: str | None = None
    trial: str | None = None
    failures: bool = False
    wrong: str | None = None
    """Only those that the scorer of this name gives less than all: it has to be one of passes or fractions."""
    whole_cases: bool = False
    """Also the other trials of the cases of those that are found, of the same variants."""
    offset: int = 0
    limit: int | None = None


def trial_rows(connection: sa.Connection, run: str, chosen: TrialFilter | None = None) -> Iterator[TrialRow]:
    """The trials with everything about them, by case, variant and repeat; streams in pages.

    Their order is found once, by ids alone: an offset would sort all trials again for each page."""
    chosen = chosen or TrialFilter()
    ids = _trials_query(run, chosen).with_only_columns(db.trials.c.id).limit(chosen.limit).offset(chosen.offset)
    yield from rows_of(connection, run, list(connection.execute(ids).scalars()))


def rows_of(connection: sa.Connection, run: str, ids: Sequence[str]) -> Iterator[TrialRow]:
    """The trials of these ids in their order, with everything about them; streams in pages."""
    query = _trials_query(run, TrialFilter()).order_by(None)
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        rows = connection.execute(query.where(db.trials.c.id.in_(page))).mappings().all()
        scores, found = _scores_of(connection, run, page), {row["trial_id"]: row for row in rows}
        yield from (_trial_of(found[trial], scores.get(trial, ())) for trial in page if trial in found)


def _trials_query(run: str, chosen: TrialFilter) -> sa.Select[Any]:
    t, v, c, r, o = db.trials.c, db.variants.c, db.cases.c, db.requests.c, db.outputs
    query = (
        sa.select(
            t.id.label("trial_id"), t.variant.label("variant_id"), t.case.label("case_id"), t.repeat,
            t.request.label("request_id"), r.messages, c.inputs, c.expected, c.tags,
            c.quarantined, c.retrieved, v.settings.label("variant_settings"), *o.c,
        )
        .join_from(db.trials, db.variants, sa.and_(v.run == t.run, v.id == t.variant))
        .join(db.cases, sa.and_(c.run == t.run, c.id == t.case))
        .outerjoin(db.requests, r.id == t.request)
        .outerjoin(db.outputs, o.c.number == t.output)
        .where(t.run == run)
        .order_by(c.position, v.position, t.repeat)
    )  # fmt: skip
    if chosen.variants:
        query = query.where(t.variant.in_(chosen.variants))
    if chosen.whole_cases:
        found = _trials_query(run, replace(chosen, whole_cases=False)).with_only_columns(t.case).order_by(None)
        return query.where(t.case.in_(found))
    if chosen.case:
        # Its variants are named, too: the index goes by variant and case.
        own = sa.select(v.id).where(v.run == run)
        query = query.where(t.case == chosen.case, t.variant.in_(own))
    if chosen.trial:
        query = query.where(t.id.startswith(chosen.trial, autoescape=True))
    if chosen.failures:
        query = query.where(sa.or_(o.c.number.is_(None), o.c.finish_reason == "failed"), _wanted(run))
    if chosen.wrong:
        s = db.scores.c
        below = sa.and_(s.scorer == chosen.wrong, s.number < 1, s.kind.in_(["pass", "fraction"]))
        query = query.where(sa.exists().where(s.run == run, s.trial == t.id, below))
    return query


def _trial_of(row: sa.RowMapping, scores: tuple[Score, ...]) -> TrialRow:
    return TrialRow(
        trial_id=row["trial_id"], variant_id=row["variant_id"], case_id=row["case_id"], repeat=row["repeat"],
        request_id=row["request_id"], messages=row["messages"] or [], inputs=row["inputs"],
        expected=row["expected"], tags=tuple(row["tags"]),
        output=output_of(row) if row["number"] is not None else None, scores=scores,
        quarantined=bool(row["quarantined"]), retrieved=passages_of(row["retrieved"], row["variant_settings"]["vars"]),
    )  # fmt: skip


def _scores_of(connection: sa.Connection, run: str, trials: Sequence[str]) -> dict[str, tuple[Score, ...]]:
    query = sa.select(db.scores).where(db.scores.c.run == run, db.scores.c.trial.in_(trials))
    found: dict[str, tuple[Score, ...]] = {}
    for row in connection.execute(query.order_by(db.scores.c.scorer)).mappings():
        value = row["number"] if row["number"] is not None else row["label"]
        score = Score(row["trial"], row["scorer"], row["key"], value, row["kind"], row["reason"])
        found[score.trial_id] = (*found.get(score.trial_id, ()), score)
    return found


def _scores_query(run: str, scorer: str) -> sa.Select[Any]:
    t, s = db.trials.c, db.scores.c
    return (
        sa.select(t.variant, t.case, t.repeat, s.number, s.label, s.kind)
        .join_from(db.scores, db.trials, sa.and_(t.run == s.run, t.id == s.trial))
        .where(s.run == run, s.scorer == scorer, is_counted(run, t.case))
    )


def planned_trials(connection: sa.Connection, run: str) -> dict[str, int]:
    """Variant → how many of its trials were to be asked and count."""
    kept = kept_usage(connection, [run])
    if run in kept and not quarantined_cases(connection, [run]):
        return {name: int(used["trials"]) for name, used in kept[run].items()}
    t = db.trials.c
    query = sa.select(t.variant, sa.func.count()).where(t.run == run, _wanted(run), is_counted(run, t.case))
    query = query.group_by(t.variant)
    return dict(map(tuple, connection.execute(query)))


def _wanted(run: str) -> sa.ColumnElement[bool]:
    """Leaves out trials that were never to be asked: in a complete run those without an output, since its question
    was settled before (`until`, `race`)."""
    status = sa.select(db.runs.c.status).where(db.runs.c.id == run).scalar_subquery()
    return sa.or_(db.trials.c.output.is_not(None), status != "complete")


def _counts(connection: sa.Connection, runs: list[str]) -> dict[str, tuple[int, int]]:
    """Run → (trials with an answer, trials that failed)."""
    kept = kept_usage(connection, runs)
    counts = {
        run: (sum(u["answered"] for u in used.values()), sum(u["failed"] for u in used.values()))
        for run, used in kept.items()
    }
    t = db.trials.c
    failed = sa.select(db.outputs.c.number).where(db.outputs.c.finish_reason == sa.literal_column("'failed'"))
    bad = sa.func.sum(sa.case((t.output.in_(failed), 1), else_=0))
    query = sa.select(t.run, sa.func.count(t.output), bad).group_by(t.run)
    others = [run for run in runs if run not in kept]
    for start in range(0, len(others), PAGE):
        rows = connection.execute(query.where(t.run.in_(others[start : start + PAGE])))
        counts.update({run: (had - bad, bad) for run, had, bad in rows})
    return counts


def _run_of(row: sa.RowMapping, counts: tuple[int, int]) -> Run:
    status = row["status"]
    if status == "running" and not is_alive(row):
        status = "interrupted"
    return Run(
        id=row["id"], suite=row["suite"], stage=row["stage"], status=status, started=row["started"],
        ended=row["ended"], planned=row["planned"], answered=counts[0], failed=counts[1], header=row["header"],
    )  # fmt: skip


def _positions(names: Any) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}
