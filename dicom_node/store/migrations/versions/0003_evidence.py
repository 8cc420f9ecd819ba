"""evidence of completeness: header facts, performed procedure steps, inquiries, what is awaited."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "procedure_steps",
        sa.Column("sop_uid", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sop_uid", name=op.f("pk_procedure_steps")),
    )
    op.create_table(
        "procedure_step_studies",
        sa.Column("sop_uid", sa.String(length=64), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["sop_uid"], ["procedure_steps.sop_uid"], name=op.f("fk_procedure_step_studies_sop_uid")
        ),
        sa.PrimaryKeyConstraint("sop_uid", "study_uid", name=op.f("pk_procedure_step_studies")),
    )
    op.create_index(
        op.f("ix_procedure_step_studies_study_uid"), "procedure_step_studies", ["study_uid"], unique=False
    )
    op.create_table(
        "performed_instances",
        sa.Column("step_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_uid", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["step_uid"], ["procedure_steps.sop_uid"], name=op.f("fk_performed_instances_step_uid")
        ),
        sa.PrimaryKeyConstraint("step_uid", "sop_uid", name=op.f("pk_performed_instances")),
    )
    op.create_index(
        op.f("ix_performed_instances_series_uid"), "performed_instances", ["series_uid"], unique=False
    )
    op.create_table(
        "inquiries",
        sa.Column("case_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.case_id"], name=op.f("fk_inquiries_case_id")),
        sa.PrimaryKeyConstraint("case_id", "kind", name=op.f("pk_inquiries")),
    )
    op.add_column("studies", sa.Column("study_date", sa.String(length=8), nullable=True))
    op.add_column("instances", sa.Column("facts", sa.Text(), nullable=True))
    op.add_column("revisions", sa.Column("awaited", sa.Text(), nullable=True))
    op.add_column("revisions", sa.Column("awaited_until", sa.Float(), nullable=True))


def downgrade() -> None:
    for table, columns in (
        ("revisions", ("awaited_until", "awaited")),
        ("instances", ("facts",)),
        ("studies", ("study_date",)),
    ):
        with op.batch_alter_table(table) as batch_op:
            for column in columns:
                batch_op.drop_column(column)
    for table in ("inquiries", "performed_instances", "procedure_step_studies", "procedure_steps"):
        op.drop_table(table)
