"""Prompts: the library as a tree, an editor that renders while one writes, history, labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import streamlit as st

from workbench.authoring import record, save_prompt, suites_naming
from workbench.define.library import Library
from workbench.define.lint import lint_prompt
from workbench.define.project import Project
from workbench.define.prompt import render_prompt
from workbench.define.template import variable_uses
from workbench.errors import PromptError, WorkbenchError
from workbench.play import Question
from workbench.records import Message, Prompt
from workbench.views import format as f
from workbench.views.screens.drafts import (
    Draft,
    Filled,
    as_text,
    attempt,
    block,
    did,
    draft_area,
    draft_of,
    fill_inputs,
    forget_draft,
    read_area,
    short,
    show_done,
)
from workbench.views.screens.engines import playground
from workbench.views.screens.page import (
    errors_shown,
    exports,
    go_to,
    literal,
    open_database,
    open_project,
    open_screen,
    plain_text,
)
from workbench.views.screens.prompt_history import history_view, labels_of

VIEWS = {"editor": "Editor", "history": "History", "manage": "Rename, delete"}
EDITOR_HEIGHT = 440
NEW = """---
description:
inputs:
  text:
    type: string
    example: Write an example here.
---
user:
{{ text }}
"""
"""The text of a new prompt."""


def show() -> None:
    """The page."""
    st.title("Prompts", anchor=False)
    with errors_shown():
        project = open_project()
        library = Library(project.library_root, project.references)
        names = library.names()
        show_done()
        if not names:
            st.info("No prompt yet. Name one here; it becomes a file in `prompts/`.")
            _new_prompt(project, library)
            return
        tree, page = st.columns([1, 3], gap="medium")
        chosen = st.query_params.get("prompt", names[0])
        with tree:
            with st.container(key="tree"):
                _tree(names, chosen)
            with st.popover("New prompt", width="stretch"):
                _new_prompt(project, library)
        with page, errors_shown():
            draft_of(project, library, chosen)  # raises UnknownName before anything is drawn
            _prompt(project, library, chosen)


def _tree(names: Sequence[str], chosen: str) -> None:
    """Folders that open and close; the prompt that is shown is marked, not only by colour."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    for folder, inside in sorted(folders.items()):
        place = st.container(gap=None)
        if folder:
            place = st.expander(literal(folder + "/"), expanded=chosen.startswith(folder + "/") or len(folders) < 4)
        for name in inside:
            mark = "▸ " if name == chosen else ""
            place.button(
                mark + literal(name.rpartition("/")[2]),
                key=f"open {name}",
                type="tertiary",
                on_click=go_to,
                args=("prompt", name, "old", "new"),
            )


def _prompt(project: Project, library: Library, name: str) -> None:
    st.subheader(literal(name), anchor=False)
    labels = labels_of(library, name)
    if labels:
        plain_text("labels: " + ", ".join(f"{label} → {short(revision)}" for label, revision in sorted(labels.items())))
    wanted = st.query_params.get("view", "editor")
    st.session_state["view"] = wanted if wanted in VIEWS else "editor"
    view = st.segmented_control(
        "View", list(VIEWS), format_func=VIEWS.__getitem__, key="view", on_change=_keep_view,
        label_visibility="collapsed", required=True,
    )  # fmt: skip
    if view == "history":
        history_view(library, name)
    elif view == "manage":
        _manage(project, library, name)
    else:
        _editor(project, library, name)


def _keep_view() -> None:
    go_to("view", st.session_state["view"])


def _editor(project: Project, library: Library, name: str) -> None:
    left, right = st.columns([3, 2], gap="medium")
    with left:
        draft = draft_area(project, library, name, EDITOR_HEIGHT)
        _save_form(project, library, name, draft)
        for finding in lint_prompt(library, name, draft.text):
            line = f"line {finding.line}: " if finding.line else ""
            (st.error if finding.level == "error" else st.warning)(literal(line + finding.message))
    with right, errors_shown():
        try:
            prompt = library.draft(name, draft.text)
        except PromptError:
            st.caption("What the prompt renders to stands here once its text can be read.")
            return
        filled = fill_inputs(project, [prompt])
        _rendered(prompt, filled)
        _variables(prompt)
        _tokens(project, prompt, filled)
        if st.button("Try it in the playground"):
            open_screen("playground", prompts=name)


def _save_form(project: Project, library: Library, name: str, draft: Draft) -> None:
    message, button = st.columns([4, 1], vertical_alignment="bottom")
    key = f"message for {name}"
    message.text_input("Message", key=key, placeholder="Why it reads so now", label_visibility="collapsed")

    def save() -> None:
        read_area(name, draft)
        if not draft.changed:
            did(f"{name} is as saved already")
            return
        try:
            with closing(open_database()) as database:
                prompt = save_prompt(library, database, name, draft.text, draft.was, st.session_state[key])
        finally:
            if library.text(name) == draft.text:  # the file is written, also where the store can't be
                forget_draft(project, name)
                st.session_state[key] = ""
        did(f"{name} saved as revision {short(prompt.revision)}")

    button.button(
        "Save",
        type="primary",
        on_click=attempt,
        args=(save,),
        width="stretch",
        key=f"save {name}",
        help="Writes the file and records the revision with its message",
    )  # fmt: skip; never disabled, which would lose the place of whoever presses it with a key
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"changed, {draft.copy.told}" if draft.changed else "as saved", width="content")
        if draft.changed and not draft.copy.restored:
            st.button("Discard", key=f"discard {name}", type="tertiary", on_click=forget_draft, args=(project, name))


def _rendered(prompt: Prompt, filled: Filled) -> None:
    st.markdown("**Rendered**")
    try:
        messages = render_prompt(prompt, filled.inputs, filled.case or "")
    except PromptError as error:
        st.warning(literal(error.message))
        return
    show_messages(messages)


def show_messages(messages: Sequence[Message]) -> None:
    for message in messages:
        st.caption(literal(message.role))
        block(message.text)


def _variables(prompt: Prompt) -> None:
    if not prompt.inputs:
        st.caption("The prompt has no variables.")
        return
    used = variable_uses(prompt.template, prompt.partials)
    rows = [
        {
            "variable": i.name,
            "used": "✓ used" if i.name in used else "✗ not used",
            "type": i.type,
            "needed": "yes" if i.required and i.default is None else "no",
            "default": "" if i.default is None else f.one_line(as_text(i.default)),
        }
        for i in prompt.inputs
    ]
    st.dataframe(rows, hide_index=True, width="stretch")
    exports(lambda: rows, f"{prompt.name} variables")


def _tokens(project: Project, prompt: Prompt, filled: Filled) -> None:
    """On demand: a local model's file is opened for it."""
    models = st.multiselect("Count tokens with", sorted(project.models), placeholder="choose models", key="count with")
    for alias in models:
        try:
            count = playground().count_tokens(Question(prompt, project.model(alias), filled.inputs))
            plain_text(f"{alias}: {f.plural(count, 'token')}")
        except WorkbenchError as error:
            plain_text(f"{alias}: {error}")


def _new_prompt(project: Project, library: Library) -> None:
    with st.form("new prompt", border=False):
        st.text_input("Name", key="new name", placeholder="folder/name")

        def create() -> None:
            name = st.session_state["new name"].strip()
            with closing(open_database()) as database:
                save_prompt(library, database, name, NEW, None, "new")
            go_to("prompt", name, "view", "old", "new")
            did(f"{name} is in {project.shown(library.path_of(name))}")

        st.form_submit_button("Create", type="primary", on_click=attempt, args=(create,))


def _manage(project: Project, library: Library, name: str) -> None:
    naming = suites_naming(project, name)
    if naming:
        them = "it" if len(naming) == 1 else "them"
        plain_text(f"Named by {f.plural(len(naming), 'suite')}: {', '.join(naming)}. Change {them} by hand.")
    else:
        st.caption("No suite names it.")
    key = f"new name of {name}"
    st.text_input("New name", value=name, key=key)

    def rename() -> None:
        to = st.session_state[key].strip()
        prompt = library.rename(name, to)
        with closing(open_database()) as database:
            record(database, prompt, f"renamed from {name}")
        forget_draft(project, name)
        go_to("prompt", to, "view")
        did(f"{name} is {to} now, with its labels")

    st.button("Rename", on_click=attempt, args=(rename,))
    st.divider()
    sure = st.checkbox("Delete the file", key=f"delete {name}")
    st.caption("Labelled revisions and recorded history stay.")

    def delete() -> None:
        library.delete(name)
        forget_draft(project, name)
        st.query_params.pop("prompt", None)
        st.query_params.pop("view", None)
        did(f"{name} is deleted")

    st.button("Delete", disabled=not sure, on_click=attempt, args=(delete,))
