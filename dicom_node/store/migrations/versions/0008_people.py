"""People of the page, their sessions and keys; what the queue is ordered by."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "people",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_people")),
    )
    op.create_table(
        "sessions",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("begun_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["people.name"], name=op.f("fk_sessions_name")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_name"), "sessions", ["name"], unique=False)
    op.create_table(
        "keys",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["people.name"], name=op.f("fk_keys_name")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_keys")),
    )
    op.create_index(op.f("ix_keys_name"), "keys", ["name"], unique=False)
    op.create_index(op.f("ix_revisions_since"), "revisions", ["since"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_revisions_since"), table_name="revisions")
    for table in ("keys", "sessions", "people"):
        op.drop_table(table)
