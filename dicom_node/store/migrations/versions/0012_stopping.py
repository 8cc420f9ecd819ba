"""No new column: a delivery may be STOPPING, held by a person while its try is still under way."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    pass


def downgrade() -> None:
    # An older version knows no such state; none of its workers is at it.
    op.execute("UPDATE deliveries SET state = 'HELD' WHERE state = 'STOPPING'")
