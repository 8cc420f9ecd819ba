"""Who signed in or out of the page, or was refused, and how far that was told."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_ins")),
    )
    op.add_column("feeds", sa.Column("sign_in", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    # An older version knows of no form that went instead for a while: it would send it, or send it to all.
    again = "SELECT instead FROM substitutions WHERE place < 0"
    still = "SELECT instead FROM substitutions WHERE place >= 0 AND instead IS NOT NULL"
    op.execute(
        f"DELETE FROM results WHERE path IN ({again}) AND path NOT IN ({still}) "
        "AND path NOT IN (SELECT path FROM taken)"
    )
    op.execute("DELETE FROM substitutions WHERE place < 0")
    with op.batch_alter_table("feeds") as table:
        table.drop_column("sign_in")
    op.drop_table("sign_ins")
