"""Above every screen: which of the project's files can't be read, as long as they can't; below it, what still works."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from workbench.define.broken import Stamps, broken_files, stamps
from workbench.define.project import Project
from workbench.errors import WorkbenchError
from workbench.views import format as f
from workbench.views.screens.page import literal, open_project, read_project

EVERY = 5
"""Seconds until the files are looked at again."""
MOST = 3
"""Files that are named."""


@st.fragment(run_every=EVERY)
def tell_broken() -> None:
    """A line for each file that can't be read; nothing where the project was never read, which the screen says."""
    with suppress(WorkbenchError):
        project = open_project()
        lines = [*_settings(), *_files(project, stamps(project))]
        if lines:
            more = [f"… and {f.plural(len(lines) - MOST, 'more file')}"] if len(lines) > MOST else []
            st.error("  \n".join([*lines[:MOST], *more]))


def _settings() -> list[str]:
    try:
        read_project()
    except WorkbenchError as error:
        return [f"{literal(str(error))} Mend it; until then the old settings stand, and no run is started."]
    return []


@st.cache_resource(max_entries=4, show_spinner=False)
def _files(_project: Project, key: Stamps) -> list[str]:
    """Looked through once for each state of the files."""
    return [f"{literal(line)} Mend it; all that does without it goes on." for line in broken_files(_project)]
