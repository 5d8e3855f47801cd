"""`workbench ui`: the app, with settings that keep it on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from workbench.cli.session import Session
from workbench.errors import UseError

HOST = "127.0.0.1"

SAFE = {
    "server.address": HOST,
    "server.enableXsrfProtection": "true",
    "server.enableCORS": "true",
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
}
"""Streamlit settings: this machine only, no usage statistics, no tracebacks in the page, nothing asked at the start.

As options they stand above the user's environment and above any `.streamlit/config.toml`."""


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option("--headless", is_flag=True, help="Open no browser.")
@click.pass_obj
def ui(session: Session, port: int, headless: bool) -> int:
    """Open the app in the browser."""
    if find_spec("streamlit") is None or find_spec("altair") is None:
        raise UseError("the app needs Streamlit: pip install 'prompt-workbench[ui]'")
    _check_free(port)
    settings = {**SAFE, "server.port": str(port), "server.headless": str(headless).lower()}
    options = [f"--{name}={value}" for name, value in settings.items()]
    page = Path(find_spec("workbench.views.screens").origin).with_name("__main__.py")  # type: ignore[union-attr,arg-type]
    environment = {**os.environ, "WORKBENCH_PROJECT": str(session.project.root), "WORKBENCH_STORE": session.store_url}
    return _serve([sys.executable, "-m", "streamlit", "run", str(page), *options], environment)


def _check_free(port: int) -> None:
    """Raises UseError where the port can't be had: Streamlit would say so only in its log."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = "is already in use" if isinstance(error, OSError) and error.errno != 13 else "needs more rights"
            raise UseError(f"port {port} {why}; choose another with --port {max(port, 8501) + 1}") from error


def _serve(command: list[str], environment: dict[str, str]) -> int:
    """Runs the server until it ends or this process is told to end; it never outlives this process's end."""
    with subprocess.Popen(command, env=environment) as server:  # noqa: S603 - our own arguments
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            return server.wait()
        except KeyboardInterrupt:  # the terminal has sent it to the server too
            server.wait()
            return 0
