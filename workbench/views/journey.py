"""The project's way: what each run found, in order; what got worse between two runs of a suite; what is still open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from workbench.records import CaseScores, Kind
from workbench.stats.paired import PairedComparison
from workbench.stats.reduce import of_variants
from workbench.stats.summary import VariantSummary, summarise
from workbench.store.grouped import case_scores_of
from workbench.store.runs import VariantRow, get_run, quarantined_cases, run_variants, usage_of, variants_of
from workbench.views.board import Spending, spending
from workbench.views.edits import against, place_of
from workbench.views.model import RunView, find_variant


@dataclass(frozen=True, slots=True)
class Standing:
    """One variant's mean in one run."""

    variant: VariantRow
    found: VariantSummary
    """With a mean."""
    mean: float
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
    """Of the reference, or of every variant in the suite's order, where it has a mean."""
    quarantined: int = 0
    """Cases that are in none of these means."""

    def points(self, best: bool) -> list[Standing]:
        """The reference's standing; or of each prompt's variants the one with the highest mean."""
        if not best:
            return [s for s in self.standings if s.variant.id == self.reference]
        found: dict[str, Standing] = {}
        for s in self.standings:
            if s.variant.prompt not in found or s.mean > found[s.variant.prompt].mean:
                found[s.variant.prompt] = s
        return list(found.values())


def standings(
    connection: Any, references: Mapping[str, str | None], scorer: str, every: bool = False
) -> dict[str, RunStanding]:
    """What a scorer found in each of these runs in which it has a mean; `references`: run → its header's reference
    variant. Of that variant (without one the first), or of every variant."""
    runs = list(references)
    found, used, rows, aside = (
        case_scores_of(connection, runs, scorer), usage_of(connection, runs), variants_of(connection, runs),
        quarantined_cases(connection, runs),
    )  # fmt: skip
    told = {}
    for run, scores in found.items():
        if scores.kind == "label" or not len(scores.value):
            continue
        variants, wanted = {v.id: v for v in rows[run]}, references[run]
        base = wanted if wanted is not None and wanted in variants else rows[run][0].id
        summaries = summarise(scores if every else of_variants(scores, [base]))
        stand = (_standing(s, variants[s.variant], spending(used[run].get(s.variant))) for s in summaries)
        shown = tuple(s for s in stand if s is not None)
        told[run] = RunStanding(run, scores.kind, base, shown, len(aside.get(run, ())))
    return told


def _standing(s: VariantSummary, v: VariantRow, took: Spending) -> Standing | None:
    return None if s.mean is None else Standing(v, s, s.mean, took.cost, took.seconds)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one scorer says of a suite's newest run, put against the run before it or its own reference."""

    suite: str
    runs: tuple[str, ...]
    scorer: str
    label: str
    """The variant's."""
    comparison: PairedComparison
    quarantined: int
    """Cases of these runs that it leaves out."""


def changes(connection: Any, older: str, newer: str, parts: Sequence[CaseScores]) -> Finding | None:
    """The newer run's reference against its counterpart (the same prompt name, model and settings) in the older one,
    on the cases that both have, by the scorer whose columns in both `parts` are; None where there is none."""
    runs = [get_run(connection, run) for run in (older, newer)]
    variants = [run_variants(connection, run.id) for run in runs]
    base = find_variant(variants[1], runs[1].header.get("reference"))
    now = next((v for v in variants[1] if v.id == base), None)
    before = next((v for v in variants[0] if now and place_of(v) == place_of(now)), None)
    if now is None or before is None:
        return None
    row = against((before, now), (runs[0], runs[1]), parts)
    if row is None:
        return None
    aside = set(chain.from_iterable(quarantined_cases(connection, (older, newer)).values()))
    return Finding(runs[1].suite, (older, newer), parts[0].scorer, now.label, row, len(aside))


def undecided(view: RunView, scorer: str, rows: Sequence[PairedComparison]) -> list[Finding]:
    """Comparisons with the run's reference that lack data, the nearest to settled first."""
    open_rows = [row for row in rows if row.verdict == "not enough data"]
    open_rows.sort(key=lambda row: (row.more_cases is None, row.more_cases or 0))
    run, labels, aside = view.run, view.labels, len(view.quarantined)
    return [Finding(run.suite, (run.id,), scorer, labels[row.variant], row, aside) for row in open_rows]
