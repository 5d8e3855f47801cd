"""What becomes of a try: a case of a suite, a suite of its own, or a revision of its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import streamlit as st

from workbench.authoring import NewSuite, add_case, save_prompt, write_suite
from workbench.define.library import Library
from workbench.define.project import Project
from workbench.define.suite import suite_names
from workbench.errors import UseError
from workbench.records import Json, Prompt
from workbench.store.tries import Try
from workbench.views import format as f
from workbench.views.screens.drafts import Filled, attempt, did, draft_of, forget_draft, short
from workbench.views.screens.page import literal, open_database, plain_text


@dataclass(frozen=True, slots=True)
class Setting:
    """What is on the page to be asked."""

    project: Project
    library: Library
    prompts: Sequence[Prompt]
    models: Sequence[str]
    filled: Filled
    params: Mapping[str, Json]
    answer: Mapping[str, Json]


def promote(setting: Setting | None, tries: Sequence[Try]) -> None:
    """Three ways to keep more than the try itself; all write files that one could write by hand."""
    if setting is None:
        return
    titles = {one.number: f.one_line(f"try {one.number}: {one.prompt} · {one.model}") for one in tries}
    by_number = {one.number: one for one in tries}
    st.subheader("Make something of it", anchor=False)
    number = st.selectbox("Of", list(titles), format_func=titles.__getitem__, key="promoted")
    with st.container(horizontal=True):
        with st.popover("A case"):
            _case(setting, by_number[number])
        with st.popover("A suite"):
            _suite(setting, by_number[number])
        with st.popover("A revision"):
            _revision(setting, by_number[number])


def _case(setting: Setting, one: Try) -> None:
    """Appends what was asked, with the answer that is expected, to the data file of a suite."""
    suites = suite_names(setting.project)
    if not suites:
        st.caption("There is no suite yet: make one of it.")
        return
    st.selectbox("Suite", suites, key="case suite")
    st.session_state.setdefault(f"expected {one.number}", one.output.text.strip())
    st.text_area("Expected answer", key=f"expected {one.number}", help="Left empty: none")
    st.text_input("Name", value=f"try-{one.number}", key=f"case name {one.number}")

    def add() -> None:
        expected = st.session_state[f"expected {one.number}"] or None
        wanted = st.session_state[f"case name {one.number}"].strip() or f"try-{one.number}"
        file, name = add_case(setting.project, st.session_state["case suite"], one.inputs, expected, wanted)
        did(f"{file} has one more case" + (f": {name}" if name else ""))

    st.button("Append", type="primary", on_click=attempt, args=(add,))


def _suite(setting: Setting, one: Try) -> None:
    """The prompts, models and parameters on the page, with this case."""
    names = [prompt.name for prompt in setting.prompts]
    plain_text(
        f"{', '.join(names)} × {', '.join(setting.models)}, with the inputs of try {one.number} as its first case."
    )
    st.text_input("Name of the suite", key="suite name", placeholder="greeting")
    st.session_state.setdefault(f"suite expected {one.number}", one.output.text.strip())
    st.text_area("Expected answer", key=f"suite expected {one.number}", help="Left empty: none, and no scorer")

    def write() -> None:
        if changed := [name for name in names if draft_of(setting.project, setting.library, name).changed]:
            raise UseError(f"save '{changed[0]}' first: a suite names prompts by their files")
        name = st.session_state["suite name"].strip()
        expected = st.session_state[f"suite expected {one.number}"]
        row = {"id": f"try-{one.number}", **one.inputs, **({"expected": expected} if expected else {})}
        scorers = ["contains"] if expected else []
        new = NewSuite(names, setting.models, [row], setting.params, setting.answer, scorers)
        file = write_suite(setting.project, name, new)
        did(f"{file} is written; run it in a terminal: workbench run {name}")

    st.button("Write", type="primary", on_click=attempt, args=(write,))


def _revision(setting: Setting, one: Try) -> None:
    """The text that was tried becomes the prompt's file."""
    library = setting.library
    draft = draft_of(setting.project, library, one.prompt) if one.prompt in library.names() else None
    if draft is None:
        plain_text(f"There is no prompt '{f.one_line(one.prompt)}' any more.")
        return
    if library.text(one.prompt) == one.text:
        st.caption("Its text is the prompt's file as it stands.")
        return
    st.caption(f"The file of {literal(one.prompt)} becomes what was tried ({short(one.revision)}).")
    st.text_input("Message", key="revision message", placeholder="Why it reads so now")

    def save() -> None:
        message = st.session_state["revision message"]
        with closing(open_database()) as database:
            prompt = save_prompt(library, database, one.prompt, one.text, library.text(one.prompt), message)
        forget_draft(setting.project, one.prompt)
        did(f"{one.prompt} saved as revision {short(prompt.revision)}")

    st.button("Save", type="primary", on_click=attempt, args=(save,))
