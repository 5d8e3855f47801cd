"""Runs: choose one, see each variant's score with its interval, and the outputs of a case side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from workbench.define.project import load_project
from workbench.errors import WorkbenchError
from workbench.records import Run
from workbench.store import runs as stored
from workbench.store.database import Database
from workbench.views.format import estimate, interval, printable
from workbench.views.model import RunView, ScorerView, load_view

PROJECT, STORE = "WORKBENCH_PROJECT", "WORKBENCH_STORE"
"""Environment variables by which `workbench ui` hands on its options."""


def show() -> None:
    """The page: one error line instead of a traceback."""
    st.set_page_config(page_title="Workbench", layout="wide")
    st.title("Runs")
    try:
        with _database().read() as connection:
            _page(connection)
    except WorkbenchError as error:
        st.error(printable(str(error)))


def _database() -> Database:
    project = load_project(Path(os.environ[PROJECT]) if PROJECT in os.environ else None)
    return Database.open(os.environ.get(STORE) or project.store_url)


def _page(connection: Any) -> None:
    runs = stored.list_runs(connection, limit=300)
    if not runs:
        st.info("No run yet. Start one in a terminal with: workbench run evals/demo.yaml")
        return
    by_id = {run.id: run for run in runs}
    wanted = st.query_params.get("run")
    start = list(by_id).index(wanted) if wanted in by_id else 0
    chosen = st.selectbox("Run", list(by_id), index=start, format_func=lambda i: _title(by_id[i]))
    st.query_params["run"] = chosen
    view = load_view(connection, chosen)
    if view.run.status != "complete":
        st.warning(f"This run is {view.run.status}: {view.run.answered} of {view.run.planned} trials are answered.")
    for part, tab in zip(view.scorers, st.tabs([p.name for p in view.scorers] or ["No scores"]), strict=False):
        with tab:
            _scorer(view, part)
    _outputs(connection, view)


def _title(run: Run) -> str:
    return f"{run.suite} · {run.started[:16].replace('T', ' ')} · {run.status} · {run.id}"


def _scorer(view: RunView, part: ScorerView) -> None:
    if part.sentence:
        st.text(part.sentence)
    labels = {v.id: v.label for v in view.variants}
    compared = {c.variant: c for c in part.comparisons}
    rows = [
        {
            "variant": labels[s.variant],
            "score": estimate(s),
            "cases": s.cases,
            "difference": (c := compared.get(s.variant)) and interval(c.interval, part.kind),
            "verdict": c.verdict if c else "reference",
        }
        for s in part.summaries
    ]
    drawn = pd.DataFrame(
        [
            {"variant": labels[s.variant], "mean": s.mean, "low": s.interval[0], "high": s.interval[1]}
            for s in part.summaries
            if s.mean is not None and s.interval
        ]
    )
    if not drawn.empty:
        st.altair_chart(_intervals(drawn, part.name), width="stretch")
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")


def _intervals(drawn: pd.DataFrame, name: str) -> Any:
    order = list(drawn["variant"])
    base = alt.Chart(drawn).encode(y=alt.Y("variant:N", sort=order, title=None, axis=alt.Axis(labelLimit=400)))
    bars = base.mark_rule(size=2).encode(x=alt.X("low:Q", title=f"{name}, 95 % interval"), x2="high:Q")
    points = base.mark_point(filled=True, size=70).encode(x="mean:Q", tooltip=["variant", "mean", "low", "high"])
    return (bars + points).properties(height=28 * len(order) + 60)


def _outputs(connection: Any, view: RunView) -> None:
    st.subheader("Outputs of a case")
    cases = stored.run_cases(connection, view.run.id)
    case = st.selectbox("Case", cases)
    labels = {v.id: v.label for v in view.variants}
    rows = list(stored.trial_rows(connection, view.run.id, stored.TrialFilter(case=case)))
    if not rows:
        return
    st.text(printable("\n".join(f"{name}: {value}" for name, value in rows[0].inputs.items())))
    for row in rows:
        with st.container(border=True):
            st.caption(printable(f"{labels[row.variant_id]} · repeat {row.repeat}").replace("_", r"\_"))
            output = row.output
            text = "not asked yet" if output is None else output.failure.message if output.failure else output.text
            st.text(printable(text[:20_000]))
            for score in row.scores:
                st.text(printable(f"{score.scorer}: {score.value} — {score.reason}"))
