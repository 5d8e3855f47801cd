"""`workbench ui`: the app, with settings that keep it on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from workbench.cli.session import Session
from workbench.errors import UseError

SAFE = {
    "server.address": "127.0.0.1",
    "server.enableXsrfProtection": "true",
    "server.enableCORS": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "viewer",
}
"""Streamlit settings: this machine only, no usage statistics, no tracebacks in the page."""


@click.command()
@click.option("--port", type=int, default=8501, show_default=True)
@click.option("--headless", is_flag=True, help="Open no browser.")
@click.pass_obj
def ui(session: Session, port: int, headless: bool) -> int:
    """Open the app in the browser."""
    if find_spec("streamlit") is None:
        raise UseError("the app needs Streamlit: pip install 'prompt-workbench[ui]'")
    settings = {**SAFE, "server.port": str(port), "server.headless": str(headless).lower()}
    options = [f"--{name}={value}" for name, value in settings.items()]
    page = Path(find_spec("workbench.views.screens").origin).with_name("__main__.py")  # type: ignore[union-attr,arg-type]
    environment = {**os.environ, "WORKBENCH_PROJECT": str(session.project.root), "WORKBENCH_STORE": session.store_url}
    command = [sys.executable, "-m", "streamlit", "run", str(page), *options]
    return subprocess.call(command, env=environment, cwd=session.project.root)  # noqa: S603 - our own arguments
