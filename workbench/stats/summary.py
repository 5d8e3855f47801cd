"""What each variant scored: the mean, its interval, and the numbers that they rest on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.errors import UseError
from workbench.records import Kind
from workbench.stats.methods import mean_method, why_no_interval
from workbench.stats.reduce import Bounds, CaseTable, Scores, entry_counts, reduce_repeats, sample

MOST_CONFIDENCE = 1 - 1e-9
"""Beyond, what is left for an error is lost in rounding once it is shared out among comparisons."""


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """One variant's scores by one scorer."""

    variant: str
    kind: Kind
    mean: float | None
    """Over cases, each the mean of its repeats; over clusters, each counting once, where cases are clustered.
    None for labels and where nothing is scored."""
    interval: Bounds | None
    why: str
    """Why there is no interval; empty where there is one."""
    cases: int
    clusters: int | None
    """None where no two cases share a cluster."""
    scores: int
    repeats: int
    """The most scores that one case has."""
    missing: int
    """Trials without a score: failed, unscored, or not run yet."""
    method: str
    confidence: float
    counts: tuple[tuple[str, int], ...] = ()
    """For labels: how often each was given, the most frequent first."""


def summarise(columns: Scores, confidence: float = 0.95) -> list[VariantSummary]:
    """One summary a variant, in the order of `columns.variants`. The methods stand in `methods.METHODS`.

    Raises UseError for a confidence outside 0 to 1, or values that the kind does not allow."""
    check_confidence(confidence)
    if columns.kind == "label":
        return [_label_summary(columns, i, confidence) for i in range(len(columns.variants))]
    table = reduce_repeats(columns)
    return [_summary(columns, table, i, confidence) for i in range(len(columns.variants))]


def check_confidence(confidence: float) -> None:
    if not 0 < confidence <= MOST_CONFIDENCE:
        told = f"confidence {confidence:.10g} is not between 0 and 1, or too near to 1"
        raise UseError(f"{told}; give a share such as 0.95")


def _summary(columns: Scores, table: CaseTable, variant: int, confidence: float) -> VariantSummary:
    counts = table.counts[variant]
    values = sample(table, variant)
    mean: float | None = None
    interval, method, why, clusters = None, "", "nothing is scored", None
    if values is not None:
        mean = float(values.values.mean())
        clusters = len(values.values) if values.clustered else None
        chosen = mean_method(values).mean
        method, why = (chosen[0], "") if chosen else ("", why_no_interval(values))
        interval = chosen[1](values, 1 - confidence) if chosen else None
    return VariantSummary(
        variant=columns.variants[variant],
        kind=columns.kind,
        mean=mean,
        interval=interval,
        why=why,
        cases=int((counts > 0).sum()),
        clusters=clusters,
        scores=int(counts.sum()),
        repeats=int(counts.max(initial=0)),
        missing=missing_of(columns, variant),
        method=method,
        confidence=confidence,
    )


def _label_summary(columns: Scores, variant: int, confidence: float) -> VariantSummary:
    mine = np.asarray(columns.variant, dtype=np.int64) == variant
    number = entry_counts(columns)[mine]
    cases = np.bincount(np.asarray(columns.case, dtype=np.int64)[mine], weights=number).astype(np.int64)
    values, at = np.unique(np.asarray(columns.value, dtype=np.float64)[mine], return_inverse=True)
    given = np.bincount(at, weights=number, minlength=len(values)).astype(np.int64).tolist()
    texts = [columns.labels[int(v)] if columns.labels else f"{v:g}" for v in values.tolist()]
    return VariantSummary(
        variant=columns.variants[variant],
        kind=columns.kind,
        mean=None,
        interval=None,
        why="labels have no mean",
        cases=int((cases > 0).sum()),
        clusters=None,
        scores=int(number.sum()),
        repeats=int(cases.max(initial=0)),
        missing=missing_of(columns, variant),
        method="counts",
        confidence=confidence,
        counts=tuple(sorted(zip(texts, given, strict=True), key=lambda item: (-item[1], item[0]))),
    )


def missing_of(columns: Scores, variant: int) -> int:
    return columns.missing[variant] if columns.missing else 0
