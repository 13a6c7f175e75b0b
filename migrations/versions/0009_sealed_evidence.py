"""Entries hold a digest of their evidence, and evidence the salt that goes into it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("ledger_entry", sa.Column("evidence_digest", sa.String(64), nullable=True))
    op.add_column("evidence", sa.Column("salt", sa.String(32), nullable=True))


def downgrade() -> None:
    op.drop_column("evidence", "salt")
    op.drop_column("ledger_entry", "evidence_digest")
