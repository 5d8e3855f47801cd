"""What a suite's gates can't show with so many cases, said before anything is asked; and what they need timed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from workbench.define.baseline import Baseline
from workbench.define.gates import Gate
from workbench.stats.gates import cases_to_show, cases_without_one

SHOWN = 8
"""Answers of a variant whose latency is measured where it is only shown, or its mean is judged."""


def answers_to_time(gates: Sequence[Gate], timers: Collection[str], variant: str) -> int:
    """Answers of a variant whose latency must be measured, each of another case where it is more than `SHOWN`: as many
    as show a gate's quantile, or share of a scorer, where none misses it. `timers` are the scorers of time; 0 where
    nothing asks for latency."""
    needed = [SHOWN] if timers else []
    for gate in gates:
        timed = gate.measure == "latency" or gate.scorer in timers
        if timed and (gate.variants is None or variant in gate.variants):
            share = gate.quantile if gate.measure == "latency" else gate.bound if gate.rule == "at_least" else None
            fewest = cases_without_one(1 - share, 1 - gate.confidence) if share is not None else None
            needed += [SHOWN, fewest or 0]
    return max(needed, default=0)


def notes_before(gates: Sequence[Gate], cases: int, repeats: int, baseline: Baseline | None) -> list[str]:
    """What gates can't show with so many cases, said before anything is asked.

    The spread of paired differences is taken from the baseline (see `_expected_spread`); without one that of
    0/1 scores at its largest is assumed."""
    notes = []
    for gate in gates:
        alpha = 1 - gate.confidence
        if gate.rule == "no_worse_than":
            spread = _expected_spread(baseline, gate.scorer or "", repeats)
            needed = cases_to_show(spread, gate.bound, alpha)
            if needed is None:
                small = f"{100 * gate.bound:g} points" if gate.bound else "0"
                notes.append(f"gate '{gate.name}': a margin of {small} can be shown only by a gain")
            elif needed > cases:
                told = f"with {cases:,} cases a margin of {100 * gate.bound:g} points can't be counted on"
                notes.append(f"gate '{gate.name}': {told}; about {needed:,} are needed to pass where nothing changed")
        elif gate.measure == "errors" or gate.quantile is not None:
            needed = cases_without_one(gate.bound if gate.quantile is None else 1 - gate.quantile, alpha)
            if needed is None:
                notes.append(f"gate '{gate.name}': no number of cases can show a share so near to 0; give a higher one")
            elif needed > cases:
                told = f"{cases:,} cases can't show it even where none misses it"
                notes.append(f"gate '{gate.name}': {told}; {needed:,} are needed")
    return notes


def _expected_spread(baseline: Baseline | None, scorer: str, repeats: int) -> float:
    """The standard deviation of paired differences to expect where nothing changed.

    From repeats of 0/1 scores: each case's own variance, for the means of both sides. From single scores:
    that of the case means, which is what pairs with a correlation of 1/2 have; the largest of the variants."""
    variances = []
    for i in range(len(baseline.variants)) if baseline and scorer in baseline.scorers else ():
        assert baseline is not None
        found = [c.scores[scorer].of[i] for c in baseline.cases.values() if scorer in c.scores]
        pairs = np.array([of for of in found if of is not None], dtype=float)
        if len(pairs) < 2:
            continue
        means, counts = pairs[:, 0] / pairs[:, 1], pairs[:, 1]
        if baseline.scorers[scorer] == "pass" and counts.min() > 1:
            own = means * (1 - means) * counts / (counts - 1)
            variances.append(float((own * (1 / counts + 1 / repeats)).mean()))
        else:
            variances.append(float(means.var(ddof=1)))
    return float(np.sqrt(max(variances, default=0.25)))
