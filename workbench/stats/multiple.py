"""Many comparisons at once: corrections of p-values, and intervals that hold for all rows of a table together.

Tables use Bonferroni's correction (`paired`), which needs no assumption. What stands here serves where less is
asked for (false discoveries) or more is known (t statistics against one shared reference).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.errors import UseError
from workbench.stats.reduce import Bounds, Floats, PairedSample

DRAWS = 100_000
"""Of the multivariate t: the error of a 5 % tail is 0.07 points."""
BLOCK = 10_000


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false discovery (Holm 1979, Scand. J. Stat. 6:65)."""
    return _adjusted(p_values, "holm")


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the expected share of false among all discoveries (Benjamini and Hochberg 1995, J. R.
    Stat. Soc. B 57:289). For looking around; a verdict keeps the chance of any."""
    return _adjusted(p_values, "fdr_bh")


def dunnett(pairs: Sequence[PairedSample], alpha: float) -> list[tuple[Bounds, float]]:
    """For variants against one reference on the same cases: simultaneous intervals and adjusted p-values.

    Dunnett's idea (1955, JASA 50:1096) for paired differences, whose correlation is measured: |t| of every row is held
    against the largest of a multivariate t (Hothorn, Bretz and Westfall 2008, Biom. J. 50:346), drawn 100,000 times
    with a fixed seed; never wider than Bonferroni's. An interval excludes 0 exactly where p is below `alpha`.
    Normal theory: for numbers, fractions and means of repeats or clusters, not for single 0/1 scores, where exact
    tests do better. Raises UseError for those, for rows on different cases, and for rows without variance."""
    from scipy.stats import t

    if not pairs:
        return []
    values = _differences(pairs)
    n, rows = values.shape
    means, errors = values.mean(axis=0), values.std(axis=0, ddof=1) / n**0.5
    largest = _largest_t(np.corrcoef(values, rowvar=False).reshape(rows, rows), n - 1)
    critical = min(float(np.quantile(largest, 1 - alpha)), float(t.isf(alpha / (2 * rows), n - 1)))
    found = []
    for mean, error in zip(means.tolist(), errors.tolist(), strict=True):
        size = abs(mean) / error
        drawn = (int((largest >= size).sum()) + 1) / (DRAWS + 1)
        p = min(1.0, drawn, rows * float(2 * t.sf(size, n - 1)))
        found.append(((mean - critical * error, mean + critical * error), p))
    return found


def _differences(pairs: Sequence[PairedSample]) -> Floats:
    """Unit × row."""
    if any(pair.first.binary and pair.second.binary for pair in pairs):
        raise UseError("Dunnett's intervals need means; for single 0/1 scores take the exact tests and Holm")
    if len({len(pair.differences.values) for pair in pairs}) > 1:
        raise UseError("Dunnett's intervals need all rows on the same cases; take Bonferroni's where some are missing")
    if any(pair.differences.constant for pair in pairs):
        raise UseError("a row whose differences are all equal has no t; take Bonferroni's exact bounds")
    return np.stack([pair.differences.values for pair in pairs], axis=1)


def _largest_t(correlation: Floats, freedom: int) -> Floats:
    """The largest |t| of each draw, sorted."""
    random, rows = np.random.default_rng(0), len(correlation)
    eigenvalues, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    drawn = []
    for _ in range(0, DRAWS, BLOCK):
        scale = np.sqrt(random.chisquare(freedom, BLOCK) / freedom)
        drawn.append(np.abs(random.standard_normal((BLOCK, rows)) @ root.T).max(axis=1) / scale)
    return np.sort(np.concatenate(drawn))


def _adjusted(p_values: Sequence[float], method: str) -> list[float]:
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return []
    return [float(p) for p in multipletests(list(p_values), method=method)[1]]
