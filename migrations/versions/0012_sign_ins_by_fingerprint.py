"""An index by which the tries with codes of one contact are found."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_index(op.f("ix_sign_in_fingerprint"), "sign_in", ["fingerprint"])


def downgrade() -> None:
    op.drop_index(op.f("ix_sign_in_fingerprint"), table_name="sign_in")
