"""What was retrieved for a case, by how it was found: {how: [{id, document, text, score}, …]}, with the input's name."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("cases", sa.Column("retrieved", sa.JSON))
