"""Resampling as a cross-check of the default intervals, which `methods.METHODS` names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from workbench.errors import UseError
from workbench.stats.reduce import Bounds, Floats, PairedSample

RESAMPLES = 5_000
WEIGHTS_OF = 400_000
"""Weights of units drawn at a time, 3 MB: twice as fast as ten times as many, with the same draws."""
BLOCK_OF = 4_000_000
"""Values drawn at a time: 32 MB."""


def paired_bootstrap(pair: PairedSample, alpha: float, seed: int = 0) -> Bounds:
    """Interval of the mean paired difference: bias-corrected and accelerated (Efron 1987, JASA 82:171), by scipy, over
    units (cases or clusters). Where all differences are equal there is nothing to resample: raises UseError."""
    from scipy.stats import bootstrap

    if pair.differences.constant:
        raise UseError("the bootstrap needs differences that vary; these are all equal")
    values, random = pair.differences.values, np.random.default_rng(seed)
    unit = float(np.exp2(np.floor(np.log2(np.abs(values).max()))))  # the third powers of tiny numbers would be 0
    found = bootstrap(
        (values / unit,), np.mean, confidence_level=1 - alpha, n_resamples=RESAMPLES, method="BCa", rng=random
    ).confidence_interval
    return unit * float(found.low), unit * float(found.high)


def two_level_bootstrap(units: Sequence[Sequence[float]], alpha: float, seed: int = 0) -> Bounds:
    """Interval of the mean over units (cases, clusters), each the mean of what it holds (repeats, cases).

    Units are resampled, and within each one its values; percentiles of 5,000 seeded resamples (Davison and Hinkley
    1997, Bootstrap Methods, § 3.8). The spread within units is then counted twice: once in the spread of their means
    and once anew. So the interval is a little wide where units hold few values, never narrow. Raises UseError for
    fewer than two units or one without a value."""
    sizes = np.array([len(unit) for unit in units])
    if len(units) < 2 or not sizes.all():
        raise UseError("the bootstrap needs two units at least, each with a value")
    padded = np.zeros((len(units), sizes.max()))
    for row, unit in zip(padded, units, strict=True):
        row[: len(unit)] = unit
    inside = np.arange(sizes.max()) < sizes[:, None]
    random = np.random.default_rng(seed)
    block = max(1, BLOCK_OF // padded.size)
    drawn = [_resampled(padded, sizes, inside, min(block, RESAMPLES - i), random) for i in range(0, RESAMPLES, block)]
    low, high = np.quantile(np.concatenate(drawn), [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def resampled_means(units: Floats, resamples: int, seed: int = 0) -> Iterator[Floats]:
    """Means of the columns of unit × variant over resampled units, resample × variant, in blocks: of all variants over
    the same units, as pairs want it (Efron 1979, Ann. Stat. 7:1)."""
    n = len(units)
    random, block = np.random.default_rng(seed), max(1, WEIGHTS_OF // n)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
        yield times @ units / n


def _resampled(padded: Floats, sizes: np.ndarray, inside: np.ndarray, rows: int, random: np.random.Generator) -> Floats:
    unit = random.integers(0, len(padded), (rows, len(padded)))
    place = (random.random((*unit.shape, padded.shape[1])) * sizes[unit][..., None]).astype(np.int64)
    values = np.where(inside[unit], padded[unit[..., None], place], 0.0)
    return np.asarray((values.sum(axis=2) / sizes[unit]).mean(axis=1))
