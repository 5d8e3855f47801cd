"""The playground's engines: one for the server, open between tries and between people."""

from __future__ import annotations

import os

import streamlit as st

from workbench.play import Playground
from workbench.store.database import Database
from workbench.views.screens.page import STORE, open_project


def playground() -> Playground:
    """The server's playground for the project's store; raises WorkbenchError."""
    return _opened(os.environ.get(STORE) or open_project().store_url)


@st.cache_resource(show_spinner=False)
def _opened(url: str) -> Playground:
    return Playground(Database.open(url))
