"""Win rates at equal length: of a judge of pairs by its scores, of people by their votes.

A judge's rates are against the variant that its scorer names (`against`); where the rival is the case's expected
answer there are none, since that was written for another purpose than to be long or short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.errors import SuiteError
from workbench.records import Json, Run
from workbench.stats.length import ControlledRate, Duels, rates_against_one
from workbench.store.measures import case_rows, pair_lengths
from workbench.store.runs import VariantRow, run_variants
from workbench.views import format as f
from workbench.views.selected import select_stored


def judged_rates(connection: Any, run: Run, scorer: str, confidence: float = 0.95) -> tuple[ControlledRate, ...]:
    """Each variant's length-controlled win rate by a pairwise judge of the run; none of other scorers. Players are
    variants by id. Cases that belong together are units, as everywhere."""
    parts = (run.header.get("judges") or {}).get(scorer) or ()
    if not parts or not all(part.get("pairwise") and not part.get("inside") for part in parts):
        return ()
    variants = run_variants(connection, run.id)
    rival = _named(variants, parts[0].get("against"))
    found = [] if rival is None else pair_lengths(connection, run.id, scorer, rival)
    if not found:
        return ()
    names = tuple(v.id for v in variants if v.id != rival)
    cases = case_rows(connection, run.id)
    at_player, at_case = ({name: i for i, name in enumerate(listed)} for listed in (names, [c.id for c in cases]))
    player, case, points, gaps = zip(*found, strict=True)
    own = np.array([at_case[name] for name in case])
    together = [("case", c.id) if c.cluster is None else ("cluster", c.cluster) for c in cases]
    place = {unit: i for i, unit in enumerate(dict.fromkeys(together))}
    unit = np.array([place[name] for name in together])[own]
    of = np.array([at_player[name] for name in player])
    duels = Duels(names, of, own, unit, np.array(points), np.array(gaps, dtype=np.float64))
    return tuple(rates_against_one(duels, confidence))


def rate_line(rate: ControlledRate, label: str) -> str:
    """`polite: wins 71 %; at equal length 52 % [44, 60]; its answers are the longer ones on 80 %`, printable."""
    told = f"{f.one_line(label)}: wins {f.percent(rate.plain)} %; at equal length {at_equal_length(rate)}"
    return f"{told}; its answers are the longer ones on {f.percent(rate.longer)} %"


def at_equal_length(rate: ControlledRate) -> str:
    """The rate with its interval, or why there is none."""
    if rate.rate is None:
        return rate.why
    return f"{f.percent(rate.rate)} % {f.interval(rate.interval, 'pass')}"


def _named(variants: Sequence[VariantRow], wanted: Json) -> str | None:
    """The id of the one variant of that label, or that `{prompt, model, …}` describes; None where it is not one."""
    found = [v.id for v in variants if v.label == wanted]
    if isinstance(wanted, Mapping):
        try:
            found = [v.id for v in select_stored(variants, wanted)]
        except SuiteError:  # the run's own scorer was refused for it before
            found = []
    return found[0] if len(found) == 1 else None
