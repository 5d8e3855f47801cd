"""Runs: all runs of the project, newest first; choose one to open it, several to compare them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from workbench.records import STAGES
from workbench.store.notes import pinned_runs
from workbench.store.overview import RunFilter, RunHead, count_runs, done_counts, run_heads, suite_names
from workbench.views import format as f
from workbench.views.screens.compare_scores import ROW
from workbench.views.screens.page import (
    choose,
    errors_shown,
    exports,
    go_to,
    open_screen,
    open_store,
    page_number,
    pager,
)

PAGE = 25
MOST_SIDE_BY_SIDE = 6
ANY = ""


def show() -> None:
    """The page."""
    st.title("Runs", anchor=False)
    with errors_shown(), open_store() as connection:
        suites = suite_names(connection)
        if not suites:
            st.info("No run yet. Start one in a terminal with `workbench run SUITE`, or on the screen Sweep.")
            return
        with st.container(horizontal=True):
            suite = choose("Suite", "suite", {ANY: "any"} | {name: f.one_line(name) for name in suites}, ANY)
            stage = choose("Stage", "stage", {ANY: "any"} | {name: name for name in STAGES}, ANY)
            words = _words()
        chosen = RunFilter(suite, stage, words, offset=(page := page_number()) * PAGE, limit=PAGE)
        heads, all_of_them = run_heads(connection, chosen), count_runs(connection, chosen)
        if not heads:
            st.info("No run is so; choose another suite or stage.")
            return
        _list(connection, heads, all_of_them, page)


def _list(connection: Any, heads: list[RunHead], all_of_them: int, page: int) -> None:
    rows = _rows(connection, heads)
    several = f"Choose one row to open it, or up to {MOST_SIDE_BY_SIDE} to compare."
    st.caption(f"{f.plural(all_of_them, 'run')}. {several if all_of_them > 1 else 'Choose its row to open it.'}")
    picked = _picked(rows)
    if st.button(
        f"Compare {len(picked)} runs" if len(picked) > 1 else "Open", disabled=not 0 < len(picked) <= MOST_SIDE_BY_SIDE
    ):
        open_screen("compare", runs=",".join(heads[i].id for i in picked))
    pager(page, PAGE, all_of_them > (page + 1) * PAGE, "runs")
    exports(lambda: rows, "runs")


def _words() -> str:
    """Part of an id or a suite's name; the address keeps it."""
    st.session_state["find"] = st.query_params.get("find", "")

    def keep() -> None:
        go_to("find", st.session_state["find"].strip(), "page")

    return st.text_input("Find", key="find", on_change=keep, max_chars=100).strip()


def _rows(connection: Any, heads: list[RunHead]) -> list[dict[str, Any]]:
    pinned, counts = pinned_runs(connection), done_counts(connection, [head.id for head in heads])
    rows = []
    for head in heads:
        done, failed = counts[head.id]
        rows.append(
            {
                "suite": f.one_line(head.suite), "stage": head.stage, "status": head.status,
                "started (UTC)": head.started[:16].replace("T", " "),
                "answered": f"{done - failed:,} of {head.planned:,}", "failed": failed,
                "pinned": "pinned" if head.id in pinned else "", "run": f.one_line(head.id),
            }
        )  # fmt: skip
    return rows


def _picked(rows: list[dict[str, Any]]) -> list[int]:
    event: Any = st.dataframe(
        rows, hide_index=True, width="stretch", height=ROW * (len(rows) + 1) + 3, on_select="rerun",
        selection_mode="multi-row", key=f"runs {rows[0]['run']}",
    )  # fmt: skip
    return list(event["selection"]["rows"])
