"""Scores reduced in SQL to one value a case, for pages that must not read every score of a big run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import sqlalchemy as sa

from workbench.records import CaseScores, Json
from workbench.store import database as db
from workbench.store.kept import kept_sums, kept_usage
from workbench.store.runs import (
    is_counted,
    planned_trials,
    quarantined_cases,
    run_variants,
    suite_order,
    usage,
    variants_of,
)


def case_scores(connection: sa.Connection, run: str, scorer: str | None = None) -> dict[str, CaseScores]:
    """Scorer → its scores, added up over repeats, of all scorers in the suite's order; or of the one asked for, which
    may have none. Those of quarantined cases are left out."""
    kept = kept_sums(connection, [run], scorer).get(run)
    sums = _added_up_now(connection, run, scorer) if kept is None else kept
    names = [scorer] if scorer is not None else suite_order(connection, run, sums)
    empty, planned = _empty(connection, [run])[run], planned_trials(connection, run)
    return {name: _filled(empty, name, sums.get(name), planned) for name in names}


def case_scores_of(connection: sa.Connection, runs: Sequence[str], scorer: str) -> dict[str, CaseScores]:
    """Run → its scores by one scorer, as of `case_scores`; the runs that are kept are read together."""
    kept, used = kept_sums(connection, runs, scorer), kept_usage(connection, runs)
    empty, aside = _empty(connection, list(kept)), quarantined_cases(connection, runs)
    found = {}
    for run in runs:
        if run in kept and run not in aside:
            planned = {name: int(u["trials"]) for name, u in used[run].items()}
            found[run] = _filled(empty[run], scorer, kept[run].get(scorer), planned)
        else:
            found[run] = case_scores(connection, run, scorer)[scorer]
    return found


def sums_of(scores: CaseScores) -> Json:
    """What is kept of a scorer's scores; `_filled` reads it. None where a value can't be kept: a sum of infinities."""
    if not all(map(math.isfinite, (*scores.value, scores.lowest, scores.highest))):
        return None
    return {
        "kind": scores.kind, "variant": list(scores.variant), "case": list(scores.case), "count": list(scores.count),
        "value": list(scores.value), "lowest": scores.lowest, "highest": scores.highest,
        "zero_or_one": scores.zero_or_one, "labels": list(scores.labels),
    }  # fmt: skip


def _empty(connection: sa.Connection, runs: Sequence[str]) -> dict[str, CaseScores]:
    """Run → its variants and cases, without a score."""
    c, cases, clusters = db.cases.c, defaultdict[str, list[str]](list), defaultdict[str, list[str | None]](list)
    for start in range(0, len(runs), db.CHUNK):
        query = sa.select(c.run, c.id, c.cluster).where(c.run.in_(runs[start : start + db.CHUNK])).order_by(c.position)
        for run, case, cluster in connection.execute(query):
            cases[run].append(case)
            clusters[run].append(cluster)
    variants = variants_of(connection, runs)
    return {
        run: CaseScores(
            "", "number", tuple(v.id for v in variants.get(run, ())), tuple(cases[run]), tuple(clusters[run]),
            (), (), (), (),
        )
        for run in runs
    }  # fmt: skip


def _filled(empty: CaseScores, scorer: str, sums: Any, planned: Mapping[str, int]) -> CaseScores:
    """`empty` with a scorer's sums, if it has any."""
    had = [0] * len(empty.variants)
    for variant, count in zip(sums["variant"], sums["count"], strict=True) if sums else ():
        had[variant] += count
    missing = tuple(planned.get(name, 0) - number for name, number in zip(empty.variants, had, strict=True))
    if not sums:
        return replace(empty, scorer=scorer, variant=[], case=[], count=[], value=[], missing=missing)
    return replace(empty, **{**sums, "labels": tuple(sums["labels"])}, scorer=scorer, missing=missing)


def _added_up_now(connection: sa.Connection, run: str, scorer: str | None) -> dict[str, Any]:
    """Scorer → its sums, added up from its single scores."""
    s, t = db.scores.c, db.trials.c
    query = (
        sa.select(
            s.scorer, t.variant, t.case, s.label, sa.func.count(s.number), sa.func.count(s.label),
            sa.func.sum(s.number), sa.func.min(s.number), sa.func.max(s.number), sa.func.min(s.kind),
            sa.func.sum(sa.case((sa.or_(s.number.is_(None), s.number.in_((0, 1))), 0), else_=1)),
        )
        .join_from(db.scores, db.trials, sa.and_(t.run == s.run, t.id == s.trial))
        .where(s.run == run, is_counted(run, t.case))
        .group_by(t.variant, t.case, s.scorer, s.label)
    )  # fmt: skip
    if scorer is not None:
        query = query.where(s.scorer == scorer)
    found: dict[str, list[Any]] = {}
    for row in connection.execute(query).all():
        found.setdefault(row[0], []).append(row)
    empty = _empty(connection, [run])[run]
    at_variant = {name: i for i, name in enumerate(empty.variants)}
    at_case = {name: i for i, name in enumerate(empty.cases)}
    return {name: _added_up(rows, at_variant, at_case) for name, rows in found.items()}


def _added_up(rows: Sequence[Any], at_variant: Mapping[str, int], at_case: Mapping[str, int]) -> dict[str, Any]:
    """The sums of one scorer's rows."""
    scored = [row for row in rows if row[4] or row[5]]
    scored.sort(key=lambda row: (at_variant[row[1]], at_case[row[2]], row[3] or ""))  # databases go by their own order
    _, variant, case, label, numbers, labelled, total, low, high, kinds, others = (
        zip(*scored, strict=True) if scored else ((),) * 11
    )
    texts = {text: i for i, text in enumerate(sorted({text for text in label if text is not None}))}
    return {
        "kind": min(kinds) if scored else rows[0][9],
        "variant": [at_variant[name] for name in variant],
        "case": [at_case[name] for name in case],
        "count": [a or b for a, b in zip(numbers, labelled, strict=True)],
        # A sum without a value is one of infinities, which statistics refuse.
        "value": [
            float(texts[text]) if text is not None else math.nan if x is None else x
            for x, text in zip(total, label, strict=True)
        ],
        "lowest": min((x for x in low if x is not None), default=0.0),
        "highest": max((x for x in high if x is not None), default=0.0),
        "zero_or_one": not any(others),
        "labels": list(texts),
    }


def grouped_scores(
    connection: sa.Connection, run: str, scorer: str, by: Literal["model", "revision"], prompt: str | None = None
) -> CaseScores:
    """One scorer's scores by model or by revision (in place of variants): a group's value for a case is the mean of
    its variants and repeats. Labels have no mean: their columns are empty. `prompt` leaves out all others.
    """
    scores, variants = case_scores(connection, run, scorer)[scorer], run_variants(connection, run)
    chosen = [i for i, v in enumerate(variants) if prompt in (None, v.prompt)]
    groups = {name: i for i, name in enumerate(dict.fromkeys(getattr(variants[i], by) for i in chosen))}
    at_group = {i: groups[getattr(variants[i], by)] for i in chosen}
    cells: dict[tuple[int, int], tuple[float, int]] = {}
    missing = [0] * len(groups)
    for i in chosen:
        missing[at_group[i]] += scores.missing[i]
    for variant, case, count, value in zip(scores.variant, scores.case, scores.count, scores.value, strict=True):
        if variant in at_group and scores.kind != "label":
            total, number = cells.get((at_group[variant], case), (0.0, 0))
            cells[at_group[variant], case] = (total + value, number + count)
    several = any(count > 1 for _, count in cells.values())
    return replace(
        scores,
        kind="fraction" if scores.kind == "pass" and several else scores.kind,
        variants=tuple(groups),
        variant=[group for group, _ in cells],
        case=[case for _, case in cells],
        count=[1] * len(cells),
        value=[total / count for total, count in cells.values()],
        zero_or_one=scores.zero_or_one and not several,
        missing=tuple(missing),
        labels=(),
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
    used, found = usage(connection, run), dict[str, tuple[int, float | None, float | None]]()
    for v in run_variants(connection, run):
        if v.id in used and (u := used[v.id]).answered + u.failed:
            tokens, cost, seconds = found.get(v.model, (0, 0.0, None))
            known = None if cost is None or (u.cost is None and u.answered) else cost + (u.cost or 0.0)
            found[v.model] = (tokens + u.prompt_tokens + u.output_tokens, known, (seconds or 0.0) + u.seconds or None)
    return found
