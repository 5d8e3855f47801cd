"""Which cases count in no number; null in runs of before, where all count."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("cases", sa.Column("quarantined", sa.Boolean))
    op.create_index(
        "cases_quarantined",
        "cases",
        ["run", "id"],
        sqlite_where=sa.text("quarantined = 1"),
        postgresql_where=sa.text("quarantined"),
    )
