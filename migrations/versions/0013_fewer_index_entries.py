"""The index of fingerprints holds only entries that have one, on SQLite too: a click on a link writes one page less."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

NAME = "ix_ledger_entry_fingerprint"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index(op.f(NAME), table_name="ledger_entry")
        op.create_index(op.f(NAME), "ledger_entry", ["fingerprint"], sqlite_where=sa.text("fingerprint IS NOT NULL"))


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index(op.f(NAME), table_name="ledger_entry")
        op.create_index(op.f(NAME), "ledger_entry", ["fingerprint"])
