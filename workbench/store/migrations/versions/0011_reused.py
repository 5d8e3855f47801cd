"""Answers to questions of scorers, and embeddings, that a run took from others: `prune` leaves them while it is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "reused",
        sa.Column("run", sa.Text, primary_key=True),
        sa.Column("output", sa.Integer, sa.ForeignKey("outputs.number"), primary_key=True, index=True),
        sqlite_with_rowid=False,
    )
