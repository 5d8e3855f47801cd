"""The first tables: revisions, runs with their variants, cases and trials, requests, outputs, scores."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "revisions",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("revision", sa.Text, primary_key=True),
        sa.Column("parent", sa.Text),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("partials", sa.JSON, nullable=False),
    )
    op.create_table(
        "runs",
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
    op.create_table(
        "requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
    )
    op.create_table(
        "outputs",
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
    op.create_table("variants", *_of_run(), *_variant_columns())
    op.create_table("cases", *_of_run(), *_case_columns())
    op.create_table("trials", *_of_run(), *_trial_columns())
    op.create_table("scores", _run(), *_score_columns())
    op.create_index("trials_request", "trials", ["run", "request"])
    op.create_index("trials_variant", "trials", ["run", "variant", "case"])


def _run() -> sa.Column[Any]:
    return sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


def _of_run() -> list[sa.Column[Any]]:
    return [_run(), sa.Column("id", sa.Text, primary_key=True)]


def _variant_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
    ]


def _case_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("cluster", sa.Text),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("expected", sa.JSON),
    ]


def _trial_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("variant", sa.Text, nullable=False),
        sa.Column("case", sa.Text, nullable=False),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("output", sa.Integer, sa.ForeignKey("outputs.number")),
    ]


def _score_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("trial", sa.Text, primary_key=True),
        sa.Column("scorer", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("number", sa.Float),
        sa.Column("label", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
    ]
