"""Compare, cases: cases × variants, a page at a time, ordered by what stands out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from workbench.records import CaseScores
from workbench.stats import cases as kernels
from workbench.stats.cases import CaseValues
from workbench.store.overview import case_tags
from workbench.views import format as f
from workbench.views.board import case_values, summed_values
from workbench.views.cases import strong_ones
from workbench.views.screens.compare_scores import ROW, variant_label
from workbench.views.screens.loaded import Shown, case_sums, columns, near_duplicates
from workbench.views.screens.page import choose, exports, go_to, page_number, pager, plain_text

PAGE = 25
ORDERS = {
    "suite": "as in the suite",
    "hardest": "hardest first",
    "spread": "variants disagree most",
    "reference": "furthest from the reference",
    "flaky": "repeats differ most",
}
FIGURES = {"hardest": "mean", "spread": "spread", "reference": "largest difference", "flaky": "chance to differ"}
NOTES = {"suspicious": "surprise, bits", "duplicates": "alike with (cases)"}
ALL = ""
SUSPICIOUS, DUPLICATES = "suspicious", "duplicates"
KEPT = {ALL: "all", SUSPICIOUS: "suspicious", DUPLICATES: "near-duplicates"}
"""Which cases are shown, by the name in the address."""


def show_cases(connection: Any, shown: Shown, scorer: str) -> None:
    if not scorer:
        st.info("Nothing is scored yet, so no case stands out. The outputs stand under Outputs.")
        return
    found = case_sums(connection, shown, scorer)
    if found.kind == "label":
        st.info("This scorer gives labels, which have no mean; choose another scorer.")
        return
    view, tags = shown.view, case_tags(connection, [run.id for run in shown.view.runs])
    with st.container(horizontal=True):
        kept = choose("Cases", "only", KEPT, ALL)
        order = choose("Order", "order", ORDERS, "suite")
        names = sorted({tag for own in tags.values() for tag in own})
        tag = choose("Tag", "tag", {ALL: "any"} | {name: f.one_line(name) for name in names}, ALL) if names else ALL
    single = order == "flaky" and found.kind != "pass"  # only these figures rest on each repeat's own value
    values = case_values(columns(connection, shown, scorer)) if single else summed_values(found)
    at, figures = _ordered(values, order, _reference_at(found, view.reference))
    notes = _noted(connection, shown, found, values, kept)
    wanted = [i for i, case in enumerate(at) if not tag or tag in tags.get(found.cases[case], ())]
    if notes is not None:
        place = {case: i for i, case in enumerate(notes)}
        wanted = [i for i in wanted if int(at[i]) in place]
        if order == "suite":
            wanted.sort(key=lambda i: place[int(at[i])])
    labels = {v.id: variant_label(view, v.id) for v in view.variants}

    def line(i: int) -> dict[str, Any]:
        row = _row(found, values, int(at[i]), (FIGURES.get(order), figures[i]), labels)
        if found.cases[at[i]] in view.quarantined:
            row["case"] += " (quarantined)"
        return row if notes is None else {"case": row.pop("case"), NOTES[kept]: notes[int(at[i])], **row}

    page = page_number()
    here = wanted[page * PAGE : (page + 1) * PAGE]
    rows = [line(i) for i in here]
    if not rows:
        st.info("No case is so." if order in FIGURES or kept else "No case here.")
        return
    st.caption(f"{f.plural(len(wanted), 'case')}. Choose a row to see its outputs.")
    ids = [found.cases[at[i]] for i in here]
    _grid(rows, ids)
    pager(page, PAGE, len(wanted) > (page + 1) * PAGE, "cases")
    exports(lambda: [line(i) for i in wanted], f"cases {scorer} {kept or order}")


def _noted(connection: Any, shown: Shown, found: CaseScores, values: CaseValues, kept: str) -> dict[int, str] | None:
    """The cases that are kept, by position and in the order of what stands out most, each with why; None: all."""
    if kept == SUSPICIOUS:
        return _suspicious(found, values)
    return _duplicates(connection, shown, found) if kept == DUPLICATES else None


def _suspicious(found: CaseScores, values: CaseValues) -> dict[int, str]:
    if found.kind == "number":
        st.info("This scorer gives numbers, of which none is a failure; choose another scorer.")
        return {}
    strong = kernels.strong_variants(values)
    weak = f"No variant has a mean of at least {kernels.STRONG:g}, so none can tell."
    told = f"Suspicious are cases failed by {strong_ones(len(strong))}: look at what they expect."
    plain_text(told if len(strong) else weak)
    at, bits = kernels.suspicious(values, strong)
    return {int(case): f.number(float(surprise)) for case, surprise in zip(at, bits, strict=True)}


def _duplicates(connection: Any, shown: Shown, found: CaseScores) -> dict[int, str]:
    """Each group's cases one after the other; the groups of several runs come after each other, each case once."""
    at = {case: i for i, case in enumerate(found.cases)}
    notes: dict[int, str] = {}
    for run in shown.view.runs:
        told = near_duplicates(connection, shown, run.id)
        plain_text(told.note)
        for group in told.groups:
            for case in group:
                if case in at:
                    notes.setdefault(at[case], f"{f.one_line(group[0])} ({len(group)})")
    return notes


def _reference_at(found: CaseScores, reference: str | None) -> int:
    return found.variants.index(reference) if reference in found.variants else 0


def _ordered(values: CaseValues, order: str, reference: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions of cases in the order wanted, and the figure that each goes by."""
    if order == "hardest":
        at, mean, _ = kernels.hardest(values)
        return at, mean
    if order == "flaky":
        at, chance, _ = kernels.flaky(values)
        return at, chance
    if order in ("spread", "reference"):
        figures = _spread(values) if order == "spread" else _from_reference(values, reference)
        at = np.flatnonzero(figures > 1e-12)
        at = at[np.argsort(-figures[at], kind="stable")]
        return at, figures[at]
    return np.arange(values.cases), np.zeros(values.cases)


def _spread(values: CaseValues) -> NDArray[np.float64]:
    """Highest minus lowest mean of a case's variants."""
    there = values.counts > 0
    high = np.where(there, values.means, -np.inf).max(axis=0, initial=-np.inf)
    low = np.where(there, values.means, np.inf).min(axis=0, initial=np.inf)
    return np.where(np.isfinite(high), high - low, 0.0)


def _from_reference(values: CaseValues, reference: int) -> NDArray[np.float64]:
    """The largest difference of any variant to the reference."""
    common = (values.counts > 0) & (values.counts[reference] > 0)
    gaps = np.where(common, np.abs(values.means - values.means[reference]), 0.0)
    return np.asarray(gaps.max(axis=0, initial=0.0))


def _row(
    found: CaseScores, values: CaseValues, case: int, figure: tuple[str | None, float], labels: Mapping[str, str]
) -> dict[str, Any]:
    """A line of the grid: the figure that it is ordered by, and each variant's mean on this case."""
    row: dict[str, Any] = {"case": f.one_line(found.cases[case])}
    if figure[0]:
        row[figure[0]] = _value(float(figure[1]), "fraction" if figure[0].startswith("chance") else found.kind)
    for i, variant in enumerate(found.variants):
        row[labels[variant]] = _cell(float(values.means[i, case]), int(values.counts[i, case]), found.kind)
    return row


def _cell(mean: float, scores: int, kind: str) -> str:
    """A case's mean with what it rests on: `3 of 5` passed, `✓`, `0.4 (5)`."""
    if not scores:
        return f.NONE
    if kind == "pass":
        return ("✓" if mean else "✗") if scores == 1 else f"{round(mean * scores)} of {scores}"
    return _value(mean, kind) + (f" ({scores})" if scores > 1 else "")


def _value(mean: float, kind: str) -> str:
    return f.number(mean) if kind == "number" else f"{f.percent(mean)} %"


def _grid(rows: list[dict[str, Any]], ids: list[str]) -> None:
    """A chosen row leads to the case's outputs."""

    def opened() -> None:
        rows_chosen = st.session_state["case grid"]["selection"]["rows"]
        if rows_chosen:
            go_to("case", ids[rows_chosen[0]], "page", "trial")
            go_to("view", "outputs")

    st.dataframe(
        rows, hide_index=True, width="stretch", height=ROW * (len(rows) + 1) + 3, key="case grid",
        on_select=opened, selection_mode="single-row",
    )  # fmt: skip
