"""Compare, outputs: what each variant answered to one case, side by side; differences word by word; one trial whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, groupby
from typing import Any

import streamlit as st

from workbench.records import Json, Score
from workbench.store import runs as stored
from workbench.store.runs import TrialFilter, TrialRow
from workbench.views import format as f
from workbench.views.board import diff_html, word_diff
from workbench.views.model import RunView
from workbench.views.screens.compare_notes import note_form
from workbench.views.screens.compare_scores import variant_label
from workbench.views.screens.loaded import Shown
from workbench.views.screens.page import (
    block,
    choose,
    exports,
    go_to,
    page_number,
    pager,
    plain_text,
    safe_markdown,
    switch,
)

MOST_OUTPUTS = 50
"""On the page at a time."""
OUTPUT_CHARS = 4_000
WHOLE_CHARS = 100_000
REASON_CHARS = 300
"""Longer texts are cut, with a note."""
ACROSS = 3
"""Cards side by side; below 640 pixels Streamlit puts them under each other."""


def show_outputs(connection: Any, shown: Shown, _scorer: str) -> None:
    view = shown.view
    cases = list(dict.fromkeys(chain.from_iterable(stored.run_cases(connection, run.id) for run in view.runs)))
    if not cases:
        st.info("This run has no cases.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        case = _chosen_case(cases)
        differences = len(view.variants) > 1 and switch("Words that differ from the reference", "diff")
        markdown = switch("Read as Markdown", "markdown")
        with st.popover("Note"):
            note_form([run.id for run in view.runs], case)
    page = page_number()
    rows = _rows(connection, view, case, page)
    if rows:
        _case(rows[0])
    reference = _reference_outputs(connection, view, case) if differences else {}
    labels = view.labels
    groups = [(variant, list(same)) for variant, same in groupby(rows[:MOST_OUTPUTS], lambda row: row.variant_id)]
    for start in range(0, len(groups), ACROSS):
        across = st.columns(min(ACROSS, len(groups)))
        for place, (variant, trials) in zip(across, groups[start : start + ACROSS], strict=False):
            with place.container(border=True, gap="xsmall"):
                plain_text(variant_label(view, variant))
                for trial in trials:
                    against = reference.get(trial.repeat) if variant != view.reference else None
                    _trial(trial, len(trials) > 1, against, markdown)
    pager(page, MOST_OUTPUTS, len(rows) > MOST_OUTPUTS, "outputs")
    if rows:
        exports(lambda: [_output_row(row, labels) for row in rows[:MOST_OUTPUTS]], f"outputs {case}")
        _whole(rows[:MOST_OUTPUTS], view)


def _output_row(row: TrialRow, labels: Mapping[str, str]) -> dict[str, object]:
    """An output in full, for a file."""
    told: dict[str, object] = {"case": row.case_id, "variant": labels[row.variant_id], "repeat": row.repeat + 1}
    if row.output is not None:
        failure = row.output.failure
        told |= {"output": row.output.text, "failed": f"{failure.kind}: {failure.message}" if failure else ""}
    return told | {score.scorer: score.value for score in row.scores}


def _rows(connection: Any, view: RunView, case: str, page: int) -> list[TrialRow]:
    """One page of the case's trials of all runs, and one more where there are more."""
    if len(view.runs) == 1:
        chosen = TrialFilter(case=case, offset=page * MOST_OUTPUTS, limit=MOST_OUTPUTS + 1)
        return list(stored.trial_rows(connection, view.run.id, chosen))
    start, rows = page * MOST_OUTPUTS, []
    for run in view.runs:
        chosen = TrialFilter(case=case, limit=start + MOST_OUTPUTS + 1)
        for row in stored.trial_rows(connection, run.id, chosen):
            rows.append(replace(row, variant_id=f"{run.id}/{row.variant_id}"))
    return rows[start : start + MOST_OUTPUTS + 1]


def _reference_outputs(connection: Any, view: RunView, case: str) -> dict[int, str]:
    """Repeat → what the reference answered."""
    run, _, variant = (view.reference or "").rpartition("/")
    chosen = TrialFilter((variant,), case, limit=MOST_OUTPUTS)
    rows = stored.trial_rows(connection, run or view.run.id, chosen)
    return {row.repeat: row.output.text for row in rows if row.output is not None and row.output.failure is None}


def _chosen_case(cases: list[str]) -> str:
    """Leafed through by number: a list of ids would grow with the run."""
    wanted = st.query_params.get("case")
    st.session_state["case"] = cases.index(wanted) + 1 if wanted in cases else 1

    def keep() -> None:
        go_to("case", cases[st.session_state["case"] - 1], "page", "trial")

    number = st.number_input(f"Case, 1 to {len(cases):,}", 1, len(cases), key="case", on_change=keep, width=220)
    return cases[number - 1]


def _case(row: TrialRow) -> None:
    """What was asked about."""
    expected = "" if row.expected is None else f" · expected: {f.one_line(_json(row.expected, REASON_CHARS))}"
    tags = f" · tags: {f.one_line(f.shorten(', '.join(row.tags), REASON_CHARS))}" if row.tags else ""
    plain_text(f"{f.one_line(f.shorten(row.case_id, REASON_CHARS))}{expected}{tags}")
    block(
        "\n".join(f"{f.one_line(name)}: {_json(value, OUTPUT_CHARS)}" for name, value in row.inputs.items()),
        OUTPUT_CHARS,
    )


def _trial(row: TrialRow, repeated: bool, reference: str | None, markdown: bool) -> None:
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
    elif reference is not None:
        _difference(f.shorten(reference, OUTPUT_CHARS), f.shorten(output.text, OUTPUT_CHARS))
    elif markdown:
        safe_markdown(f.shorten(output.text, OUTPUT_CHARS))
    else:
        block(output.text, OUTPUT_CHARS)
    if row.retrieved:
        plain_text("retrieved: " + ", ".join(f.retrieved(row.retrieved)))
    if row.scores:
        said = [f.one_line(f.shorten(f"{_value(score)} — {score.reason}", REASON_CHARS)) for score in row.scores]
        plain_text("\n".join(said))


def _difference(old: str, new: str) -> None:
    if old == new:
        st.caption("The same words as the reference:")
    st.html(f'<div class="words">{diff_html(word_diff(old, new))}</div>')


def _whole(rows: list[TrialRow], view: RunView) -> None:
    """The exact request of one trial, its answer and its scores, for whoever asks."""
    titles = {"": "none"} | {
        row.trial_id if len(view.runs) == 1 else f"{row.variant_id} {row.trial_id}": f.one_line(
            f"{view.labels[row.variant_id]} · repeat {row.repeat + 1}"
        )
        for row in rows
    }
    chosen = choose("A trial in full", "trial", titles, "")
    row = next((row for row in rows if chosen and chosen.endswith(row.trial_id)), None)
    if row is None:
        return
    settings = next(v.settings for v in view.variants if v.id == row.variant_id)
    plain_text(f"request {row.request_id} · trial {row.trial_id}")
    plain_text(f.one_line(f"settings: {_json(dict(settings), REASON_CHARS)}"))
    for message in row.messages:
        plain_text(f.one_line(str(message.get("role", ""))))
        block(_json(message.get("content"), WHOLE_CHARS), WHOLE_CHARS)
    if row.output is None:
        return
    o = row.output
    plain_text("answer")
    block(o.text if o.failure is None else f"failed ({o.failure.kind}): {o.failure.message}", WHOLE_CHARS)
    plain_text(
        f"{f.tokens(o.prompt_tokens)} + {f.tokens(o.output_tokens)} tokens · {f.seconds(o.seconds)} · "
        f"cost {f.money(o.cost)} · ended: {f.one_line(o.finish_reason)}"
    )
    for score in row.scores:
        plain_text(f.one_line(f.shorten(f"{_value(score)} ({score.kind}) — {score.reason}", OUTPUT_CHARS)))


def _value(score: Score) -> str:
    if score.value is None:
        return f"– {score.scorer}"
    if score.kind == "pass":
        return f"{'✓' if score.value else '✗'} {score.scorer}"
    value = f"{score.value:,.6g}" if isinstance(score.value, (int, float)) else score.value
    return f"{score.scorer}: {value}"


def _json(value: Json | Mapping[str, Json], limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f.shorten(text, limit)
