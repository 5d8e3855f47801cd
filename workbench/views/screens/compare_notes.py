"""Compare, notes: what people wrote about these runs and their cases; a pinned note stands first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import streamlit as st

from workbench.store.notes import Note, add_note, delete_note, list_notes, pin_note
from workbench.views import format as f
from workbench.views.screens.loaded import Shown
from workbench.views.screens.page import errors_shown, exports, go_to, open_database, plain_text

MOST_CHARS = 10_000


def show_notes(connection: Any, shown: Shown, _scorer: str) -> None:
    runs = [run.id for run in shown.view.runs]
    note_form(runs, "")
    notes = list_notes(connection, runs)
    if not notes:
        st.info("No notes yet. A note is kept in the project's store; a pinned one marks its run in the list of runs.")
    for note in notes:
        _note(note, len(runs) > 1)
    if notes:
        exports(lambda: [asdict(note) for note in notes], "notes")


def note_form(runs: Sequence[str], case: str) -> None:
    """Writes a note on a run, or on a case of it."""
    about = f"case {case}" if case else "run"
    with st.form(f"note {about}", clear_on_submit=True, border=False):
        run = st.selectbox("Run", runs) if len(runs) > 1 else runs[0]
        text = st.text_area(f"Note on this {'case' if case else 'run'}", max_chars=MOST_CHARS)
        pinned = st.checkbox("Pin")
        if st.form_submit_button("Keep") and (text.strip() or pinned):
            with errors_shown():
                with closing(open_database()) as database, database.write() as connection:
                    add_note(connection, run, text.strip(), case, pinned)
                st.toast("Kept.")
                st.rerun()


def _note(note: Note, several: bool) -> None:
    with st.container(border=True):
        place = f" · case {f.shorten(note.case, 200)}" if note.case else ""
        head = f"{'Pinned · ' if note.pinned else ''}{note.time[:16].replace('T', ' ')} UTC"
        plain_text(f.one_line(head + (f" · run {note.run}" if several else "") + place))
        if note.text:
            plain_text(note.text)
        with st.container(horizontal=True):
            key = str(note.number)
            if note.case:
                st.button("Open case", key=f"open note {key}", on_click=_open_case, args=(note,), type="tertiary")
            st.button("Unpin" if note.pinned else "Pin", key=f"pin {key}", on_click=_pin, args=(note,), type="tertiary")
            st.button("Delete", key=f"delete {key}", on_click=_delete, args=(note,), type="tertiary")


def _open_case(note: Note) -> None:
    go_to("case", note.case, "page", "trial")
    go_to("view", "outputs")


def _pin(note: Note) -> None:
    with errors_shown(), closing(open_database()) as database, database.write() as connection:
        pin_note(connection, note.number, not note.pinned)


def _delete(note: Note) -> None:
    with errors_shown(), closing(open_database()) as database, database.write() as connection:
        delete_note(connection, note.number)
