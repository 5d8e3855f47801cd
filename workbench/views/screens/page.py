"""What every screen needs: the open store, errors as one line, foreign text as text, choices kept in the URL.

The URL is the one place that says what is shown: a choice is written to it, and read from it at the next run of
the script, so that a link, a reload and the browser's way back all show what they name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import streamlit as st
import vl_convert

from workbench.define.project import Project, load_project
from workbench.errors import WorkbenchError
from workbench.store.database import Database
from workbench.views.export import Rows, csv_table, markdown_table
from workbench.views.format import one_line, printable, shorten
from workbench.views.markdown import safe_html

PROJECT, STORE = "WORKBENCH_PROJECT", "WORKBENCH_STORE"
"""Environment variables by which `workbench ui` hands on its options; without them the project is found upwards."""
SVG_WIDTH = 760
"""Pixels of a chart whose width on the page is that of its place."""
SCREENS = "screens"
"""Where the session keeps the pages by name, for `open_screen`."""


@contextmanager
def errors_shown() -> Iterator[None]:
    """An error of ours becomes one line on the page in place of what was to be shown."""
    try:
        yield
    except WorkbenchError as error:
        st.error(literal(str(error)))


def read_project() -> Project:
    """The project that the app was started for, as its file is now. Raises WorkbenchError."""
    return load_project(Path(os.environ[PROJECT]) if PROJECT in os.environ else None)


def open_project() -> Project:
    """The same; while its file can't be read, as it was when it last could (`broken` says so above every screen).

    Raises WorkbenchError where it never could."""
    where = os.environ.get(PROJECT, "")
    try:
        project = _read_last[where] = read_project()
    except WorkbenchError:
        if where not in _read_last:
            raise
        return _read_last[where]
    return project


_read_last: dict[str, Project] = {}
"""By the project's folder."""


def open_database() -> Database:
    """The project's store; the caller closes it. Raises WorkbenchError."""
    return Database.open(os.environ.get(STORE) or open_project().store_url)


@contextmanager
def open_store() -> Iterator[Any]:
    """A connection to the project's store, for one pass over the page. Raises WorkbenchError."""
    with closing(open_database()) as database, database.read() as connection:
        yield connection


def place() -> Any:
    """A place that is there also while it holds nothing. What comes and goes elsewhere moves all that is below it to
    other places, and whoever is there with the keyboard loses his own."""
    return st.container()


def open_screen(name: str, **address: str) -> NoReturn:
    """Leaves for another screen, with what its address says: `open_screen("compare", runs=run.id)`."""
    st.switch_page(st.session_state[SCREENS][name], query_params=address)


def literal(text: str) -> str:
    """Markdown that shows foreign text as it is, for the few elements that know nothing else (alerts).

    A code span: within it nothing is markup, neither Markdown, HTML and bare addresses nor Streamlit's own
    `:red[…]`, `:icon:` and `$…$` (CommonMark 0.31, §6.1: its fence is longer than any run of backticks in it)."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {one_line(text)} {fence}"


def plain_text(text: str) -> None:
    """Foreign text as text; without what could reorder or hide it."""
    st.text(printable(text))


def safe_markdown(text: str) -> None:
    """Foreign Markdown, for whoever asks for it: raw HTML, images and links stay text."""
    st.html(f'<div class="foreign">{safe_html(text)}</div>')


def choose(label: str, name: str, options: Mapping[str, str], default: str) -> str:
    """A drop-down whose choice is the URL's `name`; `options` are titles by value, shown as text."""
    wanted = st.query_params.get(name)
    st.session_state[name] = wanted if wanted in options else default
    return st.selectbox(label, list(options), format_func=options.__getitem__, key=name, on_change=_keep, args=(name,))


def choose_view(name: str, options: Mapping[str, str]) -> str:
    """Parts of a screen, one shown at a time; the first where the address names none."""
    wanted = st.query_params.get(name)
    st.session_state[name] = wanted if wanted in options else next(iter(options))
    return str(
        st.segmented_control(
            "Part of the screen", list(options), format_func=options.__getitem__, key=name, required=True,
            on_change=_keep, args=(name,), label_visibility="collapsed",
        )
    )  # fmt: skip


def choose_several(
    label: str, name: str, options: Mapping[str, str], default: Sequence[str], help: str = ""
) -> list[str]:
    """Several of the options; the address has them with commas between."""
    wanted = [value for value in st.query_params.get(name, "").split(",") if value in options]
    st.session_state[name] = wanted or list(default)

    def keep() -> None:
        go_to(name, ",".join(st.session_state[name]))

    titles = options.__getitem__
    return list(st.multiselect(label, list(options), format_func=titles, key=name, on_change=keep, help=help or None))


def switch(label: str, name: str) -> bool:
    """On or off; the address names it while it is on."""
    st.session_state[name] = st.query_params.get(name) == "1"

    def keep() -> None:
        if st.session_state[name]:
            go_to(name, "1")
        else:
            st.query_params.pop(name, None)

    return st.toggle(label, key=name, on_change=keep)


def page_number(name: str = "page") -> int:
    """The address's page, from 0."""
    wanted = st.query_params.get(name, "1")
    return max(0, int(wanted) - 1) if wanted.isascii() and wanted.isdigit() and len(wanted) < 7 else 0


def pager(page: int, size: int, more: bool, what: str, name: str = "page") -> None:
    """Previous and next, where there is more than one page."""
    if not page and not more:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Previous", key=f"{name} before", disabled=not page, on_click=go_to, args=(name, str(page)))
        st.text(f"{what} from {page * size + 1:,}, {size} at a time")
        st.button("Next", key=f"{name} after", disabled=not more, on_click=go_to, args=(name, str(page + 2)))


def block(text: str, limit: int) -> None:
    """Text with every space and newline that it has (the element takes one newline off each end), cut at `limit`."""
    st.code(f"\n{printable(shorten(text, limit))}\n", language=None, wrap_lines=True)


def exports(rows: Callable[[], Rows], name: str, what: str = "") -> None:
    """Buttons that give what is shown as files, made when they are asked for; `what` tells several apart."""
    forms = (("CSV", "csv", "text/csv", csv_table), ("Markdown", "md", "text/markdown", markdown_table))
    with st.container(horizontal=True):
        for form, ending, mime, written in forms:
            label = f"{what} as {form}" if what else form
            file = f"{name.replace('/', '-')}.{ending}"
            save_button(label, partial(_made, written, rows), file, mime)


def save_button(label: str, made: Callable[[], str], file: str, mime: str) -> None:
    """A button that saves a file, made when it is pressed. The page is not drawn anew for it: that would be of no use,
    and could take the button's file away before the browser has asked for it."""
    st.download_button(label, made, file, mime, key=f"{file} file", type="tertiary", on_click="ignore")


def chart(drawn: Any, name: str, **more: Any) -> None:
    """An Altair chart as wide as its place, and a button that gives it as SVG; `more` goes to `st.altair_chart`. (Its
    own toolbar gives a PNG.)"""
    st.altair_chart(drawn, width="stretch", **more)
    file = f"{name.replace('/', '-')}.svg"
    save_button(f"{name.capitalize()} as SVG", partial(_svg, drawn), file, "image/svg+xml")


def _svg(drawn: Any) -> str:
    """Drawn in this process, without the network."""
    spec = drawn.to_dict()
    if "width" not in spec and ("mark" in spec or "layer" in spec):
        spec["width"] = SVG_WIDTH
    return vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])


def _made(written: Callable[[Rows], str], rows: Callable[[], Rows]) -> str:
    return written(rows())


def go_to(name: str, value: str, *forget: str) -> None:
    """Writes a choice to the URL and takes others out of it; for a widget's callback."""
    st.query_params[name] = value
    for other in forget:
        st.query_params.pop(other, None)


def _keep(name: str) -> None:
    go_to(name, st.session_state[name])
