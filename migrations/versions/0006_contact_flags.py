"""Flags of contacts: which topics they are shown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "contact_flag",
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("flag", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("contact_id", "flag", name=op.f("pk_contact_flag")),
        sa.ForeignKeyConstraint(
            ["contact_id"], ["contact.id"], name=op.f("fk_contact_flag_contact_id"), ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    op.drop_table("contact_flag")
