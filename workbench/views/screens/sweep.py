"""Sweep: build a suite with forms or as YAML, see what it would ask and cost, start it, watch it.

The text of the suite's file is the one truth: the form is read from it, and what is changed there is written into it.
What is not saved yet is kept as a draft (`kept`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import streamlit as st

from workbench.define.drafts import KeptDraft
from workbench.define.library import Library
from workbench.define.project import Project
from workbench.define.suite import load_suite, suite_names
from workbench.define.suite_form import (
    NEW,
    SuiteForm,
    check_suite,
    read_form,
    read_text,
    save_suite,
    suite_file,
    suite_text,
    with_form,
)
from workbench.define.yamlfile import parse_yaml
from workbench.errors import WorkbenchError
from workbench.jobs import start_job
from workbench.prepare import Plan, plan_suite, prepare_suite
from workbench.records import EMPTY, Json
from workbench.registry import SCORERS
from workbench.views import format as f
from workbench.views.screens.kept import Copy, is_over, keep, let_go, take_up, tell
from workbench.views.screens.page import (
    STORE,
    choose,
    errors_shown,
    exports,
    go_to,
    literal,
    open_database,
    open_project,
    place,
    plain_text,
    read_project,
    save_button,
)
from workbench.views.screens.suite_form import suite_fields
from workbench.views.screens.sweep_jobs import jobs_panel
from workbench.views.screens.typed import DRAFT, PAUSE

WISH = "sweep wish"
"""In the session: what a button asks for, which is done once the fields are read."""
NEW_SUITE = "*"
"""Stands in the address for a suite that has no file yet; no suite can be named so."""


@dataclass(slots=True)
class Draft:
    """A suite being edited in one browser session."""

    name: str
    """Empty as long as a new suite has none."""
    was: str | None
    """The file's text when it was opened; None for a new suite."""
    text: str
    """The text as it is now."""
    copy: Copy
    """What is kept of it."""
    version: int
    """Of the fields: another one where they are to be filled anew."""
    seed: str = ""
    """The text that the form was filled from; empty where it is to be filled."""
    form: SuiteForm = field(default_factory=SuiteForm)
    data: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    problem: str = ""
    """What is wrong in a field."""
    planned: str = ""
    """The text that `plan` is about."""
    plan: tuple[int, int, int, Plan, bool] | None = None
    """Variants, cases, repeats, the plan, and whether a model computes on this machine."""

    @property
    def changed(self) -> bool:
        return self.text != self.was


def show() -> None:
    """The page."""
    st.title("Sweep", anchor=False)
    with errors_shown():
        project = open_project()
        jobs_panel(project)
        _editor(project)


def _editor(project: Project) -> None:
    st.subheader("Suite", anchor=False)
    names = suite_names(project)
    titles = {NEW_SUITE: "＋ new suite", **{name: f.one_line(name) for name in names}}
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        chosen = choose("Suite", "suite", titles, names[0] if names else NEW_SUITE)
    draft = _draft(project, chosen)
    with right:
        how = choose("Edit as", "edit", {"form": "form", "yaml": "YAML"}, "form")
    if chosen == NEW_SUITE:
        st.session_state.setdefault("new suite", draft.name)
        name = st.text_input("Name of the new suite", placeholder="sentiment", key="new suite", live=PAUSE)
        draft.name = name.strip()
    actions = st.container()  # above the fields, which would be in the way of whoever starts a suite as it is
    try:
        draft.problem = ""
        _edit(project, draft, how)
    except WorkbenchError as error:
        draft.problem = str(error)
    _keep(project, draft)
    if action := st.session_state.pop(WISH, None):  # only now: the fields may have been left by the press of a button
        if not draft.problem:
            _act(action, project, draft)
        st.rerun()
    with actions:
        _tell(project, draft)
        _actions(project, draft)


def _draft(project: Project, chosen: str) -> Draft:
    """The session's draft of that suite, opened anew where another one was edited."""
    drafts: dict[str, Draft] = st.session_state.setdefault("suite drafts", {})
    draft = drafts.get(chosen)
    if draft is None:
        draft = drafts[chosen] = _opened(project, chosen, take_up(project, "suite", chosen))
        if draft.copy.kept:
            _take(draft, draft.copy.kept)
    if _is_old(project, chosen, draft):
        _forget(project, draft)
    return drafts[chosen]


def _is_old(project: Project, chosen: str, draft: Draft) -> bool:
    """Whether another window or program has written what stands here, or the file where nothing was changed here."""
    if is_over(project, draft.copy):
        return True
    text = draft.was if chosen == NEW_SUITE else _text(project, chosen)
    return text != draft.was and (text == draft.text or not draft.changed)


def _opened(project: Project, chosen: str, copy: Copy) -> Draft:
    """The file's text, or that of a new suite."""
    if chosen == NEW_SUITE:
        return Draft("", None, NEW, copy, _fresh())
    text = _text(project, chosen)
    return Draft(chosen, text, text, copy, _fresh())


def _text(project: Project, name: str) -> str:
    shown = suite_file(project, name)
    return read_text(project.root / shown, shown)


def _take(draft: Draft, kept: KeptDraft) -> None:
    """The kept text in place of the draft's."""
    draft.was, draft.text, draft.seed, draft.version = kept.was, kept.text, "", _fresh()
    if draft.was is None:
        draft.name = kept.title
        st.session_state.pop("new suite", None)


def _keep(project: Project, draft: Draft) -> None:
    """Keeps what is not saved."""
    new = draft.was is None
    if draft.changed and not (new and draft.text == NEW and not draft.name):
        keep(project, draft.copy, draft.was, draft.text, draft.name if new else "")
    else:
        let_go(project, draft.copy)


def _tell(project: Project, draft: Draft) -> None:
    """Tells of another window, or of a file that is another by now."""
    tell(project, draft.copy, partial(_forget, project, draft), partial(_take, draft))
    with place():
        _tell_of_file(project, draft)


def _tell_of_file(project: Project, draft: Draft) -> None:
    if draft.was is not None and draft.changed and _text(project, draft.name) != draft.was:
        st.warning("The file was changed by someone else since this draft was begun. Undo all changes to load it.")


def _fresh() -> int:
    """A version that no fields of this session had."""
    st.session_state["fields"] = st.session_state.get("fields", 0) + 1
    return int(st.session_state["fields"])


def _edit(project: Project, draft: Draft, how: str) -> None:
    """The fields or the text; what stands in them is the draft's text afterwards."""
    if how == "yaml":
        key = f"{DRAFT}yaml {draft.version}"
        st.session_state.setdefault(key, draft.text)
        height = min(900, 60 + 24 * (draft.text.count("\n") + 2))

        def written() -> None:
            draft.text = st.session_state[key]
            _keep(project, draft)  # also of whoever leaves for another screen as he types

        draft.text = st.text_area("YAML", height=height, key=key, on_change=written, label_visibility="collapsed")
        draft.seed = ""
        return
    if not draft.seed:
        _fill(project, draft)
    if "variants" in draft.data:
        st.info("This suite writes its variants out one by one: edit those as YAML.")
    new = suite_fields(project, draft.form, str(draft.version))
    changed = new != draft.form
    draft.text = suite_text(with_form(draft.data, draft.form, new), draft.seed) if changed else draft.seed
    if len(new.scorers) != len(draft.form.scorers):
        _fill(project, draft)  # the fields of each scorer are numbered
        st.rerun()
    with st.expander("YAML"):
        st.code(f.printable(draft.text), language=None, wrap_lines=True)
        file = f"{(draft.name or 'new').replace('/', '-')}.yaml"
        save_button("YAML", lambda: draft.text, file, "application/yaml")
        if changed and draft.was and "#" in draft.was:
            st.caption("A form can't keep comments inside the file, only those at its top; edit as YAML to keep them.")


def _shown(project: Project, draft: Draft) -> str:
    """The suite's file, as messages name it."""
    return suite_file(project, draft.name) if draft.name else "the new suite"


def _fill(project: Project, draft: Draft) -> None:
    """Fills the form from the text; raises SuiteError where it is no YAML."""
    draft.data = parse_yaml(draft.text, _shown(project, draft)).data
    draft.form, draft.seed, draft.version = read_form(draft.data), draft.text, _fresh()


def _actions(project: Project, draft: Draft) -> None:
    problem = draft.problem or _problem(draft.text, _shown(project, draft))
    with place():
        if problem:
            st.error(literal(problem))
    with st.container(horizontal=True, vertical_alignment="center"):
        blocked = bool(problem) or not draft.name
        st.button("Check", disabled=blocked, key="check", on_click=_wish, args=(_check,))
        # Not closed where nothing is changed: a button that closes under the keys loses their place on the page.
        st.button("Save", disabled=blocked, key="save", on_click=_wish, args=(_save,))
        label = "Save and start" if draft.changed else "Start"
        st.button(
            label, type="primary", disabled=blocked, key="start", on_click=_wish, args=(_start,),
            help="The run goes on in a process of its own, also when this page or the app is closed.",
        )  # fmt: skip
        st.button("Undo all changes", disabled=not draft.changed, key="undo", on_click=_forget, args=(project, draft))
        if draft.changed:
            st.caption(draft.copy.told)
    if message := st.session_state.pop("sweep said", None):
        kind, text = message
        (st.error if kind == "error" else st.success)(literal(text))
    if draft.plan is not None and draft.planned == draft.text:
        _plan(draft.plan)


def _problem(text: str, shown: str) -> str:
    try:
        check_suite(text, shown)
    except WorkbenchError as error:
        return str(error)
    return ""


def _wish(action: Callable[[Project, Draft], str]) -> None:
    st.session_state[WISH] = action


def _act(action: Callable[[Project, Draft], str], project: Project, draft: Draft) -> None:
    """Does it, and leaves what is to be said of it."""
    try:
        said = action(project, draft)
        st.session_state["sweep said"] = ("ok", said) if said else None
    except WorkbenchError as error:
        st.session_state["sweep said"] = ("error", str(error))


def _check(project: Project, draft: Draft) -> str:
    """What a run would ask and cost."""
    located = check_suite(draft.text, suite_file(project, draft.name))
    library = Library(project.library_root, project.references)
    suite = load_suite(located, project, library, SCORERS.names())
    prepared = prepare_suite(suite, project.root, project.budget)
    try:
        with closing(open_database()) as database:
            plan = plan_suite(prepared, database)
        local = any(engine.in_process for engine in prepared.engines.values())
    finally:
        for engine in prepared.engines.values():
            engine.close()
    draft.plan = (len(suite.variants), len(suite.cases), suite.repeats, plan, local)
    draft.planned = draft.text
    return ""


def _save(project: Project, draft: Draft) -> str:
    if not draft.changed:
        return f"{_shown(project, draft)} says the same already"
    shown = save_suite(project, draft.name, draft.text, draft.was)
    let_go(project, draft.copy)
    draft.was = draft.text
    if st.query_params.get("suite") == NEW_SUITE:
        drafts = st.session_state["suite drafts"]
        drafts[draft.name] = drafts.pop(NEW_SUITE)
        draft.copy = Copy("suite", draft.name)
        go_to("suite", draft.name)
    return f"{shown} is saved"


def _start(project: Project, draft: Draft) -> str:
    read_project()  # the run's own process reads the file: it would end at once where that can't be done
    _check(project, draft)
    assert draft.plan is not None
    local = draft.plan[-1]
    if draft.changed:
        _save(project, draft)
    start_job(project, draft.name, local=local, store=os.environ.get(STORE))
    return f"{draft.name} is started"


def _forget(project: Project, draft: Draft) -> None:
    let_go(project, draft.copy)
    drafts: dict[str, Any] = st.session_state["suite drafts"]
    for name in [name for name, other in drafts.items() if other is draft]:
        drafts[name] = _opened(project, name, Copy("suite", name))
    if draft.was is None:
        st.session_state.pop("new suite", None)


def _plan(plan: tuple[int, int, int, Plan, bool]) -> None:
    """What a run would ask, as `run --dry-run` says it."""
    variants, cases, repeats, p, local = plan
    cost = f"{f.money(p.cost_low)} to {f.money(p.cost)}" if p.cost else f.money(p.cost)
    if p.unpriced:
        cost = f"unknown: no price for {', '.join(p.unpriced)}"
    answers = "no max_tokens is set" if p.output_tokens is None else f"at most {p.output_tokens:,}"
    rows = {
        "variants × cases × repeats": f"{variants:,} × {cases:,} × {repeats:,}",
        "trials": f"{p.trials:,}",
        "distinct requests": f"{p.requests:,}",
        "already answered": f"{p.answered:,}",
        "prompt tokens to ask": f"about {p.prompt_tokens:,}",
        "output tokens": answers,
        "cost": cost,
    }
    if p.judging:
        rows["requests of judges"] = f"at most {p.judging:,}, whose cost comes on top"
    with st.container(border=True):
        plain_text("\n".join(f"{name}: {f.one_line(value)}" for name, value in rows.items()))
        if local:
            st.caption("A local model computes on this machine: such jobs run one after the other.")
        exports(lambda: [{"what": name, "how much": value} for name, value in rows.items()], "plan", "Plan")
