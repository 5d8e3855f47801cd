"""The tables, and how a database is opened.

SQLite or PostgreSQL (`store.sqlite`: how the former is set), one writer a process.
The schema is changed by small named Alembic steps in `migrations/versions`; a database is brought up to
date when it is opened. JSON columns hold the records' own canonical form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from workbench.errors import StoreError
from workbench.store.sqlite import PATIENCE, WRITING, begin, connect_args, file_of, set_pragmas

HEAD = "0012"
"""The newest step; a test holds it against the migration files."""

Connection = sa.Connection
CHUNK = 500
"""Ids in one look-up: SQLite bounds the variables of a statement."""

metadata = sa.MetaData()

revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("revision", sa.Text, primary_key=True),
    sa.Column("parent", sa.Text),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("author", sa.Text, nullable=False, default=""),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("partials", sa.JSON, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("suite", sa.Text, nullable=False, index=True),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("started", sa.Text, nullable=False, index=True),
    sa.Column("ended", sa.Text),
    sa.Column("heartbeat", sa.Float, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("planned", sa.Integer, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("header", sa.JSON, nullable=False),
)

variants = sa.Table(
    "variants",
    metadata,
    sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("revision", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
)

cases = sa.Table(
    "cases",
    metadata,
    sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("cluster", sa.Text),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("expected", sa.JSON),
    sa.Column("retrieved", sa.JSON),
    sa.Column("quarantined", sa.Boolean),
    sa.Index(
        "cases_quarantined",
        "run",
        "id",
        sqlite_where=sa.text("quarantined = 1"),
        postgresql_where=sa.text("quarantined"),
    ),
)

trials = sa.Table(
    "trials",
    metadata,
    sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("variant", sa.Text, nullable=False),
    sa.Column("case", sa.Text, nullable=False),
    sa.Column("repeat", sa.Integer, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("output", sa.Integer, sa.ForeignKey("outputs.number")),
    sa.Index("trials_request", "run", "request"),
    sa.Index("trials_variant", "run", "variant", "case"),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("messages", sa.JSON, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
)

outputs = sa.Table(
    "outputs",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("request", sa.Text, sa.ForeignKey("requests.id"), nullable=False, index=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("finish_reason", sa.Text, nullable=False),
    sa.Column("prompt_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("seconds", sa.Float),
    sa.Column("first_token_seconds", sa.Float),
    sa.Column("cost", sa.Float),
    sa.Column("failure", sa.JSON),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Index(
        "outputs_failed",
        "number",
        sqlite_where=sa.text("finish_reason = 'failed'"),
        postgresql_where=sa.text("finish_reason = 'failed'"),
    ),
)

scores = sa.Table(
    "scores",
    metadata,
    sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("trial", sa.Text, primary_key=True),
    sa.Column("scorer", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("number", sa.Float),
    sa.Column("label", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

reused = sa.Table(
    "reused",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("output", sa.Integer, sa.ForeignKey("outputs.number"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("heartbeat", sa.Float, nullable=False),
    sa.Column("cost", sa.Float, nullable=False),
    sa.Column("tokens", sa.Integer, nullable=False),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("said", sa.Text, nullable=False),
    sa.Column("file", sa.Text),
    sa.Column("batch", sa.Text),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("answered", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("cost", sa.Float),
    sa.Column("tokens", sa.Integer, nullable=False),
    sa.Column("price", sa.JSON),
    sa.Column("requests", sa.JSON, nullable=False),
)

tries = sa.Table(
    "tries",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("revision", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("output", sa.Integer, sa.ForeignKey("outputs.number"), nullable=False),
)

notes = sa.Table(
    "notes",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("case", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("pinned", sa.Boolean, nullable=False),
)

votes = sa.Table(
    "votes",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("rater", sa.Text, nullable=False),
    sa.Column("first", sa.Text, nullable=False),
    sa.Column("second", sa.Text, nullable=False),
    sa.Column("said", sa.Text, nullable=False),
)

summaries = sa.Table(
    "summaries",
    metadata,
    sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("usage", sa.JSON, nullable=False),
    sa.Column("scorers", sa.JSON, nullable=False),
)

score_sums = sa.Table(
    "score_sums",
    metadata,
    sa.Column("run", sa.Text, sa.ForeignKey("summaries.run", ondelete="CASCADE"), primary_key=True),
    sa.Column("scorer", sa.Text, primary_key=True),
    sa.Column("sums", sa.JSON, nullable=False),
)


class Database:
    """An open store. `read` and `write` give a connection; a write is one transaction."""

    def __init__(self, engine: sa.Engine, url: str) -> None:
        self._engine, self.url = engine, url

    @classmethod
    def open(cls, url: str) -> Database:
        """Opens the store at an SQLAlchemy URL, makes or updates its tables.

        Raises StoreError where it can't be opened, is not a store, or was written by a newer version.
        """
        try:
            parsed = sa.make_url(url)
            place = file_of(parsed)
            if place is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
            engine = sa.create_engine(parsed, connect_args=connect_args(parsed))
            if parsed.get_backend_name() == "sqlite":
                sa.event.listen(engine, "connect", set_pragmas)
                sa.event.listen(engine, "begin", begin)
            database = cls(engine, url)
            database._bring_up_to_date()
        except (sa.exc.SQLAlchemyError, OSError, ModuleNotFoundError) as error:
            raise _translated(error, url) from error
        return database

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise _translated(error, self.url) from error

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: committed at the end, rolled back by any exception."""
        try:
            with self._engine.execution_options(**WRITING).begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise _translated(error, self.url) from error

    def compact(self) -> None:
        """Gives the room of removed rows back; needed by SQLite only."""
        if self._engine.dialect.name == "sqlite":
            with closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("VACUUM")
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._engine.dispose()

    def _bring_up_to_date(self) -> None:
        with self._engine.connect() as connection:
            have = _version(connection)
        if have == HEAD:
            return
        from alembic import command, config  # slow to import, and needed once a version
        from alembic.util import CommandError

        settings = config.Config()
        settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._engine.execution_options(**WRITING).begin() as connection:
            settings.attributes["connection"] = connection
            try:
                command.upgrade(settings, "head")
            except CommandError as error:
                raise StoreError(
                    f"the store {shown(self.url)} has version {have}, which this version of workbench does not "
                    "know; update workbench, or use another store"
                ) from error


def insert_new(connection: sa.Connection, table: sa.Table) -> Any:
    """An insert that leaves a row be that is there already."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table).on_conflict_do_nothing()
    return table.insert().prefix_with("OR IGNORE", dialect="sqlite")


def shown(url: str) -> str:
    """A store's URL for people: without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return f"'{url}'"


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _translated(error: Exception, url: str) -> StoreError:
    """The store's error in one line: what is wrong and what to do."""
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    advice = next(
        (text for mark, text in _ADVICE.items() if mark in reason.lower()),
        "check its URL (--store, or `store` in workbench.yaml)",
    )
    return StoreError(f"the store {shown(url)} can't be used: {reason}; {advice}")


_ADVICE = {
    "readonly": "make it writable, or choose another with --store",
    "read-only": "make it writable, or choose another with --store",
    "permission denied": "make it writable, or choose another with --store",
    "full": "make room, then start the run again: what was answered is kept",
    "locked": f"another process has held it for {PATIENCE:.0f} s; wait for it to end",
    "not a database": "it is no SQLite file; choose another with --store",
    "no module named": "install the driver that the URL names",
    "unable to open": "check that its folder exists and can be written",
}
