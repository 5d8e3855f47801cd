"""Compare, all axes: parallel coordinates, a line a variant across everything that differs, to its score.

Each axis has its own scale: numbers lie between its smallest and largest, all else evenly apart in the order of the
variants; what a place stands for is written there. The last axis is the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os.path import commonprefix
from typing import Any

import altair as alt
import streamlit as st

from workbench.records import Json, canonical
from workbench.stats.summary import VariantSummary
from workbench.views import format as f
from workbench.views.board import axes_of, is_numeric
from workbench.views.screens.compare_scores import GREY, MARK, table
from workbench.views.screens.loaded import Shown, part
from workbench.views.screens.page import chart, choose, choose_several, exports, plain_text

SCORE = "score"
ALL = ""
MOST_LINES = 200
MOST_MARKS = 12
"""Places of an axis, and ends of lines, that are written on it."""
LONG = 6
"""Characters of a shared beginning that need not be read several times."""
APART = 0.05
"""Of the axis' height between two texts, so that both can be read."""
BUNDLE = 0.1
"""Of the axis' height over which lines through one place lie beside each other, so that each can be followed."""
WEIGHTS = ("picked out", "best", "other")
STROKES = {"picked out": ("#d55e00", 4, [7, 3]), "best": (MARK, 3, [1, 0]), "other": (GREY, 1.2, [1, 0])}
"""Weight of a line → its colour, width in pixels, and dashes."""
BESIDE = 0.4
"""Room on both sides of the axes, as a share of what lies between two."""
AT = {"align": "left", "dx": 9, "fontSize": 12}
"""Texts stand to the right of what they are about."""


def show_parallel(connection: Any, shown: Shown, scorer: str) -> None:
    """The picture, which axes are in it, and one variant picked out: all in the address."""
    view = shown.view
    axes = axes_of(view.variants)
    if not scorer or not axes:
        st.info("Axes appear where a suite sweeps something, such as `temperature: [0, 0.7]` under `params:`.")
        return
    found = part(connection, shown, scorer)
    scored = [(i, s) for i, s in enumerate(found.summaries) if s.mean is not None]
    if found.kind == "label" or not scored:
        st.info("This scorer gives labels or nothing yet, so there is no mean to draw; choose another scorer.")
        return
    titles = {name: f.one_line(name) for name in axes}
    with st.container(horizontal=True):
        wanted = choose_several("Axes", "along", titles, list(axes))
        names = {ALL: "none"} | {s.variant: f.one_line(view.labels[s.variant]) for _, s in scored}
        picked = choose("Picked out", "picked", names, ALL)
    best = sorted(scored, key=lambda pair: -(pair[1].mean or 0.0))
    drawn = best[:MOST_LINES]
    if len(best) > len(drawn):
        plain_text(f"The {len(drawn):,} highest of {len(best):,} variants are drawn; the table has all.")
    chosen = {name: axes[name] for name in wanted or axes}
    lines = _lines(drawn, chosen, names, picked)
    chart(_chart(lines, chosen), "axes")
    st.caption(
        "A line is a variant; it ends at its mean, with its number in the table. Thick: the best one; thick and "
        "dashed: the one picked out."
    )
    rows = [_row(rank, i, s, axes, names[s.variant]) for rank, (i, s) in enumerate(best, 1)]
    table(rows)
    exports(lambda: rows, f"all axes {scorer}")


def _row(rank: int, at: int, summary: VariantSummary, axes: Mapping[str, list[Json]], name: str) -> dict[str, Any]:
    values = {f.one_line(axis): said(values[at]) for axis, values in axes.items()}
    return {"number": rank, "variant": name, "mean": f.estimate(summary), **values}


def said(value: Json) -> str:
    """A value of an axis in words."""
    return f.NONE if value is None else f"{value:g}" if isinstance(value, float) else f.one_line(str(value))


def places(values: Sequence[Json]) -> list[float]:
    """Where each value lies on its axis, 0 to 1: numbers by size, all else evenly in the order of appearance."""
    if is_numeric(values):
        numbers = [float(v) for v in values if isinstance(v, (int, float))]
        low, high = min(numbers), max(numbers)
        return [(n - low) / (high - low) for n in numbers]
    order = {key: i for i, key in enumerate(dict.fromkeys(map(canonical, values)))}
    return [order[canonical(v)] / max(1, len(order) - 1) if len(order) > 1 else 0.5 for v in values]


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """Heights in rising order moved up as little as keeps them `apart`; then all moved back by half of the excess."""
    moved: list[float] = []
    for height in heights:
        moved.append(height if not moved else max(height, moved[-1] + apart))
    over = max(0.0, (moved[-1] - heights[-1]) / 2) if moved else 0.0
    return [height - over for height in moved]


def _lines(
    drawn: Sequence[tuple[int, VariantSummary]], axes: Mapping[str, list[Json]], names: Mapping[str, str], picked: str
) -> list[dict[str, Any]]:
    """A row for each place where a line meets an axis; the best variant's line is the first."""
    at_axis = {f.one_line(name): (places(values), values) for name, values in axes.items()}
    means = [s.mean or 0.0 for _, s in drawn]
    low, high = (min(means), max(means)) if max(means) > min(means) else (min(means) - 0.5, max(means) + 0.5)
    rows = []
    for rank, ((i, s), mean) in enumerate(zip(drawn, means, strict=True)):
        weight = WEIGHTS[0] if s.variant == picked else WEIGHTS[1] if not rank else WEIGHTS[2]
        line = {"number": rank + 1, "variant": names[s.variant], "mean": f.estimate(s), "weight": weight}
        beside = BUNDLE * (0.5 - (rank + 0.5) / len(drawn))
        for axis, (at, values) in at_axis.items():
            rows.append({**line, "axis": axis, "y": at[i] + beside, "value": said(values[i])})
        rows.append({**line, "axis": SCORE, "y": (mean - low) / (high - low), "value": f.estimate(s)})
    return rows


def _marks(axes: Mapping[str, list[Json]]) -> list[dict[str, Any]]:
    """What the places of the axes stand for; of many every so-manieth."""
    rows = []
    for name, values in axes.items():
        there = sorted({(place, said(value)) for place, value in zip(places(values), values, strict=True)})
        there = there[:: -(-len(there) // MOST_MARKS)]
        heights, words = spread([place for place, _ in there], APART), [word for _, word in there]
        rows += [
            {"axis": f.one_line(name), "y": y, "says": says, "value": word}
            for y, says, word in zip(heights, told_apart(words), words, strict=True)
        ]
    return rows


def told_apart(words: Sequence[str]) -> list[str]:
    """Words without the long beginning that all share, up to a sign between its parts: `…/role`, `…/few-shot`."""
    shared = commonprefix(list(words)) if len(words) > 1 else ""  # noqa: RUF071 - it goes by characters
    cut = max(shared.rfind(sign) for sign in "/-_. ")
    return [f"…{word[cut:]}" for word in words] if cut >= LONG else list(words)


def _ends(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Number and mean at the lines' ends; of many those of the best, the last and the one picked out."""
    ends = sorted((row for row in lines if row["axis"] == SCORE), key=lambda row: (row["y"], -row["number"]))
    if len(ends) > MOST_MARKS:
        ends = [row for row in ends if row["number"] in (1, len(ends)) or row["weight"] == WEIGHTS[0]]
    heights = spread([row["y"] for row in ends], APART)
    says = [f"{row['number']}: {row['mean'].split(' [')[0]}" for row in ends]
    values = [row["value"] for row in ends]
    return [{"axis": SCORE, "y": y, "says": s, "value": v} for y, s, v in zip(heights, says, values, strict=True)]


def _chart(lines: list[dict[str, Any]], axes: Mapping[str, list[Json]]) -> Any:
    order = [*map(f.one_line, axes), SCORE]
    apart = f"width / {len(order) - 1 + 2 * BESIDE:g}"  # an expression of Vega's, since the page gives the width
    top = alt.Axis(
        orient="top", labelAngle=0, labelLimit=alt.ExprRef(f"{apart} - 8"), labelFontWeight="bold", grid=True,
        ticks=False,
    )  # fmt: skip
    x = alt.X("axis:N", sort=order, title=None, scale=alt.Scale(padding=BESIDE), axis=top)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[-0.12, 1.12], nice=False), axis=None)
    hint = [alt.Tooltip(f"{name}:N") for name in ("number", "variant", "mean", "axis", "value")]
    base = alt.Chart(alt.Data(values=lines)).encode(x=x, y=y, detail="number:N", tooltip=hint)
    there = {row["weight"] for row in lines}  # a layer without marks would be an unnamed picture to a screen reader
    drawn = alt.layer(*(_weighed(base, weight) for weight in reversed(WEIGHTS) if weight in there))
    dark = st.context.theme.type == "dark"
    texts = alt.Chart(alt.Data(values=_marks(axes) + _ends(lines))).encode(x=x, y=y, text="says:N")
    hint = [alt.Tooltip("axis:N"), alt.Tooltip("value:N")]
    texts, limit = texts.encode(tooltip=hint), alt.ExprRef(f"{apart} - 20")
    behind = texts.mark_text(**AT, limit=limit, stroke="#0e1117" if dark else "white", strokeWidth=5, opacity=0.9)
    words = texts.mark_text(**AT, limit=limit, color="#fafafa" if dark else "#31333f")
    return (drawn + behind + words).properties(height=420)


def _weighed(base: Any, weight: str) -> Any:
    """The lines of one weight, with a point on each axis."""
    colour, width, dash = STROKES[weight]
    own = base.transform_filter(alt.datum.weight == weight)
    line = own.mark_line(color=colour, strokeWidth=width, strokeDash=dash, opacity=0.9)
    return line + own.mark_point(color=colour, filled=True, opacity=1, size=16 * width)
