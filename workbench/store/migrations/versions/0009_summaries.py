"""What ended runs add up to, kept beside them. Runs of before have none until the app or `workbench score` makes it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "summaries",
        sa.Column("run", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("usage", sa.JSON, nullable=False),
        sa.Column("scorers", sa.JSON, nullable=False),
    )
    op.create_table(
        "score_sums",
        sa.Column("run", sa.Text, sa.ForeignKey("summaries.run", ondelete="CASCADE"), primary_key=True),
        sa.Column("scorer", sa.Text, primary_key=True),
        sa.Column("sums", sa.JSON, nullable=False),
    )
