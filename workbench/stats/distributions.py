"""Tails of the distributions that intervals and tests rest on, by the kernels of `scipy.special`.

`scipy.stats` has the same in the form of objects, and takes half a second longer to import: too long for a table in
the terminal.
"""

from __future__ import annotations


def z_upper(share: float) -> float:
    """The standard normal value that is exceeded with this probability."""
    from scipy.special import ndtri

    return float(-ndtri(share))


def t_upper(share: float, freedom: float) -> float:
    """The value of Student's t with so many degrees of freedom that is exceeded with this probability."""
    from scipy.special import stdtrit

    return float(-stdtrit(freedom, share))


def t_tail(value: float, freedom: float) -> float:
    """The probability that Student's t exceeds a value."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -value))


def binomial_ends(passes: int, n: int, alpha: float) -> tuple[float, float]:
    """Clopper and Pearson's limits, as quantiles of the beta distribution."""
    from scipy.special import betaincinv

    low = float(betaincinv(passes, n - passes + 1, alpha / 2)) if passes else 0.0
    high = float(betaincinv(passes + 1, n - passes, 1 - alpha / 2)) if passes < n else 1.0
    return low, high


def even_odds(wins: int, losses: int) -> float:
    """Two-sided probability of a split at least as uneven, where each side is as likely."""
    from scipy.special import bdtr

    n = wins + losses
    return min(1.0, 2 * float(bdtr(min(wins, losses), n, 0.5))) if n else 1.0


def f_tail(value: float, above: float, below: float) -> float:
    """The probability that F with so many degrees of freedom above and below exceeds a value."""
    from scipy.special import fdtrc

    return float(fdtrc(above, below, value))


def kolmogorov_upper(share: float, n: int) -> float:
    """The one-sided Kolmogorov–Smirnov statistic of n values that is exceeded with this probability, exactly."""
    from scipy.special import smirnovi

    return float(smirnovi(n, share))
