"""Runs: choose one, see each variant's score with its interval, and the outputs of a case side by side.

Scores and outputs are fragments: a choice in one of them computes and sends only that one anew. The page never
holds more than one scorer's numbers and one page of outputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import altair as alt
import streamlit as st

from workbench.errors import UnknownName
from workbench.records import Run, Score
from workbench.store import runs as stored
from workbench.store.runs import TrialFilter, TrialRow
from workbench.views import format as f
from workbench.views.model import RunView, ScorerView, load_view
from workbench.views.screens.page import choose, errors_shown, go_to, literal, open_store, plain_text

MOST_RUNS = 300
"""In the list; an older one is shown by its address."""
MOST_OUTPUTS = 50
"""On the page at a time."""
OUTPUT_CHARS = 4_000
REASON_CHARS = 300
"""Longer texts are cut, with a note."""
ACROSS = 3
"""Cards side by side; below 640 pixels Streamlit puts them under each other."""
GREY = "#808a94"
"""Seen on a light and on a dark page."""
AXIS = 70
"""Height of a chart's axis with its title, which Streamlit counts in."""
ROW = 35
"""Height of a table's row in pixels, Streamlit's own."""


def show() -> None:
    """The page."""
    st.set_page_config(page_title="Workbench", layout="wide")
    st.title("Runs")
    with errors_shown(), open_store() as connection:
        run = _chosen_run(connection)
        if run is None:
            st.info("No run yet. Start one in a terminal: `workbench run SUITE`, where SUITE is a file in `evals/`.")
            return
        view = load_view(connection, run)
        cases = stored.run_cases(connection, run)
        _state(view)
        _scores(view)
        _outputs(run, view.labels, cases)


def _chosen_run(connection: Any) -> str | None:
    """The run that the address names (its id, the beginning of one, or `latest`), else the newest."""
    listed = stored.list_runs(connection, limit=MOST_RUNS)
    if not listed:
        return None
    wanted, named = st.query_params.get("run", "latest"), listed[0]
    try:
        named = stored.get_run(connection, wanted)
    except UnknownName as error:
        st.warning(literal(f"{error}; the newest is shown"))
    if named.id not in {run.id for run in listed}:
        listed.append(named)
    st.query_params["run"] = named.id
    return choose("Run", "run", {run.id: _title(run) for run in listed}, named.id)


def _title(run: Run) -> str:
    return f.one_line(f"{run.suite} · {run.started[:16].replace('T', ' ')} UTC · {run.status} · {run.id}")


def _state(view: RunView) -> None:
    """How far the run came and what it took."""
    run, used = view.run, view.usage.values()
    if run.status != "complete":
        done = f"{run.answered:,} of {run.planned:,} trials are answered"
        st.warning(f"This run is {run.status}: {done}, so these numbers may still change.")
    priced = [u.cost for u in used if u.cost is not None]
    cost = f.money(sum(priced) if len(priced) == len(used) else None)
    plain_text(
        f"{f.plural(len(view.variants), 'variant')} · {run.answered:,} of {run.planned:,} trials answered · "
        f"{run.failed:,} failed · {f.tokens(sum(u.prompt_tokens + u.output_tokens for u in used))} tokens · "
        f"cost {cost} · stage {run.stage}"
    )


@st.fragment
def _scores(view: RunView) -> None:
    if not view.scorers:
        st.info("Nothing is scored yet.")
        return
    by_name = {part.name: part for part in view.scorers}
    part = by_name[choose("Scorer", "scorer", {name: f.one_line(name) for name in by_name}, next(iter(by_name)))]
    plain_text(part.sentence)
    labels = {v.id: _label(view, v.id) for v in view.variants}
    drawn = [
        {"variant": labels[s.variant], "mean": s.mean, "low": s.interval[0], "high": s.interval[1], "cases": s.cases}
        for s in part.summaries
        if s.mean is not None and s.interval
    ]
    if drawn:
        st.altair_chart(_intervals(drawn, part), width="stretch")
    rows = _table(part, labels)
    st.dataframe(rows, hide_index=True, width="stretch", height=ROW * min(len(rows) + 1, 26) + 3)
    if part.comparisons:
        plain_text(
            f"Differences are to the reference on common cases{'' if part.kind == 'number' else ', in points'}; "
            f"their intervals and p-values hold for all {f.plural(part.comparisons[0].rows, 'comparison')} together."
        )


def _label(view: RunView, variant: str) -> str:
    mark = " (reference)" if variant == view.reference and len(view.variants) > 1 else ""
    return f.one_line(view.labels[variant]) + mark


def _table(part: ScorerView, labels: Mapping[str, str]) -> list[dict[str, str | int]]:
    """One row a variant: its mean, what it rests on, and how it compares to the reference."""
    compared = {row.variant: row for row in part.comparisons}
    rows: list[dict[str, str | int]] = []
    for s in part.summaries:
        row: dict[str, str | int] = {"variant": labels[s.variant], "mean": f.estimate(s), "cases": s.cases}
        row["unscored trials"] = s.missing
        if part.comparisons:
            c = compared.get(s.variant)
            row["difference"] = f.difference(c) if c else ""
            row["p"] = f.p_value(c.p) if c else ""
            row["won / lost / tied"] = f"{c.wins} / {c.losses} / {c.ties}" if c else ""
            row["verdict"] = c.verdict + (f" ({c.more_cases:,} more cases)" if c.more_cases else "") if c else ""
        rows.append(row)
    return rows


def _intervals(drawn: list[dict[str, Any]], part: ScorerView) -> Any:
    """The means with their intervals; each label stands above its line, so that it takes no width away."""
    share = part.kind != "number"
    order = [row["variant"] for row in drawn]
    confidence = f"{100 * part.summaries[0].confidence:g} % interval"
    names = alt.Axis(
        labelAlign="left", labelBaseline="bottom", labelOffset=-6, labelPadding=0, labelLimit=330,
        ticks=False, domain=False,
    )  # fmt: skip
    scale = alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False)
    values = alt.Axis(format="%" if share else "", title=f"{f.one_line(part.name)}: mean, {confidence}", tickCount=5)
    base = alt.Chart(alt.Data(values=drawn)).encode(y=alt.Y("variant:N", sort=order, title=None, axis=names))
    digits = ".1%" if share else ".4~g"
    hint = [
        alt.Tooltip("variant:N"),
        *(alt.Tooltip(f"{name}:Q", format=digits) for name in ("mean", "low", "high")),
        alt.Tooltip("cases:Q"),
    ]
    bars = base.mark_rule(size=2, color=GREY).encode(
        x=alt.X("low:Q", scale=scale, axis=values), x2="high:Q", tooltip=hint
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("mean:Q", scale=scale), tooltip=hint)
    return (bars + points).properties(height=32 * len(order) + AXIS)


@st.fragment
def _outputs(run: str, labels: Mapping[str, str], cases: list[str]) -> None:
    st.subheader("Outputs of a case")
    with errors_shown(), open_store() as connection:
        case = _chosen_case(cases)
        page = _page_number()
        chosen = TrialFilter(case=case, offset=page * MOST_OUTPUTS, limit=MOST_OUTPUTS + 1)
        rows = list(stored.trial_rows(connection, run, chosen))
    if rows:
        _case(rows[0])
    groups = [(variant, list(same)) for variant, same in groupby(rows[:MOST_OUTPUTS], lambda row: row.variant_id)]
    for start in range(0, len(groups), ACROSS):
        across = st.columns(min(ACROSS, len(groups)))
        for place, (variant, trials) in zip(across, groups[start : start + ACROSS], strict=False):
            with place.container(border=True):
                plain_text(f.one_line(labels[variant]))
                for trial in trials:
                    _trial(trial, len(trials) > 1)
    _pager(page, len(rows) > MOST_OUTPUTS)


def _chosen_case(cases: list[str]) -> str:
    """Leafed through by number: a list of ids would grow with the run."""
    wanted = st.query_params.get("case")
    st.session_state["case"] = cases.index(wanted) + 1 if wanted in cases else 1

    def keep() -> None:
        go_to("case", cases[st.session_state["case"] - 1], "page")

    number = st.number_input(f"Case, 1 to {len(cases):,}", 1, len(cases), key="case", on_change=keep, width=220)
    return cases[number - 1]


def _page_number() -> int:
    wanted = st.query_params.get("page", "1")
    return max(0, int(wanted) - 1) if wanted.isascii() and wanted.isdigit() and len(wanted) < 7 else 0


def _pager(page: int, more: bool) -> None:
    """Only where there is more than one page."""
    if not page and not more:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Previous", disabled=not page, on_click=go_to, args=("page", str(page)))
        st.text(f"outputs from {page * MOST_OUTPUTS + 1}, {MOST_OUTPUTS} at a time")
        st.button("Next", disabled=not more, on_click=go_to, args=("page", str(page + 2)))


def _case(row: TrialRow) -> None:
    """What was asked about."""
    expected = "" if row.expected is None else f" · expected: {f.one_line(_json(row.expected, REASON_CHARS))}"
    plain_text(f"{f.one_line(row.case_id)}{expected}")
    _block("\n".join(f"{f.one_line(name)}: {_json(value, OUTPUT_CHARS)}" for name, value in row.inputs.items()))


def _trial(row: TrialRow, repeated: bool) -> None:
    """One output, or why there is none, with its scores."""
    output = row.output
    notes = [f"repeat {row.repeat + 1}"] if repeated or row.repeat else []
    if output is not None and output.failure is None and output.finish_reason != "stop":
        notes.append(f"ended: {f.one_line(output.finish_reason)}")
    if notes:
        st.text(" · ".join(notes))
    if output is None:
        st.text("not asked yet")
    elif output.failure is not None:
        plain_text(f.shorten(f"failed ({output.failure.kind}): {output.failure.message}", OUTPUT_CHARS))
    elif not output.text:
        st.text("an empty answer")
    else:
        _block(output.text)
    for score in row.scores:
        plain_text(f.one_line(f.shorten(f"{_value(score)} — {score.reason}", REASON_CHARS)))


def _block(text: str) -> None:
    """Text with every space and newline that it has: the element takes one newline off each end."""
    st.code(f"\n{f.printable(f.shorten(text, OUTPUT_CHARS))}\n", language=None, wrap_lines=True)


def _value(score: Score) -> str:
    if score.value is None:
        return f"– {score.scorer}"
    if score.kind == "pass":
        return f"{'✓' if score.value else '✗'} {score.scorer}"
    value = f"{score.value:,.6g}" if isinstance(score.value, (int, float)) else score.value
    return f"{score.scorer}: {value}"


def _json(value: object, limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f.shorten(text, limit)
