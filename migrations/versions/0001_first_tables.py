"""The first tables: brands and topics, contacts, the ledger and its projection, connectors, API keys."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INSTANT = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# The ledger is append-only by the database's own word, whatever program is connected to it.
SQLITE_APPEND_ONLY = """
CREATE TRIGGER ledger_entry_no_{verb} BEFORE {verb} ON ledger_entry
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
"""
# INSERT OR REPLACE deletes the old row without a word to the trigger on DELETE.
SQLITE_NO_REPLACE = """
CREATE TRIGGER ledger_entry_no_replace BEFORE INSERT ON ledger_entry
WHEN EXISTS (SELECT 1 FROM ledger_entry WHERE seq = NEW.seq)
  OR EXISTS (SELECT 1 FROM ledger_entry WHERE origin_ref = NEW.origin_ref AND origin = NEW.origin)
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
"""
POSTGRESQL_APPEND_ONLY = """
CREATE FUNCTION ledger_entry_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'restrict_violation'; END $$;
CREATE TRIGGER ledger_entry_no_change BEFORE UPDATE OR DELETE ON ledger_entry
FOR EACH ROW EXECUTE FUNCTION ledger_entry_append_only();
CREATE TRIGGER ledger_entry_no_truncate BEFORE TRUNCATE ON ledger_entry
FOR EACH STATEMENT EXECUTE FUNCTION ledger_entry_append_only();
"""


def upgrade() -> None:
    _create_tables()
    _make_append_only()
    head = sa.table("ledger_head", sa.column("id"), sa.column("seq"), sa.column("hash"))
    op.bulk_insert(head, [{"id": 1, "seq": 0, "hash": "0" * 64}])
    columns = ("slug", "name", "postal_address", "contact_email", "one_click")
    brand = sa.table("brand", *(sa.column(name) for name in columns), sa.column("created_at", INSTANT))
    first = {"slug": "default", "name": "Our company", "postal_address": "", "contact_email": ""}
    op.bulk_insert(brand, [first | {"one_click": "everything", "created_at": datetime.now(UTC)}])


def _make_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(SQLITE_APPEND_ONLY.format(verb=verb))
        op.execute(SQLITE_NO_REPLACE)
    else:
        op.execute(POSTGRESQL_APPEND_ONLY)


def _create_tables() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_key_digest")),
        sa.UniqueConstraint("name", name=op.f("uq_api_key_name")),
    )
    op.create_table(
        "brand",
        sa.Column("slug", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("postal_address", sa.Text(), nullable=False),
        sa.Column("contact_email", sa.Text(), nullable=False),
        sa.Column("one_click", sa.String(length=16), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_brand")),
    )
    op.create_table(
        "connector_cursor",
        sa.Column("connector", sa.String(length=64), nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", INSTANT, nullable=True),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("paused_because", sa.Text(), nullable=True),
        sa.Column("last_success_at", INSTANT, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("reconcile_due_at", INSTANT, nullable=True),
        sa.Column("drift", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("connector", name=op.f("pk_connector_cursor")),
    )
    op.create_table(
        "connector_rejection",
        sa.Column("connector", sa.String(length=64), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("seq", NUMBER, nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("connector", "contact_id", name=op.f("pk_connector_rejection")),
    )
    op.create_table(
        "contact",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact")),
    )
    op.create_table(
        "ledger_entry",
        sa.Column("seq", NUMBER, autoincrement=False, nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.Column("occurred_at", INSTANT, nullable=True),
        sa.Column("verb", sa.String(length=16), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=True),
        sa.Column("fingerprint", sa.String(length=43), nullable=True),
        sa.Column("brand", sa.String(length=64), nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.String(length=16), nullable=True),
        sa.Column("basis", sa.String(length=24), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("origin_ref", sa.Text(), nullable=True),
        sa.Column("actor", sa.String(length=16), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("changed", sa.Boolean(), nullable=False),
        sa.Column("undoes", NUMBER, nullable=True),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ledger_entry")),
    )
    op.create_index(
        "uq_ledger_entry_origin_ref_origin",
        "ledger_entry",
        ["origin_ref", "origin"],
        unique=True,
        postgresql_where=sa.text("origin_ref IS NOT NULL"),
        sqlite_where=sa.text("origin_ref IS NOT NULL"),
    )
    op.create_index(op.f("ix_ledger_entry_contact_id"), "ledger_entry", ["contact_id"], unique=False)
    op.create_index(
        op.f("ix_ledger_entry_fingerprint"),
        "ledger_entry",
        ["fingerprint"],
        unique=False,
        postgresql_where=sa.text("fingerprint IS NOT NULL"),
    )
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", NUMBER, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_head")),
    )
    op.create_table(
        "preference",
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("brand", sa.String(length=64), nullable=False),
        sa.Column("topic", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("seq", NUMBER, nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("basis", sa.String(length=24), nullable=True),
        sa.PrimaryKeyConstraint("contact_id", "channel", "brand", "topic", name=op.f("pk_preference")),
    )
    op.create_table(
        "suppression",
        sa.Column("fingerprint", sa.String(length=43), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("seq", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "channel", "reason", name=op.f("pk_suppression")),
    )
    op.create_table(
        "address",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=43), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name=op.f("fk_address_contact_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_address")),
        sa.UniqueConstraint("fingerprint", "channel", name=op.f("uq_address_fingerprint_channel")),
    )
    op.create_index(op.f("ix_address_contact_id"), "address", ["contact_id"], unique=False)
    op.create_table(
        "evidence",
        sa.Column("seq", NUMBER, autoincrement=False, nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_evidence")),
    )
    op.create_table(
        "stated_reason",
        sa.Column("seq", NUMBER, autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("stated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["ledger_entry.seq"], name=op.f("fk_stated_reason_seq")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_stated_reason")),
    )
    op.create_table(
        "topic",
        sa.Column("slug", sa.String(length=64), nullable=False),
        sa.Column("brand", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("frequency", sa.Text(), nullable=False),
        sa.Column("message_class", sa.String(length=16), nullable=False),
        sa.Column("basis", sa.String(length=24), nullable=False),
        sa.Column("channels", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["brand"], ["brand.slug"], name=op.f("fk_topic_brand")),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_topic")),
    )


def downgrade() -> None:
    for name in (
        "topic",
        "stated_reason",
        "evidence",
        "address",
        "suppression",
        "preference",
        "ledger_head",
        "ledger_entry",
        "contact",
        "connector_rejection",
        "connector_cursor",
        "brand",
        "api_key",
    ):
        op.drop_table(name)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION ledger_entry_append_only")
