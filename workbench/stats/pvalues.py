"""Tests of "no difference" on paired samples: a list of pairs goes in, one two-sided p-value each comes out.

Lists, because sign flips are drawn once for all pairs. Which test is used when stands in `methods.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.errors import UseError
from workbench.stats.distributions import even_odds, t_tail
from workbench.stats.reduce import Floats, PairedSample

EXACT_UP_TO = 13
"""Up to so many differing units all 2^n sign patterns are counted; above, they are sampled."""
FLIPS = 9_999
ROUNDING = 1e-9
"""Patterns of the same sum as the observed one count in spite of rounding."""
BLOCK = 200
"""Sign patterns drawn at a time: 16 MB for 10,000 cases."""


def mcnemar_exact(pairs: Sequence[PairedSample]) -> list[float]:
    """McNemar's test in its exact, binomial form (McNemar 1947; Fagerland et al. 2013, BMC Med. Res.
    Methodol. 13:91). Raises UseError on repeats and clusters."""
    for pair in pairs:
        if not (pair.first.binary and pair.second.binary):
            raise UseError(
                "McNemar's test needs one 0/1 score a case, without repeats and clusters; "
                "use the sign-flip test on case means"
            )
    return [even_odds(p.wins, p.losses) for p in pairs]


def t_test(pairs: Sequence[PairedSample]) -> list[float]:
    """Student's paired t test on the differences of units (Student 1908); where all differences are equal,
    and so have no variance, the sign test: 2^(1−n)."""
    p = []
    for pair in pairs:
        sample = pair.differences
        n, mean = len(sample.values), abs(float(sample.values.mean()))
        if sample.constant:
            p.append(2.0 ** (1 - n) if mean else 1.0)
        else:
            p.append(2 * t_tail(mean * n**0.5 / float(sample.values.std(ddof=1)), n - 1))
    return p


def sign_flip(pairs: Sequence[PairedSample], seed: int = 0) -> list[float]:
    """Fisher's randomisation test: were the two variants the same, each difference could as well have had
    the other sign (Fisher 1935, The Design of Experiments, §21).

    Exact up to 13 differing units, else from 9,999 seeded patterns, the observed one counted with them
    (Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39). Sizes are sorted first, so that neither the
    order of cases nor which variant comes first can change the result."""
    differing = [pair.differences.values[pair.differences.values != 0] for pair in pairs]
    sizes = [np.sort(np.abs(values))[::-1] for values in differing]
    # A little below, in units of what is added up: patterns of the same sum count in spite of rounding.
    observed = [abs(float(v.sum())) - ROUNDING * float(np.abs(v).sum()) for v in differing]
    p = {i: _all_flips(size, observed[i]) for i, size in enumerate(sizes) if len(size) <= EXACT_UP_TO}
    many = [i for i in range(len(pairs)) if i not in p]
    if many:
        reached = _sampled_flips([sizes[i] for i in many], np.array([observed[i] for i in many]), seed)
        p.update(zip(many, (reached + 1) / (FLIPS + 1), strict=True))
    return [float(p[i]) for i in range(len(pairs))]


def _all_flips(sizes: Floats, observed: float) -> float:
    n = len(sizes)
    patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    sums = (2 * patterns - 1) @ sizes
    return float((np.abs(sums) >= observed).mean())


def _sampled_flips(sizes: Sequence[Floats], observed: Floats, seed: int) -> Floats:
    """For each pair, how many random patterns reach its observed sum.

    Repeats and fractions give few sizes, each many times: of equal ones only how many signs are plus is counted."""
    longest = max(map(len, sizes))
    ends = np.unique(np.concatenate([np.flatnonzero(np.diff(size, append=0)) for size in sizes])) + 1
    starts = np.append(0, ends[:-1])
    table = np.zeros((len(starts), len(sizes)))
    for i, size in enumerate(sizes):
        table[: np.searchsorted(starts, len(size)), i] = size[starts[starts < len(size)]]
    total = np.array([size.sum() for size in sizes])
    random = np.random.default_rng(seed)
    reached = np.zeros(len(sizes))
    for start in range(0, FLIPS, BLOCK):
        rows = min(BLOCK, FLIPS - start)
        plus = random.integers(0, 2, (rows, longest), dtype=np.int8)
        if len(starts) < longest:
            plus = np.add.reduceat(plus, starts, axis=1, dtype=np.int32)
        reached += (np.abs(2 * (plus @ table) - total) >= observed).sum(axis=0)
    return reached
