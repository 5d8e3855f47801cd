"""Drafts that outlive the page: kept as files while one writes, restored by a reload or a new start of the app.

A window keeps a `Copy` of each of its drafts: what it knows to be kept. It writes after that, so that a window that
does not know what another one wrote meanwhile asks which of the two is to stand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from workbench.define.drafts import DraftKind, KeptDraft, drop_draft, keep_draft, kept_draft
from workbench.define.project import Project
from workbench.errors import UseError
from workbench.views.screens.page import literal, place

EVERY = 3
"""Seconds until it is looked again whether another window's draft is still there."""


@dataclass(slots=True)
class Copy:
    """What one window knows of a kept draft."""

    kind: DraftKind
    name: str
    kept: KeptDraft | None = None
    """The state that it wrote or took up last."""
    restored: str = ""
    """When the text that it took up was written; empty where it was written in this window."""
    other: KeptDraft | None = None
    """What another window wrote meanwhile."""
    trouble: str = ""
    """Why the draft can't be kept."""

    @property
    def told(self) -> str:
        """What becomes of a draft that is not saved, for a line beside it."""
        kept = self.kept is not None and self.other is None and not self.trouble
        return "not saved; kept as a draft" if kept else "not saved"


def take_up(project: Project, kind: DraftKind, name: str) -> Copy:
    """The copy of what is kept, for a window that has no draft yet: `kept` is its text, or None."""
    try:
        found = kept_draft(project, kind, name)
    except UseError as error:
        return Copy(kind, name, trouble=str(error))
    return Copy(kind, name, found, restored=found.time if found else "")


def is_over(project: Project, copy: Copy) -> bool:
    """Whether this window shows a draft as it took it up, and another window has saved or discarded it since."""
    return bool(copy.restored) and _is_gone(project, copy)


def _is_gone(project: Project, copy: Copy) -> bool:
    """Whether nothing is kept any more."""
    try:
        return kept_draft(project, copy.kind, copy.name) is None
    except UseError:
        return False


def keep(project: Project, copy: Copy, was: str | None, text: str, title: str = "") -> None:
    """Keeps the draft as it stands, if that is not what is kept; notes who was faster, or why it can't be."""
    known = copy.kept
    as_known = known is not None and (known.was, known.text, known.title) == (was, text, title)
    if as_known and copy.other is None and not _is_gone(project, copy):
        return
    draft = KeptDraft(copy.kind, copy.name, was, text, title)
    try:
        there, copy.trouble = keep_draft(project, draft, known.stamp if known else ""), ""
    except UseError as error:
        copy.trouble, copy.other = str(error), None
        return
    if (there.text, there.title) == (text, title):
        copy.kept, copy.other, copy.restored = there, None, ""
    else:
        copy.other = there


def let_go(project: Project, copy: Copy) -> None:
    """Nothing is kept any more of what this window knows; another window's draft stays."""
    if copy.kept is not None:
        try:
            drop_draft(project, copy.kind, copy.name, copy.kept.stamp)
        except UseError as error:
            copy.trouble = str(error)
    copy.kept, copy.other, copy.restored = None, None, ""


def tell(project: Project, copy: Copy, discard: Callable[[], None], take: Callable[[KeptDraft], None]) -> None:
    """One line where a draft was restored, is another in another window, or can't be kept; with what can be done.

    `discard` drops this window's draft, `take` puts the other one in its place. While the line stands it is looked
    again whether there still is what it offers."""
    with place():
        if copy.other is not None or copy.restored:
            st.fragment(_offer, run_every=EVERY)(project, copy, discard, take)
        if copy.trouble:
            st.caption(f"This draft is lost when the page is closed: {literal(copy.trouble)}")


def _offer(project: Project, copy: Copy, discard: Callable[[], None], take: Callable[[KeptDraft], None]) -> None:
    if _is_gone(project, copy):
        st.rerun()
    if copy.other is not None:
        with _line(f"Another window has written a different draft, at {_time(copy.other.time)}. This one isn't kept."):
            st.button("Take that one", key=f"take {copy.kind} {copy.name}", on_click=_take, args=(project, copy, take))
            st.button("Keep this one", key=f"insist {copy.kind} {copy.name}", on_click=_insist, args=(copy,))
    elif copy.restored:
        what = "What was typed at" if copy.kind == "inputs" else "A draft from"
        with _line(f"{what} {_time(copy.restored)} was restored."):
            st.button("Discard", key=f"discard {copy.kind} {copy.name}", on_click=discard, type="tertiary")


def _line(text: str) -> Any:
    row = st.container(horizontal=True, vertical_alignment="center")
    row.caption(text, width="content")
    return row


def _take(project: Project, copy: Copy, take: Callable[[KeptDraft], None]) -> None:
    """The other window's draft as it is by now, where there still is one."""
    there = take_up(project, copy.kind, copy.name).kept
    copy.other = None
    if there is not None:
        copy.kept, copy.restored = there, there.time
        take(there)


def _insist(copy: Copy) -> None:
    """The next pass over the page writes this window's draft after the other one, which it has seen now."""
    copy.kept, copy.other = copy.other, None


def _time(written: str) -> str:
    return written[:16].replace("T", " ") + " UTC"
