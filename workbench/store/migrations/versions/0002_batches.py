"""Batches: requests that a provider answers later, chunk by chunk."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "batches",
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
