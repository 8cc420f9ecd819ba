"""A worker that was taken over stays on record: when, and by whom."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("workers", sa.Column("taken_over_at", sa.Float(), nullable=True))
    op.add_column("workers", sa.Column("taken_over_by", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "taken_over_by")
    op.drop_column("workers", "taken_over_at")
