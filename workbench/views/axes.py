"""Which axis of a sweep matters, and how scores go along its numbers: plain records, and tables of them.

Computed anew from the store each time, as all views are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from workbench.records import Json, Kind, canonical
from workbench.stats.axes import axis_importance
from workbench.stats.curve import ResponseCurve, response_curve
from workbench.stats.methods import FEWEST_CASES, FEWEST_CLUSTERS
from workbench.stats.reduce import Scores, reduce_repeats
from workbench.store.runs import VariantRow
from workbench.views import format as f
from workbench.views.board import axes_of, is_numeric

MATTERS = 0.05
"""The corrected p-value up to which an axis is said to matter."""
TOGETHER = "the axes change together, so that none can be told from the others"
STOPPED = "the data themselves said when to stop, so that the test behind this table does not hold"


@dataclass(frozen=True, slots=True)
class AxisRow:
    """What one axis, or two together, does to the mean."""

    axes: tuple[str, ...]
    share: float
    """Of the variance between variants, 0…1."""
    p: float
    """Of "it does nothing", corrected for the rows of the table (Bonferroni)."""
    interval: tuple[float, float] | None
    """Of the share, for all rows together; None where the differences are too small to be shared out."""

    @property
    def verdict(self) -> str:
        return "matters" if self.p <= MATTERS else "not enough data"


@dataclass(frozen=True, slots=True)
class AxisCurve:
    """The means along one numeric axis."""

    axis: str
    curve: ResponseCurve


@dataclass(frozen=True, slots=True)
class AxesView:
    """The axes of a sweep by one scorer."""

    scorer: str
    kind: Kind
    rows: tuple[AxisRow, ...]
    """The largest share first; empty where nothing can be said."""
    curves: tuple[AxisCurve, ...]
    why: str = ""
    """Why there are no rows; empty where there are."""


def axes_view(columns: Scores, variants: Sequence[VariantRow], stopped: bool = False) -> AxesView:
    """Shares of variance by axis and pair of axes, and a curve along each axis of numbers. `variants` are those of the
    columns, in their order; `stopped`: `until` or `race` looked at the data."""
    axes = axes_of(variants)
    why = STOPPED if stopped else _why_not(columns, axes)
    if why:
        return AxesView(columns.scorer, columns.kind, (), (), why)
    levels = {name: [canonical(value) for value in values] for name, values in axes.items()}
    found = axis_importance(columns, levels)
    if not found:
        return AxesView(columns.scorer, columns.kind, (), (), TOGETHER)
    rows = tuple(AxisRow(row.axes, row.share, min(1.0, len(found) * row.p), row.interval) for row in found)
    curves = tuple(
        AxisCurve(name, response_curve(columns, [float(str(value)) for value in values]))
        for name, values in axes.items()
        if is_numeric(values)
    )
    return AxesView(columns.scorer, columns.kind, rows, curves)


def _why_not(columns: Scores, axes: dict[str, list[Json]]) -> str:
    if not axes:
        return "the suite sweeps nothing, so that there is no axis"
    if columns.kind == "label":
        return "this scorer gives labels, which have no mean"
    table = reduce_repeats(columns)
    common = (table.counts > 0).all(axis=0)
    cases, least = int(common.sum()), FEWEST_CASES
    clusters = None if table.clusters is None else len(set(table.clusters[common].tolist()))
    if cases < least:
        return f"not enough data: {f.plural(cases, 'case')} with scores of all variants, {least} are needed"
    if clusters is not None and clusters < FEWEST_CLUSTERS:
        return f"not enough data: {f.plural(clusters, 'cluster')} of cases, {FEWEST_CLUSTERS} are needed"
    return ""


def axes_json(view: AxesView) -> dict[str, Any]:
    """The records, with each row's verdict."""
    rows = [
        {"axes": r.axes, "share": r.share, "interval": r.interval, "p": r.p, "verdict": r.verdict} for r in view.rows
    ]
    return {
        "scorer": view.scorer,
        "kind": view.kind,
        "rows": rows,
        "curves": [{"axis": c.axis, "curve": c.curve} for c in view.curves],
        "why": view.why,
    }


def importance_rows(view: AxesView) -> list[dict[str, str]]:
    """The table as texts."""
    return [
        {
            "axis": " × ".join(map(f.one_line, row.axes)),
            "share": f"{f.percent(row.share)} % {f.interval(row.interval, 'pass') or '[?]'}",
            "p": f.p_value(row.p),
            "verdict": row.verdict,
        }
        for row in view.rows
    ]


def curve_rows(kind: Kind, curve: ResponseCurve) -> list[dict[str, str]]:
    """The curve as texts, a line a value."""
    return [
        {"at": f"{point.at:g}", "mean": _mean(kind, point.mean, point.interval), "variants": f"{point.variants:,}"}
        for point in curve.points
    ]


def axes_tables(view: AxesView) -> list[Table | Text]:
    """For the terminal: the table of axes, then one for each curve; or the line that says why not."""
    name = f.one_line(view.scorer)
    if view.why:
        return [Text(f"{name}: {view.why}")]
    shown: list[Table | Text] = [
        _table(f"{name}: which axis matters (share of the variance between variants)", importance_rows(view))
    ]
    for one in view.curves:
        title = f"{name} along {f.one_line(one.axis)} ({100 * one.curve.confidence:g} % for all rows together)"
        table = _table(title, curve_rows(view.kind, one.curve))
        table.caption, table.caption_justify = Text(slope_line(view, one), "dim"), "left"
        shown.append(table)
    return shown


def slope_line(view: AxesView, one: AxisCurve) -> str:
    """What the straight line through the means says."""
    curve = one.curve
    if curve.slope is None or curve.slope_interval is None:
        return "slope: not enough data"
    scale, unit = (1.0, "") if view.kind == "number" else (100.0, " points")
    low, high = (scale * end for end in curve.slope_interval)
    half = (high - low) / 2
    slope, ends = f.number(scale * curve.slope, half), f"[{f.number(low, half)}, {f.number(high, half)}]"
    return f"slope: {slope}{unit} {ends} for 1 more of {f.one_line(one.axis)}; {f.plural(curve.cases, 'case')}"


def _mean(kind: Kind, mean: float | None, bounds: tuple[float, float] | None) -> str:
    if mean is None:
        return f.NONE
    half = None if bounds is None else (bounds[1] - bounds[0]) / 2
    text = f.number(mean, half) if kind == "number" else f"{f.percent(mean, half)} %"
    return f"{text} {f.interval(bounds, kind) or '[?]'}"


def _table(title: str, rows: Sequence[dict[str, str]]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    for name in rows[0] if rows else ("axis",):
        table.add_column(name)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row.values()))
    return table
