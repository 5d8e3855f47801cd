"""pass@k and pass^k: what several answers to one case are worth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from workbench.errors import UseError


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that at least one of k answers, drawn without replacement from n of which c pass, passes.

    1 − C(n−c, k) ÷ C(n, k), the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374, § 2.1), as a product
    of factors below 1 so that nothing overflows. Raises UseError where k answers can't be drawn.
    """
    _check(n, c, k)
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def pass_all_k(n: int, c: int, k: int) -> float:
    """The chance that all of k answers drawn so pass, pass^k: C(c, k) ÷ C(n, k) (Yao et al. 2024, arXiv 2406.12045).
    Raises UseError where k answers can't be drawn."""
    _check(n, c, k)
    return float(np.prod(np.arange(c - k + 1, c + 1) / np.arange(n - k + 1, n + 1))) if c >= k else 0.0


def mean_pass_at_k(counts: Iterable[tuple[int, int]], k: int) -> float:
    """The mean of `pass_at_k` over cases, each (answers, answers that pass). Raises UseError for none."""
    values = [pass_at_k(n, c, k) for n, c in counts]
    if not values:
        raise UseError("pass@k needs at least one case")
    return float(np.mean(values))


def _check(n: int, c: int, k: int) -> None:
    if not 0 <= c <= n:
        raise UseError(f"{c} of {n} answers can't pass")
    if not 1 <= k <= n:
        raise UseError(f"pass@{k} needs at least {max(k, 1)} answers a case, and k of at least 1; there are {n}")
