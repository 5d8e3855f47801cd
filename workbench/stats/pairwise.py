"""Votes between two: win rates, and strengths by Bradley and Terry's model with ties."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from workbench.errors import UseError
from workbench.stats.methods import mean_method, why_no_interval
from workbench.stats.reduce import Bounds, Floats, Sample
from workbench.stats.summary import check_confidence

Winner = Literal["first", "second", "tie"]
_TURNED: dict[Winner, Winner] = {"first": "second", "second": "first", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Vote:
    """What one vote, or several alike, said of two players (variants)."""

    first: str
    second: str
    winner: Winner
    case: str | None = None
    """Votes on one case are averaged before cases are."""
    count: int = 1
    lengths: tuple[int, int] | None = None
    """Characters of the first and of the second answer; None: not known."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """Wins and half the ties, as a share of a player's votes."""

    player: str
    rate: float
    interval: Bounds | None
    why: str
    """Why there is no interval; empty where there is one."""
    wins: int
    losses: int
    ties: int
    method: str


@dataclass(frozen=True, slots=True)
class Strength:
    """A player's place on Bradley and Terry's scale: log odds of a win against the reference, ties aside."""

    player: str
    value: float
    """0 for the reference."""
    error: float
    """Standard error; 0 for the reference."""
    interval: Bounds
    p: float
    """Of "as strong as the reference", Wald's; 1 for the reference."""


@dataclass(frozen=True, slots=True)
class Strengths:
    """All players, the strongest first."""

    players: tuple[Strength, ...]
    reference: str
    ties: float | None
    """Davidson's ν: the odds of a tie against a win between equals; None where there was no tie."""
    votes: int


def win_rates(votes: Sequence[Vote], confidence: float = 0.95) -> list[WinRate]:
    """Each player's win rate in the order of appearance; a tie is half a win. The interval is that of a mean over
    cases (`methods.METHODS`); votes without a case are a case each. Raises UseError for a vote on oneself."""
    check_confidence(confidence)
    check_votes(votes)
    points = {"first": (1.0, 0.0), "second": (0.0, 1.0), "tie": (0.5, 0.5)}
    won: dict[str, dict[object, list[float]]] = {}
    for number, vote in enumerate(votes):
        for copy in range(vote.count):
            case: object = (number, copy) if vote.case is None else vote.case
            for player, point in zip((vote.first, vote.second), points[vote.winner], strict=True):
                won.setdefault(player, {}).setdefault(case, []).append(point)
    return [_win_rate(player, list(cases.values()), 1 - confidence) for player, cases in won.items()]


def bradley_terry(votes: Sequence[Vote], reference: str | None = None, confidence: float = 0.95) -> Strengths:
    """Strengths by Bradley and Terry's model (1952, Biometrika 39:324), with Davidson's for ties (1970, JASA 65:317):
    P(i beats j) : P(tie) : P(j beats i) = πᵢ : ν√(πᵢπⱼ) : πⱼ, strengths are log π.

    Fitted as the log-linear model of the counts, a constant for each pair (Fienberg and Larntz 1976, Biometrika
    63:245), by statsmodels; Wald's intervals, each by itself. Each vote counts as independent: several on one case
    make the intervals too narrow. `reference` (default: the first player) has strength 0. Raises UseError for an
    unknown reference, where every vote is a tie, which tells no strength, and where some players never lost to the
    rest, whose strength then has no bound (Ford 1957)."""
    check_confidence(confidence)
    check_votes(votes)
    names = list(dict.fromkeys(name for vote in votes for name in (vote.first, vote.second)))
    base = names[0] if reference is None else reference
    if base not in names:
        raise UseError(f"there is no vote on '{base}'; the reference is one of the players: {', '.join(names[:12])}")
    counts = _counts(votes, {name: i for i, name in enumerate(names)})
    _check_connected(counts, names)
    if not any(found[:2].any() for found in counts.values()):
        raise UseError("every vote is a tie, so there is nothing to tell strengths by; read the win rates")
    values, errors, ties = _fit(counts, names.index(base))
    return _strengths(names, base, (values, errors, ties), 1 - confidence, sum(vote.count for vote in votes))


def _win_rate(player: str, cases: Sequence[Sequence[float]], alpha: float) -> WinRate:
    values = np.array([np.mean(points) for points in cases])
    each = [point for points in cases for point in points]
    single = all(len(points) == 1 for points in cases) and 0.5 not in each
    sample = Sample(values, len(values), (0.0, 1.0), binary=single)
    method = mean_method(sample).mean
    interval, why = (method[1](sample, alpha), "") if method else (None, why_no_interval(sample))
    counted = (each.count(1.0), each.count(0.0), each.count(0.5))
    return WinRate(player, float(values.mean()), interval, why, *counted, method[0] if method else "")


def _counts(votes: Sequence[Vote], place: dict[str, int]) -> dict[tuple[int, int], Floats]:
    """For each pair, the lower number first: wins of the first, wins of the second, ties."""
    counts: dict[tuple[int, int], Floats] = {}
    for vote in votes:
        a, b = place[vote.first], place[vote.second]
        result = {"first": 0, "second": 1, "tie": 2}[vote.winner]
        if a > b:
            a, b, result = b, a, {0: 1, 1: 0, 2: 2}[result]
        counts.setdefault((a, b), np.zeros(3))[result] += vote.count
    return counts


def _fit(counts: dict[tuple[int, int], Floats], base: int) -> tuple[Floats, Floats, float | None]:
    """Strengths and their standard errors by player, and ν."""
    from statsmodels.api import GLM, families
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    players = 1 + max(b for _, b in counts)
    tied = any(found[2] for found in counts.values())
    rows, results = [], []
    for number, ((a, b), found) in enumerate(counts.items()):
        for result in range(3 if tied else 2):
            strength, pair = np.zeros(players), np.zeros(len(counts))
            pair[number] = 1
            if result == 2:
                strength[[a, b]] = 0.5
            else:
                strength[a if result == 0 else b] = 1
            rows.append(np.concatenate([np.delete(strength, base), [float(result == 2)] if tied else [], pair]))
            results.append(found[result])
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # its other figures may divide by 0
        warnings.simplefilter("ignore", PerfectSeparationWarning)  # an exact fit; see _check_connected
        fitted = GLM(np.array(results), np.array(rows), family=families.Poisson()).fit(tol=1e-12, maxiter=200)
    own = players - 1
    values, errors = np.insert(fitted.params[:own], base, 0.0), np.insert(fitted.bse[:own], base, 0.0)
    return values, errors, float(np.exp(fitted.params[own])) if tied else None


def _strengths(
    names: Sequence[str], base: str, fitted: tuple[Floats, Floats, float | None], alpha: float, votes: int
) -> Strengths:
    from scipy.stats import norm

    z, found = float(norm.isf(alpha / 2)), []
    for name, value, error in zip(names, fitted[0].tolist(), fitted[1].tolist(), strict=True):
        p = float(2 * norm.sf(abs(value) / error)) if error else 1.0
        found.append(Strength(name, value, error, (value - z * error, value + z * error), p))
    return Strengths(tuple(sorted(found, key=lambda row: -row.value)), base, fitted[2], votes)


def check_votes(votes: Sequence[Vote]) -> None:
    """Raises UseError for none, for one on oneself, and for one that counts less than once."""
    if not votes:
        raise UseError("there is no vote to count")
    for vote in votes:
        if vote.first == vote.second or vote.count < 1:
            raise UseError(f"a vote is between two and counts once at least; '{vote.first}' has another")


def _check_connected(counts: dict[tuple[int, int], Floats], names: Sequence[str]) -> None:
    """From each player to each other there must be a chain of "did not lose to"."""
    from scipy.sparse.csgraph import connected_components

    beaten = np.zeros((len(names), len(names)))
    for (a, b), (first, second, tie) in counts.items():
        beaten[a, b], beaten[b, a] = first + tie, second + tie
    parts, part = connected_components(beaten, directed=True, connection="strong")
    if parts > 1:
        apart = [name for name, number in zip(names, part, strict=True) if number == part[0]]
        raise UseError(
            f"the votes don't tie {', '.join(apart[:5])} to the rest: some players never won, or never lost, against "
            "all others; collect votes that do, or read the win rates"
        )


def turned(vote: Vote) -> Vote:
    """The same vote with the two places exchanged."""
    lengths = None if vote.lengths is None else vote.lengths[::-1]
    return replace(vote, first=vote.second, second=vote.first, winner=_TURNED[vote.winner], lengths=lengths)
