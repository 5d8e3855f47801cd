"""An index of the outputs that failed, so that a run's failures are counted without reading all its answers."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    failed = sa.text("finish_reason = 'failed'")
    op.create_index("outputs_failed", "outputs", ["number"], sqlite_where=failed, postgresql_where=failed)
