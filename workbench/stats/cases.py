"""Which cases deserve a look: hard, disputed, flaky, suspicious, and ones that say nearly the same.

Pure kernels over counted values: how often each variant was given each value on each case.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from workbench.stats.reduce import Floats, Ints

STRONG = 0.5
"""A strong variant has at least this mean, and at least the median of all variants' means."""
ALIKE = 0.9
"""Texts of at least this similarity (1 − edits ÷ characters of both) are near-duplicates."""
SHINGLE = 5
"""Characters of the pieces that texts are compared by before they are compared whole."""
BANDS, ROWS = 21, 3
"""Of the sketch: texts that share half of their pieces meet in a band in 94 of 100 cases, those that share 0.7
of them in 99.99."""
SHARED = 0.3
"""Of the sketch that texts which meet must share to be compared whole, which for long texts is slow."""
SKETCH_OF = 256
"""At most so many of a long text's pieces, those with the smallest hashes, make its sketch."""
ALL_PAIRS = 16
"""Texts that meet are compared each with each up to so many, else with the first and with the one before."""


@dataclass(frozen=True)
class CaseValues:
    """The values that one scorer gave, counted."""

    variants: int
    cases: int
    variant: Ints
    """One entry a (variant, case, value) from here on: position of the variant,"""
    case: Ints
    value: Floats
    """… the value (of a label its number)"""
    count: Ints
    """… and how many repeats were given it."""

    @cached_property
    def counts(self) -> Floats:
        """Variant × case: how many scores there are."""
        return self._table(self.count.astype(float))

    @cached_property
    def means(self) -> Floats:
        """Variant × case: the mean of the repeats; 0 where there is none."""
        return self._table(self.count * self.value) / np.maximum(self.counts, 1)

    @cached_property
    def variant_means(self) -> Floats:
        """Each variant's mean over its cases; 0 where it has none."""
        there = self.counts > 0
        return np.asarray(self.means.sum(axis=1) / np.maximum(there.sum(axis=1), 1))

    def _table(self, weights: Floats) -> Floats:
        cell = self.variant * self.cases + self.case
        table = np.bincount(cell, weights=weights, minlength=self.variants * self.cases)
        return np.asarray(table.reshape(self.variants, self.cases), dtype=np.float64)

    def flips(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Variant × case: the chance that two of its repeats differ, and where there are two at all.

        The unbiased estimate of Simpson's index of diversity (Simpson 1949, Nature 163:688)."""
        pairs = self.counts * (self.counts - 1)
        same = self._table((self.count * (self.count - 1)).astype(float))
        return 1 - np.divide(same, pairs, out=np.ones_like(pairs), where=pairs > 0), pairs > 0


def hardest(values: CaseValues) -> tuple[Ints, Floats, Ints]:
    """Cases that are scored, the hardest first; of each the mean over variants, and over how many."""
    variants = (values.counts > 0).sum(axis=0)
    mean = values.means.sum(axis=0) / np.maximum(variants, 1)
    order = _ranked(np.flatnonzero(variants), mean)
    return order, mean[order], variants[order]


def disputed(values: CaseValues, first: int, second: int) -> tuple[Ints, Floats]:
    """Cases on which two variants differ, the largest difference (first minus second) first."""
    common = (values.counts[first] > 0) & (values.counts[second] > 0)
    gap = np.where(common, values.means[first] - values.means[second], 0.0)
    order = _ranked(np.flatnonzero(np.abs(gap) > 1e-12), -np.abs(gap))
    return order, gap[order]


def flaky(values: CaseValues) -> tuple[Ints, Floats, Ints]:
    """Cases whose repeats differ, the flakiest first; of each the chance that two repeats of a variant differ,
    mean over the variants with at least two, and how many variants differ in themselves."""
    chance, asked = values.flips()
    variants = asked.sum(axis=0)
    mean = (chance * asked).sum(axis=0) / np.maximum(variants, 1)
    order = _ranked(np.flatnonzero(mean > 0), -mean)
    return order, mean[order], ((chance > 0) & asked).sum(axis=0)[order]


def strong_variants(values: CaseValues) -> Ints:
    """Variants whose mean is at least the median, and at least a half."""
    scored = np.flatnonzero(values.counts.any(axis=1))
    means = values.variant_means
    floor = max(STRONG, float(np.median(means[scored]))) if len(scored) else STRONG
    return scored[means[scored] >= floor - 1e-12]


def suspicious(values: CaseValues, strong: Ints) -> tuple[Ints, Floats]:
    """Cases that every strong variant fails in each repeat, the most surprising first.

    Surprise in bits: −Σ log₂(1 − mean) over the strong variants, as if their errors were independent; they are
    not, so it serves as an order only."""
    there = values.counts[strong] > 0
    failed = ((values.means[strong] == 0) | ~there).all(axis=0) & there.any(axis=0)
    bits = -np.log2(np.clip(1 - values.variant_means[strong], 1e-9, 1))
    surprise = bits @ there
    order = _ranked(np.flatnonzero(failed), -surprise)
    return order, surprise[order]


class Groups:
    """Things by position, each first alone, which are joined (union–find, with the path halved)."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def of(self, i: int) -> int:
        """The group of a thing: the first of those that belong to it."""
        above = self._above
        while above[i] != i:
            above[i] = i = above[above[i]]
        return i

    def join(self, one: int, other: int) -> None:
        """Makes one group of the groups of two things."""
        a, b = self.of(one), self.of(other)
        self._above[max(a, b)] = min(a, b)


def near_duplicates(texts: Sequence[str], alike: float = ALIKE) -> list[list[int]]:
    """Groups of texts that nearly say the same, by position, the largest group first.

    Only texts that meet are compared, so the time grows with their number, not its square: each has a MinHash
    sketch of its pieces (Broder 1997, SEQUENCES:21), cut into bands, and meets those with an equal band (Leskovec
    et al., Mining of Massive Datasets, §3.4). They are compared by their similarity in edits (rapidfuzz)."""
    from rapidfuzz import fuzz

    plain = [" ".join(text.casefold().split()) for text in texts]
    groups = Groups(len(plain))
    for one, other in _meetings(plain).tolist():
        apart = groups.of(one) != groups.of(other)
        if apart and fuzz.ratio(plain[one], plain[other], score_cutoff=100 * alike) > 0:
            groups.join(one, other)
    found: dict[int, list[int]] = {}
    for i in range(len(plain)):
        found.setdefault(groups.of(i), []).append(i)
    return sorted((members for members in found.values() if len(members) > 1), key=lambda m: (-len(m), m))


def effective_cases(sizes: Sequence[int], cases: int) -> float:
    """How many independent cases `cases` are worth if those of a group always score alike: n² ÷ Σ size²
    (Kish 1965, Survey Sampling, §8.2, for a correlation of 1 within groups). `sizes` of groups above one."""
    if not cases:
        return 0.0
    return cases**2 / (sum(size**2 for size in sizes) + cases - sum(sizes))


def _ranked(cases: Ints, by: Floats) -> Ints:
    """Cases by rising figures; equal ones in their own order."""
    return cases[np.argsort(by[cases], kind="stable")]


def _meetings(texts: Sequence[str]) -> Ints:
    """Pairs of texts that may be alike, a row each."""
    if len(texts) < 2:
        return np.empty((0, 2), dtype=np.int64)
    numbers = np.random.default_rng(0).integers(1, 2**63, (2, BANDS * ROWS), dtype=np.uint64) | np.uint64(1)
    sketches = np.stack([_sketch(text, numbers) for text in texts])
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for band in range(BANDS):
        part = np.ascontiguousarray(sketches[:, band * ROWS : (band + 1) * ROWS])
        for i, row in enumerate(part):
            buckets.setdefault((band, row.tobytes()), []).append(i)
    pairs = np.array(sorted({pair for members in buckets.values() for pair in _within(members)}), dtype=np.int64)
    pairs = pairs.reshape(-1, 2)
    shared = [(sketches[part[:, 0]] == sketches[part[:, 1]]).mean(axis=1) for part in _parts(pairs)]
    return np.asarray(pairs[np.concatenate([np.empty(0), *shared]) >= SHARED])


def _within(members: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of those that share a band."""
    if len(members) <= ALL_PAIRS:
        return itertools.combinations(members, 2)
    return itertools.chain(itertools.pairwise(members), ((members[0], other) for other in members[1:]))


def _parts(pairs: Ints, size: int = 100_000) -> Iterator[Ints]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


def _sketch(text: str, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The smallest value that each of the hash functions gives to a piece of the text."""
    codes = np.frombuffer(text.ljust(SHINGLE).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    pieces = np.zeros(len(codes) - SHINGLE + 1, dtype=np.uint64)
    for k in range(SHINGLE):
        pieces = _mixed(pieces + codes[k : k + len(pieces)])
    pieces = np.unique(pieces)[:SKETCH_OF]
    return np.asarray((_mixed(pieces[:, None] * numbers[0] + numbers[1])).min(axis=0))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits spread by the finaliser of SplitMix64 (Steele et al. 2014, OOPSLA:453)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
