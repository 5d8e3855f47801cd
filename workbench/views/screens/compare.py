"""Compare: one run's variants, or several runs side by side.

The parts of the screen are modules of their own; each is shown by itself, reads only what it shows, and has its
state in the address: `?runs=A,B&view=cases&scorer=…&ref=…&case=…`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from workbench.errors import UnknownName
from workbench.store.overview import RunFilter, RunHead, run_heads
from workbench.store.runs import get_run
from workbench.views import format as f
from workbench.views.model import RunView
from workbench.views.screens import (
    compare_axes,
    compare_cases,
    compare_notes,
    compare_outputs,
    compare_parallel,
    compare_scores,
    compare_training,
)
from workbench.views.screens.loaded import Shown, load_shown, with_reference
from workbench.views.screens.page import (
    choose,
    choose_several,
    choose_view,
    errors_shown,
    literal,
    open_store,
    plain_text,
)

MOST_RUNS = 300
"""In the list; an older one is shown by its address."""
MOST_SIDE_BY_SIDE = 6

PARTS: Mapping[str, tuple[str, Callable[[Any, Shown, str], None]]] = {
    "scores": ("Scores", compare_scores.show_scores),
    "axes": ("Axes", compare_axes.show_axes),
    "parallel": ("All axes", compare_parallel.show_parallel),
    "price": ("Quality and price", compare_axes.show_price),
    "cases": ("Cases", compare_cases.show_cases),
    "outputs": ("Outputs", compare_outputs.show_outputs),
    "notes": ("Notes", compare_notes.show_notes),
    "training": ("Fine-tuning", compare_training.show_training),
}
"""Part by its name in the address: its title and what shows it."""


def show() -> None:
    """The page."""
    st.title("Compare", anchor=False)
    with errors_shown(), open_store() as connection:
        heads = run_heads(connection, RunFilter(limit=MOST_RUNS))
        if not heads:
            st.info("No run yet. Start one in a terminal with `workbench run SUITE`, or on the screen Sweep.")
            return
        runs = _chosen_runs(connection, heads)
        shown = load_shown(connection, runs)
        _state(shown.view)
        title, scorer = choose_view("view", {name: title for name, (title, _) in PARTS.items()}), ""
        with st.container(horizontal=True):
            if title not in ("outputs", "notes", "training"):
                scorer = _chosen_scorer(shown)
            if title in ("scores", "cases", "outputs") and len(shown.view.variants) > 1:
                shown = _chosen_reference(shown)
        PARTS[title][1](connection, shown, scorer)


def run_title(run: RunHead) -> str:
    """A run in one line, for lists."""
    return f.one_line(f"{run.suite} · {run.started[:16].replace('T', ' ')} UTC · {run.status} · {run.id}")


def _chosen_runs(connection: Any, heads: list[RunHead]) -> list[str]:
    """The runs that the address names (ids, beginnings of ids, `latest`), else the newest."""
    known = {head.id: head for head in heads}
    wanted = st.query_params.get("runs") or st.query_params.get("run") or "latest"
    found: dict[str, str] = {}
    for name in wanted.split(",")[:MOST_SIDE_BY_SIDE]:
        try:
            run = get_run(connection, name)
        except UnknownName as error:
            st.warning(literal(f"{error}"))
            continue
        found[run.id] = run_title(known[run.id]) if run.id in known else f.one_line(f"{run.suite} · {run.id}")
    st.query_params["runs"] = ",".join(found or [heads[0].id])
    options = {head.id: run_title(head) for head in heads} | found
    chosen = choose_several("Runs", "runs", options, [heads[0].id])
    return chosen[:MOST_SIDE_BY_SIDE] or [heads[0].id]


def _state(view: RunView) -> None:
    """How far the runs came and what they took."""
    used = view.usage.values()
    for run in view.runs:
        if run.status != "complete":
            done = f"{run.answered:,} of {f.plural(run.planned, 'trial')} answered"
            st.warning(f"Run {literal(run.id)} is {run.status}: {done}, so these numbers may still change.")
    priced = [u.cost for u in used if u.cost is not None]
    cost = f.money(sum(priced) if len(priced) == len(used) else None)
    answered, planned = sum(r.answered for r in view.runs), sum(r.planned for r in view.runs)
    plain_text(
        f"{f.plural(len(view.variants), 'variant')} · {answered:,} of {f.plural(planned, 'trial')} answered · "
        f"{sum(r.failed for r in view.runs):,} failed · "
        f"{f.tokens(sum(u.prompt_tokens + u.output_tokens for u in used))} tokens · cost {cost} · "
        f"stage {', '.join(dict.fromkeys(r.stage for r in view.runs))}"
        + (f" · {f.left_out(len(view.quarantined))} of all numbers" if view.quarantined else "")
    )


def _chosen_scorer(shown: Shown) -> str:
    if not shown.scorers:
        return ""
    return choose("Scorer", "scorer", {name: f.one_line(name) for name in shown.scorers}, shown.scorers[0])


def _chosen_reference(shown: Shown) -> Shown:
    """What the others are held against: the run's own reference, or another, which is then a look, not a test."""
    view = shown.view
    options = {v.id: f.one_line(v.label) for v in view.variants}
    own = view.reference or next(iter(options))
    return with_reference(shown, choose("Reference", "ref", options, own))
