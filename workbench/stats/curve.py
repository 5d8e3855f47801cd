"""How scores go along a numeric axis of a sweep: a mean for each value, and bands that hold for all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench.errors import UseError
from workbench.records import ScoreColumns
from workbench.stats.intervals import t_interval
from workbench.stats.methods import too_few
from workbench.stats.reduce import Bounds, Floats, Sample, Scores, reduce_repeats
from workbench.stats.summary import summarise


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The mean at one value of the axis, over the variants that have it."""

    at: float
    variants: int
    mean: float | None
    interval: Bounds | None
    """Holds together with those of all other points (Bonferroni)."""


@dataclass(frozen=True, slots=True)
class ResponseCurve:
    """Means along a numeric axis, on the cases that all variants have scores for."""

    points: tuple[CurvePoint, ...]
    """By rising value."""
    slope: float | None
    """Of the straight line through each case's means, averaged over cases (clusters): by how much the score rises for
    1 more on the axis. A curve that rises and falls may have a slope of 0."""
    slope_interval: Bounds | None
    """Student's t on the cases' slopes; None for few cases or slopes that do not vary."""
    cases: int
    confidence: float


def response_curve(columns: Scores, values: Sequence[float], confidence: float = 0.95) -> ResponseCurve:
    """The curve; `values`: the place of every variant on the axis, in the order of `columns.variants`.

    All scores of one value's variants count as repeats, so that what else a sweep varies is averaged out evenly; the
    intervals are those of any mean (`methods`) at 1 − alpha/points. Slope: summary-measures analysis (Matthews et al.
    1990, BMJ 300:230), the ordinary least-squares slope of each case as its one value. Raises UseError for labels,
    fewer than two values, values that do not fit the variants, and no common case."""
    if len(values) != len(columns.variants):
        raise UseError("a curve needs the value of every variant")
    places = sorted(set(values))
    if columns.kind == "label" or len(places) < 2:
        raise UseError("a curve needs scores that have a mean, and two values of the axis at least")
    common = np.asarray((reduce_repeats(columns).counts > 0).all(axis=0))
    if not common.any():
        raise UseError("a curve needs cases that all variants have scores for; there are none")
    merged = _merged(columns, [places.index(value) for value in values], common, len(places))
    summaries = summarise(merged, 1 - (1 - confidence) / len(places))
    points = tuple(
        CurvePoint(at, list(values).count(at), found.mean, found.interval)
        for at, found in zip(places, summaries, strict=True)
    )
    slopes = _slopes(merged, np.array(places, dtype=float))
    known = not too_few(slopes) and len(slopes.values) > 1 and not slopes.constant
    bounds = t_interval(slopes, 1 - confidence) if known else None
    return ResponseCurve(points, float(slopes.values.mean()), bounds, int(common.sum()), confidence)


def _merged(columns: Scores, place: Sequence[int], common: np.ndarray, places: int) -> Scores:
    """The columns of the common cases with the axis's values in place of the variants."""
    case = np.asarray(columns.case, dtype=np.int64)
    keep = common[case]
    number = np.cumsum(common) - 1
    kept = np.flatnonzero(common).tolist()
    name = "repeat" if isinstance(columns, ScoreColumns) else "count"
    return replace(
        columns,
        **{name: np.asarray(getattr(columns, name))[keep].tolist()},
        variants=tuple(str(i) for i in range(places)),
        cases=tuple(columns.cases[i] for i in kept),
        clusters=tuple(columns.clusters[i] for i in kept),
        variant=np.asarray(place)[np.asarray(columns.variant, dtype=np.int64)[keep]].tolist(),
        case=number[case[keep]].tolist(),
        value=np.asarray(columns.value, dtype=float)[keep].tolist(),
        missing=(),
    )


def _slopes(merged: Scores, places: Floats) -> Sample:
    """The slope of each case, or cluster."""
    table = reduce_repeats(merged)
    away = places - places.mean()
    slopes = (away @ table.means) / float(away @ away)
    if table.clusters is not None:
        _, unit = np.unique(table.clusters, return_inverse=True)
        slopes = np.bincount(unit, weights=slopes) / np.bincount(unit)
    largest = float(np.abs(table.means).max() * (np.abs(away).sum() / (away @ away)))
    return Sample(slopes, len(merged.cases), clustered=table.clusters is not None, largest=largest)
