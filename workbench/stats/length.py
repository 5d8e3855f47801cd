"""Length-controlled win rates: what a win rate would be, were the two answers of a pair equally long.

Judges, and people, like long answers. Dubois, Galambosi, Liang and Hashimoto (2024, "Length-Controlled AlpacaEval",
arXiv 2404.04475) model a vote as logistic in the player's strength against its rival, the difference in length, and
how hard the case is; the win rate is then predicted at no difference. A difference enters as tanh(difference ÷ its
standard deviation): beyond some point more length impresses no further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.stats.distributions import t_upper
from workbench.stats.pairwise import Vote, check_votes
from workbench.stats.reduce import Bounds, Floats, Ints
from workbench.stats.summary import check_confidence

FEWEST_OUTCOMES = 5
"""Wins, and losses, in cases (half of each tie) below which nothing is said: a logistic model needs some of both."""
FEWEST_EACH_WAY = 5
"""Cases on which the player's answer is the longer, and the shorter one: without them "equally long" lies outside of
what was seen, and the model would be stretched to a guess."""
POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True, slots=True)
class ControlledRate:
    """A player's win rate beside what it would be at equal length."""

    player: str
    plain: float
    """Wins and half the ties, as a share of its votes; votes of a case averaged first."""
    rate: float | None
    """At equal length; None where it can't be told."""
    interval: Bounds | None
    why: str
    """Why there is no rate; empty where there is one."""
    longer: float
    """Share of its votes in which its answer is the longer one; half of those equally long."""
    slope: float | None
    """By how much the log odds of a win rise from a much shorter to a much longer answer, halved: what length is
    worth to whoever votes."""
    units: int
    """Cases, or clusters."""


@dataclass(frozen=True)
class Ballots:
    """One player's votes as columns."""

    points: Floats
    """1 won, 0.5 tie, 0 lost."""
    gaps: Floats
    """By how much its answer is longer than its rival's, in characters; below 0: shorter."""
    units: Ints
    """The case (or cluster) of each, numbered from 0 without gaps."""
    rivals: Ints | None = None
    """The rival of each, numbered so; None: always the same."""
    ease: Floats | None = None
    """What others win against the same rival on the same case, on average: how easy it is. None: not known."""


def controlled_rates(votes: Sequence[Vote], confidence: float = 0.95) -> list[ControlledRate]:
    """Each player's length-controlled win rate by votes that know their lengths, in the order of appearance; each by
    its own votes, with a strength against each rival. Votes without a case are a case each.

    Raises UseError for a vote on oneself."""
    check_confidence(confidence)
    check_votes(votes)
    own: dict[str, list[tuple[float, float, object, str]]] = {}
    for number, vote in enumerate(votes):
        if vote.lengths is not None:
            gap, point = float(vote.lengths[0] - vote.lengths[1]), POINTS[vote.winner]
            for copy in range(vote.count):
                case: object = (number, copy) if vote.case is None else vote.case
                own.setdefault(vote.first, []).append((point, gap, case, vote.second))
                own.setdefault(vote.second, []).append((1 - point, -gap, case, vote.first))
    return [controlled_rate(player, _ballots(rows), confidence) for player, rows in own.items()]


@dataclass(frozen=True)
class Duels:
    """What several players got against one and the same rival, as columns."""

    players: tuple[str, ...]
    player: Ints
    """One entry a duel from here on: position in `players`,"""
    case: Ints
    """… number of the case,"""
    unit: Ints
    """… of its cluster, or the case again,"""
    points: Floats
    gaps: Floats
    """… and as in `Ballots`."""


def rates_against_one(duels: Duels, confidence: float = 0.95) -> list[ControlledRate]:
    """Each player's length-controlled win rate against the rival; none for a player without a duel.

    How easy a case is, is told by what the other players win on it, where each case of the player has one: it is no
    outcome of the player's own. So easy cases that get long answers are not taken for length that wins."""
    check_confidence(confidence)
    shape = (len(duels.players), int(duels.case.max(initial=-1)) + 1)
    cell = duels.player * shape[1] + duels.case
    counts = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    means = np.bincount(cell, duels.points, minlength=shape[0] * shape[1]).reshape(shape) / np.maximum(counts, 1)
    there, total = (counts > 0).sum(axis=0), means.sum(axis=0)
    found = []
    for number, player in enumerate(duels.players):
        own = duels.player == number
        if own.any():
            case, ease = duels.case[own], None
            if (there[case] > 1).all():
                ease = (total[case] - means[number, case]) / (there[case] - 1)
            _, unit = np.unique(duels.unit[own], return_inverse=True)
            ballots = Ballots(duels.points[own], duels.gaps[own], unit, None, ease)
            found.append(controlled_rate(player, ballots, confidence))
    return found


def controlled_rate(player: str, ballots: Ballots, confidence: float = 0.95) -> ControlledRate:
    """The win rate at equal length, averaged over the cases.

    Fitted with Firth's penalty (1993, Biometrika 80:27), which keeps estimates finite where length alone decides every
    vote (Heinze and Schemper 2002, Stat. Med. 21:2409) and treats both sides alike. The variance is the delta method's
    by cases (each case's influence on the mean of the predictions; Huber's sandwich), with Student's t on the log odds,
    so that the interval stays within 0 and 1."""
    share = 1 / np.bincount(ballots.units)[ballots.units]
    count = int(ballots.units.max()) + 1
    plain, longer = (float(share @ x) / count for x in (ballots.points, (np.sign(ballots.gaps) + 1) / 2))
    if why := _why_not(ballots, count):
        return ControlledRate(player, plain, None, None, why, longer, None, count)
    design, at_equal, place = _designs(ballots)
    fitted = _firth(design, ballots.points, share)
    expected, even = _logistic(design @ fitted), _logistic(at_equal @ fitted)
    rate = float(share @ even) / count
    information = (design * (share * expected * (1 - expected))[:, None]).T @ design
    leaning = at_equal.T @ (share * even * (1 - even)) / count
    pull = design @ np.linalg.solve(information, leaning) * count
    influence = np.bincount(ballots.units, share * (even + pull * (ballots.points - expected))) - rate
    freedom = count - design.shape[1]
    unseen = 2 * float(share @ pull**2) / count
    error = float(np.sqrt(((influence**2).sum() / freedom + unseen / count) / count))
    middle, half = np.log(rate / (1 - rate)), t_upper((1 - confidence) / 2, freedom) * error / (rate * (1 - rate))
    low, high = _logistic(np.array([middle - half, middle + half])).tolist()
    slope = None if place is None else float(fitted[place])
    return ControlledRate(player, plain, rate, (low, high), "", longer, slope, count)


def _ballots(rows: Sequence[tuple[float, float, object, str]]) -> Ballots:
    points, gaps, cases, rivals = zip(*rows, strict=True)
    return Ballots(np.array(points), np.array(gaps), _numbered(cases), _numbered(rivals))


def _numbered(names: Sequence[object]) -> Ints:
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([place[name] for name in names], dtype=np.int64)


def _why_not(ballots: Ballots, count: int) -> str:
    """Why nothing can be said; empty where something can."""
    strengths = 1 if ballots.rivals is None else int(ballots.rivals.max()) + 1
    won = float((ballots.points / np.bincount(ballots.units)[ballots.units]).sum())
    fewest = FEWEST_OUTCOMES * strengths
    if min(won, count - won) < fewest:
        return f"not enough data: {won:g} won and {count - won:g} lost, {fewest} of each are needed"
    if not ballots.gaps.any():
        return ""
    for what, side in (("longer", ballots.gaps >= 0), ("shorter", ballots.gaps <= 0)):
        seen = len(np.unique(ballots.units[side]))
        if seen < FEWEST_EACH_WAY:
            told = f"its answers are the {what} ones on {seen} of {count} cases"
            return f"not enough data: {told}, so that nothing is known of equal length"
    return ""


def _designs(ballots: Ballots) -> tuple[Floats, Floats, int | None]:
    """A row a vote: as it was, and at equal length; and the column of length, None where all are equally long."""
    rivals = np.zeros(len(ballots.points), dtype=np.int64) if ballots.rivals is None else ballots.rivals
    columns = list(np.eye(int(rivals.max()) + 1)[rivals].T)
    if ballots.ease is not None and np.ptp(ballots.ease) > 0:
        columns.append(ballots.ease - ballots.ease.mean())
    spread = float(ballots.gaps.std())
    place = len(columns) if spread > 0 else None
    lengths = [] if place is None else [np.tanh(ballots.gaps / spread)]
    equal = [np.zeros(len(rivals)) for _ in lengths]
    return np.stack([*columns, *lengths], axis=1), np.stack([*columns, *equal], axis=1), place


def _firth(design: Floats, points: Floats, share: Floats) -> Floats:
    """The zero of Firth's score Σ share·x·(point − p) + x·h·(½ − p), h the leverages, by Fisher's scoring in steps of
    at most 2."""
    fitted = np.zeros(design.shape[1])
    for _ in range(100):
        expected = _logistic(design @ fitted)
        weight = share * expected * (1 - expected)
        inverse = np.linalg.pinv((design * weight[:, None]).T @ design)
        leverage = weight * np.einsum("ij,jk,ik->i", design, inverse, design)
        step = inverse @ (design.T @ (share * (points - expected) + leverage * (0.5 - expected)))
        step *= min(1.0, 2 / max(1e-12, float(np.abs(step).max())))
        fitted += step
        if np.abs(step).max() < 1e-9:
            break
    return fitted


def _logistic(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))
