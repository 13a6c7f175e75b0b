"""The preferences, addresses and suppressions of contacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, func, null, or_, select, union_all

from preferences.domain.records import Address, Preference, SendingLimit, Suppression
from preferences.domain.vocabulary import (
    Channel,
    Relation,
    SuppressionReason,
    Verb,
)
from preferences.store.codec import limit_of, preference_of, suppression_of
from preferences.store.dialect import any_of
from preferences.store.prepared import Prepared
from preferences.store.tables import (
    address,
    contact,
    contact_flag,
    ledger_entry,
    pace,
    preference,
    suppression,
)
from preferences.store.transactions import Read


@dataclass(frozen=True, slots=True)
class ChannelPreferences:
    """`address` is None if no longer stored."""

    address: Address | None
    preferences: Mapping[str, Preference]
    entry_hashes: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class ChannelKey:
    contact_id: UUID
    channel: Channel
    brand: str


_CHANNEL_PREFERENCES_QUERY: Final = union_all(
    select(
        preference.c.contact_id,
        preference.c.channel,
        preference.c.brand,
        preference.c.topic,
        preference.c.status,
        preference.c.at,
        preference.c.since,
        preference.c.seq,
        preference.c.trusted,
        preference.c.basis,
        ledger_entry.c.hash,
        null().label("value"),
    )
    .join(ledger_entry, ledger_entry.c.seq == preference.c.seq)
    .where(any_of(preference.c.contact_id, "contact_ids")),
    select(
        address.c.contact_id,
        address.c.channel,
        *(null() for _ in range(9)),
        address.c.value,
    ).where(any_of(address.c.contact_id, "contact_ids")),
)
"""Preferences with addresses, in one round trip."""

_CHANNEL_PREFERENCES: Final = Prepared(_CHANNEL_PREFERENCES_QUERY)


def channel_preferences(read: Read, keys: Sequence[ChannelKey]) -> list[ChannelPreferences]:
    """Preferences for each key, in order, by one statement."""
    values: dict[tuple[UUID, str], str] = {}
    rows: dict[tuple[UUID, str, str], list[Any]] = {}
    for row in _CHANNEL_PREFERENCES.rows(read.connection, {"contact_ids": list({key.contact_id for key in keys})}):
        if row.value is None:
            rows.setdefault((row.contact_id, row.channel, row.brand), []).append(row)
        else:
            held = values.get((row.contact_id, row.channel))
            values[row.contact_id, row.channel] = row.value if held is None else min(held, row.value)
    return [_of_key(key, values, rows.get((key.contact_id, key.channel, key.brand), [])) for key in keys]


def _of_key(key: ChannelKey, values: Mapping[tuple[UUID, str], str], rows: Sequence[Any]) -> ChannelPreferences:
    value = values.get((key.contact_id, key.channel))
    return ChannelPreferences(
        address=None if value is None else Address(key.channel, value),
        preferences={row.topic: preference_of(row) for row in rows},
        entry_hashes={row.seq: row.hash for row in rows},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAddress:
    id: UUID
    address: Address
    added_at: datetime
    suppressed: frozenset[SuppressionReason]
    confirmed: bool = True
    """False for an address added by a system, until its owner confirms it: no sign-in or manage link is sent there."""

    @property
    def replaced(self) -> bool:
        return SuppressionReason.REPLACED in self.suppressed

    @property
    def cannot_be_reached(self) -> bool:
        """Whether a suppression stops marketing that no preference lifts."""
        return bool(self.suppressed - {SuppressionReason.REPLACED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactState:
    """Everything on a contact's page.

    `preferences` by channel, brand and topic; `limits` also by verb; `entry_hashes` of their entries. `exists` is False
    for a deleted contact. Links from before `revoked_at` are void.
    """

    contact_id: UUID
    exists: bool
    created_at: datetime | None
    revoked_at: datetime | None
    flags: frozenset[str]
    """See `Topic.visible_to`."""
    addresses: Sequence[KnownAddress]
    preferences: Mapping[tuple[Channel, str, str], Preference]
    limits: Mapping[tuple[Channel, str, str, Verb], SendingLimit]
    entry_hashes: Mapping[int, str]

    def current_addresses(self, channel: Channel) -> list[KnownAddress]:
        """Addresses in use, oldest first."""
        return [known for known in self.addresses if known.address.channel is channel and not known.replaced]


def own_mailboxes(addresses: Iterable[KnownAddress]) -> list[Address]:
    """Confirmed email addresses in use, oldest first."""
    return [
        known.address
        for known in addresses
        if known.address.channel is Channel.EMAIL and known.confirmed and not known.replaced
    ]


_HASHES_OF: Final = select(ledger_entry.c.seq, ledger_entry.c.hash).where(
    or_(
        ledger_entry.c.seq.in_(select(preference.c.seq).where(preference.c.contact_id == bindparam("contact_id"))),
        ledger_entry.c.seq.in_(select(pace.c.seq).where(pace.c.contact_id == bindparam("contact_id"))),
    )
)


_ABOUT: Final = (
    select(contact.c.created_at, contact.c.revoked_at, contact_flag.c.flag)
    .outerjoin(contact_flag, contact_flag.c.contact_id == contact.c.id)
    .where(contact.c.id == bindparam("contact_id"))
)
"""One row for each flag, or one without."""


def state_of(read: Read, contact_id: UUID) -> ContactState:
    about = read.execute(_ABOUT, {"contact_id": contact_id}).all()
    first = about[0] if about else None
    preferences = read.execute(select(preference).where(preference.c.contact_id == contact_id))
    limits = read.execute(select(pace).where(pace.c.contact_id == contact_id))
    hashes = read.execute(_HASHES_OF, {"contact_id": contact_id})
    return ContactState(
        contact_id=contact_id,
        exists=first is not None,
        created_at=first.created_at if first else None,
        revoked_at=first.revoked_at if first else None,
        flags=frozenset(row.flag for row in about if row.flag is not None),
        addresses=addresses_of(read, contact_id),
        preferences={(Channel(row.channel), row.brand, row.topic): preference_of(row) for row in preferences},
        limits={(Channel(row.channel), row.brand, row.topic, Verb(row.verb)): limit_of(row) for row in limits},
        entry_hashes={row.seq: row.hash for row in hashes},
    )


def addresses_of(read: Read, contact_id: UUID) -> list[KnownAddress]:
    """Including replaced ones, oldest first."""
    return addresses_of_all(read, [contact_id]).get(contact_id, [])


def addresses_of_all(read: Read, contact_ids: Sequence[UUID]) -> dict[UUID, list[KnownAddress]]:
    """Contacts without addresses are omitted."""
    in_order = _ADDRESSES_OF.order_by(address.c.created_at, address.c.id)
    rows = read.execute(in_order, {"contact_ids": list(contact_ids)}).all()
    held = active_suppressions(read, [row.fingerprint for row in rows])
    found: dict[UUID, list[KnownAddress]] = {}
    for row in rows:
        known = KnownAddress(
            id=row.id,
            address=Address(Channel(row.channel), row.value),
            added_at=row.created_at,
            suppressed=frozenset(state.reason for state in held.get((row.fingerprint, row.channel), [])),
            confirmed=row.relation != Relation.UNCONFIRMED,
        )
        found.setdefault(row.contact_id, []).append(known)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressState:
    """The facts for a provider."""

    contact_id: UUID
    address: Address
    added_at: datetime
    fingerprint: str
    preferences: Mapping[tuple[str, str], Preference]
    suppressions: Sequence[Suppression]


_ADDRESSES_OF: Final = select(address).where(any_of(address.c.contact_id, "contact_ids"))
_CHOICES_OF: Final = select(preference).where(any_of(preference.c.contact_id, "contact_ids"))
_SUPPRESSIONS_OF: Final = select(suppression).where(
    any_of(suppression.c.fingerprint, "fingerprints"), suppression.c.active
)


def address_states(read: Read, contact_ids: Sequence[UUID]) -> list[AddressState]:
    if not contact_ids:
        return []
    addresses = read.execute(_ADDRESSES_OF, {"contact_ids": list(contact_ids)}).all()
    preferences: dict[tuple[UUID, str], dict[tuple[str, str], Preference]] = {}
    for row in read.execute(_CHOICES_OF, {"contact_ids": list(contact_ids)}):
        preferences.setdefault((row.contact_id, row.channel), {})[row.brand, row.topic] = preference_of(row)
    suppressions = active_suppressions(read, [row.fingerprint for row in addresses])
    return [
        AddressState(
            contact_id=row.contact_id,
            address=Address(Channel(row.channel), row.value),
            added_at=row.created_at,
            fingerprint=row.fingerprint,
            preferences=preferences.get((row.contact_id, row.channel), {}),
            suppressions=suppressions.get((row.fingerprint, row.channel), []),
        )
        for row in addresses
    ]


OptOutKey = tuple[UUID | None, Channel, str, str]
"""Contact, channel, brand and topic."""

_FIRST_OPT_OUTS: Final = (
    select(
        ledger_entry.c.contact_id,
        ledger_entry.c.channel,
        ledger_entry.c.brand,
        ledger_entry.c.topic,
        func.min(ledger_entry.c.seq).label("seq"),
    )
    .where(any_of(ledger_entry.c.contact_id, "contact_ids"), ledger_entry.c.status == "unsubscribed")
    .group_by(ledger_entry.c.contact_id, ledger_entry.c.channel, ledger_entry.c.brand, ledger_entry.c.topic)
)


def first_opt_outs(read: Read, contact_ids: Sequence[UUID]) -> dict[OptOutKey, int]:
    """The number of each preference's first opt-out."""
    rows = read.execute(_FIRST_OPT_OUTS, {"contact_ids": list(contact_ids)})
    return {(row.contact_id, Channel(row.channel), row.brand, row.topic): row.seq for row in rows}


def occurrence_times(read: Read, seqs: Sequence[int]) -> dict[int, datetime]:
    """When each entry occurred, or else was recorded."""
    if not seqs:
        return {}
    about = select(ledger_entry.c.seq, ledger_entry.c.occurred_at, ledger_entry.c.recorded_at)
    rows = read.execute(about.where(ledger_entry.c.seq.in_(seqs)))
    return {row.seq: row.occurred_at or row.recorded_at for row in rows}


def active_suppressions(read: Read, fingerprints: Sequence[str]) -> dict[tuple[str, str], list[Suppression]]:
    """Suppressions by fingerprint and channel."""
    found: dict[tuple[str, str], list[Suppression]] = {}
    for row in read.execute(_SUPPRESSIONS_OF, {"fingerprints": list(fingerprints)}):
        found.setdefault((row.fingerprint, row.channel), []).append(suppression_of(row))
    return found


OWNERS_BY_FINGERPRINT: Final = select(address.c.fingerprint, address.c.contact_id).where(
    any_of(address.c.fingerprint, "fingerprints"), address.c.channel == bindparam("channel")
)
