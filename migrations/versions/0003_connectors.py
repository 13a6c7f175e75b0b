"""Real platforms: what each connector pushed and failed at, and the tokens of webhooks whose body is not signed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INSTANT = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    # Plain ADD COLUMN, which both engines do without rebuilding a table.
    for name in ("pushed", "failed"):
        op.add_column("connector_cursor", sa.Column(name, NUMBER, nullable=False, server_default=sa.text("0")))
    op.create_table(
        "webhook_token",
        sa.Column("connector", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("connector", "token", name=op.f("pk_webhook_token")),
    )
    op.create_index(op.f("ix_webhook_token_at"), "webhook_token", ["at"])


def downgrade() -> None:
    op.drop_table("webhook_token")
    for name in ("failed", "pushed"):
        op.drop_column("connector_cursor", name)
