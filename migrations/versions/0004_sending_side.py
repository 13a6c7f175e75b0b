"""The sending side: what each API key may do, and the key that it takes the place of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # Plain ADD COLUMN, which both engines do without rebuilding a table.
    op.add_column("api_key", sa.Column("scopes", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("api_key", sa.Column("old_digest", sa.String(length=64), nullable=True))
    op.add_column("api_key", sa.Column("old_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in ("old_until", "old_digest", "scopes"):
        op.drop_column("api_key", name)
