"""What a suite can see: the smallest difference, the cases for a wished one, and whether repeats would help.

All from the measured variance of paired differences; the observed difference never enters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workbench.errors import UseError
from workbench.records import ScoreColumns
from workbench.stats.distributions import z_upper
from workbench.stats.methods import difference_method
from workbench.stats.needed import POWER, whole_cases
from workbench.stats.reduce import CaseTable, Floats, PairedSample, Sample, Scores, paired_sample, reduce_repeats

AS_GOOD = 1.1
"""So many times the trials are as good: repeats need no new case."""


@dataclass(frozen=True, slots=True)
class VarianceSplit:
    """Where the variance of a case's paired difference comes from."""

    between: float
    """Of the true differences of cases; more cases average it, more repeats do not."""
    within: float
    """Of one repeat's difference about its case's true one; both average it."""
    cases: int
    repeats: float
    """Harmonic mean of the repeats a case."""

    def of_mean(self, cases: int, repeats: float) -> float:
        """The variance of the mean difference with so many cases and repeats."""
        return (self.between + self.within / repeats) / cases


@dataclass(frozen=True, slots=True)
class Needed:
    """What would find a wished difference with 80 % power."""

    cases: int | None
    """In all, with the repeats as they are; None for more than `needed.MOST_CASES`."""
    repeats: int | None
    """A case, with the cases as they are; None where no number of repeats is enough."""
    add: str
    """`nothing`, `cases` or `repeats`."""


def smallest_difference(differences: Sample, alpha: float) -> float | None:
    """The smallest true difference that a two-sided test at `alpha` finds with 80 % power; the inverse of
    `paired.cases_needed` (Guenther 1981, Am. Stat. 35:243). None where there are too few units for it, or numbers
    without a range that do not vary."""
    n = len(differences.values)
    if differences.constant:
        return None if differences.bounds is None else 1 - math.exp(math.log(alpha / 2) / n)
    z = z_upper(alpha / 2)
    if n < 2 or n <= z * z / 2:
        return None
    spread = float(differences.values.std(ddof=1))
    return (z + z_upper(1 - POWER)) * spread / math.sqrt(n - z * z / 2)


def suite_sees(columns: Scores, reference: str, confidence: float = 0.95) -> float | None:
    """The difference to `reference` that a run's table finds with 80 % power for every variant, corrected for the
    number of rows as the table is: the largest of their smallest differences. None without a comparison, and where so
    few cases can't show any, however large it is."""
    if columns.kind == "label" or reference not in columns.variants or len(columns.variants) < 2:
        return None
    table, base = reduce_repeats(columns), columns.variants.index(reference)
    alpha = (1 - confidence) / (len(columns.variants) - 1)
    pairs = [paired_sample(table, i, base) for i in range(len(columns.variants)) if i != base]
    found = [smallest_difference(p.differences, alpha) for p in pairs if p is not None and _can_show(p, alpha)]
    seen = [difference for difference in found if difference is not None]
    return max(seen) if seen and len(seen) == len(pairs) else None


def _can_show(pair: PairedSample, alpha: float) -> bool:
    """Whether the table's test can come to a p-value of alpha at all: McNemar's and the sign-flip test count the ways
    in which n differences can point, of which the most extreme two have a share of 2 ÷ 2ⁿ."""
    if difference_method(pair).test is None:
        return False
    return pair.first.clustered or 2.0 ** (1 - len(pair.first.values)) <= alpha


def variance_split(columns: ScoreColumns, variant: str, reference: str) -> VarianceSplit | None:
    """The variance of the paired differences, split by the method of moments: what repeats show within cases is taken
    from what cases show (Searle, Casella and McCulloch 1992, Variance Components, § 3.6). None where fewer than two
    common cases have two repeats of both. Cases count as independent; clusters are not looked at."""
    table = reduce_repeats(columns)
    first, second = columns.variants.index(variant), columns.variants.index(reference)
    both = (table.counts[[first, second]] > 1).all(axis=0)
    if both.sum() < 2:
        return None
    variances = _within(columns, table)
    counts = table.counts[[first, second]][:, both]
    noise = (variances[[first, second]][:, both] / counts).sum(axis=0)
    differences = table.means[first, both] - table.means[second, both]
    repeats = float(1 / (1 / counts).mean())
    between = max(0.0, float(differences.var(ddof=1)) - float(noise.mean()))
    return VarianceSplit(between, float(noise.mean()) * repeats, int(both.sum()), repeats)


def needed(split: VarianceSplit, difference: float, alpha: float = 0.05) -> Needed:
    """Cases, or repeats, with which a true `difference` is found with 80 % power, and which of the two to add.

    A trial spent on a new case averages both parts of the variance, one spent on a repeat only the part within. So
    repeats are the answer only where they ask for at most a tenth more trials in all: where next to no variance lies
    between cases, and no new case need be found. Raises UseError for a difference of 0."""
    if not difference > 0:
        raise UseError(f"difference {difference:g} is not above 0; give one such as 0.05")
    z = z_upper(alpha / 2)
    factor = (z + z_upper(1 - POWER)) ** 2
    between, within = (part / difference / difference for part in (split.between, split.within))
    needed = factor * (between + within / split.repeats) + z * z / 2
    cases = whole_cases(needed)
    room = (split.cases - z * z / 2) / factor - between
    repeats = whole_cases(max(1.0, within / room)) if room > 0 else None
    if needed <= split.cases:
        return Needed(cases, repeats, "nothing")
    easy = repeats is not None and repeats * split.cases <= AS_GOOD * needed * split.repeats
    return Needed(cases, repeats, "repeats" if easy else "cases")


def _within(columns: ScoreColumns, table: CaseTable) -> Floats:
    """Variant × case: the variance of the repeats; 0 where there are fewer than two."""
    variant, case = np.asarray(columns.variant, dtype=np.int64), np.asarray(columns.case, dtype=np.int64)
    apart = np.asarray(columns.value, dtype=np.float64) - table.means[variant, case]
    cell, shape = variant * table.means.shape[1] + case, table.means.shape
    squares = np.bincount(cell, weights=apart**2, minlength=table.means.size).reshape(shape)
    return np.asarray(squares / np.maximum(table.counts - 1, 1))
