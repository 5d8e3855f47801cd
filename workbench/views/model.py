"""What a view shows of a run, or of several side by side: read from the store and computed anew each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from workbench.errors import UnknownName, UseError
from workbench.records import Kind, Run, ScoreColumns
from workbench.stats.paired import PairedComparison, compare_paired
from workbench.stats.summary import VariantSummary, summarise
from workbench.stats.verdict import verdict_sentence
from workbench.store.runs import Usage, VariantRow, get_run, run_scorers, run_variants, score_columns, usage
from workbench.views.format import one_line

MARGIN = 0.05
"""Where the run's header has no `margin`."""


@dataclass(frozen=True, slots=True)
class ScorerView:
    """What one scorer found."""

    name: str
    kind: Kind
    summaries: tuple[VariantSummary, ...]
    """One for each variant of the view, in its order."""
    comparisons: tuple[PairedComparison, ...]
    """One for each variant but the reference."""
    sentence: str
    """What it shows, printable."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One run, or several, as people see them."""

    runs: tuple[Run, ...]
    variants: tuple[VariantRow, ...]
    """Of several runs: the id is `RUN/VARIANT` and the label ends in `@ RUN`."""
    scorers: tuple[ScorerView, ...]
    usage: Mapping[str, Usage]
    """By variant id."""
    reference: str | None
    """Id of the variant that the others are held against; None without variants."""

    @property
    def run(self) -> Run:
        """The run, or the first of several."""
        return self.runs[0]

    @property
    def labels(self) -> dict[str, str]:
        """Variant id → its short name."""
        return {v.id: v.label for v in self.variants}


def load_view(
    connection: Any, run_id: str | Sequence[str], reference: str | None = None, confidence: float = 0.95
) -> RunView:
    """The view of a run, or of several whose variants are compared on the cases that they share by id.

    `connection` is the store's. `reference` names a variant by id, label or the beginning of its id; without
    it the first run's header counts, else its first variant. The margin is the header's. Raises UnknownName
    for a run or the reference, UseError where runs have scorers of one name, but different kinds."""
    ids = [run_id] if isinstance(run_id, str) else list(run_id)
    runs = tuple(get_run(connection, one) for one in ids)
    several = len(runs) > 1
    variants: list[VariantRow] = []
    used: dict[str, Usage] = {}
    for run in runs:
        rows, costs = run_variants(connection, run.id), usage(connection, run.id)
        for row in rows:
            name = f"{run.id}/{row.id}" if several else row.id
            variants.append(replace(row, id=name, label=f"{row.label} @ {run.id}") if several else row)
            if row.id in costs:
                used[name] = costs[row.id]
    base = find_variant(variants, reference or runs[0].header.get("reference"))
    margin = float(runs[0].header.get("margin") or MARGIN)
    names = dict.fromkeys(chain.from_iterable((n for n, _ in run_scorers(connection, r.id)) for r in runs))
    found = []
    for name in names:
        parts = [score_columns(connection, run.id, name) for run in runs]
        columns = side_by_side(parts, [v.id for v in variants]) if several else parts[0]
        found.append(scorer_view(columns, {v.id: v.label for v in variants}, base, margin, confidence))
    return RunView(runs, tuple(variants), tuple(found), used, base)


def scorer_view(
    columns: ScoreColumns, labels: Mapping[str, str], reference: str | None, margin: float, confidence: float
) -> ScorerView:
    """Summaries, comparisons and sentence of one scorer's columns."""
    summaries = tuple(summarise(columns, confidence))
    compared = reference is not None and len(columns.variants) > 1
    comparisons = tuple(compare_paired(columns, reference or "", margin, confidence)) if compared else ()
    sentence = one_line(verdict_sentence(columns.scorer, summaries, comparisons, labels))
    return ScorerView(columns.scorer, columns.kind, summaries, comparisons, sentence)


def side_by_side(parts: Sequence[ScoreColumns], variants: Sequence[str]) -> ScoreColumns:
    """The columns of several runs as those of one; `variants` are the new ids of all their variants in order.

    Raises UseError where the kinds differ."""
    scored = [part for part in parts if len(part.value)] or list(parts[:1])
    if len({part.kind for part in scored}) > 1:
        kinds = ", ".join(part.kind for part in scored)
        raise UseError(f"scorer '{scored[0].scorer}' gives another kind of value in each run ({kinds}); compare others")
    clusters = {c: k for part in reversed(parts) for c, k in zip(part.cases, part.clusters, strict=True)}
    cases = list(dict.fromkeys(chain.from_iterable(part.cases for part in parts)))
    labels = sorted(set(chain.from_iterable(part.labels for part in parts)))
    case_at = {case: i for i, case in enumerate(cases)}
    variant: list[int] = []
    case: list[int] = []
    value: list[float] = []
    start = 0
    for part in parts:
        variant += [start + i for i in part.variant]
        case += [case_at[part.cases[i]] for i in part.case]
        value += [float(labels.index(part.labels[int(x)])) for x in part.value] if part.labels else part.value
        start += len(part.variants)
    return ScoreColumns(
        scorer=scored[0].scorer,
        kind=scored[0].kind,
        variants=tuple(variants),
        cases=tuple(cases),
        clusters=tuple(clusters[c] for c in cases),
        variant=variant,
        case=case,
        repeat=list(chain.from_iterable(part.repeat for part in parts)),
        value=value,
        missing=tuple(chain.from_iterable(part.missing or (0,) * len(part.variants) for part in parts)),
        labels=tuple(labels),
    )


def find_variant(variants: Sequence[VariantRow], name: str | None) -> str | None:
    """The id of the variant of that id, label or beginning of an id; the first one's without a name. Of
    several runs that hold the same variant, the first run's.

    Raises UnknownName, also where ids of different variants begin so."""
    if name is None:
        return variants[0].id if variants else None
    own = {v.id: v.id.rpartition("/")[2] for v in variants}
    found = (
        [v.id for v in variants if name in (v.id, own[v.id])]
        or [v.id for v in variants if name in (v.label, v.label.rpartition(" @ ")[0])]
        or [v.id for v in variants if own[v.id].startswith(name)]
    )
    if len({own[v] for v in found}) != 1:
        raise UnknownName("variant", name, [v.label for v in variants])
    return found[0]
