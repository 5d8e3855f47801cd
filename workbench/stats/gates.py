"""Claims that a gate makes, decided: shown, refuted, or not enough data.

    claim            pass                     fail
    at_least x       lower bound ≥ x          upper bound < x
    at_most x        upper bound ≤ x          lower bound > x
    no_worse by m    lower bound > −m         upper bound < 0

Bounds are one-sided. A pass is looked for first. All claims of a decision must hold for it to pass, so a
pass needs no correction; one failure among many would come by chance, so failures are corrected by Holm's
step-down method (Holm 1979, Scand. J. Stat. 6:65): with r of m claims refuted, the others are held to alpha/(m−r).

The mean of a judge's scores is no claim: it is held to what people would say, by labels of some of the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from workbench.stats.bounds import lower_bound, upper_bound
from workbench.stats.distributions import z_upper
from workbench.stats.methods import difference_method, mean_method, why_no_interval
from workbench.stats.needed import POWER, whole_cases
from workbench.stats.ppi_units import People
from workbench.stats.reduce import PairedSample, Sample

Answer = Literal["pass", "fail", "not enough data"]
Rule = Literal["at_least", "at_most", "no_worse_than"]

Standing = Literal["pass", "fail", "not enough data", "new", "unchanged"]
"""`new`: the baseline has nothing to compare with. `unchanged`: the baseline's own answers, not measured again."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be shown of a mean, or of the mean difference of pairs."""

    data: Sample | PairedSample | People | None
    """None: nothing was measured. Of a judge: what people would say, where enough of its outputs are labelled."""
    rule: Rule
    bound: float
    """For `no_worse_than` the accepted loss."""
    alpha: float
    """Error of one side."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How a claim stands, and the numbers that led there."""

    answer: Answer
    value: float | None = None
    """The mean, or the mean difference."""
    lower: float | None = None
    upper: float | None = None
    """One-sided bounds: that which a pass rests on at alpha, that which a failure rests on at `fail_alpha`."""
    fail_alpha: float = 0.05
    """Holm's share of alpha for this claim."""
    cases: int = 0
    method: str = ""
    why: str = ""
    """Why there are no bounds; empty where there are."""
    labels: int | None = None
    """How many items people labelled, where the value is what they would say (prediction-powered)."""
    judge: float | None = None
    """… and the judge's own mean, or mean difference."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """How one gate stands for one variant, with everything that a view says of it."""

    gate: str
    """Its name: `choice no worse than baseline by 0.05`."""
    line: int | None
    """In the suite's file."""
    measure: str
    """The scorer's name, or `cost`, `latency`, `errors`."""
    kind: str
    """Of the scorer; `dollars`, `seconds` or `share` of the others."""
    rule: Rule
    bound: float
    confidence: float
    variant: str
    label: str
    answer: Standing
    decision: Decision
    value: float | None = None
    """The variant's own mean, on the cases compared."""
    other: float | None = None
    """The mean of what it is compared with, on the same cases."""
    against: str | None = None
    cases_needed: int | None = None
    """Cases with which the gate passes with 80 % power where nothing has changed, by the measured variance. Of a
    judge, where labels of the cases there are can't do: cases that do, each with a label, or with repeats and clusters
    as many labels as `labels_needed`."""
    labels_needed: int | None = None
    """Of a judge: labels of people, drawn at random, without which nothing can be said; where there are enough for
    that, those with which `no_worse_than` passes as above, or with which other bounds are half as far apart."""
    why: str = ""
    """Why nothing could be judged."""
    quarantined: int = 0
    """Cases of the run that are left out of every number here."""


@dataclass(frozen=True, slots=True)
class GateReport:
    """All gates of a run."""

    results: tuple[GateResult, ...]
    notes: tuple[str, ...] = ()
    """What a reader of the verdicts must know: changed cases, other models, variants that are gone, cases in
    quarantine."""
    quarantined: int = 0
    """Cases of the run that no gate counts."""
    problem: str = ""
    """Why the run's numbers are not whole, whatever the gates say of them; empty where they are."""

    @property
    def answer(self) -> Answer | Literal["unchanged"]:
        """Fail if any fails; not enough data if any lacks it, nothing could be judged, or the run is not whole;
        unchanged if all that is judged was not measured again, which is no pass."""
        standings = {result.answer for result in self.results}
        if "fail" in standings:
            return "fail"
        if self.problem or "not enough data" in standings or not standings - {"new"}:
            return "not enough data"
        return "pass" if "pass" in standings else "unchanged"


def decide(claims: Sequence[Claim]) -> list[Decision]:
    """An answer for each claim, failures corrected for all that are measured."""
    measured = [i for i, claim in enumerate(claims) if claim.data is not None]
    passed = {i for i in measured if _passes(claims[i])}
    refuted: dict[int, float] = {}
    while True:
        share = 1 / max(1, len(measured) - len(refuted))
        levels = {i: claims[i].alpha * share for i in measured if i not in refuted and i not in passed}
        new = {i: level for i, level in levels.items() if _fails(claims[i], level)}
        refuted |= new
        if not new:
            break
    return [_decision(c, i in passed, refuted.get(i), levels.get(i, c.alpha)) for i, c in enumerate(claims)]


def cases_to_show(spread: float, margin: float, alpha: float) -> int | None:
    """Cases with which "no worse by `margin`" passes with 80 % power where nothing has changed.

    n = (z(1−alpha) + z(power))²·s²/margin² + z(1−alpha)²/2 (Guenther 1981, Am. Stat. 35:243, one-sided), s the
    standard deviation of the paired differences; without any, ln(alpha)/ln(1−margin), as few as can show it
    where no case differs. None for a margin of 0, and above `needed.MOST_CASES`."""
    if margin <= 0:
        return None
    if margin >= 1:
        return 1
    fewest = math.log(alpha) / math.log1p(-margin)
    z = z_upper(alpha)
    ratio = (z + z_upper(1 - POWER)) * (spread / margin)
    return whole_cases(max(fewest, ratio * ratio + z * z / 2))


def cases_without_one(share: float, alpha: float) -> int | None:
    """How many cases, none of them a failure, show that at most `share` fail: ln(alpha)/ln(1−share), from the
    exact bound of 0 of n. None for a share of 0, which no number shows, and above `needed.MOST_CASES`."""
    return whole_cases(math.log(alpha) / math.log1p(-share)) if 0 < share < 1 else None


def power_to_fail(loss: float, spread: float, cases: int, alpha: float) -> float:
    """The probability that a gate fails at a true loss: that the upper bound is below 0, by the normal
    approximation of the paired differences' mean (Cohen 1988, ch. 2)."""
    from scipy.stats import norm

    error = spread / math.sqrt(cases)
    return float(norm.cdf((loss / error if error else math.inf) - norm.isf(alpha))) if loss else alpha


def _passes(claim: Claim) -> bool:
    assert claim.data is not None
    if claim.rule == "at_most":
        upper = upper_bound(claim.data, claim.alpha)
        return upper is not None and upper <= claim.bound
    lower = lower_bound(claim.data, claim.alpha)
    if lower is None:
        return False
    return lower > -claim.bound if claim.rule == "no_worse_than" else lower >= claim.bound


def _fails(claim: Claim, alpha: float) -> bool:
    assert claim.data is not None
    if claim.rule == "at_most":
        lower = lower_bound(claim.data, alpha)
        return lower is not None and lower > claim.bound
    upper = upper_bound(claim.data, alpha)
    return upper is not None and upper < (0.0 if claim.rule == "no_worse_than" else claim.bound)


def _decision(claim: Claim, passed: bool, refuted_at: float | None, level: float) -> Decision:
    data = claim.data
    if data is None:
        return Decision("not enough data", why="nothing was measured")
    fail_alpha = claim.alpha if passed else level if refuted_at is None else refuted_at
    at_most = claim.rule == "at_most"
    decided = Decision(
        answer="pass" if passed else "not enough data" if refuted_at is None else "fail",
        lower=lower_bound(data, fail_alpha if at_most else claim.alpha),
        upper=upper_bound(data, claim.alpha if at_most else fail_alpha),
        fail_alpha=fail_alpha,
    )
    if isinstance(data, People):
        found = data.estimate(0.95)
        why = "" if decided.lower is not None else "all values are the same"
        told = replace(decided, value=found.value, cases=data.items, method=data.method, why=why)
        return replace(told, labels=found.labels, judge=found.judge_alone)
    units = data.differences if isinstance(data, PairedSample) else data
    method = difference_method(data).difference if isinstance(data, PairedSample) else mean_method(data).mean
    why = "" if method else why_no_interval(units)
    name = method[0] if method else ""
    return replace(decided, value=float(units.values.mean()), cases=units.cases, method=name, why=why)
