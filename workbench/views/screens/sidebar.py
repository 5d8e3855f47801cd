"""The sidebar below the list of screens: which project this is, and what runs now."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.store.overview import Progress, open_runs
from workbench.views import format as f
from workbench.views.screens.page import literal, open_project, open_screen, open_store, plain_text

EVERY = 5
"""Seconds until it is looked at again."""
MOST = 5


def sidebar() -> None:
    with st.sidebar, suppress(WorkbenchError):
        plain_text(f"Project {f.one_line(open_project().root.name)}")
        _running()


@st.fragment(run_every=EVERY)
def _running() -> None:
    with suppress(WorkbenchError), open_store() as connection:  # the page itself says what is wrong
        _runs(open_runs(connection, MOST + 1))


def _runs(found: list[Progress]) -> None:
    if not found:
        st.caption("Nothing runs.")
    for run in found[:MOST]:
        _run(run)
    if len(found) > MOST:
        st.caption("… and more: see Runs.")


def _run(run: Progress) -> None:
    done = f"{run.done:,} of {run.planned:,}" + (f", {run.failed:,} failed" if run.failed else "")
    st.progress(min(1.0, run.done / max(1, run.planned)), literal(f"{run.suite}: {done}"))
    if st.button("Open", key=f"open {run.id}", help=literal(run.id), type="tertiary"):
        open_screen("compare", runs=run.id)
