"""How far people and the audit repository have been told."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "feeds",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("event", sa.Integer(), nullable=False),
        sa.Column("destination_event", sa.Integer(), nullable=False),
        sa.Column("quarantined", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.Float(), nullable=True),
        sa.Column("claimed_until", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_feeds")),
    )


def downgrade() -> None:
    op.drop_table("feeds")
