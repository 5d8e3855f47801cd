"""Playground: prompts × models side by side, answers as they come, what was tried before, what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import streamlit as st

from workbench.define.library import Library
from workbench.define.project import Project
from workbench.errors import UseError
from workbench.play import Answer, Question, waits_for
from workbench.records import Output, Prompt
from workbench.store.tries import Try, count_tries, get_tries, list_tries
from workbench.views import format as f
from workbench.views.screens.drafts import (
    attempt,
    block,
    did,
    draft_area,
    draft_of,
    fill_inputs,
    short,
    show_done,
    typed_inputs,
)
from workbench.views.screens.engines import playground
from workbench.views.screens.page import (
    errors_shown,
    exports,
    go_to,
    literal,
    open_project,
    open_screen,
    open_store,
    plain_text,
    safe_markdown,
)
from workbench.views.screens.params import chosen_params
from workbench.views.screens.promote import Setting, promote

ACROSS = 3
"""Answers side by side."""
MOST = 24
"""Answers that are asked for at once."""
LOOK_SECONDS = 0.3
"""How often a page with answers under way looks for what has come."""
OUTPUT_CHARS = 20_000
PAGE = 20
"""Past tries on the page at a time."""


@dataclass(frozen=True, slots=True)
class Card:
    """One answer as it is shown, new or old."""

    prompt: str
    model: str
    text: str
    notes: str
    problem: str
    number: int | None
    """The try's, once it is kept."""


def show() -> None:
    """The page."""
    st.title("Playground", anchor=False)
    with errors_shown():
        project = open_project()
        library = Library(project.library_root, project.references)
        show_done()
        names = library.names()
        if not names:
            st.info("There is no prompt yet. Write one first.")
            if st.button("Write a prompt", type="primary"):
                open_screen("prompts")
            return
        setting = _asking(project, library, names)
        _answers(setting)
        _past_tries()


def _asking(project: Project, library: Library, names: Sequence[str]) -> Setting | None:
    """What is to be asked; None where it can't be asked as it stands."""
    left, right = st.columns(2)
    with left:
        chosen = _several("Prompts", "prompts", names, names[:1])
    with right:
        first = "smollm2" if "smollm2" in project.models else next(iter(project.models))
        models = _several("Models", "models", sorted(project.models), [first], new=True)
    setting = None
    with errors_shown():
        prompts = _prompts(project, library, chosen)
        inputs, how = st.columns([3, 2], gap="medium")
        with inputs:
            filled = fill_inputs(project, prompts)
        with how:
            params, answer = chosen_params()
        setting = Setting(project, library, prompts, models, filled, params, answer)
    _buttons(setting)
    return setting


def _several(label: str, name: str, known: Sequence[str], default: Sequence[str], new: bool = False) -> list[str]:
    """A choice of several that is the URL's `name`, parted by commas; `new` lets other names in."""
    wanted = [value for value in st.query_params.get(name, "").split(",") if value and (new or value in known)]
    st.session_state[name] = wanted or list(default)

    def keep() -> None:
        go_to(name, ",".join(st.session_state[name]))

    options = list(dict.fromkeys([*known, *st.session_state[name]]))
    return st.multiselect(label, options, key=name, on_change=keep, accept_new_options=new)


def _prompts(project: Project, library: Library, names: Sequence[str]) -> list[Prompt]:
    """The chosen prompts as they are written here; raises PromptError where one can't be read."""
    prompts = []
    for name in names:
        draft = draft_of(project, library, name)
        opened: set[str] = st.session_state.setdefault("opened texts", set())
        if draft.changed or draft.copy.other:
            opened.add(name)  # and it stays so: an expander whose label or state is another closes under one's hands
        with st.expander(f"Text of {literal(name)}", expanded=name in opened):
            draft_area(project, library, name, 260)
            if draft.changed:
                st.caption(f"changed, {draft.copy.told}")
        prompts.append(library.draft(name, draft.text))
    return prompts


def _buttons(setting: Setting | None) -> None:
    """Ask and Stop; what is under way is found again by the address."""
    running = [a for a in _live() if not a.done]
    count = len(setting.prompts) * len(setting.models) if setting else 0
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Ask" if count < 2 else f"Ask for {count} answers",
            type="primary",
            disabled=not 0 < count <= MOST,
            on_click=attempt,
            args=(_ask, setting),
        )
        st.button("Stop", disabled=not running, on_click=partial(playground().stop, running))
        if count > MOST:
            st.caption(f"That would be {count} answers; at most {MOST} are asked for at once. A sweep takes more.")


def _ask(setting: Setting) -> None:
    project = setting.project
    questions = [
        Question(
            prompt,
            project.model(alias),
            setting.filled.inputs,
            {**project.defaults.params, **prompt.options, **setting.params},
            setting.answer,
        )
        for prompt in setting.prompts
        for alias in setting.models
    ]
    go_to("asking", playground().ask(questions, project.budget), "tries")


def _live() -> list[Answer]:
    name = st.query_params.get("asking")
    return (playground().answers(name) if name else None) or []


def _answers(setting: Setting | None) -> None:
    """The answers of the address: those being given, or tries of before."""
    live = _live()
    if live:
        going = any(not answer.done for answer in live)
        st.fragment(_stream, run_every=LOOK_SECONDS if going else None)(going)
        numbers = [answer.number for answer in live if answer.number is not None]
        if going or not numbers:
            return
    else:
        numbers = _numbers()
    if not numbers:
        return
    with open_store() as connection:
        tries = get_tries(connection, numbers)
    if not live:
        _grid([_card_of(one) for one in tries])
    if tries:
        exports(lambda: [_answer_row(one) for one in tries], "answers", "Answers")
        promote(setting, tries)


def _answer_row(one: Try) -> dict[str, object]:
    """A try in full, for a file."""
    output = one.output
    told = {"try": one.number, "time": one.time, "prompt": one.prompt, "revision": one.revision, "model": one.model}
    asked = {"inputs": json.dumps(one.inputs, ensure_ascii=False), "answer": output.text, "problem": _failure(output)}
    return {**told, **asked, "seconds": output.seconds, "cost": output.cost}


def _stream(going: bool) -> None:
    """A fragment: while answers come, only this is computed and sent anew."""
    live = _live()
    waiting = waits_for()
    if waiting:
        st.info(f"Waiting for process {waiting}, which uses a local model on this machine; its block ends soon.")
    _grid([_card(answer) for answer in live])
    if going and all(answer.done for answer in live):
        st.rerun()


def _numbers() -> list[int]:
    given = st.query_params.get("tries", "")
    return [int(n) for n in given.split(",") if n.isascii() and n.isdigit() and len(n) < 10][:MOST]


def _card(answer: Answer) -> Card:
    question = answer.question
    asked = question.prompt.name, question.model.alias
    if not answer.done:
        seconds = f"{answer.waited:.1f} s"
        state = f"answering, {seconds}" if answer.text else f"waiting, {seconds}"
        return Card(*asked, answer.text, state, "", None)
    notes = _took(answer.output, answer.seconds) if answer.output else ""
    return Card(*asked, answer.text, notes, answer.problem or _failure(answer.output), answer.number)


def _card_of(one: Try) -> Card:
    when = one.time[:16].replace("T", " ") + " UTC"
    prompt = f"{one.prompt} @ {short(one.revision)}"
    return Card(
        prompt, one.model, one.output.text, f"{_took(one.output, None)} · {when}", _failure(one.output), one.number
    )


def _took(output: Output, waited: float | None) -> str:
    """Tokens, time and cost; of an answer given in company the time is that until it was there."""
    seconds = output.seconds if output.seconds is not None else waited
    parts = [f"{f.tokens(output.prompt_tokens)} + {f.tokens(output.output_tokens)} tokens"]
    parts += [f.seconds(seconds)] if seconds is not None else []
    if output.first_token_seconds is not None:
        parts.append(f"first token {f.seconds(output.first_token_seconds)}")
    parts.append(f"cost {f.money(output.cost)}")
    if output.failure is None and output.finish_reason != "stop":
        parts.append("cut at max_tokens" if output.finish_reason == "length" else f"ended: {output.finish_reason}")
    return " · ".join(parts)


def _failure(output: Output | None) -> str:
    if output is None or output.failure is None:
        return ""
    return (
        "stopped" if output.failure.kind == "cancelled" else f"failed ({output.failure.kind}): {output.failure.message}"
    )


def _grid(cards: Sequence[Card]) -> None:
    """A row for each prompt, a column for each model, where the page is wide enough."""
    models = len({card.model for card in cards})
    across = models if 1 < models <= ACROSS else min(ACROSS, len(cards))
    markdown = st.toggle("Read as Markdown", key="markdown") if any(card.text for card in cards) else False
    for start in range(0, len(cards), across or 1):
        for place, card in zip(st.columns(across), cards[start : start + across], strict=False):
            with place.container(border=True):
                _show(card, markdown)


def _show(card: Card, markdown: bool) -> None:
    plain_text(f.one_line(f"{card.prompt} · {card.model}"))
    if card.text and markdown:
        safe_markdown(f.shorten(card.text, OUTPUT_CHARS))
    elif card.text:
        block(f.shorten(card.text, OUTPUT_CHARS))
    elif not card.problem and card.number is not None:
        st.text("an empty answer")
    if card.problem:
        st.warning(literal(f.shorten(card.problem, 1000)))
    if card.notes:
        plain_text(f.one_line(card.notes))


def _past_tries() -> None:
    with open_store() as connection:
        count = count_tries(connection)
        if not count:
            st.caption("Every answer is kept; past tries will stand here.")
            return
        page = min(_page(), (count - 1) // PAGE)
        tries = list_tries(connection, PAGE, page * PAGE)
    st.subheader("Past tries", anchor=False)
    rows = [
        {
            "try": one.number,
            "time": one.time[:16].replace("T", " "),
            "prompt": f.one_line(one.prompt),
            "model": f.one_line(one.model),
            "inputs": f.one_line(f.shorten(json.dumps(one.inputs, ensure_ascii=False), 200)),
            "answer": f.one_line(f.shorten(_failure(one.output) or one.output.text, 200)),
        }
        for one in tries
    ]
    chosen = st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        on_select="rerun",
        selection_mode="multi-row",
        key=f"tries {page} {count}",
    )
    picked = [tries[i].number for i in chosen.selection.rows if i < len(tries)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Show them", disabled=not picked, on_click=_open, args=(picked,), help="Tick rows of the table first")
        one = next((t for t in tries if picked and t.number == picked[0]), None)
        st.button("Take up its setting", disabled=one is None, on_click=attempt, args=(_take_up, one))
        if count > PAGE:
            st.button("Newer", disabled=not page, on_click=go_to, args=("page", str(page)))
            st.text(f"{page * PAGE + 1} to {page * PAGE + len(tries)} of {count:,}")
            st.button("Older", disabled=(page + 1) * PAGE >= count, on_click=go_to, args=("page", str(page + 2)))
    exports(lambda: rows, "tries")


def _page() -> int:
    wanted = st.query_params.get("page", "1")
    return max(0, int(wanted) - 1) if wanted.isascii() and wanted.isdigit() and len(wanted) < 9 else 0


def _open(numbers: Sequence[int]) -> None:
    go_to("tries", ",".join(map(str, numbers)), "asking")


def _take_up(one: Try) -> None:
    """Puts what was asked back on the page: prompt, text, model, inputs and parameters."""
    project = open_project()
    library = Library(project.library_root, project.references)
    if one.prompt not in library.names():
        raise UseError(f"there is no prompt '{one.prompt}' any more; its text is shown with the try")
    draft_of(project, library, one.prompt).text = one.text
    inputs = {name: value if isinstance(value, str) else json.dumps(value) for name, value in one.inputs.items()}
    typed_inputs(project).values.update(inputs)
    for name, value in (("prompts", one.prompt), ("models", one.model), ("inputs", "typed")):
        go_to(name, value)
    go_to("params", json.dumps(one.settings["params"]))
    go_to("answer", json.dumps(one.settings["answer"]))
    _open([one.number])
    did(f"try {one.number} is on the page again")
