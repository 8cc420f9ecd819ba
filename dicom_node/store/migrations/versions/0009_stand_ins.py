"""Several objects may go instead of one: a series of slices instead of a Parametric Map."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_KEY = "pk_substitutions"


def upgrade() -> None:
    with op.batch_alter_table("substitutions") as table:
        table.add_column(sa.Column("place", sa.Integer(), nullable=False, server_default="0"))
        table.drop_constraint(_KEY, type_="primary")
        table.create_primary_key(_KEY, ["delivery_id", "path", "place"])


def downgrade() -> None:
    op.execute("DELETE FROM substitutions WHERE place > 0")
    with op.batch_alter_table("substitutions") as table:
        table.drop_constraint(_KEY, type_="primary")
        table.drop_column("place")
        table.create_primary_key(_KEY, ["delivery_id", "path"])
