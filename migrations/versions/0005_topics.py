"""Topics: retired, hidden, ordered, in sections, and off until somebody asks for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

EMPTY = sa.text("''")
FALSE = sa.text("false")


def upgrade() -> None:
    # Plain ADD COLUMN, which both engines do without rebuilding a table.
    op.add_column("topic", sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("topic", sa.Column("hidden", sa.Boolean(), nullable=False, server_default=FALSE))
    op.add_column("topic", sa.Column("visible_to", sa.String(length=64), nullable=False, server_default=EMPTY))
    op.add_column("topic", sa.Column("opt_in", sa.Boolean(), nullable=False, server_default=FALSE))
    op.add_column("topic", sa.Column("section", sa.Text(), nullable=False, server_default=EMPTY))
    op.add_column("topic", sa.Column("position", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("topic_text", sa.Column("section", sa.Text(), nullable=False, server_default=EMPTY))


def downgrade() -> None:
    op.drop_column("topic_text", "section")
    for name in ("position", "section", "opt_in", "visible_to", "hidden", "retired_at"):
        op.drop_column("topic", name)
