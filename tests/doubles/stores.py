"""Stores as earlier versions of the schema left them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from alembic import command, config

from workbench.store import database as db


def at_version(path: Path, version: str, source: Path | None = None) -> Path:
    """An SQLite file with the tables of that step, and, as far as it has them, the rows of another store."""
    settings = config.Config()
    settings.set_main_option("script_location", str(Path(db.__file__).parent / "migrations"))
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, version)
    engine.dispose()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        if source is not None:
            connection.execute("ATTACH ? AS source", (str(source),))
            for table in _tables(connection, "main"):
                names = ", ".join(f'"{name}"' for name in _columns(connection, "main", table))
                connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM source.{table}")
    return path


def rows(path: Path, without: Iterable[str] = ()) -> dict[str, list[tuple[object, ...]]]:
    """All that a store holds, by table, in an order of its own."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in _tables(connection, "main")
            if table not in without
        }


def _tables(connection: sqlite3.Connection, schema: str) -> list[str]:
    query = f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
    return [name for (name,) in connection.execute(query) if name != "alembic_version"]


def _columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA {schema}.table_info({table})")]
