"""Streamlit's own command, with what the app needs loaded while the server starts: the first page does not wait for it.

`workbench ui` runs it in place of `python -m streamlit`.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
import threading
from contextlib import closing, suppress

import altair as alt
from streamlit.web import cli

from workbench.errors import WorkbenchError
from workbench.store.summaries import keep_missing
from workbench.views.screens.page import open_database, open_project

LOADED = ("sqlalchemy.dialects.sqlite", "pandas", "scipy.special")


def _load() -> None:
    with suppress(WorkbenchError):
        open_project()  # from here on its file may break while one edits it
    for name in LOADED:
        importlib.import_module(name)
    alt.Chart(alt.Data(values=[])).mark_point().encode(x="x:Q").to_dict()  # reads the schema that charts are held to
    inspect.stack()  # reads where each module stands, as Streamlit's first element asks
    gc.freeze()  # Streamlit collects after each pass over a page: what was loaded is for good, and need not be searched
    # Runs that ended before sums were kept, or whose process was killed; where none can be kept, pages add up anew.
    with suppress(WorkbenchError), closing(open_database()) as database:
        keep_missing(database)


def main() -> None:
    threading.Thread(target=_load, daemon=True, name="load the app").start()
    sys.exit(cli.main(prog_name="streamlit"))


if __name__ == "__main__":
    main()
