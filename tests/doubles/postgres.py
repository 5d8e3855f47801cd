"""A PostgreSQL of its own, on the loopback interface, where this machine has the server and its driver."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty store; the test is skipped where there can be none."""
    command = shutil.which("pg_ctl")
    if command is None or find_spec("psycopg") is None:
        pytest.skip("no PostgreSQL with psycopg on this machine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # not below pytest's, which only its user may enter
        user = {"user": "nobody", "extra_groups": ()} if os.geteuid() == 0 else {}  # the server refuses root
        if user:
            shutil.chown(folder, "nobody")
        control = [str(Path(command).resolve()), "-D", f"{folder}/data", "-s", "-w"]
        asked = f"-c listen_addresses=127.0.0.1 -c fsync=off -p {port} -k {folder}"
        for step in (
            ["initdb", "-o", "-A trust -U workbench -E UTF8 --locale=C"],
            ["-l", f"{folder}/log", "-o", asked, "start"],
        ):
            subprocess.run([*control, *step], check=True, cwd=folder, env={"HOME": folder}, **user)
        try:
            yield f"postgresql+psycopg://workbench@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd=folder, **user)
