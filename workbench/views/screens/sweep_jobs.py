"""What runs: the jobs of this project, live, with their first results; pause, stop, resume."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import streamlit as st

from workbench.define.project import Project
from workbench.errors import UnknownName, WorkbenchError
from workbench.jobs import Job, list_jobs, log_end, note_run, start_job, state, stop_job
from workbench.records import Run
from workbench.store.runs import get_run, quarantined_cases, run_variants
from workbench.store.standing import Standing, run_of_process, standing
from workbench.views import format as f
from workbench.views.looks import run_looks
from workbench.views.screens.loaded import so_far
from workbench.views.screens.page import (
    STORE,
    errors_shown,
    exports,
    literal,
    open_project,
    open_screen,
    open_store,
    plain_text,
    read_project,
)

EVERY, EVERY_IDLE, EVERY_LARGE = 1.0, 5.0, 4.0
"""Seconds until the jobs are looked at again: while one is alive, else, and while a run of many trials is alive."""
LARGE = 20_000
MOST = 4
"""Ended jobs that are shown."""
CELL_CHARS = 160


def jobs_panel(project: Project) -> None:
    """The panel, which looks again by itself, also where there is no job yet: another window may start one."""
    alive = any(state(job) != "ended" for job in list_jobs(project))
    large = st.session_state.get("large job", False)
    st.fragment(_panel, run_every=(EVERY_LARGE if large else EVERY) if alive else EVERY_IDLE)(project)


def _panel(project: Project) -> None:
    if not (jobs := list_jobs(project)):
        return
    st.subheader("Jobs", anchor=False)
    with errors_shown(), open_store() as connection:
        alive = [job for job in jobs if state(job) != "ended"]
        st.session_state["large job"] = False
        for job in alive:
            _job(project, connection, job)
        for job in [job for job in jobs if job not in alive][:MOST]:
            _job(project, connection, job)
    if message := st.session_state.pop("job said", None):
        st.error(literal(message))


def _job(project: Project, connection: Any, job: Job) -> None:
    """One job: how far it is, what can be done with it, what came of it so far."""
    doing, run = state(job), _run(project, connection, job)
    if run is not None and run.planned > LARGE and doing != "ended":
        st.session_state["large job"] = True
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            plain_text(f"{f.one_line(job.suite)} · {_words(doing, run)}")
            _buttons(job, doing, run)
        if run is None:
            if doing == "ended":
                plain_text(f.one_line(f.shorten(log_end(project, job).rpartition("\n")[2], 400)) or "nothing was said")
            return
        how = standing(connection, run.id) if doing != "ended" else None
        done = run.answered + run.failed
        if doing != "ended" or done < run.planned:
            st.progress(min(1.0, done / max(1, run.planned)), literal(_line(run, how)))
        else:
            plain_text(_line(run, how))
        if run.header.get("stopping"):
            plain_text("\n".join(run_looks(run, {v.id: v.label for v in run_variants(connection, run.id)})))
        if doing == "ended" and run.status == "failed":
            plain_text(f.one_line(f.shorten(log_end(project, job).rpartition("\n")[2], 400)))
        if how is not None:
            _first_results(connection, how, run.id)


def _run(project: Project, connection: Any, job: Job) -> Run | None:
    """The job's run in the store, remembered with the job once it is there."""
    run = run_of_process(connection, job.pid, job.queued) if job.run is None else None
    if run is not None:
        note_run(project, job, run)
    try:
        return get_run(connection, run or job.run or "-") if run or job.run else None
    except UnknownName:  # another store, or the run was deleted
        return None


def _words(doing: str, run: Run | None) -> str:
    if doing == "ended":
        return run.status if run is not None else "ended before it began"
    if doing == "waiting":
        return "waits for its turn: one local model at a time"
    return doing if run is not None else "starting"


def _line(run: Run, how: Standing | None) -> str:
    """`312 of 960 trials · 18.4 a second · about 35 s left · $0.0123 · 2 failed`."""
    done = run.answered + run.failed
    parts = [f"{done:,} of {f.plural(run.planned, 'trial')}"]
    if how is not None and how.rate:
        parts += [f"{how.rate:.1f} a second", f"about {f.seconds((run.planned - done) / how.rate)} left"]
    if how is not None:
        parts.append(f"cost {f.money(how.cost)}")
    if run.failed:
        parts.append(f"{run.failed:,} failed")
    return " · ".join(parts)


def _buttons(job: Job, doing: str, run: Run | None) -> None:
    if doing in ("waiting", "running"):
        st.button(
            "Pause or stop", key=f"stop {job.id}", on_click=_stop, args=(job.id,),
            help="What was answered is kept. 'Resume' goes on from there: a pause is a stop that is resumed.",
        )  # fmt: skip
    elif doing == "stopping":
        st.button("Stop at once", key=f"stop {job.id}", on_click=_stop, args=(job.id,))
    elif run is not None and run.status in ("stopped", "interrupted", "failed"):
        st.button("Resume", key=f"resume {job.id}", on_click=_resume, args=(job.id,))
    if run is not None and st.button("Compare", key=f"open {job.id}", type="tertiary", help="Open its results."):
        open_screen("compare", runs=run.id)


def _stop(job: str) -> None:
    _act(job, stop_job)


def _resume(job: str) -> None:
    def resume(project: Project, found: Job) -> None:
        read_project()
        start_job(project, found.suite, local=found.local, store=os.environ.get(STORE), resume=found.run)

    _act(job, resume)


def _act(job: str, action: Callable[[Project, Job], None]) -> None:
    """Acts on a job as it is now; what can't be done is said on the page."""
    try:
        project = open_project()
        found = next((j for j in list_jobs(project) if j.id == job), None)
        if found is not None:
            action(project, found)
    except WorkbenchError as error:
        st.session_state["job said"] = str(error)


def _first_results(connection: Any, how: Standing, run: str) -> None:
    """Means so far with their intervals, a row a variant, and the newest answers."""
    labels = {v.id: f.one_line(v.label) for v in run_variants(connection, run)}
    rows: dict[str, dict[str, str]] = {}
    for scorer, summaries in so_far(connection, run).items():
        for s in (s for s in summaries if s.cases):
            row = rows.setdefault(s.variant, {"so far, incomplete": labels[s.variant]})
            row[f.one_line(scorer)] = f"{f.estimate(s)} · {f.plural(s.cases, 'case')}"
    means = list(rows.values())
    if means:
        st.dataframe(means, hide_index=True, width="stretch", height=35 * min(len(rows) + 1, 7) + 3)
        if aside := quarantined_cases(connection, [run]).get(run):
            st.caption(f.left_out(len(aside)))
    lines = [
        f"{f.one_line(n.variant)} · {f.one_line(f.shorten(n.case, CELL_CHARS))} · "
        + f.one_line(f.shorten(f"failed: {n.failure}" if n.failure else n.text, CELL_CHARS))
        for n in how.newest
    ]
    if lines:
        plain_text("\n".join(lines))
    newest = [
        {"variant": n.variant, "case": n.case, "answer": n.text, "failed": n.failure and str(n.failure)}
        for n in how.newest
    ]
    with st.container(horizontal=True):
        if means:
            exports(lambda: means, f"{run} so far", "Means so far")
        if newest:
            exports(lambda: newest, f"{run} newest", "Newest answers")
