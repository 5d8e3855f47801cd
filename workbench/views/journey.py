"""The project's way: what each run found, in order; what got worse between two runs of a suite; what is still open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.records import CaseScores, Kind, canonical
from workbench.stats.paired import PairedComparison, compare_paired
from workbench.stats.summary import summarise
from workbench.store.runs import VariantRow, get_run, run_variants, usage
from workbench.views.board import spending
from workbench.views.model import MARGIN, find_variant, side_by_side


@dataclass(frozen=True, slots=True)
class Standing:
    """One variant's mean in one run."""

    variant: str
    label: str
    prompt: str
    revision: str
    model: str
    mean: float
    low: float
    high: float
    cases: int
    cost: float | None
    """US dollars an answer; None where it is not known."""
    seconds: float | None
    """Of an answer, on average."""


@dataclass(frozen=True, slots=True)
class RunStanding:
    """What one scorer found in one run."""

    run: str
    kind: Kind
    reference: str
    standings: tuple[Standing, ...]
    """Of the variants that have a mean, in the suite's order."""

    def points(self, best: bool) -> list[Standing]:
        """The reference's standing; or of each prompt's variants the one with the highest mean."""
        if not best:
            return [s for s in self.standings if s.variant == self.reference]
        found: dict[str, Standing] = {}
        for s in self.standings:
            if s.prompt not in found or s.mean > found[s.prompt].mean:
                found[s.prompt] = s
        return list(found.values())


def run_standing(connection: Any, run: str, reference: str | None, columns: CaseScores) -> RunStanding | None:
    """None where the scorer, whose columns these are, has no mean in this run. `reference` is the header's."""
    if columns.kind == "label" or not len(columns.value):
        return None
    variants, used = {v.id: v for v in run_variants(connection, run)}, usage(connection, run)
    found = []
    for s in summarise(columns):
        v, took = variants[s.variant], spending(used.get(s.variant))
        if s.mean is not None:
            low, high = s.interval or (s.mean, s.mean)
            found.append(
                Standing(
                    v.id, v.label, v.prompt, v.revision, v.model, s.mean, low, high, s.cases, took.cost, took.seconds
                )
            )
    base = reference if reference in variants else next(iter(variants), "")
    return RunStanding(run, columns.kind, base, tuple(found))


@dataclass(frozen=True, slots=True)
class Finding:
    """What one scorer says of a suite's newest run, put against the run before it or its own reference."""

    suite: str
    runs: tuple[str, ...]
    scorer: str
    label: str
    """The variant's."""
    comparison: PairedComparison


def changes(connection: Any, older: str, newer: str, parts: Sequence[CaseScores]) -> Finding | None:
    """The newer run's reference against its counterpart (the same prompt name, model and settings) in the older one,
    on the cases that both have, by the scorer whose columns in both `parts` are; None where there is none."""
    runs = [get_run(connection, run) for run in (older, newer)]
    variants = [run_variants(connection, run.id) for run in runs]
    base = find_variant(variants[1], runs[1].header.get("reference"))
    now = next((v for v in variants[1] if v.id == base), None)
    before = next((v for v in variants[0] if now and _same_place(v, now)), None)
    comparable = all(len(part.value) for part in parts) and parts[0].kind == parts[1].kind != "label"
    if now is None or before is None or not comparable:
        return None
    names = [f"{run.id}/{v.id}" for run, own in zip(runs, variants, strict=True) for v in own]
    margin = float(runs[1].header.get("margin") or MARGIN)
    rows = compare_paired(side_by_side(parts, names), f"{older}/{before.id}", margin, adjust=False)
    row = next(row for row in rows if row.variant == f"{newer}/{now.id}")
    return Finding(runs[1].suite, (older, newer), parts[0].scorer, now.label, row)


def undecided(
    suite: str, run: str, scorer: str, rows: Sequence[PairedComparison], labels: dict[str, str]
) -> list[Finding]:
    """Comparisons with the reference that lack data, the nearest to settled first."""
    open_rows = [row for row in rows if row.verdict == "not enough data"]
    open_rows.sort(key=lambda row: (row.more_cases is None, row.more_cases or 0))
    return [Finding(suite, (run,), scorer, labels[row.variant], row) for row in open_rows]


def _same_place(a: VariantRow, b: VariantRow) -> bool:
    return (a.prompt, a.model, canonical(dict(a.settings))) == (b.prompt, b.model, canonical(dict(b.settings)))
