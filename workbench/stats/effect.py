"""How large a paired difference is beside its own spread, and whether it is small enough not to matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.errors import UseError
from workbench.stats.bounds import lower_bound, upper_bound
from workbench.stats.distributions import binomial_ends
from workbench.stats.reduce import Bounds, PairedSample

FAR = 1000.0
"""Beyond this t, intervals of d are not asked of scipy's noncentral t."""
Z_REACH = 40.0
"""No normal value lies farther out: its probability is no number of a computer's."""


@dataclass(frozen=True, slots=True)
class EffectSize:
    """Size of a paired difference without its unit."""

    d: float | None
    """Cohen's d of paired differences, d_z: their mean in standard deviations; None where they do not vary."""
    d_interval: Bounds | None
    odds: float | None
    """Of single 0/1 scores: cases that only the first solves for each that only the second does; None for other
    scores, infinite where the second solves none alone."""
    odds_interval: Bounds | None


def effect_size(pair: PairedSample, confidence: float = 0.95) -> EffectSize:
    """Paired effect sizes with intervals.

    d_z (Cohen 1988, p. 48) by the pivot of the noncentral t (Cumming and Finch 2001, Educ. Psychol. Meas. 61:532); the
    conditional odds ratio b/c of McNemar's table by Clopper and Pearson's bounds of b/(b+c) (Breslow and Day 1980,
    § 5.2)."""
    alpha, differences = 1 - confidence, pair.differences
    d, d_interval = None, None
    if len(differences.values) > 1 and not differences.constant:
        d = float(differences.values.mean() / differences.values.std(ddof=1))
        d_interval = _noncentral(d, len(differences.values), alpha)
    odds, odds_interval = None, None
    if pair.first.binary and pair.second.binary and pair.wins + pair.losses:
        odds, odds_interval = _odds(pair.wins, pair.losses, alpha)
    return EffectSize(d, d_interval, odds, odds_interval)


def equivalent(pair: PairedSample, margin: float, alpha: float = 0.05) -> bool | None:
    """Whether the difference is shown to lie within ±margin: two one-sided tests (Schuirmann 1987, J. Pharmacokinet.
    Biopharm. 15:657) by the default one-sided bounds; None where there are none."""
    low, high = lower_bound(pair, alpha), upper_bound(pair, alpha)
    _check(margin)
    return None if low is None or high is None else -margin < low and high < margin


def non_inferior(pair: PairedSample, margin: float, alpha: float = 0.05) -> bool | None:
    """Whether the first is shown to be worse than the second by less than `margin`; None where there is no bound."""
    low = lower_bound(pair, alpha)
    _check(margin)
    return None if low is None else low > -margin


def tost_p(pair: PairedSample, margin: float) -> float:
    """The p-value of two one-sided t tests: the larger of the two. Raises UseError where differences do not vary."""
    from scipy.stats import t

    _check(margin)
    differences, n = pair.differences, len(pair.differences.values)
    if n < 2 or differences.constant:
        raise UseError("a t test needs differences that vary; use the exact bounds")
    mean, error = float(differences.values.mean()), float(differences.values.std(ddof=1)) / n**0.5
    return float(max(t.sf((mean + margin) / error, n - 1), t.cdf((mean - margin) / error, n - 1)))


def _noncentral(d: float, n: int, alpha: float) -> Bounds:
    """The shifts under which the observed t is at the upper and the lower alpha/2."""
    from scipy.special import nctdtrinc

    root = n**0.5
    t, shift = abs(d) * root, nctdtrinc if abs(d) * root <= FAR else _far_shift
    low, high = (float(shift(n - 1, level, t)) / root for level in (1 - alpha / 2, alpha / 2))
    return (low, high) if d >= 0 else (-high, -low)


def _far_shift(free: int, level: float, t: float) -> float:
    """What scipy's `nctdtrinc` gives, of a large t, for which its series takes time with t² (100 s at 10⁶).

    With U² = χ²/ν, P(T ≤ t) under the shift δ is P(tU − Z ≥ δ): a Gauss–Hermite sum over Z of the distribution of U,
    which is flat beside Z there. Of few values δ may be below 0, as far as Z reaches."""
    from scipy.optimize import brentq
    from scipy.special import chdtrc, roots_hermitenorm

    nodes, weights = roots_hermitenorm(64)

    def excess(share: float) -> float:
        u = np.maximum(share + nodes / t, 0.0)
        return float(weights @ chdtrc(free, free * u**2) / weights.sum()) - level

    share: float = brentq(excess, -Z_REACH / t, 1e3, xtol=1e-12)
    return share * t


def _odds(wins: int, losses: int, alpha: float) -> tuple[float, Bounds]:
    low, high = binomial_ends(wins, wins + losses, alpha)

    def ratio(share: float) -> float:
        return share / (1 - share) if share < 1 else np.inf

    return (wins / losses if losses else np.inf), (ratio(low), ratio(high))


def _check(margin: float) -> None:
    if not margin > 0:
        raise UseError(f"margin {margin:g} is not above 0; give a difference such as 0.05")
