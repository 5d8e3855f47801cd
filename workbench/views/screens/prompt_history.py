"""A prompt's history: revisions with their scores, two of them side by side, labels moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from difflib import SequenceMatcher
from itertools import zip_longest

import streamlit as st

from workbench.authoring import find_prompt, prompt_history
from workbench.define.frontmatter import without_partials
from workbench.define.library import Change, Library
from workbench.errors import PromptError
from workbench.records import Prompt
from workbench.stats.summary import summarise
from workbench.store.database import Database
from workbench.store.grouped import grouped_scores, newest_runs
from workbench.store.runs import quarantined_cases
from workbench.views import format as f
from workbench.views.screens.drafts import attempt, did, short
from workbench.views.screens.page import choose, errors_shown, exports, open_database

SCORED = 20
"""Revisions whose scores are read."""
LINES = 2000
"""Lines of a diff that are shown."""


def labels_of(library: Library, name: str) -> dict[str, str]:
    """Label → revision; none where labels.json can't be read, which is told above every screen."""
    try:
        return library.labels(name)
    except PromptError:
        return {}


def history_view(library: Library, name: str) -> None:
    with closing(open_database()) as database:
        changes = prompt_history(library, database, name)
        _revisions(library, database, name, changes)
        if len(changes) > 1:
            _side_by_side(library, database, name, changes)
        else:
            st.caption("There is one revision so far; a second one can be held against it.")
        _labels(library, name, changes)


def _revisions(library: Library, database: Database, name: str, changes: Sequence[Change]) -> None:
    scored, scorer = _scores(database, name)
    labels = labels_of(library, name)
    rows = []
    for change in changes:
        row: dict[str, object] = {
            "revision": short(change.revision),
            "time": change.time[:16].replace("T", " "),
            "message": f.one_line(change.message),
            "labels": ", ".join(sorted(label for label, r in labels.items() if r == change.revision)),
        }
        if scorer:
            row |= scored.get(change.revision, {})
        rows.append(row | {"author": f.one_line(change.author)})
    st.dataframe(rows, hide_index=True, width="stretch")
    if scorer:
        st.caption(
            "A revision's score is that of the newest run that has it: the mean over its cases with its 95 % interval, "
            "all models and parameters together. Runs may have other cases: compare two in Compare."
        )
    exports(lambda: rows, f"{name} history")


def _scores(database: Database, name: str) -> tuple[dict[str, dict[str, object]], str]:
    """Revision → its mean with what it rests on, in columns, by one scorer that the person chooses; and its name."""
    with database.read() as connection:
        runs = newest_runs(connection, prompt=name, limit=SCORED)
    scorers = list(dict.fromkeys(scorer for _, _, _, _, names in runs for scorer in names))
    if not scorers:
        return {}, ""
    scorer = choose("Scorer", "scorer", {s: f.one_line(s) for s in scorers}, scorers[0])
    found: dict[str, dict[str, object]] = {}
    with database.read() as connection:
        aside = quarantined_cases(connection, [run for run, *_ in runs])
        for run, _, _, revision, names in runs:
            if scorer not in names or revision in found:
                continue
            columns = grouped_scores(connection, run, scorer, "revision", name)
            for summary in summarise(columns):
                if summary.variant == revision:
                    found[revision] = {f.one_line(scorer): f.estimate(summary), "cases": summary.cases}
                    found[revision] |= {f.LEFT_OUT: len(aside.get(run, ()))} if aside else {}
                    found[revision]["run"] = run
    return found, scorer


def _side_by_side(library: Library, database: Database, name: str, changes: Sequence[Change]) -> None:
    st.markdown("**Side by side**")
    titles = {
        c.revision.removeprefix("pr1-"): f.one_line(f"{short(c.revision)} {c.time[:10]} {c.message}") for c in changes
    }
    order = list(titles)
    left, right = st.columns(2)
    with left:
        old = choose("From", "old", titles, order[1])
    with right:
        new = choose("To", "new", titles, order[0])
    with errors_shown():
        before, after = (find_prompt(library, lambda: database, f"{name}@{revision}") for revision in (old, new))
        rows = list(diff_rows(_lines(before), _lines(after)))
        if all(mark == " " for mark, _, _, _ in rows):
            st.caption("They read the same.")
            return
        shown = rows[:LINES]
        left.code("\n".join(f"{m} {a}" for m, a, _, _ in shown), language="diff", wrap_lines=True)
        right.code("\n".join(f"{m} {b}" for _, _, m, b in shown), language="diff", wrap_lines=True)
        if len(rows) > LINES:
            st.caption(f"The first {LINES:,} of {len(rows):,} lines.")


def diff_rows(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """(mark, line, mark, line): lines that belong together beside each other; `-` and `+` mark what differs."""
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for old, new in zip_longest(before[a:b], after[c:d]):
            same = kind == "equal"
            yield (
                " " if same or old is None else "-",
                old or "",
                " " if same or new is None else "+",
                new or "",
            )


def _lines(prompt: Prompt) -> list[str]:
    """The prompt's text and those of its partials, printable."""
    lines = f.printable(without_partials(prompt.text)).split("\n")
    for name, source in sorted(prompt.partials.items()):
        lines += [f"── {f.one_line(name)} ──", *f.printable(source).split("\n")]
    return lines


def _labels(library: Library, name: str, changes: Sequence[Change]) -> None:
    st.markdown("**Move a label**")
    known = sorted({"production", "candidate", *labels_of(library, name)})
    titles = {c.revision: f.one_line(f"{short(c.revision)} {c.message}") for c in changes}
    with st.form(f"label of {name}", border=False):
        label, revision, button = st.columns([2, 3, 1], vertical_alignment="bottom")
        label.selectbox("Label", known, key="label", accept_new_options=True)
        revision.selectbox("names", list(titles), format_func=titles.__getitem__, key="labelled")

        def move() -> None:
            wanted = st.session_state["labelled"]
            with closing(open_database()) as database:
                ref = f"{name}@{wanted.removeprefix('pr1-')}"
                library.label(name, st.session_state["label"], find_prompt(library, lambda: database, ref))
            did(f"{name}@{st.session_state['label']} is {short(wanted)} now; it stands in prompts/labels.json")

        button.form_submit_button("Move", on_click=attempt, args=(move,), width="stretch")
