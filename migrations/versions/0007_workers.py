"""Workers say that they are alive; comparisons that fail are counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "worker",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_worker"),
    )
    op.add_column("connector_cursor", sa.Column("compared_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "connector_cursor",
        sa.Column("compare_failures", sa.Integer(), nullable=False, server_default=sa.text("0")),
    )
    op.add_column("connector_cursor", sa.Column("compare_error", sa.Text(), nullable=True))


def downgrade() -> None:
    for name in ("compare_error", "compare_failures", "compared_at"):
        op.drop_column("connector_cursor", name)
    op.drop_table("worker")
