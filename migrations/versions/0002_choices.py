"""The preferences page: pauses and caps, wording, letters, signing in, addresses, brands with places of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INSTANT = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SLUG = sa.String(length=64)
LANGUAGE = sa.String(length=16)


def upgrade() -> None:
    # Plain ADD COLUMN, which both engines do without rebuilding a table: the ledger's triggers stay.
    op.add_column("contact", sa.Column("revoked_at", INSTANT, nullable=True))
    for name, kind, default in (
        ("host", sa.Text(), ""),
        ("path", sa.Text(), ""),
        ("colour", sa.String(length=7), ""),
        ("language", LANGUAGE, "en"),
    ):
        op.add_column("brand", sa.Column(name, kind, nullable=False, server_default=sa.text(f"'{default}'")))
    op.add_column("ledger_entry", sa.Column("until", INSTANT, nullable=True))
    op.add_column("ledger_entry", sa.Column("per_week", sa.Integer(), nullable=True))
    op.add_column("ledger_entry", sa.Column("notice", sa.String(length=64), nullable=True))
    _create_choices()
    _create_letters()
    _create_identities()


def _create_choices() -> None:
    op.create_table(
        "topic_text",
        sa.Column("topic", SLUG, nullable=False),
        sa.Column("language", LANGUAGE, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("frequency", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "language", name=op.f("pk_topic_text")),
        sa.ForeignKeyConstraint(["topic"], ["topic.slug"], name=op.f("fk_topic_text_topic")),
    )
    op.create_table(
        "pace",
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("brand", SLUG, nullable=False),
        sa.Column("topic", SLUG, nullable=False),
        sa.Column("verb", sa.String(length=16), nullable=False),
        sa.Column("until", INSTANT, nullable=True),
        sa.Column("per_week", sa.Integer(), nullable=True),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("seq", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("contact_id", "channel", "brand", "topic", "verb", name=op.f("pk_pace")),
    )
    op.create_table(
        "sending",
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("topic", SLUG, nullable=False),
        sa.Column("message_ref", sa.String(length=64), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("contact_id", "channel", "topic", "message_ref", name=op.f("pk_sending")),
    )
    op.create_index(op.f("ix_sending_at"), "sending", ["at"])
    op.create_table(
        "notice",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("language", LANGUAGE, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_notice")),
        sa.UniqueConstraint("slug", "language", "version", name=op.f("uq_notice_slug_language_version")),
    )


def _create_letters() -> None:
    op.create_table(
        "letter",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("brand", SLUG, nullable=False),
        sa.Column("language", LANGUAGE, nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_letter")),
    )
    op.create_index(op.f("ix_letter_due_at"), "letter", ["due_at"])
    op.create_table(
        "letter_request",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.String(length=43), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_letter_request")),
    )
    op.create_index(op.f("ix_letter_request_at"), "letter_request", ["at"])
    op.create_index(op.f("ix_letter_request_fingerprint_kind"), "letter_request", ["fingerprint", "kind"])


def _create_identities() -> None:
    op.create_table(
        "sign_in",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.String(length=43), nullable=False),
        sa.Column("code_digest", sa.String(length=64), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("used_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in")),
    )
    op.create_index(op.f("ix_sign_in_created_at"), "sign_in", ["created_at"])
    op.create_table(
        "address_request",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("replaces", sa.Uuid(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_address_request")),
    )
    op.create_index(op.f("ix_address_request_created_at"), "address_request", ["created_at"])
    op.create_table(
        "used_token",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_used_token")),
    )
    op.create_index(op.f("ix_used_token_at"), "used_token", ["at"])


def downgrade() -> None:
    for table in ("used_token", "address_request", "sign_in", "letter_request", "letter", "notice", "sending", "pace"):
        op.drop_table(table)
    op.drop_table("topic_text")
    for name in ("notice", "per_week", "until"):
        op.drop_column("ledger_entry", name)
    for name in ("language", "colour", "path", "host"):
        op.drop_column("brand", name)
    op.drop_column("contact", "revoked_at")
