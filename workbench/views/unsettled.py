"""Cases whose repeats are scored differently: for each such case and variant what came, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from workbench.errors import UseError
from workbench.records import Kind
from workbench.stats.methods import mean_method
from workbench.stats.reduce import Bounds, Floats, Sample
from workbench.store.runs import find_run, run_scorers
from workbench.views import format as f
from workbench.views.cases import Reading
from workbench.views.marks import marking_scorer

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class UnsettledRow:
    """One case by one variant."""

    case: str
    variant: str
    """Its label."""
    repeats: int
    """That are scored."""
    passed: int | None
    """How many of them passed; None for scores other than passes."""
    mean: float | None
    """The pass rate, or the mean; None for labels."""
    spread: Bounds | None
    """Of passes: the interval of the pass rate. Of other numbers: the lowest and the highest."""
    counts: tuple[tuple[str, int], ...]
    """Of labels: how often each was given, the most frequent first."""
    quarantined: bool


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The cases of a run whose repeats disagree, the flakiest first, by one scorer."""

    run: str
    scorer: str
    kind: Kind
    rows: tuple[UnsettledRow, ...]
    """Only of variants that disagree with themselves."""
    cases: int
    """How many cases have repeats,"""
    unsettled: int
    """… and how many of them are not settled."""
    steady: tuple[str, ...]
    """Cases in quarantine whose repeats agree for every variant."""


def unsettled_cases(
    connection: Any, run_id: str, scorer: str | None = None, variants: Collection[str] = ()
) -> Unsettled:
    """Of some variants (ids), or of all; also of quarantined cases. Raises UnknownName, UseError without repeats."""
    named = scorer or marking_scorer(run_scorers(connection, find_run(connection, run_id))) or None
    read = Reading.of(connection, run_id, named, ordered=False, quarantined=True)
    chosen = [i for i, v in enumerate(read.variants) if not variants or v.id in variants]
    values = read.values
    chances, repeated = values.flips()
    differ, twice = chances[chosen], repeated[chosen]
    if not twice.any():
        raise UseError(f"run {read.run} has no scored repeats, so none can disagree; run it with 'repeats: 2' or more")
    chance = (differ.sum(axis=0) / np.maximum(twice.sum(axis=0), 1)).tolist()  # differ is 0 where nothing is twice
    order = sorted((case for case, one in enumerate(chance) if one > 0), key=lambda case: -chance[case])
    places: dict[tuple[int, int], list[int]] = {}
    for at, place in enumerate(zip(values.variant.tolist(), values.case.tolist(), strict=True)):
        places.setdefault(place, []).append(at)
    rows = [
        _row(read, chosen[i], case, places[chosen[i], case])
        for case in order
        for i in range(len(chosen))
        if differ[i, case] > 0
    ]
    there: list[bool] = np.atleast_1d(twice.any(axis=0)).tolist()
    steady = [c.id for c, own, one in zip(read.cases, there, chance, strict=True) if c.quarantined and own and not one]
    return Unsettled(read.run, read.scorer, read.kind, tuple(rows), sum(there), len(order), tuple(steady))


def unsettled_table(found: Unsettled) -> Table:
    """For the terminal."""
    title = f"{found.unsettled:,} of {f.plural(found.cases, 'case')} unsettled, by {found.scorer}"
    table = Table(title=Text(f.one_line(title)), title_justify="left", header_style="bold")
    for name in ("case", "variant"):
        table.add_column(name, overflow="fold")
    table.add_column("repeats", justify="right")
    for name in _columns(found.kind):
        table.add_column(Text(name), overflow="fold")
    for row in found.rows:
        case = Text(f.one_line(row.case)).append(" quarantined" if row.quarantined else "", "yellow")
        table.add_row(case, Text(f.one_line(row.variant)), f"{row.repeats:,}", *map(Text, _said(row, found.kind)))
    return table


def unsettled_lines(found: Unsettled, suite: str) -> list[str]:
    """What to know of the table, printable; `suite` is the file's name."""
    lines = []
    if found.steady:
        told = f.one_line(", ".join(found.steady))
        lines.append(f"in quarantine, though their repeats agree here: {told}")
    if any(not row.quarantined for row in found.rows):
        where = f.one_line(suite)
        lines.append(f"a case at fault can be left out of gates and means: cases: {{quarantine: [ID]}} in {where}")
    return lines


def _columns(kind: Kind) -> Sequence[str]:
    if kind == "pass":
        return ("passed", f"pass rate [{100 * CONFIDENCE:g} %]")
    return ("answers",) if kind == "label" else ("mean", "lowest to highest")


def _said(row: UnsettledRow, kind: Kind) -> Sequence[str]:
    if row.mean is None:
        return (f.one_line(", ".join(f"{label} {count}" for label, count in row.counts)),)
    if kind == "pass":
        return (f"{row.passed}/{row.repeats}", f"{f.percent(row.mean)} % {f.interval(row.spread, kind)}")
    low, high = row.spread or (row.mean, row.mean)
    write = f.number if kind == "number" else lambda value: f"{f.percent(value)} %"
    return (write(row.mean), f"{write(low)} to {write(high)}")


def _row(read: Reading, variant: int, case: int, at: Sequence[int]) -> UnsettledRow:
    """`at`: where the values of the two stand."""
    value, count = read.values.value[at], read.values.count[at]
    each, about = np.repeat(value, count), read.cases[case]
    row = UnsettledRow(
        about.id, read.variants[variant].label, len(each), None, float(each.mean()), None, (), about.quarantined
    )
    if read.kind == "label":
        told = [(read.labels[int(label)], int(times)) for label, times in zip(value, count, strict=True)]
        return replace(row, mean=None, counts=tuple(sorted(told, key=lambda one: (-one[1], one[0]))))
    if read.kind == "pass":
        return replace(row, passed=int(each.sum()), spread=_rate(each))
    return replace(row, spread=(float(each.min()), float(each.max())))


def _rate(each: Floats) -> Bounds | None:
    """The interval of a pass rate, by the method that a mean of so few 0/1 values has everywhere."""
    sample = Sample(each, len(each), (0.0, 1.0), binary=True)
    chosen = mean_method(sample).mean
    return chosen[1](sample, 1 - CONFIDENCE) if chosen else None
