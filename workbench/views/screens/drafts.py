"""What is being written and not saved yet, for the screens that share it: prompts' texts, and values for inputs.

A draft lives in the session, beside the widgets, so that it survives a visit to another screen, and is kept as a
file (`kept`), so that it survives the session.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from workbench.define.data import load_cases
from workbench.define.drafts import KeptDraft
from workbench.define.library import Library
from workbench.define.project import Project
from workbench.define.suite import find_suite, suite_names
from workbench.define.suite_file import SuiteFile
from workbench.define.yamlfile import parse_value, read_yaml, validate
from workbench.errors import WorkbenchError
from workbench.records import Case, Input, Json, Prompt
from workbench.views import format as f
from workbench.views.screens.kept import Copy, is_over, keep, let_go, take_up, tell
from workbench.views.screens.page import choose, go_to, literal, place, plain_text
from workbench.views.screens.typed import DRAFT, fill_field

TYPED = "typed"
"""In place of a suite's name: the inputs are typed here."""
LINE = 68
"""Height of a text area with two lines, the least that Streamlit has."""


@dataclass(slots=True)
class Draft:
    """A prompt's text as it is being written."""

    was: str
    """The file's text when it was opened."""
    text: str
    copy: Copy

    @property
    def changed(self) -> bool:
        return self.text != self.was


@dataclass(slots=True)
class Typed:
    """What was typed for inputs in place of their examples and defaults, by their names."""

    copy: Copy
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filled:
    """Values for a prompt's inputs."""

    inputs: Mapping[str, Json]
    expected: Json = None
    suite: str | None = None
    case: str | None = None


def draft_of(project: Project, library: Library, name: str) -> Draft:
    """The session's draft of a prompt, at first the one that is kept; a file that changed is read anew where nothing
    was written on the draft.

    Raises UnknownName or PromptError."""
    drafts: dict[str, Draft] = st.session_state.setdefault("drafts", {})
    text = library.text(name)
    if name not in drafts:
        draft = drafts[name] = Draft(text, text, take_up(project, "prompt", name))
        if kept := draft.copy.kept:
            _take(draft, kept)
    draft = drafts[name]
    if text == draft.text or not draft.changed or is_over(project, draft.copy):  # saved, here or elsewhere, or dropped
        draft.was = draft.text = text
        let_go(project, draft.copy)
    return draft


def _take(draft: Draft, kept: KeptDraft) -> None:
    draft.was, draft.text = kept.was or "", kept.text


def forget_draft(project: Project, name: str) -> None:
    """The file's text stands again, whatever another window has drafted."""
    drafts: dict[str, Draft] = st.session_state.setdefault("drafts", {})
    if name in drafts:
        let_go(project, drafts[name].copy)
    drafts[name] = Draft("", "", Copy("prompt", name))


def draft_area(project: Project, library: Library, name: str, height: int) -> Draft:
    """The text area of a prompt, with a warning where its file was changed by someone else."""
    draft = draft_of(project, library, name)
    key = f"{DRAFT}text of {name}"
    fill_field(key, draft.text)

    def written() -> None:
        draft.text = st.session_state[key]
        _keep(project, draft)  # here, too: whoever leaves for another screen as he types has this page not drawn again

    label = f"Text of {f.one_line(name)}"  # collapsed, it is read aloud as it is, not as Markdown
    st.text_area(label, key=key, height=height, on_change=written, label_visibility="collapsed")
    _keep(project, draft)
    tell(project, draft.copy, partial(forget_draft, project, name), partial(_take, draft))
    with place():
        if library.text(name) != draft.was:
            st.warning("The file was changed by someone else since this draft was begun.")
            st.button("Load the file, drop this draft", key=f"load {name}", on_click=forget_draft, args=(project, name))
    return draft


def read_area(name: str, draft: Draft) -> None:
    """Takes up what stands in the text area, for a button: it may be pressed before the area's text has been read."""
    draft.text = st.session_state.get(f"{DRAFT}text of {name}", draft.text)


def _keep(project: Project, draft: Draft) -> None:
    if draft.changed:
        keep(project, draft.copy, draft.was, draft.text)
    else:
        let_go(project, draft.copy)


def fill_inputs(project: Project, prompts: Iterable[Prompt]) -> Filled:
    """Widgets that give the prompts' inputs: a case of a suite, or typed values. Raises WorkbenchError."""
    suites = suite_names(project)
    options = {TYPED: "typed here", **{name: f"cases of {f.one_line(name)}" for name in suites}}
    source = choose("Inputs", "inputs", options, TYPED)
    if source == TYPED:
        return Filled(_typed(project, _declared(prompts)))
    case = _chosen_case(suite_cases(project, source))
    expected = "" if case.expected is None else f" · expected: {f.one_line(as_text(case.expected))[:200]}"
    plain_text(f"{f.one_line(f.shorten(case.id, 200))}{expected}")
    return Filled(case.inputs, case.expected, source, case.id)


def suite_cases(project: Project, suite: str) -> tuple[Case, ...]:
    """The cases of a suite, whatever else is wrong with it; raises SuiteError or DataError."""
    path = find_suite(suite, project)
    file = validate(SuiteFile, read_yaml(path, project.shown(path)))
    data = file.cases if isinstance(file.cases, str) else getattr(file.cases, "file", None)
    stamps = [place.stat().st_mtime_ns for place in (path, project.root / str(data or "")) if place.exists()]
    return _cases(project.root, suite, tuple(stamps), project)


@st.cache_resource(max_entries=4, show_spinner=False)
def _cases(root: Path, suite: str, stamps: tuple[int, ...], _project: Project) -> tuple[Case, ...]:
    """Read once for each state of the files."""
    path = find_suite(suite, _project)
    located = read_yaml(path, _project.shown(path))
    return load_cases(validate(SuiteFile, located).cases, _project, located)


def _chosen_case(cases: tuple[Case, ...]) -> Case:
    """Leafed through by number: a list of ids would grow with the file."""
    ids = [case.id for case in cases]
    wanted = st.query_params.get("case")
    st.session_state["case number"] = ids.index(wanted) + 1 if wanted in ids else 1

    def keep() -> None:
        go_to("case", ids[st.session_state["case number"] - 1])

    number = st.number_input(f"Case, 1 to {len(ids):,}", 1, len(ids), key="case number", on_change=keep)
    return cases[number - 1]


def _declared(prompts: Iterable[Prompt]) -> dict[str, Input]:
    """The inputs of all prompts by name; the first that declares one says how."""
    found: dict[str, Input] = {}
    for prompt in prompts:
        for declared in prompt.inputs:
            found.setdefault(declared.name, declared)
    return found


def typed_inputs(project: Project) -> Typed:
    """The session's typed inputs, at first those that are kept."""
    if "typed inputs" not in st.session_state:
        typed = st.session_state["typed inputs"] = Typed(take_up(project, "inputs", ""))
        if typed.copy.kept:
            _take_typed(typed, typed.copy.kept)
    found: Typed = st.session_state["typed inputs"]
    if is_over(project, found.copy):
        found.values.clear()
        let_go(project, found.copy)
    return found


def _take_typed(typed: Typed, kept: KeptDraft) -> None:
    typed.values.clear()
    with suppress(ValueError, AttributeError):
        typed.values.update({name: value for name, value in json.loads(kept.text).items() if isinstance(value, str)})


def _typed(project: Project, declared: Mapping[str, Input]) -> dict[str, Json]:
    """Values as they are typed; what is left empty and may be is left out. Raises SuiteError."""
    typed = typed_inputs(project)
    texts = {name: _typed_one(name, asked, project, typed) for name, asked in declared.items()}
    _keep_typed(project, typed)

    def discard() -> None:
        typed.values.clear()
        let_go(project, typed.copy)

    tell(project, typed.copy, discard, partial(_take_typed, typed))
    values: dict[str, Json] = {}
    for name, asked in declared.items():
        as_it_is = asked.type in ("string", "any")
        if texts[name] or (asked.required and asked.default is None and as_it_is):
            values[name] = texts[name] if as_it_is else parse_value(texts[name], f"input '{name}'")
    return values


def _keep_typed(project: Project, typed: Typed) -> None:
    if typed.values:
        keep(project, typed.copy, None, json.dumps(typed.values))
    else:
        let_go(project, typed.copy)


def _typed_one(name: str, asked: Input, project: Project, typed: Typed) -> str:
    """The field of one input, and what stands in it: what was typed, else the example or the default."""
    given = asked.example if asked.example is not None else asked.default
    first, key = "" if given is None else as_text(given), f"{DRAFT}input {name}"
    fill_field(key, typed.values.get(name, first))

    def written() -> None:
        typed.values[name] = st.session_state[key]
        if typed.values[name] == first:
            del typed.values[name]
        _keep_typed(project, typed)

    note = "" if asked.type in ("string", "any") else f" ({asked.type})"
    told = literal(asked.description) if asked.description else None
    st.text_area(f"{name}{note}", key=key, height=LINE, on_change=written, help=told)
    return str(st.session_state[key])


def as_text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def short(revision: str | None) -> str:
    """Enough of a revision to name it: `NAME@3f2a91bc`."""
    return f.NONE if revision is None else revision.removeprefix("pr1-")[:8]


def block(text: str, language: str | None = None) -> None:
    """Foreign text with every space and newline that it has."""
    st.code(f"\n{f.printable(text)}\n", language=language, wrap_lines=True)


def did(message: str) -> None:
    """A line that the next pass over the page shows: for what was written."""
    st.session_state["did"] = message


def attempt(action: Callable[..., None], *arguments: Any) -> None:
    """Runs what a button asks for; an error of ours is kept for the page."""
    try:
        action(*arguments)
    except WorkbenchError as error:
        st.session_state["failed"] = str(error)


def show_done() -> None:
    """Shows once what came of it: what could not be done, and what was."""
    with place():
        if message := st.session_state.pop("failed", ""):
            st.error(literal(message))
        if message := st.session_state.pop("did", ""):
            st.success(literal(message))
