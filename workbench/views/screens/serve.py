"""Streamlit's own command, with what the app needs loaded while the server starts: the first page does not wait for it.

`workbench ui` runs it in place of `python -m streamlit`.
"""

from __future__ import annotations

import importlib
import sys
import threading

from streamlit.web import cli

LOADED = ("sqlalchemy.dialects.sqlite", "pandas", "workbench.views.screens", "scipy.stats")


def _load() -> None:
    for name in LOADED:
        importlib.import_module(name)


def main() -> None:
    threading.Thread(target=_load, daemon=True, name="load the app").start()
    sys.exit(cli.main(prog_name="streamlit"))


if __name__ == "__main__":
    main()
