"""Workers and their heartbeat; room for instances of 2 GiB and more in PostgreSQL."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("incarnation", sa.String(length=36), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    if op.get_bind().dialect.name == "postgresql":  # SQLite's integers have 64 bits anyway
        op.alter_column("instances", "size", type_=sa.BigInteger(), existing_nullable=False)


def downgrade() -> None:
    op.drop_table("workers")
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("instances", "size", type_=sa.Integer(), existing_nullable=False)
