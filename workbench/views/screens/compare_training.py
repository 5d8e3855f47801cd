"""Compare, fine-tuning: the run's good answers as examples to learn from, some cases held out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import streamlit as st

from workbench.define.files import own_file
from workbench.store.runs import get_run, run_scorers, run_variants
from workbench.training.files import FORMS, PAIRED, doubts, told, write_examples
from workbench.training.pick import EXPECTED, VOTES, Wanted, default_answers, made_from, pick_examples
from workbench.views import format as f
from workbench.views.screens.loaded import Shown
from workbench.views.screens.page import block, errors_shown, literal, open_project

SOURCES = {EXPECTED: "the expected answers", VOTES: "what people preferred (Judge by eye)"}
OWN = ""
BOUNDS = "What a good answer is given, by a scorer of fractions or numbers"
MOST_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form says."""

    wanted: Wanted
    form: str
    file: str


def show_training(connection: Any, shown: Shown, _scorer: str) -> None:
    if len(shown.view.runs) > 1:
        st.info("Examples are made of one run: choose it above.")
        return
    run = shown.view.runs[0].id
    st.caption(
        "Examples to fine-tune a model on: good answers with the messages they were given to. Some cases are held out, "
        "always the same ones; beside the examples stands a file that tells which, for `trained_on` of the tuned model."
    )
    asked = _form(connection, run)
    if asked is not None:
        with errors_shown():
            _write(connection, run, asked)


def _form(connection: Any, run: str) -> Asked | None:
    """What is to be written, once the button is pressed."""
    kinds = run_scorers(connection, run)
    variants = {v.id: f.one_line(v.label) for v in run_variants(connection, run)}
    sources = {n: f"what {f.one_line(n)} passes" if k == "pass" else f.one_line(n) for n, k in kinds if k != "label"}
    sources |= SOURCES
    with st.form("training"):
        with st.container(horizontal=True):
            default = list(sources).index(default_answers(kinds))
            answers = st.selectbox("Good answers", list(sources), default, format_func=sources.__getitem__)
            least = st.number_input("At least", value=None, help=BOUNDS)
            most = st.number_input("At most", value=None, help=BOUNDS)
            form = st.selectbox("Form", list(FORMS))
        taken = st.multiselect("Answers of", list(variants), list(variants), format_func=variants.__getitem__)
        titles = {OWN: "those that each answer was given to"} | {v: f"those of {n}" for v, n in variants.items()}
        asked_as = st.selectbox("Messages", list(titles), format_func=titles.__getitem__)
        hold_out = st.slider("Held out, % of the cases", 0, 90, 30, 5)
        file = st.text_input("File in the project", f"data/training/{run}.jsonl", max_chars=200)
        if not st.form_submit_button("Write", type="primary"):
            return None
    wanted = Wanted(answers, form in PAIRED, least, most, frozenset(taken), asked_as or None, hold_out / 100)
    return Asked(wanted, form, file.strip())


def _write(connection: Any, run: str, asked: Asked) -> None:
    project = open_project()
    path = own_file(project, asked.file)
    with st.spinner("Reading the answers"):
        picked = pick_examples(connection, run, asked.wanted)
    about = made_from(get_run(connection, run), run_variants(connection, run), asked.wanted)
    beside = write_examples(picked, asked.form, path, about)
    st.success(literal(f"{project.shown(path)}: {told(picked)}"))
    for line in doubts(picked):
        st.warning(literal(line))
    cases = project.shown(beside)
    st.caption("Once the model is tuned: its alias in workbench.yaml, and the cases of a suite that compares it")
    block(f"models:\n  tuned: {{…, trained_on: {cases}}}", MOST_CHARS)
    block(f"cases: {{…, held_out: {cases}}}", MOST_CHARS)
    with st.expander("The first example"):
        block(json.dumps(FORMS[asked.form](picked.examples[0]), indent=2, ensure_ascii=False), MOST_CHARS)
