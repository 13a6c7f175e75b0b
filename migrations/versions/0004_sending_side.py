"""The sending side: what each API key may do, and the key that it takes the place of.

An address still goes with its contact, now by a trigger: for the foreign key, PostgreSQL looked up each contact that
the same transaction had just written, a third of the time of a large import.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

SQLITE_GOES_TOO = """
CREATE TRIGGER contact_takes_addresses AFTER DELETE ON contact
BEGIN DELETE FROM address WHERE contact_id = OLD.id; END
"""
POSTGRESQL_GOES_TOO = """
CREATE FUNCTION contact_takes_addresses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN DELETE FROM address WHERE contact_id = OLD.id; RETURN NULL; END $$;
CREATE TRIGGER contact_takes_addresses AFTER DELETE ON contact
FOR EACH ROW EXECUTE FUNCTION contact_takes_addresses();
"""


def upgrade() -> None:
    # Plain ADD COLUMN, which both engines do without rebuilding a table.
    op.add_column("api_key", sa.Column("scopes", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("api_key", sa.Column("old_digest", sa.String(length=64), nullable=True))
    op.add_column("api_key", sa.Column("old_until", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("address") as address:
        address.drop_constraint("fk_address_contact_id", type_="foreignkey")
    op.execute(SQLITE_GOES_TOO if _is_sqlite() else POSTGRESQL_GOES_TOO)


def downgrade() -> None:
    op.execute("DROP TRIGGER contact_takes_addresses" + ("" if _is_sqlite() else " ON contact"))
    if not _is_sqlite():
        op.execute("DROP FUNCTION contact_takes_addresses")
    with op.batch_alter_table("address") as address:
        address.create_foreign_key("fk_address_contact_id", "contact", ["contact_id"], ["id"], ondelete="CASCADE")
    for name in ("old_until", "old_digest", "scopes"):
        op.drop_column("api_key", name)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
