"""Journey, the first screen: every run in order, by stage, with what it found; what runs, got worse, or is open.

The runs are read together, ended ones once (`_standings`); the chart sends one small row a point.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import streamlit as st

from workbench.records import STAGES
from workbench.store.overview import RunFilter, RunHead, open_runs, references, run_heads, scorers_named, suite_names
from workbench.store.runs import variants_of
from workbench.views import format as f
from workbench.views.journey import Finding, RunStanding, changes, standings, undecided
from workbench.views.looks import look_line
from workbench.views.screens.compare_scores import GREY, table, value_scale
from workbench.views.screens.loaded import KEPT_SECONDS, load_shown, part, run_scores, stamp
from workbench.views.screens.page import (
    chart,
    choose,
    choose_several,
    errors_shown,
    exports,
    go_to,
    literal,
    open_screen,
    open_store,
    plain_text,
    switch,
)

MOST_RUNS = 300
MOST_OPENED = 6
CHART = "journey chart"
MOST_SUITES = 6
"""Of which the newest runs are looked at for what got worse and what is open."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b04a8b", "#6b7680")
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross")
ALL = ""
BEST = {"reference": "the reference variant", "best": "each prompt's best variant"}
VALUES = {"mean": "score", "cost": "cost an answer, US dollars", "seconds": "time an answer, seconds"}


def show() -> None:
    """The page."""
    st.title("Journey", anchor=False)
    with errors_shown(), open_store() as connection:
        heads = run_heads(connection, RunFilter(limit=MOST_RUNS))
        scorers = scorers_named(connection)
        if not heads:
            _empty()
            return
        if not scorers:
            st.info(
                "The runs have no scorers yet: name some in a suite under `scorers:`, or use `workbench score RUN`."
            )
            return
        with st.container(horizontal=True):
            scorer = choose("Scorer", "scorer", {name: f.one_line(name) for name in scorers}, next(iter(scorers)))
            names = suite_names(connection)
            suite = choose("Suite", "suite", {ALL: "all"} | {name: f.one_line(name) for name in names}, ALL)
            value = choose("Shown", "value", VALUES, "mean")
            best = choose("Of", "of", BEST, "reference") == "best"
        wanted = [head for head in reversed(heads) if not suite or head.suite == suite]
        beside = st.columns([3, 1], gap="large")
        with beside[0]:
            _picture(connection, wanted, scorer, value, best)
        with beside[1]:
            _now(connection)
            _findings(connection, heads, scorer)


def _empty() -> None:
    st.info(
        "Nothing has run yet. Write a prompt on the screen Prompts, try it in the Playground, then sweep it; "
        "or start a suite in a terminal with `workbench run SUITE`. Each run appears here."
    )


def _picture(connection: Any, heads: list[RunHead], scorer: str, value: str, best: bool) -> None:
    rows, kinds = _points(connection, heads, scorer, value, best)
    if not rows:
        st.info("No run has this to show; choose another scorer, suite or value.")
        return
    share = value == "mean" and "number" not in kinds
    drawn = _chart(rows, share, f"{f.one_line(scorer)}: mean, 95 % interval" if value == "mean" else VALUES[value])
    chart(drawn, "journey", on_select=_take_points, selection_mode="picked", key=CHART)
    titles = {row["run"]: f"{row['order']}: {row['suite']} · {row['started']} · {row['run']}" for row in reversed(rows)}
    runs = choose_several(
        "Chosen runs", "picked", titles, [], help="Click a point, with Shift a second one; or choose here with keys."
    )
    several = len(runs) > 1
    if st.button(f"Compare {len(runs)} runs" if several else "Open the run", disabled=not 0 < len(runs) <= MOST_OPENED):
        open_screen("compare", runs=",".join(runs), scorer=scorer)
    if best and value == "mean":
        st.caption("The best of several variants was chosen after looking, so its score flatters.")
    says = {name: name for name in ("run", "suite", "stage", "variant")} | {"text": VALUES[value], "cases": "cases"}
    if aside := {row["run"]: row["quarantined"] for row in rows if row["quarantined"]}:
        says["quarantined"] = f.LEFT_OUT
        st.caption(f"{f.left_out(max(aside.values()))} at most, of {f.plural(len(aside), 'run')}: see the table.")
    listed = [{title: row[name] for name, title in says.items()} for row in rows]
    if switch("As a table", "table"):
        table(listed)
    exports(lambda: listed, "journey")


def _take_points() -> None:
    """Clicked points are the chosen runs."""
    points = st.session_state[CHART]["selection"].get("picked", [])
    go_to("picked", ",".join(dict.fromkeys(point["run"] for point in points)))


def _points(
    connection: Any, heads: list[RunHead], scorer: str, value: str, best: bool
) -> tuple[list[dict[str, Any]], set[str]]:
    """One row a point, oldest first."""
    stand = _stand(connection, heads, scorer, best)
    rows: list[dict[str, Any]] = []
    kinds: set[str] = set()
    for order, head in enumerate(heads, 1):
        found = stand.get(head.id)
        for s in found.points(best) if found else ():
            y = getattr(s, value)
            if y is None or found is None:
                continue
            kinds.add(found.kind)
            v, bounds = s.variant, s.found.interval if value == "mean" else None
            text = f.estimate(s.found) if value == "mean" else f.money(y) if value == "cost" else f.seconds(y)
            rows.append({
                "order": order, "run": head.id, "suite": f.one_line(head.suite), "stage": head.stage,
                "line": f"{head.suite} {v.prompt} {'' if best else v.label}", "prompt": f.one_line(v.prompt),
                "revision": f.short_id(v.revision), "variant": f.one_line(v.label), "y": y, "cases": s.found.cases,
                "quarantined": found.quarantined, "low": bounds[0] if bounds else y, "high": bounds[1] if bounds else y,
                "text": text, "started": head.started[:16].replace("T", " "),
            })  # fmt: skip
    return rows, kinds


def _stand(connection: Any, heads: list[RunHead], scorer: str, every: bool) -> dict[str, RunStanding]:
    """Of open runs anew every few seconds, apart from the ended ones."""
    parts = [[h for h in heads if (h.status in ("running", "waiting")) == is_open] for is_open in (False, True)]
    ended, still_open = (_standings(stamp(p), tuple(h.id for h in p), scorer, every, connection) for p in parts)
    return ended | still_open


@st.cache_resource(ttl=20 * KEPT_SECONDS, max_entries=24, show_spinner=False)
def _standings(
    key: tuple[str, ...], runs: tuple[str, ...], scorer: str, every: bool, _connection: Any
) -> dict[str, RunStanding]:
    base = references(_connection, runs)
    return standings(_connection, {run: base.get(run) for run in runs}, scorer, every)


def _chart(rows: list[dict[str, Any]], share: bool, title: str) -> Any:
    picked = alt.selection_point(name="picked", fields=["run"], on="click", toggle="event.shiftKey", empty=False)
    stages = [stage for stage in STAGES if any(row["stage"] == stage for row in rows)]
    at = [STAGES.index(stage) for stage in stages]
    legend = alt.Legend(title=None, orient="top", columns=3)
    colour = alt.Color(
        "stage:N", scale=alt.Scale(domain=stages, range=[COLOURS[i] for i in at]), legend=legend, sort=stages
    )
    shape = alt.Shape(
        "stage:N", scale=alt.Scale(domain=stages, range=[SHAPES[i] for i in at]), legend=legend, sort=stages
    )
    last = max(row["order"] for row in rows)
    few, crowded = last <= 12, len(rows) > 80
    x = alt.X(
        "order:Q", title="runs, oldest first", scale=alt.Scale(domain=[1, max(2, last)], nice=False, padding=14),
        axis=alt.Axis(tickMinStep=1, format="d", tickCount=6 if few else 10, grid=False),
    )  # fmt: skip
    y = alt.Y(
        "y:Q", title=title, axis=alt.Axis(format="%" if share else ""),
        scale=value_scale(rows, share),
    )  # fmt: skip
    hint = [
        alt.Tooltip(f"{name}:N", title=says)
        for name, says in (
            ("text", title), ("run", "run"), ("suite", "suite"), ("variant", "variant"), ("prompt", "prompt"),
            ("revision", "revision"), ("cases", "cases"), ("quarantined", f.LEFT_OUT), ("started", "started (UTC)"),
        )
    ]  # fmt: skip
    base = alt.Chart(alt.Data(values=rows)).encode(x=x)
    lines = base.mark_line(color=GREY, opacity=0.35 if crowded else 0.6, strokeWidth=1).encode(y=y, detail="line:N")
    bars = base.mark_rule(color=GREY, opacity=0.25 if crowded else 0.9).encode(y=alt.Y("low:Q"), y2="high:Q")
    marks = base.mark_point(filled=True, opacity=1, strokeWidth=2).encode(
        y=y, color=colour, shape=shape, tooltip=hint,
        size=alt.condition(picked, alt.value(260), alt.value(45 if crowded else 90)),
    ).add_params(picked)  # fmt: skip
    return (bars + lines + marks).properties(height=420)


def _now(connection: Any) -> None:
    st.subheader("Now", anchor=False)
    running = open_runs(connection, 3)
    variants = variants_of(connection, [run.id for run in running])
    for run in running:
        plain_text(f.one_line(f"{run.suite}: {run.done:,} of {run.planned:,}"))
        if "looks_made" in run.stopping:
            plain_text(look_line(run.stopping, {v.id: v.label for v in variants[run.id]}))
    if not running:
        st.caption("Nothing runs.")


def _findings(connection: Any, heads: list[RunHead], scorer: str) -> None:
    """The newest complete run of each suite, against the one before it, and its open comparisons."""
    newest: dict[str, list[RunHead]] = {}
    for head in heads:
        if head.status == "complete" and (head.suite in newest or len(newest) < MOST_SUITES):
            newest.setdefault(head.suite, []).append(head)
    changed, still_open = [], []
    for runs in newest.values():
        if len(runs) > 1:
            changed.append(_changes(stamp(runs[1::-1]), runs[1].id, runs[0].id, scorer, connection))
        shown = load_shown(connection, [runs[0].id])
        if scorer in shown.scorers:
            rows = part(connection, shown, scorer, ranked=False).comparisons
            still_open += undecided(shown.view, scorer, rows)
    st.subheader("Got worse", anchor=False)
    worse = [found for found in changed if found and found.comparison.verdict in ("worse", "lower")]
    for found in worse:
        _finding(
            found, f"{f.difference(found.comparison)}{_unit(found)} against the run before, {found.comparison.verdict}"
        )
    if not worse:
        st.caption("No suite's newest run is worse than the one before, as far as the data tell.")
    st.subheader("Undecided", anchor=False)
    for found in still_open[:3]:
        more = found.comparison.more_cases
        settle = f"about {f.plural(more, 'more case')} would settle it" if more else "more cases would settle it"
        _finding(found, f"{f.difference(found.comparison)}{_unit(found)} to the reference; {settle}")
    if not still_open:
        st.caption("Nothing is open in the newest runs.")
    elif len(still_open) > 3:
        st.caption(f"… and {len(still_open) - 3} more in Compare.")


def _unit(found: Finding) -> str:
    return "" if found.comparison.kind == "number" else " points"


def _finding(found: Finding, says: str) -> None:
    with st.container(border=True, gap="xsmall"):
        plain_text(f.one_line(f"{found.suite}: {found.label}"))
        st.caption(says + f.left_out(found.quarantined, "; "))
        name = "Compare" if len(found.runs) > 1 else "Open"
        if st.button(
            name, key=f"{found.runs} {found.comparison.variant}", type="tertiary", help=literal(found.runs[-1])
        ):
            open_screen("compare", runs=",".join(found.runs), scorer=found.scorer)


@st.cache_resource(ttl=20 * KEPT_SECONDS, max_entries=100, show_spinner=False)
def _changes(key: tuple[str, ...], older: str, newer: str, scorer: str, _connection: Any) -> Finding | None:
    parts = [
        run_scores((key[0], own), run, scorer, _connection) for own, run in zip(key[1:], (older, newer), strict=True)
    ]
    return changes(_connection, older, newer, parts)
