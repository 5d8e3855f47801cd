"""What every screen needs: the open store, errors as one line, foreign text as text, choices kept in the URL.

The URL is the one place that says what is shown: a choice is written to it, and read from it at the next run of
the script, so that a link, a reload and the browser's way back all show what they name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from workbench.define.project import load_project
from workbench.errors import WorkbenchError
from workbench.store.database import Database
from workbench.views.format import one_line, printable

PROJECT, STORE = "WORKBENCH_PROJECT", "WORKBENCH_STORE"
"""Environment variables by which `workbench ui` hands on its options; without them the project is found upwards."""


@contextmanager
def errors_shown() -> Iterator[None]:
    """An error of ours becomes one line on the page in place of what was to be shown."""
    try:
        yield
    except WorkbenchError as error:
        st.error(literal(str(error)))


@contextmanager
def open_store() -> Iterator[Any]:
    """A connection to the project's store, for one pass over the page. Raises WorkbenchError."""
    project = load_project(Path(os.environ[PROJECT]) if PROJECT in os.environ else None)
    with closing(Database.open(os.environ.get(STORE) or project.store_url)) as database, database.read() as connection:
        yield connection


def literal(text: str) -> str:
    """Markdown that shows foreign text as it is, for the few elements that know nothing else (alerts).

    A code span: within it nothing is markup, neither Markdown, HTML and bare addresses nor Streamlit's own
    `:red[…]`, `:icon:` and `$…$` (CommonMark 0.31, §6.1: its fence is longer than any run of backticks in it)."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {one_line(text)} {fence}"


def plain_text(text: str) -> None:
    """Foreign text as text; without what could reorder or hide it."""
    st.text(printable(text))


def choose(label: str, name: str, options: Mapping[str, str], default: str) -> str:
    """A drop-down whose choice is the URL's `name`; `options` are titles by value, shown as text."""
    wanted = st.query_params.get(name)
    st.session_state[name] = wanted if wanted in options else default
    return st.selectbox(label, list(options), format_func=options.__getitem__, key=name, on_change=_keep, args=(name,))


def go_to(name: str, value: str, *forget: str) -> None:
    """Writes a choice to the URL and takes others out of it; for a widget's callback."""
    st.query_params[name] = value
    for other in forget:
        st.query_params.pop(other, None)


def _keep(name: str) -> None:
    go_to(name, st.session_state[name])
