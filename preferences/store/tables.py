"""All tables, equal to those of `migrations/` on both engines (tested). Text columns hold `domain.vocabulary` values.

No foreign key to `contact` where an opt-out must outlive it: links work after an erasure, or the restore of an older
backup.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """UTC on both engines. Refuses a time without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SLUG: Final = String(64)
LANGUAGE: Final = String(16)
# SQLite numbers only INTEGER rows itself; PostgreSQL needs 64 bits.
NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")


def _key(name: str, kind: Any, *more: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, *more, primary_key=True, nullable=False, **options)


def _not_null(name: str, kind: Any, *more: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, *more, nullable=False, **options)


brand: Final = Table(
    "brand",
    metadata,
    _key("slug", SLUG),
    _not_null("name", Text),
    _not_null("postal_address", Text),
    _not_null("contact_email", Text),
    _not_null("one_click", String(16)),
    _not_null("created_at", UtcDateTime),
    _not_null("host", Text, server_default=text("''")),
    _not_null("path", Text, server_default=text("''")),
    _not_null("colour", String(7), server_default=text("''")),
    _not_null("language", LANGUAGE, server_default=text("'en'")),
)

topic: Final = Table(
    "topic",
    metadata,
    _key("slug", SLUG),
    _not_null("brand", SLUG, ForeignKey("brand.slug")),
    _not_null("name", Text),
    _not_null("description", Text),
    _not_null("frequency", Text),
    _not_null("message_class", String(16)),
    _not_null("basis", String(24)),
    _not_null("channels", JSON),
    _not_null("created_at", UtcDateTime),
    Column("retired_at", UtcDateTime),
    _not_null("hidden", Boolean(create_constraint=False), server_default=text("false")),
    _not_null("visible_to", SLUG, server_default=text("''")),
    _not_null("opt_in", Boolean(create_constraint=False), server_default=text("false")),
    _not_null("section", Text, server_default=text("''")),
    _not_null("position", Integer, server_default=text("0")),
)

topic_text: Final = Table(
    "topic_text",
    metadata,
    _key("topic", SLUG, ForeignKey("topic.slug")),
    _key("language", LANGUAGE),
    _not_null("name", Text),
    _not_null("description", Text),
    _not_null("frequency", Text),
    _not_null("section", Text, server_default=text("''")),
)

# Manage links and sessions from before `revoked_at` are void.
contact: Final = Table(
    "contact",
    metadata,
    _key("id", Uuid),
    _not_null("created_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

# Set by the company. Only decides which topics are shown.
contact_flag: Final = Table(
    "contact_flag",
    metadata,
    _key("contact_id", Uuid, ForeignKey("contact.id", ondelete="CASCADE")),
    _key("flag", SLUG),
)

# No foreign key, which would cost a look-up per row: one transaction writes both, and a trigger deletes addresses with
# their contact.
address: Final = Table(
    "address",
    metadata,
    _key("id", Uuid),
    _not_null("contact_id", Uuid, index=True),
    _not_null("channel", String(8)),
    _not_null("value", Text),
    _not_null("fingerprint", String(43)),
    _not_null("created_at", UtcDateTime),
    _not_null("relation", String(12), server_default=text("'known'")),
    UniqueConstraint("fingerprint", "channel"),
)

ledger_head: Final = Table(
    "ledger_head",
    metadata,
    _key("id", Integer, autoincrement=False),
    _not_null("seq", NUMBER),
    _not_null("hash", String(64)),
)

ledger_entry: Final = Table(
    "ledger_entry",
    metadata,
    _key("seq", NUMBER, autoincrement=False),
    _not_null("recorded_at", UtcDateTime),
    Column("occurred_at", UtcDateTime),
    _not_null("verb", String(16)),
    _not_null("channel", String(8)),
    Column("contact_id", Uuid),
    Column("fingerprint", String(43)),
    _not_null("brand", SLUG),
    _not_null("topic", SLUG),
    Column("status", String(16)),
    Column("reason", String(16)),
    Column("basis", String(24)),
    _not_null("origin", Text),
    Column("origin_ref", Text),
    _not_null("actor", String(16)),
    _not_null("trusted", Boolean(create_constraint=False)),
    _not_null("changed", Boolean(create_constraint=False)),
    Column("undoes", NUMBER),
    _not_null("hash", String(64)),
    Column("until", UtcDateTime),
    Column("per_week", Integer),
    Column("notice", String(64)),
    Column("evidence_digest", String(64)),
    Index(
        "uq_ledger_entry_origin_ref_origin",
        "origin_ref",
        "origin",
        unique=True,
        postgresql_where=text("origin_ref IS NOT NULL"),
        sqlite_where=text("origin_ref IS NOT NULL"),
    ),
    Index(None, "contact_id"),
    Index(
        None,
        "fingerprint",
        postgresql_where=text("fingerprint IS NOT NULL"),
        sqlite_where=text("fingerprint IS NOT NULL"),
    ),
)

# No foreign key, likewise. The entry's digest includes `salt`; old evidence has neither.
evidence: Final = Table(
    "evidence",
    metadata,
    _key("seq", NUMBER, autoincrement=False),
    _not_null("details", Text),
    Column("salt", String(32)),
)

stated_reason: Final = Table(
    "stated_reason",
    metadata,
    _key("seq", NUMBER, ForeignKey("ledger_entry.seq"), autoincrement=False),
    _not_null("reason", String(32)),
    _not_null("stated_at", UtcDateTime),
)

preference: Final = Table(
    "preference",
    metadata,
    _key("contact_id", Uuid),
    _key("channel", String(8)),
    _key("brand", SLUG),
    _key("topic", SLUG),
    _not_null("status", String(16)),
    _not_null("at", UtcDateTime),
    _not_null("since", UtcDateTime),
    _not_null("seq", NUMBER),
    _not_null("trusted", Boolean(create_constraint=False)),
    Column("basis", String(24)),
)

pace: Final = Table(
    "pace",
    metadata,
    _key("contact_id", Uuid),
    _key("channel", String(8)),
    _key("brand", SLUG),
    _key("topic", SLUG),
    _key("verb", String(16)),
    Column("until", UtcDateTime),
    Column("per_week", Integer),
    _not_null("at", UtcDateTime),
    _not_null("seq", NUMBER),
)

# Messages to contacts with a frequency limit.
sending: Final = Table(
    "sending",
    metadata,
    _key("contact_id", Uuid),
    _key("channel", String(8)),
    _key("topic", SLUG),
    _key("message_ref", String(64)),
    _not_null("at", UtcDateTime, index=True),
)

suppression: Final = Table(
    "suppression",
    metadata,
    _key("fingerprint", String(43)),
    _key("channel", String(8)),
    _key("reason", String(16)),
    _not_null("active", Boolean(create_constraint=False)),
    _not_null("at", UtcDateTime),
    _not_null("since", UtcDateTime),
    _not_null("seq", NUMBER),
)

# Days of temporary bounces within a month (`domain.suppressions`).
soft_bounce: Final = Table(
    "soft_bounce",
    metadata,
    _key("fingerprint", String(43)),
    _key("channel", String(8)),
    _key("day", String(10)),
)

connector_cursor: Final = Table(
    "connector_cursor",
    metadata,
    _key("connector", SLUG),
    _not_null("position", NUMBER),
    Column("lease_owner", Text),
    Column("lease_until", UtcDateTime),
    Column("due_at", UtcDateTime),
    _not_null("failures", Integer),
    Column("paused_because", Text),
    Column("last_success_at", UtcDateTime),
    Column("last_error", Text),
    Column("reconcile_due_at", UtcDateTime),
    Column("drift", Integer),
    _not_null("pushed", NUMBER, server_default=text("0")),
    _not_null("failed", NUMBER, server_default=text("0")),
    Column("compared_at", UtcDateTime),
    _not_null("compare_failures", Integer, server_default=text("0")),
    Column("compare_error", Text),
)

worker: Final = Table("worker", metadata, _key("name", Text), _not_null("seen_at", UtcDateTime))

webhook_token: Final = Table(
    "webhook_token",
    metadata,
    _key("connector", SLUG),
    _key("token", String(200)),
    _not_null("digest", String(64)),
    _not_null("at", UtcDateTime, index=True),
)

connector_rejection: Final = Table(
    "connector_rejection",
    metadata,
    _key("connector", SLUG),
    _key("contact_id", Uuid),
    _not_null("seq", NUMBER),
    _not_null("why", Text),
    _not_null("at", UtcDateTime),
)

# `scopes`, separated by spaces; empty means the default. A rotated key works until `old_until`.
api_key: Final = Table(
    "api_key",
    metadata,
    _key("id", Uuid),
    _not_null("name", Text, unique=True),
    _not_null("digest", String(64), unique=True),
    _not_null("created_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    _not_null("scopes", Text, server_default=text("''")),
    Column("old_digest", String(64)),
    Column("old_until", UtcDateTime),
)

# Wordings agreed to. `hash` covers slug, language and text.
notice: Final = Table(
    "notice",
    metadata,
    _key("hash", String(64)),
    _not_null("slug", Text),
    _not_null("language", LANGUAGE),
    _not_null("version", Integer),
    _not_null("text", Text),
    _not_null("created_at", UtcDateTime),
    UniqueConstraint("slug", "language", "version"),
)

# Emails to send: deleted once sent, usually in seconds.
letter: Final = Table(
    "letter",
    metadata,
    _key("id", Uuid),
    _not_null("kind", String(16)),
    _not_null("address", Text),
    _not_null("brand", SLUG),
    _not_null("language", LANGUAGE),
    _not_null("details", JSON),
    _not_null("created_at", UtcDateTime),
    _not_null("due_at", UtcDateTime, index=True),
    _not_null("attempts", Integer),
)

# Requests for email by fingerprint, of known and unknown addresses alike.
letter_request: Final = Table(
    "letter_request",
    metadata,
    _key("id", Uuid),
    _not_null("fingerprint", String(43)),
    _not_null("kind", String(16)),
    _not_null("at", UtcDateTime, index=True),
    Index(None, "fingerprint", "kind"),
)

sign_in: Final = Table(
    "sign_in",
    metadata,
    _key("id", Uuid),
    _not_null("fingerprint", String(43), index=True),
    Column("code_digest", String(64)),
    _not_null("created_at", UtcDateTime, index=True),
    _not_null("tries", Integer),
    Column("used_at", UtcDateTime),
)

address_request: Final = Table(
    "address_request",
    metadata,
    _key("id", Uuid),
    _not_null("contact_id", Uuid),
    _not_null("channel", String(8)),
    _not_null("value", Text),
    Column("replaces", Uuid),
    _not_null("created_at", UtcDateTime, index=True),
)

# Kept until they expire.
used_token: Final = Table(
    "used_token",
    metadata,
    _key("digest", String(64)),
    _not_null("at", UtcDateTime, index=True),
)
