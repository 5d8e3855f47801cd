"""What a view shows of a run, or of several side by side: read from the store and computed anew each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, TypeVar

from workbench.errors import UnknownName, UseError
from workbench.records import EMPTY, CaseScores, Kind, Run, ScoreColumns
from workbench.stats.gates import GateReport
from workbench.stats.length import ControlledRate
from workbench.stats.paired import PairedComparison, compare_paired
from workbench.stats.power import suite_sees
from workbench.stats.ranking import Ranking, rank_variants
from workbench.stats.reduce import Scores
from workbench.stats.summary import VariantSummary, summarise
from workbench.stats.verdict import verdict_sentence
from workbench.store.casequeries import same_answers
from workbench.store.grouped import case_scores
from workbench.store.measures import spent_scores
from workbench.store.runs import (
    Usage,
    VariantRow,
    get_run,
    quarantined_cases,
    run_scorers,
    run_variants,
    score_columns,
    usage,
)
from workbench.views.format import one_line
from workbench.views.ranking import power_line, standing
from workbench.views.took import Took, took
from workbench.views.votes import judged_rates

MARGIN = 0.05
"""Where the run's header has no `margin`."""
FEWEST_RANKED = 3
"""Of two, the comparison says all."""
NOTHING: Mapping[str, Any] = {"ranking": None, "sees": None, "power": "", "standing": ""}
"""Of ranking and power where data were reused, or said themselves when to stop."""


Columns = TypeVar("Columns", ScoreColumns, CaseScores)


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
    ranking: Ranking | None = None
    """The best and what can't be told from it; None for fewer than three variants, and where nothing can be said."""
    sees: float | None = None
    """The true difference to the reference that would be found for every variant with 80 % power."""
    power: str = ""
    """The same in a line, printable; empty where nothing is compared."""
    standing: str = ""
    """Ranking and power in a line, printable; empty where nothing can be said."""
    equal_length: tuple[ControlledRate, ...] = ()
    """Of a judge of pairs: each variant's win rate, and what it would be were both answers equally long."""


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
    quarantined: tuple[str, ...] = ()
    """Ids of the cases that are asked and shown, but count in none of these numbers."""
    gates: GateReport | None = None
    """How the gates stand, where they were judged."""
    took: Mapping[str, Took] = field(default_factory=lambda: EMPTY)
    """What an answer took, by variant id; filled by `load_whole`."""

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
    view = load_frame(connection, run_id, reference)
    found = [load_scorer(connection, view, scores, confidence) for scores in load_scores(connection, view)]
    return replace(view, scorers=tuple(found))


def load_whole(connection: Any, run_id: str | Sequence[str], reference: str | None = None) -> RunView:
    """`load_view` with what the answers took, for those who show it: that reads every answer."""
    view = load_view(connection, run_id, reference)
    return replace(view, took=load_took(connection, view))


def load_frame(connection: Any, run_id: str | Sequence[str], reference: str | None = None) -> RunView:
    """`load_view` without the scorers' part, which is what takes time in a big run."""
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
    aside = dict.fromkeys(chain.from_iterable(quarantined_cases(connection, [run.id for run in runs]).values()))
    return RunView(runs, tuple(variants), (), used, base, tuple(aside))


def load_took(connection: Any, view: RunView, confidence: float = 0.95) -> dict[str, Took]:
    """What the answers of each variant took, against the view's reference."""
    parts = [spent_scores(connection, run.id) for run in view.runs]
    names = [v.id for v in view.variants]
    scores = {name: side_by_side([part[name] for part in parts], names) for name in parts[0]}
    return took(scores, view.reference, confidence)


def scorer_names(connection: Any, view: RunView) -> list[str]:
    """The scorers of the view's runs, each once, in the suites' order."""
    return list(dict.fromkeys(chain.from_iterable((n for n, _ in run_scorers(connection, r.id)) for r in view.runs)))


def load_scores(connection: Any, view: RunView) -> list[CaseScores]:
    """All scorers' scores of the view's runs, in the suites' order. Raises UseError where a kind differs between
    them."""
    parts = [case_scores(connection, run.id) for run in view.runs]
    if len(parts) == 1:
        return list(parts[0].values())
    variants = [v.id for v in view.variants]
    return [
        side_by_side(
            [
                part[name] if name in part else case_scores(connection, run.id, name)[name]
                for run, part in zip(view.runs, parts, strict=True)
            ],
            variants,
        )
        for name in dict.fromkeys(chain.from_iterable(parts))
    ]


def load_columns(connection: Any, view: RunView, scorer: str) -> ScoreColumns:
    """One scorer's scores of all the view's runs, one by one: for what looks at single repeats. Raises UseError where
    its kind differs between them."""
    parts = [score_columns(connection, run.id, scorer) for run in view.runs]
    return side_by_side(parts, [v.id for v in view.variants]) if len(parts) > 1 else parts[0]


def load_scorer(
    connection: Any, view: RunView, columns: Scores, confidence: float = 0.95, ranked: bool = True
) -> ScorerView:
    """What one scorer found, against the view's reference by its margin; without ranking and power if not `ranked`."""
    margin = float(view.run.header.get("margin") or MARGIN)
    shown = scorer_view(columns, view.labels, view.reference, margin, confidence, ranked)
    shown = replace(shown, equal_length=_equal_length(connection, view, columns.scorer, confidence))
    if len(view.runs) == 1:
        return _settled(shown, view.run, view.labels)
    return _unchanged(shown, _reused(connection, view.runs, view.reference) if view.reference else set(), view.labels)


def _equal_length(connection: Any, view: RunView, scorer: str, confidence: float) -> tuple[ControlledRate, ...]:
    """Each run's own, by the ids of the view; none where the data themselves said when to stop."""
    several, found = len(view.runs) > 1, list[ControlledRate]()
    for run in view.runs:
        if not run.header.get("stopping"):
            rates = judged_rates(connection, run, scorer, confidence)
            found += [replace(rate, player=f"{run.id}/{rate.player}") if several else rate for rate in rates]
    return tuple(found)


def scorer_view(
    columns: Scores,
    labels: Mapping[str, str],
    reference: str | None,
    margin: float,
    confidence: float,
    ranked: bool = True,
) -> ScorerView:
    """Summaries, comparisons and sentence of one scorer's columns."""
    summaries = tuple(summarise(columns, confidence))
    compared = reference is not None and len(columns.variants) > 1
    comparisons = tuple(compare_paired(columns, reference or "", margin, confidence)) if compared else ()
    sentence = one_line(verdict_sentence(columns.scorer, summaries, comparisons, labels))
    if not ranked:
        return ScorerView(columns.scorer, columns.kind, summaries, comparisons, sentence)
    ranking = rank_variants(columns, confidence) if len(columns.variants) >= FEWEST_RANKED else None
    sees = suite_sees(columns, reference or "", confidence) if compared else None
    power = power_line(sees, comparisons, columns.kind)
    line = standing(ranking, power, labels)
    return ScorerView(columns.scorer, columns.kind, summaries, comparisons, sentence, ranking, sees, power, line)


def _reused(connection: Any, runs: Sequence[Run], base: str) -> set[str]:
    """The variants whose comparison with the reference rests on the very same answers."""
    run, _, variant = base.rpartition("/")
    return {
        f"{other.id}/{name}"
        for other in runs
        for name in same_answers(connection, (run, variant), other.id)
        if f"{other.id}/{name}" != base
    }


def _unchanged(view: ScorerView, reused: set[str], labels: Mapping[str, str]) -> ScorerView:
    """A comparison of answers with themselves shows nothing, least of all that nothing has changed."""
    if not reused:
        return view
    rows = tuple(
        replace(row, verdict="unchanged, not measured again", cases_needed=None, effect=None)
        if row.variant in reused
        else row
        for row in view.comparisons
    )
    sentence = one_line(verdict_sentence(view.name, view.summaries, rows, labels))
    return replace(view, comparisons=rows, sentence=sentence, **NOTHING)


def _settled(view: ScorerView, run: Run, labels: Mapping[str, str]) -> ScorerView:
    """With what `until` or `race` decided by this scorer. Rows of `until` are given the intervals that hold
    over all looks at the data; the plain ones don't, since the data said when to stop."""
    facts = run.header.get("stopping")
    if run.status != "complete" or not facts or facts["scorer"] != view.name:
        return view
    standings = {s["variant"]: s for s in facts["standings"] if facts["rule"] == "until"}
    rows = tuple(
        _as_looked_at(row, standings[row.variant], facts)
        if row.variant in standings and standings[row.variant]["against"] == row.reference
        else row
        for row in view.comparisons
    )
    sentence = verdict_sentence(view.name, view.summaries, rows, labels)
    return replace(view, comparisons=rows, sentence=one_line(f"{sentence} Run {facts['reason']}."), **NOTHING)


def _as_looked_at(row: PairedComparison, standing: Mapping[str, Any], facts: Mapping[str, Any]) -> PairedComparison:
    bounds = standing["interval"]
    return replace(
        row,
        difference=standing["difference"],
        interval=None if bounds is None else (bounds[0], bounds[1]),
        p=None,
        pairs=standing["pairs"],
        verdict=standing["verdict"],
        cases_needed=standing["cases_needed"],
        margin=facts["smaller_than"],
        confidence=facts["confidence"],
        interval_method="repeated, group-sequential",
        test_method="",
        effect=None,
    )


def side_by_side(parts: Sequence[Columns], variants: Sequence[str]) -> Columns:
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
    return replace(
        _together(parts),
        scorer=scored[0].scorer,
        kind=scored[0].kind,
        variants=tuple(variants),
        cases=tuple(cases),
        clusters=tuple(clusters[c] for c in cases),
        variant=variant,
        case=case,
        value=value,
        missing=tuple(chain.from_iterable(part.missing or (0,) * len(part.variants) for part in parts)),
        labels=tuple(labels),
    )


def _together(parts: Sequence[Columns]) -> Columns:
    """The first part, with what the two sorts of columns do not share taken from all parts."""
    first = parts[0]
    if isinstance(first, ScoreColumns):
        return replace(first, repeat=list(chain.from_iterable(part.repeat for part in parts)))
    filled = [part for part in parts if len(part.value)] or [first]
    return replace(
        first,
        count=list(chain.from_iterable(part.count for part in parts)),
        lowest=min(part.lowest for part in filled),
        highest=max(part.highest for part in filled),
        zero_or_one=all(part.zero_or_one for part in parts),
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
