"""The days on which mail came back for a while, counted outside the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "soft_bounce",
        sa.Column("fingerprint", sa.String(length=43), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "channel", "day", name=op.f("pk_soft_bounce")),
    )


def downgrade() -> None:
    op.drop_table("soft_bounce")
