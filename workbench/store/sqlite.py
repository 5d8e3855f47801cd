"""How SQLite is opened: in WAL mode with `synchronous=FULL`, so that a committed answer survives a power cut."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa


def file_of(url: sa.URL) -> Path | None:
    """The file of a store; None where it has none, or is no SQLite."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":", "file:")):
        return None
    return Path(url.database)


PATIENCE = 30.0
"""Seconds that a process waits for another one's lock."""


def connect_args(url: sa.URL) -> dict[str, Any]:
    return {"timeout": PATIENCE} if url.get_backend_name() == "sqlite" else {}


WRITING = {"workbench_begin": "BEGIN IMMEDIATE"}
"""A writer takes its lock at the start: what it reads then still holds when it writes."""


def begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("workbench_begin", "BEGIN"))


def set_pragmas(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver leaves BEGIN to `begin`
    _use_wal(connection)
    # 64 MiB of pages (the default is 2): a big run's tables are read in the order of ids, that is here and there.
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Of processes that make a store at the same moment, all but one are told "locked" at once, without SQLite's
    waiting: the first change to WAL is one from a reader to a writer, where waiting could be a deadlock."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.02)
