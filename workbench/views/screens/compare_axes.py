"""Compare, axes: a heat map over two axes, a curve along a number, which axis matters, and what quality costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import streamlit as st

from workbench.records import Json
from workbench.stats.summary import VariantSummary
from workbench.views import format as f
from workbench.views.axes import axes_view, importance_rows, slope_line
from workbench.views.board import axes_of, is_numeric, pareto_front
from workbench.views.model import ScorerView
from workbench.views.screens.compare_scores import GREY, MARK, table, value_scale, variant_label
from workbench.views.screens.loaded import Shown, case_sums, part, what_it_took
from workbench.views.screens.page import chart, choose, exports, plain_text
from workbench.views.took import Spent, mean_text

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
MOST_LINES = len(SHAPES)
NOTHING = "none"
PRICES = {
    "cost": "Cost an answer, US dollars",
    "seconds": "Time an answer, seconds",
    "tokens": "Tokens an answer",
}


def show_axes(connection: Any, shown: Shown, scorer: str) -> None:
    """Heat map and curve of what the variants differ in."""
    axes = axes_of(shown.view.variants)
    if not scorer or not axes:
        st.info("Axes appear where a suite sweeps something, such as `temperature: [0, 0.7]` under `params:`.")
        return
    found = part(connection, shown, scorer)
    if found.kind == "label":
        st.info("This scorer gives labels, which have no mean; choose another scorer.")
        return
    names = {name: f.one_line(name) for name in axes}
    with st.container(horizontal=True):
        x = choose("Across", "x", names, next((n for n in axes if is_numeric(axes[n])), next(iter(axes))))
        rest = {NOTHING: "–"} | {name: title for name, title in names.items() if name != x}
        y = choose("Down", "y", rest, next((n for n in rest if n != NOTHING), NOTHING))
    rows = _cells(found.summaries, axes, x, y)
    _note(rows, axes, {x, y})
    chart(_heat_map(rows, found, x, y), "heat map")
    if is_numeric(axes[x]):
        chart(_curves(found, axes, x, y), "curves")
    listed = [{"across": r["x"], "down": r["y"], "mean": r["mean"], "variants": r["variants"]} for r in rows]
    exports(lambda: listed, "axes")
    _importance(connection, shown, scorer)


def _importance(connection: Any, shown: Shown, scorer: str) -> None:
    """How much of what variants differ in stands on each axis, and on two together."""
    stopped = bool(shown.view.run.header.get("stopping"))
    found = axes_view(case_sums(connection, shown, scorer), shown.view.variants, stopped)
    st.subheader("Which axis matters", anchor=False)
    if found.why:
        plain_text(found.why)
        return
    st.caption(
        "Shares of the variance between variants, with 95 % intervals for all rows together ([?]: not enough data to "
        "share it out); p is corrected for the rows, too."
    )
    rows = importance_rows(found)
    table(rows)
    for one in found.curves:
        plain_text(slope_line(found, one))
    exports(lambda: rows, "importance", "Importance")


def _cells(summaries: Sequence[VariantSummary], axes: Mapping[str, list[Json]], x: str, y: str) -> list[dict[str, Any]]:
    """Mean over the variants that share both values; how many these are is said."""
    cells: dict[tuple[str, str], list[VariantSummary]] = defaultdict(list)
    for i, s in enumerate(summaries):
        if s.mean is not None:
            cells[_shown(axes[x][i]), _shown(axes[y][i]) if y in axes else ""].append(s)
    rows = []
    for (across, down), group in cells.items():
        mean = float(np.mean([s.mean for s in group if s.mean is not None]))
        text = f.estimate(group[0]) if len(group) == 1 else _plain_mean(mean, group[0].kind)
        row = {"x": across, "y": down, "mean": mean, "text": text, "lines": text.replace(" [", "\n[")}
        rows.append({**row, "variants": len(group)})
    return rows


def _plain_mean(mean: float, kind: str) -> str:
    return f.number(mean) if kind == "number" else f"{f.percent(mean)} %"


def _note(rows: Sequence[Mapping[str, Any]], axes: Mapping[str, list[Json]], used: set[str]) -> None:
    """A cell that several variants share shows a mean over them, without an interval of its own."""
    if any(row["variants"] > 1 for row in rows):
        others = ", ".join(f.one_line(name) for name in axes if name not in used)
        plain_text(f"Cells with several variants show the mean over {others}; intervals stand under Scores.")


def _heat_map(rows: list[dict[str, Any]], found: ScorerView, x: str, y: str) -> Any:
    means = [row["mean"] for row in rows]
    middle = (min(means) + max(means)) / 2 if means else 0
    title = f"{f.one_line(found.name)}: mean, {100 * found.summaries[0].confidence:g} % interval"
    room = alt.ExprRef(f"width / {len({row['x'] for row in rows}):d} - 6")
    across = alt.Axis(labelAngle=0, labelLimit=room, labelFlush=False)
    base = alt.Chart(alt.Data(values=rows), title=alt.TitleParams(title, fontSize=13, anchor="start")).encode(
        x=alt.X("x:N", sort=None, title=f.one_line(x), axis=across),
        y=alt.Y("y:N", sort=None, title=f.one_line(y) if y != NOTHING else None, axis=alt.Axis(labelLimit=160)),
    )
    hint = [alt.Tooltip("x:N", title="across"), alt.Tooltip("y:N", title="down")]
    hint += [alt.Tooltip("text:N", title="mean"), alt.Tooltip("variants:Q")]
    colour = alt.Color("mean:Q", scale=alt.Scale(scheme="blues"), legend=None)
    fields = base.mark_rect(stroke=GREY, strokeWidth=0.5).encode(color=colour, tooltip=hint)
    over = alt.condition(f"datum.mean > {middle}", alt.value("white"), alt.value("#10243a"))
    texts = base.mark_text(fontSize=11, lineBreak="\n", lineHeight=14, dy=-6).encode(
        text="lines:N", color=over, tooltip=hint
    )
    down = len({row["y"] for row in rows})
    return (fields + texts).properties(height=54 * down + 110)


def _curves(found: ScorerView, axes: Mapping[str, list[Json]], x: str, y: str) -> Any:
    """A line for each value of the other axis, with the intervals as a band."""
    rows = []
    for i, s in enumerate(found.summaries):
        if s.mean is None or not isinstance(axes[x][i], (int, float)):
            continue
        low, high = s.interval or (s.mean, s.mean)
        others = [_shown(axes[n][i]) for n in axes if n not in (x, y)]
        line = " · ".join([_shown(axes[y][i])] * (y in axes) + others) or "all"
        rows.append({"x": axes[x][i], "line": line, "mean": s.mean, "low": low, "high": high, "text": f.estimate(s)})
    lines = list(dict.fromkeys(row["line"] for row in rows))
    if len(lines) > MOST_LINES:
        st.caption(f"The curves of the first {MOST_LINES} of {len(lines)} lines.")
        rows = [row for row in rows if row["line"] in lines[:MOST_LINES]]
    share = found.kind != "number"
    scale = value_scale(rows, share)
    title = f"{f.one_line(found.name)}: mean, {100 * found.summaries[0].confidence:g} % interval"
    one = len(lines) == 1
    at = alt.Axis(values=sorted({row["x"] for row in rows}), format="~g", grid=False)
    legend = None if one else alt.Legend(title=None, orient="top", columns=2, labelLimit=300, symbolOpacity=1)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("x:Q", title=f.one_line(x), scale=alt.Scale(zero=False, nice=False, padding=12), axis=at),
        color=alt.Color("line:N", legend=legend),
    )
    y_axis = alt.Axis(format="%" if share else "", title=title, tickCount=5)
    band = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", scale=scale, axis=y_axis), y2="high:Q")
    line = base.mark_line().encode(y=alt.Y("mean:Q", scale=scale), strokeDash=alt.StrokeDash("line:N", legend=legend))
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=alt.Y("mean:Q", scale=scale),
        shape=alt.Shape("line:N", scale=alt.Scale(range=list(SHAPES)), legend=legend),
        tooltip=[alt.Tooltip("line:N"), alt.Tooltip("x:Q", title=f.one_line(x)), alt.Tooltip("text:N", title="mean")],
    )
    return (band + line + points).properties(height=320)


def show_price(connection: Any, shown: Shown, scorer: str) -> None:
    """Quality against cost, time or tokens; the front of those that no other beats in both."""
    if not scorer:
        st.info("Nothing is scored yet.")
        return
    view, found = shown.view, part(connection, shown, scorer)
    took = what_it_took(connection, shown)
    means = {name: {v: _paid(getattr(own, name)) for v, own in took.items()} for name in PRICES}
    known = {name: title for name, title in PRICES.items() if any(paid is not None for paid in means[name].values())}
    if found.kind == "label" or not known:
        st.info("There is nothing to draw: this scorer gives labels, or no answer has a known cost, time or length.")
        return
    differs = (name for name in known if len(set(means[name].values())) > 1)
    price = choose("Price", "price", known, next(differs, next(iter(known))))
    points = {
        s.variant: (paid, s.mean)
        for s in found.summaries
        if s.mean is not None and (paid := means[price][s.variant]) is not None
    }
    front = pareto_front(points)
    rows = []
    for s in found.summaries:
        if s.variant in points:
            low, high = s.interval or (s.mean, s.mean)
            kind = "on the front" if s.variant in front else "beaten"
            spent, paid = getattr(took[s.variant], price), points[s.variant][0]
            row: dict[str, Any] = {"variant": variant_label(view, s.variant), "price": paid, "mean": s.mean}
            least, most = spent.found.interval or (paid, paid)
            row |= {"took": mean_text(spent, price), "least": least, "most": most}
            rows.append({**row, "low": low, "high": high, "place": kind, "estimate": f.estimate(s)})
    chart(_price_chart(rows, found, known[price]), "price")
    if len(rows) > 1:
        higher = "." if found.kind != "number" else "; it takes a higher value for the better one."
        plain_text(
            "On the front: no other variant is at most as dear and at least as good. It goes by the means, whose "
            f"intervals may overlap{higher}"
        )
    listed = [
        {"variant": r["variant"], "mean": r["estimate"], known[price]: r["took"], "": r["place"]}
        for r in sorted(rows, key=lambda r: r["price"])
    ]
    table(listed)
    exports(lambda: listed, f"price {price}")


def _paid(spent: Spent | None) -> float | None:
    return None if spent is None else spent.found.mean


def _price_chart(rows: list[dict[str, Any]], found: ScorerView, title: str) -> Any:
    share = found.kind != "number"
    scale = value_scale(rows, share)
    kinds = alt.Scale(domain=["on the front", "beaten"], range=[MARK, GREY])
    shapes = alt.Scale(domain=["on the front", "beaten"], range=["diamond", "circle"])
    legend = alt.Legend(title=None, orient="top")
    hint = [alt.Tooltip("variant:N"), alt.Tooltip("estimate:N", title="mean"), alt.Tooltip("took:N", title=title)]
    hint.append(alt.Tooltip("place:N"))
    y_axis = alt.Axis(format="%" if share else "", title=f.one_line(found.name))
    dearest = max(row["most"] for row in rows)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "price:Q",
            title=title,
            scale=alt.Scale(domain=[0, 1.05 * dearest or 1], nice=False),
            axis=alt.Axis(tickCount=8),
        )
    )
    bars = base.mark_rule(color=GREY).encode(y=alt.Y("low:Q", scale=scale, axis=y_axis), y2="high:Q", tooltip=hint)
    wide = base.mark_rule(color=GREY).encode(x="least:Q", x2="most:Q", y=alt.Y("mean:Q", scale=scale), tooltip=hint)
    marks = base.mark_point(filled=True, size=110, opacity=1).encode(
        y=alt.Y("mean:Q", scale=scale),
        color=alt.Color("place:N", scale=kinds, legend=legend),
        shape=alt.Shape("place:N", scale=shapes, legend=legend),
        tooltip=hint,
    )
    step = (
        alt.Chart(alt.Data(values=[row for row in rows if row["place"] == "on the front"]))
        .mark_line(interpolate="step-after", strokeDash=[4, 3], color=MARK)
        .encode(x="price:Q", y=alt.Y("mean:Q", scale=scale))
    )
    return (bars + wide + step + marks).properties(height=360)


def _shown(value: Json) -> str:
    return f.NONE if value is None else f"{value:g}" if isinstance(value, float) else f.one_line(str(value))
