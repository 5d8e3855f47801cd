"""The tables, and how a database is opened.

SQLite in WAL mode with `synchronous=FULL` (a committed answer survives a power cut), one writer a process.
The schema is changed by small named Alembic steps in `migrations/versions`; a database is brought up to
date when it is opened. JSON columns hold the records' own canonical form.
"""

from __future__ import annotations

from contextlib import contextmanager
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from workbench.errors import StoreError, UseError

HEAD = "0001"
"""The newest step; a test holds it against the migration files."""

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
)
