"""Who may sign in: by which addresses, and what each existing key may do, written out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

USUAL_BEFORE = "acts contacts decisions entries hand-offs links suppressions topics"
"""What a key could do that had no scopes of its own. Existing keys keep it; `flask doctor` names them."""


def upgrade() -> None:
    relation = sa.Column("relation", sa.String(length=12), nullable=False, server_default=sa.text("'known'"))
    op.add_column("address", relation)
    keys = sa.table("api_key", sa.column("scopes"))
    op.execute(keys.update().where(keys.c.scopes == "").values(scopes=USUAL_BEFORE))


def downgrade() -> None:
    op.drop_column("address", "relation")
