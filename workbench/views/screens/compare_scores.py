"""Compare, scores: each variant's mean with its interval, and the paired verdict against the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import streamlit as st

from workbench.records import EMPTY
from workbench.stats.paired import PairedComparison
from workbench.views import format as f
from workbench.views.model import RunView, ScorerView
from workbench.views.screens.loaded import Shown, part, what_it_took
from workbench.views.screens.page import chart, exports, plain_text, switch
from workbench.views.took import Took, spent_text

GREY = "#808a94"
"""Seen on a light and on a dark page."""
MARK = "#3b82c4"
AXIS = 70
"""Height of a chart's axis with its title, which Streamlit counts in."""
ROW = 35
"""Height of a table's row in pixels, Streamlit's own."""
MOST_ROWS = 26
"""Seen at once; the table scrolls beyond."""


def show_scores(connection: Any, shown: Shown, scorer: str) -> None:
    if not scorer:
        st.info("Nothing is scored yet.")
        return
    view, found = shown.view, part(connection, shown, scorer)
    plain_text(found.sentence)
    labels = {v.id: variant_label(view, v.id) for v in view.variants}
    drawn = [
        {"variant": labels[s.variant], "mean": s.mean, "low": s.interval[0], "high": s.interval[1], "cases": s.cases}
        for s in found.summaries
        if s.mean is not None and s.interval
    ]
    if drawn:
        chart(_intervals(drawn, found), "intervals")
    rows = score_rows(found, labels, what_it_took(connection, shown))
    table(rows)
    if found.comparisons:
        took = " Of what an answer took, the difference stands after the dot."
        plain_text(f.held_together(found.comparisons, " and p-values") + took)
    exports(lambda: rows, f"scores {scorer}")
    if len(shown.scorers) > 1 and switch("All scorers, variants as columns", "all"):
        every = _all_scorers(connection, shown, labels)
        table(every)
        exports(lambda: every, "all scorers")


def variant_label(view: RunView, variant: str) -> str:
    """The variant's name, the reference marked as such."""
    mark = " (reference)" if variant == view.reference and len(view.variants) > 1 else ""
    return f.one_line(view.labels[variant]) + mark


def table(rows: list[dict[str, Any]]) -> None:
    st.dataframe(rows, hide_index=True, width="stretch", height=ROW * min(len(rows) + 1, MOST_ROWS) + 3)


def score_rows(found: ScorerView, labels: Mapping[str, str], took: Mapping[str, Took] = EMPTY) -> list[dict[str, Any]]:
    """One row a variant: its mean, what it rests on, how it compares to the reference, what an answer took."""
    compared = {row.variant: row for row in found.comparisons}
    rows: list[dict[str, Any]] = []
    for s in found.summaries:
        row: dict[str, Any] = {"variant": labels[s.variant], "mean": f.estimate(s)}
        if found.comparisons:
            row |= _against_reference(compared.get(s.variant))
        row |= {"cases": s.cases, "unscored trials": s.missing}
        own = took.get(s.variant, Took())
        row["cost an answer"] = spent_text(own.cost, "cost")
        row["time an answer"] = spent_text(own.seconds, "seconds")
        rows.append(row)
    return rows


def _against_reference(row: PairedComparison | None) -> dict[str, str]:
    if row is None:
        return {"difference": "", "verdict": "", "p": "", "won / lost / tied": ""}
    return {
        "difference": f.difference(row),
        "verdict": f.verdict(row),
        "p": f.p_value(row.p),
        "won / lost / tied": f"{row.wins} / {row.losses} / {row.ties}",
    }


def _all_scorers(connection: Any, shown: Shown, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row a scorer, one column a variant."""
    rows = []
    for name in shown.scorers:
        found = part(connection, shown, name)
        compared = {row.variant: row for row in found.comparisons}
        row: dict[str, Any] = {"scorer": f.one_line(name)}
        for s in found.summaries:
            verdict = compared[s.variant].verdict if s.variant in compared else ""
            row[labels[s.variant]] = f"{f.estimate(s)} {verdict}".strip()
        rows.append(row)
    return rows


def value_scale(rows: Sequence[Mapping[str, Any]], share: bool) -> Any:
    """An axis on which the intervals can be seen: shares from one full tenth to another, numbers as they are."""
    if not share:
        return alt.Scale(zero=False)
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    ends = [max(0.0, math.floor(10 * low + 1e-9) / 10), min(1.0, math.ceil(10 * high - 1e-9) / 10)]
    return alt.Scale(domain=ends if ends[0] < ends[1] else [0, 1], nice=False, zero=False)


def _intervals(drawn: list[dict[str, Any]], found: ScorerView) -> Any:
    """The means with their intervals; each label stands above its line, so that it takes no width away."""
    share = found.kind != "number"
    order = [row["variant"] for row in drawn]
    confidence = f"{100 * found.summaries[0].confidence:g} % interval"
    names = alt.Axis(
        labelAlign="left", labelBaseline="bottom", labelOffset=-6, labelPadding=0, labelLimit=330,
        ticks=False, domain=False,
    )  # fmt: skip
    scale = value_scale(drawn, share)
    values = alt.Axis(format="%" if share else "", title=f"{f.one_line(found.name)}: mean, {confidence}", tickCount=5)
    base = alt.Chart(alt.Data(values=drawn)).encode(y=alt.Y("variant:N", sort=order, title=None, axis=names))
    digits = ".1%" if share else ".4~g"
    hint = [
        alt.Tooltip("variant:N"),
        *(alt.Tooltip(f"{name}:Q", format=digits) for name in ("mean", "low", "high")),
        alt.Tooltip("cases:Q"),
    ]
    bars = base.mark_rule(size=3, color=GREY).encode(
        x=alt.X("low:Q", scale=scale, axis=values), x2="high:Q", tooltip=hint
    )
    points = base.mark_point(filled=True, size=45, opacity=1, color=MARK).encode(
        x=alt.X("mean:Q", scale=scale), tooltip=hint
    )
    return (bars + points).properties(height=32 * len(order) + AXIS)
