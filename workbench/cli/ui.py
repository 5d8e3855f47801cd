"""`workbench ui`: the app, with settings that keep it on this machine."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from workbench.cli.session import Session
from workbench.errors import UseError

HOST = "127.0.0.1"
LOCAL = (HOST, "localhost", "::1")
TOKEN = "WORKBENCH_TOKEN"  # noqa: S105 - the name of the variable that hands the token on

SERVER = "workbench.views.screens.serve"
SAFE = {
    "server.address": HOST,
    "server.enableXsrfProtection": "true",
    "server.enableCORS": "true",
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "client.disableDataExport": "true",
    "theme.light.primaryColor": "#2f6690",
    "theme.dark.primaryColor": "#4d8fc1",
}
"""Streamlit settings: this machine only, no usage statistics, no tracebacks in the page, nothing asked at the start;
no files of tables but our own, which are guarded against what a spreadsheet computes; a calm colour for what is chosen.

As options they stand above the user's environment and above any `.streamlit/config.toml`."""


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="Address to listen on. Any but this machine's own asks for a token, which is printed once.",
)
@click.option("--headless", is_flag=True, help="Open no browser.")
@click.pass_obj
def ui(session: Session, port: int, host: str, headless: bool) -> None:
    """Open the app in the browser."""
    screens = find_spec("workbench.views.screens")
    if find_spec("streamlit") is None or find_spec("altair") is None or screens is None or screens.origin is None:
        raise UseError("the app needs Streamlit: pip install 'prompt-workbench[ui]'")
    _check_free(host, port)
    shared = host not in LOCAL
    settings = {**SAFE, "server.address": host, "server.port": str(port)}
    settings["server.headless"] = str(headless or shared).lower()
    options = [f"--{name}={value}" for name, value in settings.items()]
    environment = {**os.environ, "WORKBENCH_PROJECT": str(session.project.root), "WORKBENCH_STORE": session.store_url}
    environment.setdefault("MALLOC_ARENA_MAX", "2")  # each of Streamlit's threads would keep memory of its own
    environment.pop(TOKEN, None)
    if shared:
        environment[TOKEN] = secrets.token_urlsafe(24)
        click.echo(f"Other machines can reach the app. Open it at http://{host}:{port}/?token={environment[TOKEN]}")
    page = Path(screens.origin).with_name("shared.py" if shared else "__main__.py")
    # The server takes this process's place, so that every signal reaches it. -P: a project's `json.py` is not imported.
    os.execve(sys.executable, [sys.executable, "-P", "-m", SERVER, "run", str(page), *options], environment)  # noqa: S606


def _check_free(host: str, port: int) -> None:
    """Raises UseError where the port can't be had, before a browser is opened on whoever has it."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise UseError(f"the address '{host}' can't be found; give one of this machine's, such as 0.0.0.0") from error
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just given back is free
        try:
            probe.bind((host, port))
        except OSError as error:
            why = "is already in use" if error.errno == errno.EADDRINUSE else f"can't be had ({error.strerror})"
            raise UseError(f"port {port} {why}; choose another, for example --port {_free_port()}") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
