"""Variants held against a reference on the same cases: difference, interval, p-value, and the verdict.

All rows of a table hold together: with m rows, each interval is made at 1 − alpha/m and each p-value is
multiplied by m (Bonferroni). A verdict needs both, so that a row never contradicts itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from workbench.errors import UnknownName, UseError
from workbench.records import Kind
from workbench.stats.distributions import z_upper
from workbench.stats.effect import EffectSize, effect_size
from workbench.stats.methods import Test, difference_method, why_no_interval
from workbench.stats.needed import POWER, whole_cases
from workbench.stats.reduce import Bounds, PairedSample, Sample, Scores, paired_sample, reduce_repeats
from workbench.stats.summary import check_confidence

Verdict = Literal[
    "better", "worse", "higher", "lower", "equivalent", "not enough data", "unchanged, not measured again"
]
"""`higher` and `lower` are for numbers without a range: whether more is better, no one has said. Unchanged is what
rests on the same answers on both sides, reused; only a view, which knows the answers, says so."""


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """One variant against the reference by one scorer."""

    variant: str
    reference: str
    kind: Kind
    margin: float
    confidence: float
    """Of all rows together."""
    rows: int
    """How many comparisons interval and p-value are corrected for."""
    difference: float | None = None
    """Mean of variant minus reference over common cases (clusters); None where there is none."""
    interval: Bounds | None = None
    p: float | None = None
    pairs: int = 0
    """Cases that both have scores for."""
    clusters: int | None = None
    wins: int = 0
    losses: int = 0
    ties: int = 0
    verdict: Verdict = "not enough data"
    cases_needed: int | None = None
    """Cases with which a true difference of the margin is found with a power of 80 %, by the measured
    variance of the paired differences; None where a verdict stands or nothing can be computed."""
    why: str = "no case has scores of both"
    """Why there is no interval; empty where there is one."""
    interval_method: str = ""
    test_method: str = ""
    effect: EffectSize | None = None
    """The difference without its unit, its intervals corrected as `interval` is; None where that is None."""

    @property
    def more_cases(self) -> int | None:
        """How many of the cases needed are still to come."""
        return None if self.cases_needed is None else max(0, self.cases_needed - self.pairs)


def compare_paired(
    columns: Scores,
    reference: str,
    margin: float = 0.05,
    confidence: float = 0.95,
    adjust: bool = True,
) -> list[PairedComparison]:
    """Each other variant against the reference, in the order of `columns.variants`; none for labels.

    `reference` is a variant's id, named beforehand: never the best one observed, which would flatter it.
    `adjust=False` gives each row by itself, without correction. Raises UnknownName for the reference,
    UseError for a confidence outside 0 to 1 or a negative margin."""
    check_confidence(confidence)
    if not 0 <= margin < math.inf:
        raise UseError(f"margin {margin:g} is not a difference of 0 or more; give one such as 0.05")
    if reference not in columns.variants:
        raise UnknownName("reference variant", reference, columns.variants)
    if columns.kind == "label":
        return []
    table, base = reduce_repeats(columns), columns.variants.index(reference)
    others = [i for i in range(len(columns.variants)) if i != base]
    rows = len(others) if adjust else 1
    empty = [PairedComparison(columns.variants[i], reference, columns.kind, margin, confidence, rows) for i in others]
    pairs = [paired_sample(table, i, base) for i in others]
    p_values = _p_values(pairs, rows)
    return [row if pair is None else _filled(row, pair, p) for row, pair, p in zip(empty, pairs, p_values, strict=True)]


def cases_needed(differences: Sample, margin: float, alpha: float) -> int | None:
    """Cases with which a two-sided t test finds a difference of `margin` with 80 % power.

    n = (z(1−alpha/2) + z(power))²·s²/margin² + z(1−alpha/2)²/2 (Guenther 1981, Am. Stat. 35:243), s from
    the measured paired differences. Without any variance: as many as make `constant_bound` as narrow as the
    margin. Clusters count as cases by their mean size. None below two units, for a margin of 0, for numbers without a
    range that do not vary, and above `needed.MOST_CASES`."""
    units = len(differences.values)
    if units < 2 or margin <= 0 or (differences.constant and differences.bounds is None):
        return None
    if differences.constant:
        needed = math.log(alpha / 2) / math.log1p(-margin) if margin < 1 else 1.0
    else:
        z = z_upper(alpha / 2)
        ratio = (z + z_upper(1 - POWER)) * (float(differences.values.std(ddof=1)) / margin)
        needed = ratio * ratio + z * z / 2
    return whole_cases(needed * differences.cases / units)


def _p_values(pairs: Sequence[PairedSample | None], rows: int) -> list[float | None]:
    """The corrected p-value of each pair; pairs of one test go through it together."""
    groups: dict[tuple[str, Test], dict[int, PairedSample]] = {}
    for i, pair in enumerate(pairs):
        test = None if pair is None else difference_method(pair).test
        if pair is not None and test is not None:
            groups.setdefault(test, {})[i] = pair
    p: dict[int, float] = {}
    for (_, run_test), chosen in groups.items():
        p.update(zip(chosen, run_test(list(chosen.values())), strict=True))
    return [min(1.0, rows * p[i]) if i in p else None for i in range(len(pairs))]


def _filled(row: PairedComparison, pair: PairedSample, p: float | None) -> PairedComparison:
    method, differences = difference_method(pair), pair.differences
    alpha = (1 - row.confidence) / row.rows
    interval = method.difference[1](pair, alpha) if method.difference else None
    verdict = _verdict(row, interval, p)
    undecided = verdict == "not enough data" and row.kind != "number"
    return replace(
        row,
        difference=float(differences.values.mean()),
        interval=interval,
        p=p,
        pairs=differences.cases,
        clusters=len(differences.values) if differences.clustered else None,
        wins=pair.wins,
        losses=pair.losses,
        ties=pair.ties,
        verdict=verdict,
        cases_needed=cases_needed(differences, row.margin, alpha) if undecided else None,
        why="" if interval else why_no_interval(differences),
        interval_method=method.difference[0] if method.difference else "",
        test_method=method.test[0] if method.test else "",
        effect=effect_size(pair, 1 - alpha) if interval else None,
    )


def _verdict(row: PairedComparison, interval: Bounds | None, p: float | None) -> Verdict:
    """The interval must exclude 0 and the test agree; else the interval may lie within the margin."""
    if interval is None or p is None:
        return "not enough data"
    number, shown = row.kind == "number", p <= 1 - row.confidence
    if interval[0] > 0 and shown:
        return "higher" if number else "better"
    if interval[1] < 0 and shown:
        return "lower" if number else "worse"
    if not number and -row.margin <= interval[0] and interval[1] <= row.margin:
        return "equivalent"
    return "not enough data"
