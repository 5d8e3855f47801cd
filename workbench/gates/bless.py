"""A stored run becomes a baseline: what later runs are held against.

A variant that was picked among several looks better than it is: the best of 24 equal ones would fail its own
unchanged prompt in a third of the runs. So one of several is blessed only from answers that it gave after it
was picked, to requests with new seeds; all variants of a run together are no choice, and need nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.define.baseline import Baseline, BaselineCase, BaselineVariant, CaseScores, short_key
from workbench.define.shards import refuse_shard
from workbench.errors import UseError
from workbench.records import Run, ScoreColumns
from workbench.store import measures, whole
from workbench.store.runs import VariantRow, run_scorers, run_variants, score_columns


def make_baseline(connection: Any, run: Run, message: str = "", picked_of: int | None = None) -> Baseline:
    """The baseline of a complete run, with all its variants; labels are left out, they have no mean.

    Raises UseError where the run is not complete, misses answers beyond what its suite allows, or has no
    scores."""
    refuse_shard(run)
    if run.status != "complete":
        raise UseError(f"run {run.id} is {run.status}, so its scores are not whole; finish it, or bless another")
    if problem := whole.lacking(connection, run).problem:
        raise UseError(f"the scores of run {run.id} are not whole: {problem}; run the suite again")
    variants = run_variants(connection, run.id)
    columns = [score_columns(connection, run.id, name) for name, _ in run_scorers(connection, run.id)]
    columns = [c for c in columns if c.kind != "label" and len(c.value)]
    if not columns:
        raise UseError(f"run {run.id} has no scores that have a mean; add a scorer to the suite and run it again")
    asked = measures.asked_by(connection, run.id)
    return Baseline(
        suite=run.suite,
        run=run.id,
        message=message,
        asked=tuple(sorted(set().union(*asked.values()))),
        measured=len(variants),
        picked_of=picked_of,
        variants=tuple(_variant(v, run) for v in variants),
        scorers={c.scorer: c.kind for c in columns},
        cases=_cases(connection, run, columns),
    )


def refuse_picked(connection: Any, run: Run, wanted: VariantRow | None) -> None:
    """Raises UseError where a variant was picked among several by the scores that would be blessed: one of a
    run's, what a race kept, or a run of few that reuses the answers of a run of more. `wanted`: None for all."""
    own = run_variants(connection, run.id)
    if (wanted is not None or run.header.get("race")) and len(own) > 1:  # a race picks, too
        _refuse(run.id, len(own), run.id, wanted.id if wanted else "VARIANT")
    askers = set().union(*measures.asked_by(connection, run.id).values()) - {run.id}
    for asker in sorted(askers):
        measured = len(run_variants(connection, asker))
        if measured > len(own):
            _refuse(run.id, measured, asker, own[0].id if len(own) == 1 else "VARIANT")


def _refuse(run: str, measured: int, by: str, variant: str) -> None:
    raise UseError(
        f"its scores come from run {by}, which measured {measured} variants: the one that is picked looks better than "
        "it is, and its own unchanged prompt would fail later; have it measured again with new seeds: workbench "
        f"baseline bless {run} --variant {variant[:12]} --again; or bless a run of all {measured}, without --variant"
    )


def _variant(variant: VariantRow, run: Run) -> BaselineVariant:
    settings = variant.settings
    return BaselineVariant(
        id=variant.id,
        label=variant.label,
        prompt=variant.prompt,
        revision=variant.revision,
        model=variant.model,
        identity=run.header["models"][variant.model]["identity"],
        params=settings.get("params", {}),
        vars=settings.get("vars", {}),
        answer=settings.get("answer", {}),
    )


def _cases(connection: Any, run: Run, columns: Sequence[ScoreColumns]) -> dict[str, BaselineCase]:
    """The cases that have a score."""
    scores: dict[str, dict[str, CaseScores]] = {}
    for c in columns:
        keys = measures.case_score_keys(connection, run.id, c.scorer)
        shape = (len(c.cases), len(c.variants))
        cell = np.asarray(c.case, dtype=np.int64) * shape[1] + np.asarray(c.variant, dtype=np.int64)
        counts = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).tolist()
        sums = np.bincount(cell, weights=np.asarray(c.value), minlength=shape[0] * shape[1]).reshape(shape).tolist()
        for case, total, count in zip(c.cases, sums, counts, strict=True):
            if any(count) and case in keys:
                of = tuple((s, n) if n else None for s, n in zip(total, count, strict=True))
                scores.setdefault(case, {})[c.scorer] = CaseScores(short_key(keys[case]), of)
    rows = measures.case_rows(connection, run.id)
    return {row.id: BaselineCase(short_key(row.key), scores[row.id], row.cluster) for row in rows if row.id in scores}
