"""What several answers to one case are worth, a line a variant: best of k, worst of k, and how much they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from workbench.records import Kind, ScoreColumns
from workbench.stats.reduce import reduce_repeats
from workbench.stats.repeats import best_of, flakiness, worst_of
from workbench.stats.summary import VariantSummary, summarise
from workbench.views import format as f


@dataclass(frozen=True, slots=True)
class RepeatsRow:
    """One variant."""

    variant: str
    mean: VariantSummary
    best: VariantSummary
    """Of k; pass@k for pass/fail scores. For numbers without a range the highest."""
    worst: VariantSummary
    """Of k; pass^k for pass/fail scores."""
    flakiness: VariantSummary
    """The chance that two answers to one case score differently."""


@dataclass(frozen=True, slots=True)
class RepeatsView:
    """The repeats of a run by one scorer."""

    scorer: str
    kind: Kind
    k: int
    rows: tuple[RepeatsRow, ...]
    """Empty where nothing can be said."""
    why: str = ""
    """Why there are no rows; empty where there are."""


def repeats_view(columns: ScoreColumns, k: int | None = None, confidence: float = 0.95) -> RepeatsView:
    """`k` is the most scores that a case has, where it is not given. Intervals are each variant's own. Raises UseError
    for a k that no case has scores for."""
    if columns.kind == "label":
        return RepeatsView(columns.scorer, columns.kind, 0, (), "this scorer gives labels, which have no best")
    most = int(reduce_repeats(columns).counts.max(initial=0))
    if most < 2:
        return RepeatsView(columns.scorer, columns.kind, most, (), "no case has two scores; set repeats in the suite")
    k = most if k is None else k
    parts = [summarise(c, confidence) for c in (columns, best_of(columns, k), worst_of(columns, k), flakiness(columns))]
    rows = [RepeatsRow(s[0].variant, *s) for s in zip(*parts, strict=True)]
    return RepeatsView(columns.scorer, columns.kind, k, tuple(rows))


def column_names(view: RepeatsView) -> tuple[str, str]:
    """What best and worst of k are called for scores of this kind."""
    if view.kind == "pass":
        return f"pass@{view.k}", f"pass^{view.k}"
    if view.kind == "number":
        return f"highest of {view.k}", f"lowest of {view.k}"
    return f"best of {view.k}", f"worst of {view.k}"


def repeats_table(view: RepeatsView, labels: Mapping[str, str]) -> Table | Text:
    """For the terminal: the table, or the line that says why there is none."""
    name = f.one_line(view.scorer)
    if view.why:
        return Text(f"{name}: {view.why}")
    table = Table(title=Text(f"{name}: repeats"), title_justify="left", box=None, pad_edge=False)
    for column in ("variant", "mean", *column_names(view), "two differ"):
        table.add_column(column)
    for row in view.rows:
        cells = (f.estimate(part) for part in (row.mean, row.best, row.worst, row.flakiness))
        table.add_row(Text(f.one_line(labels.get(row.variant, row.variant))), *map(Text, cells))
    return table
