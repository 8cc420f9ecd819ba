"""Forms that destinations refuse, what goes instead, notes for one destination, withdrawals."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "refused_forms",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("variant", sa.String(length=16), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "sop_class_uid", "variant", name=op.f("pk_refused_forms")),
    )
    op.create_table(
        "substitutions",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("instead", sa.Text(), nullable=True),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["deliveries.delivery_id"], name=op.f("fk_substitutions_delivery_id")
        ),
        sa.PrimaryKeyConstraint("delivery_id", "path", name=op.f("pk_substitutions")),
    )
    op.create_index(op.f("ix_substitutions_instead"), "substitutions", ["instead"], unique=False)
    op.create_table(
        "withdrawals",
        sa.Column("case_id", sa.String(length=36), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=16), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id", "revision"],
            ["revisions.case_id", "revisions.revision"],
            name=op.f("fk_withdrawals_case_id_revision"),
        ),
        sa.PrimaryKeyConstraint("case_id", "revision", "attempt", name=op.f("pk_withdrawals")),
    )
    op.add_column("results", sa.Column("only_for", sa.Text(), nullable=True))
    op.add_column("taken", sa.Column("withdrawn_at", sa.Float(), nullable=True))
    op.add_column(
        "deliveries", sa.Column("purpose", sa.String(length=16), server_default="results", nullable=False)
    )


def downgrade() -> None:
    for table, column in (("deliveries", "purpose"), ("taken", "withdrawn_at"), ("results", "only_for")):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column(column)
    for table in ("withdrawals", "substitutions", "refused_forms"):
        op.drop_table(table)
