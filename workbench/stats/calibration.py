"""Whether stated probabilities come true as often as they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.errors import UseError


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Answers whose confidence lies in (low, high]; the first bin holds `low` too."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean of the stated probabilities."""
    accuracy: float
    """Share that was right."""


@dataclass(frozen=True, slots=True)
class CalibrationTable:
    error: float
    """Expected calibration error, 0…1."""
    largest: float
    """Maximum calibration error: the largest gap of a bin."""
    count: int
    bins: tuple[ReliabilityBin, ...]
    """The bins that hold an answer."""


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[bool], bins: int = 10
) -> CalibrationTable:
    """ECE = Σ over bins of (count ÷ n)·|accuracy − mean confidence|, bins of equal width (Naeini et al.
    2015, AAAI; Guo et al. 2017, arXiv 1706.04599, eq. 3). It depends on the number of bins and is biased upwards
    for few answers: a perfectly calibrated model has an ECE above 0. Raises UseError for values outside 0…1,
    lengths that differ, or nothing at all."""
    stated, right = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=float)
    if bins < 1 or len(stated) != len(right) or not len(stated):
        raise UseError("calibration needs at least one bin, and one outcome for each of at least one confidence")
    if not ((stated >= 0) & (stated <= 1)).all():
        raise UseError("confidences must lie between 0 and 1")
    place = np.clip(np.ceil(stated * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for number in np.unique(place):
        inside = place == number
        ends = (float(number / bins), float((number + 1) / bins))
        rows.append(ReliabilityBin(*ends, int(inside.sum()), float(stated[inside].mean()), float(right[inside].mean())))
    gaps = [abs(row.accuracy - row.confidence) for row in rows]
    error = sum(row.count * gap for row, gap in zip(rows, gaps, strict=True)) / len(stated)
    return CalibrationTable(error, max(gaps), len(stated), tuple(rows))
