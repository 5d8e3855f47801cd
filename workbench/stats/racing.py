"""A race: variants that can no longer be among the best are dropped, look after look.

A variant is dropped when `keep` others are proven better. One of the `keep` truly best can then be dropped
wrongly only where one of the other n − keep is proven better than it, so each of these keep·(n − keep) one-sided
comparisons gets its share of the error (Bonferroni), spent over the looks of a group-sequential plan
(`sequential`). The idea of racing: Maron and Moore 1997, Artif. Intell. Rev. 11:193.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workbench.records import ScoreColumns
from workbench.stats.methods import FEWEST_CASES, FEWEST_CLUSTERS
from workbench.stats.reduce import ROUNDING, CaseTable, Floats, Ints, paired_sample, reduce_repeats
from workbench.stats.sequential import Look, plan_levels

RIVALS = 64
"""Variants are held only against the best so far: who beats one of the rest is beaten by these, too."""

_Units = Literal["binary", "cases", "clusters"]


@dataclass(frozen=True, slots=True)
class Place:
    """How a variant stands in a race that is not among the `keep` best so far."""

    variant: str
    dropped: bool
    """`keep` others are proven better."""
    against: str
    """Of a dropped one the best of those that are proven better; else the last of the `keep` best so far."""
    difference: float
    """Its mean less that one's, over their common cases (clusters)."""
    pairs: int
    """Cases, or clusters, that both have scores for."""
    cases_needed: int | None = None
    """See `sequential.Look.cases_needed`: until a true difference of the margin is most likely proven; None for a
    dropped one, too."""


@dataclass(frozen=True, slots=True)
class Field:
    """A race at one look."""

    best: tuple[str, ...]
    """The `keep` best so far."""
    places: tuple[Place, ...]
    """The others that have scores, the best first."""


def race_levels(looks: Sequence[int], variants: int, keep: int, confidence: float) -> tuple[float, ...]:
    """The two-sided level of each comparison at each look, of which a race takes one side."""
    return plan_levels(looks, 2 * (1 - confidence) / max(1, keep * (variants - keep)))


def race_field(columns: ScoreColumns, live: Sequence[str], keep: int, look: Look, margin: float) -> Field:
    """How the live variants stand: dropped are those that `keep` others are proven better than; the `keep` best so far
    always stay. Higher scores are better. The margin is only for `cases_needed`."""
    at = [columns.variants.index(name) for name in live]
    table = reduce_repeats(columns)
    values, there = _units(table, at)
    counts = there.sum(axis=0)
    means = np.divide(values.sum(axis=0), counts, out=np.full(len(at), -np.inf), where=counts > 0)
    ranked = np.argsort(-means, kind="stable")
    rivals = ranked[: max(RIVALS, keep)]
    kind: _Units = "binary" if _is_binary(table, at) else "clusters" if table.clusters is not None else "cases"
    better, difference, pairs = _proven(values, there, rivals, look.level / 2, kind)
    places = []
    for i in ranked[keep:]:
        beaten_by = np.flatnonzero(better[:, i])
        dropped = len(beaten_by) >= keep
        rival = beaten_by[0] if dropped else keep - 1  # rivals are ranked
        pair = None if dropped else paired_sample(table, at[i], at[rivals[rival]])
        needed = None if pair is None else look.cases_needed(pair.differences, margin)
        if pairs[rival, i]:
            against, less = live[rivals[rival]], 0.0 - float(difference[rival, i])
            places.append(Place(live[i], dropped, against, less, int(pairs[rival, i]), needed))
    return Field(tuple(live[i] for i in ranked[:keep]), tuple(places))


def _proven(
    values: Floats, there: Floats, rivals: Ints, level: float, kind: _Units
) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Rival × variant: whether the rival is proven better, the mean difference, the common units.

    Sums over the units that both have: of 0/1 scores all pairs at once by products of matrices; else rival by rival,
    for a variance by such products is lost in rounding where differences hardly vary."""
    from scipy.stats import binom, t

    x, m = values[:, rivals], there[:, rivals]
    pairs = m.T @ there
    n = np.maximum(pairs, 2)
    enough = pairs >= (FEWEST_CLUSTERS if kind == "clusters" else FEWEST_CASES)
    if kind == "binary":  # McNemar, one-sided and exact
        wins, losses = x.T @ (there - values), (m - x).T @ values
        mean = (wins - losses) / n
        return (binom.cdf(losses, wins + losses, 0.5) <= level) & (mean > 0) & enough, mean, pairs
    mean, variance = np.empty(n.shape), np.empty(n.shape)
    for k in range(len(rivals)):
        both = m[:, [k]] * there
        mean[k] = ((x[:, [k]] - values) * both).sum(axis=0) / n[k]
        variance[k] = (((x[:, [k]] - values - mean[k]) * both) ** 2).sum(axis=0) / (n[k] - 1)
    constant = variance <= ROUNDING**2
    p = np.where(constant, 0.5**n, t.sf(mean / np.sqrt(np.where(constant, 1.0, variance) / n), n - 1))
    return (p <= level) & (mean > ROUNDING) & enough, mean, pairs


def _units(table: CaseTable, at: Sequence[int]) -> tuple[Floats, Floats]:
    """Unit × variant: the means of cases, or of clusters where cases belong together, 0 where there is none;
    and 1 where there is one."""
    there = (table.counts[at] > 0).astype(float)
    values = table.means[at] * there
    if table.clusters is not None:
        member = np.eye(int(table.clusters.max()) + 1)[table.clusters]
        sums, sizes = values @ member, there @ member
        values, there = sums / np.maximum(sizes, 1), (sizes > 0).astype(float)
    return values.T, there.T


def _is_binary(table: CaseTable, at: Sequence[int]) -> bool:
    """Single 0/1 scores: no repeats, no clusters."""
    return table.binary and table.clusters is None and int(table.counts[at].max(initial=0)) == 1
