"""Every read: the catalog, a link's page, the facts for a decision, states for connectors, a person's timeline.

Owns no rule: what is read here is decided in `domain`. Invariant: nothing here writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, and_, bindparam, func, null, or_, select, union_all

from preferences.domain.addresses import Fingerprints
from preferences.domain.consent import effective
from preferences.domain.permission import Facts, facts_of
from preferences.domain.terms import (
    BLANKET,
    Address,
    Basis,
    Brand,
    Channel,
    Choice,
    Entry,
    MessageClass,
    OneClick,
    Suppression,
    Topic,
)
from preferences.store.db import any_of
from preferences.store.ledger import choice_of, entry_of, suppression_of
from preferences.store.tables import (
    address,
    brand,
    evidence,
    ledger_entry,
    ledger_head,
    preference,
    suppression,
    topic,
)


@dataclass(frozen=True, slots=True)
class Catalog:
    """What there is to choose: every brand and topic by slug."""

    brands: Mapping[str, Brand]
    topics: Mapping[str, Topic]

    def marketing_topics(self, brand_slug: str, channel: Channel) -> list[Topic]:
        """The topics that a recipient can stop, in the order they were added."""
        return [
            one
            for one in self.topics.values()
            if one.brand == brand_slug and one.message_class is MessageClass.MARKETING and channel in one.channels
        ]


def catalog(connection: Connection) -> Catalog:
    """All brands and topics."""
    brands = connection.execute(select(brand).order_by(brand.c.created_at, brand.c.slug))
    topics = connection.execute(select(topic).order_by(topic.c.created_at, topic.c.slug))
    return Catalog(brands={row.slug: _brand(row) for row in brands}, topics={row.slug: _topic(row) for row in topics})


def _brand(row: Row[Any]) -> Brand:
    return Brand(
        slug=row.slug,
        name=row.name,
        postal_address=row.postal_address,
        contact_email=row.contact_email,
        one_click=OneClick(row.one_click),
    )


def _topic(row: Row[Any]) -> Topic:
    return Topic(
        slug=row.slug,
        brand=row.brand,
        name=row.name,
        description=row.description,
        frequency=row.frequency,
        message_class=MessageClass(row.message_class),
        basis=Basis(row.basis),
        channels=tuple(Channel(one) for one in row.channels),
    )


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a contact wishes on one channel of one brand. `address` is None when it is no longer known."""

    address: Address | None
    choices: Mapping[str, Choice]
    entry_hashes: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class WishesKey:
    """Whose wishes, on which channel, about whose mail."""

    contact_id: UUID
    channel: Channel
    brand: str


_WISHES: Final = union_all(
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
"""Preferences, and below them addresses: one round trip for the two things that a link's page shows."""


def wishes_of(connection: Connection, keys: Sequence[WishesKey]) -> list[Wishes]:
    """The wishes for each key, in order: one statement, however many keys."""
    values: dict[tuple[UUID, str], str] = {}
    rows: dict[tuple[UUID, str, str], list[Any]] = {}
    for row in connection.execute(_WISHES, {"contact_ids": list({key.contact_id for key in keys})}):
        if row.value is None:
            rows.setdefault((row.contact_id, row.channel, row.brand), []).append(row)
        else:
            held = values.get((row.contact_id, row.channel))
            values[row.contact_id, row.channel] = row.value if held is None else min(held, row.value)
    return [_wishes(key, values, rows.get((key.contact_id, key.channel, key.brand), [])) for key in keys]


def _wishes(key: WishesKey, values: Mapping[tuple[UUID, str], str], rows: Sequence[Any]) -> Wishes:
    value = values.get((key.contact_id, key.channel))
    return Wishes(
        address=None if value is None else Address(key.channel, value),
        choices={row.topic: choice_of(row) for row in rows},
        entry_hashes={row.seq: row.hash for row in rows},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressState:
    """All that a provider may need to know of one address."""

    contact_id: UUID
    address: Address
    choices: Mapping[tuple[str, str], Choice]
    suppressions: Sequence[Suppression]


_ADDRESSES_OF: Final = select(address).where(any_of(address.c.contact_id, "contact_ids"))
_CHOICES_OF: Final = select(preference).where(any_of(preference.c.contact_id, "contact_ids"))
_SUPPRESSIONS_OF: Final = select(suppression).where(
    any_of(suppression.c.fingerprint, "fingerprints"), suppression.c.active
)


def states_of(connection: Connection, contact_ids: Sequence[UUID]) -> list[AddressState]:
    """The current state of each address of these contacts."""
    if not contact_ids:
        return []
    addresses = connection.execute(_ADDRESSES_OF, {"contact_ids": list(contact_ids)}).all()
    choices: dict[tuple[UUID, str], dict[tuple[str, str], Choice]] = {}
    for row in connection.execute(_CHOICES_OF, {"contact_ids": list(contact_ids)}):
        choices.setdefault((row.contact_id, row.channel), {})[row.brand, row.topic] = choice_of(row)
    suppressions = _active_suppressions(connection, [row.fingerprint for row in addresses])
    return [
        AddressState(
            contact_id=row.contact_id,
            address=Address(Channel(row.channel), row.value),
            choices=choices.get((row.contact_id, row.channel), {}),
            suppressions=suppressions.get((row.fingerprint, row.channel), []),
        )
        for row in addresses
    ]


def _active_suppressions(
    connection: Connection, fingerprints: Sequence[str]
) -> dict[tuple[str, str], list[Suppression]]:
    found: dict[tuple[str, str], list[Suppression]] = {}
    for row in connection.execute(_SUPPRESSIONS_OF, {"fingerprints": list(fingerprints)}):
        found.setdefault((row.fingerprint, row.channel), []).append(suppression_of(row))
    return found


_FACTS_CONTACTS: Final = select(address.c.fingerprint, address.c.contact_id).where(
    any_of(address.c.fingerprint, "fingerprints"), address.c.channel == bindparam("channel")
)
_FACTS_CHOICES: Final = select(preference).where(
    any_of(preference.c.contact_id, "contact_ids"),
    preference.c.channel == bindparam("channel"),
    any_of(preference.c.topic, "topics"),
)


def facts_for(
    connection: Connection,
    addresses: Sequence[Address],
    *,
    channel: Channel,
    about: Topic | None,
    fingerprints: Fingerprints,
) -> dict[Address, Facts]:
    """What bears on a message about `about` to each of the addresses: three statements, however many there are."""
    prints = {one: fingerprints.candidates(one) for one in addresses}
    every_print = [print_ for candidates in prints.values() for print_ in candidates]
    suppressions = _active_suppressions(connection, every_print)
    contacts: dict[str, UUID] = {}
    choices: dict[UUID, dict[str, Choice]] = {}
    if about is not None:
        rows = connection.execute(_FACTS_CONTACTS, {"fingerprints": every_print, "channel": channel.value})
        contacts = {row.fingerprint: row.contact_id for row in rows}
        choices = _choices_about(connection, list(contacts.values()), channel, about)
    facts: dict[Address, Facts] = {}
    for one, candidates in prints.items():
        contact_id = next((contacts[print_] for print_ in candidates if print_ in contacts), None)
        held = {s.reason: s.seq for print_ in candidates for s in suppressions.get((print_, channel), [])}
        own, blanket = _own_and_blanket(choices.get(contact_id) if contact_id else None, about)
        counts = effective(own, blanket)
        facts[one] = facts_of(about, counts, held, blanket=counts is not None and counts is blanket)
    return facts


def _choices_about(
    connection: Connection, contact_ids: list[UUID], channel: Channel, about: Topic
) -> dict[UUID, dict[str, Choice]]:
    found: dict[UUID, dict[str, Choice]] = {}
    parameters = {"contact_ids": contact_ids, "channel": channel.value, "topics": [about.slug, BLANKET]}
    for row in connection.execute(_FACTS_CHOICES, parameters):
        if row.brand == about.brand:
            found.setdefault(row.contact_id, {})[row.topic] = choice_of(row)
    return found


def _own_and_blanket(choices: Mapping[str, Choice] | None, about: Topic | None) -> tuple[Choice | None, Choice | None]:
    if choices is None or about is None:
        return None, None
    return choices.get(about.slug), choices.get(BLANKET)


def server_time(connection: Connection) -> datetime:
    """What the database's clock says."""
    now: datetime = connection.execute(select(func.now())).scalar_one()
    return now


def head_seq(connection: Connection) -> int:
    """The number of the newest entry."""
    seq: int = connection.execute(select(ledger_head.c.seq).where(ledger_head.c.id == 1)).scalar_one()
    return seq


def entries_after(connection: Connection, position: int, limit: int) -> list[Entry]:
    """The next entries of the ledger, in order."""
    statement = select(ledger_entry).where(ledger_entry.c.seq > position).order_by(ledger_entry.c.seq).limit(limit)
    return [entry_of(row) for row in connection.execute(statement)]


def opted_out_contacts(connection: Connection, after: UUID | None, limit: int) -> list[UUID]:
    """Ids, in order, of contacts with an opt-out or a suppressed address: what a provider must know of."""
    prints = select(suppression.c.fingerprint).where(suppression.c.active)
    stopped = select(preference.c.contact_id).where(preference.c.status == "unsubscribed")
    barred = select(address.c.contact_id).where(address.c.fingerprint.in_(prints))
    union = stopped.union(barred).subquery()
    statement = select(union.c.contact_id).order_by(union.c.contact_id).limit(limit)
    if after is not None:
        statement = statement.where(union.c.contact_id > after)
    return list(connection.execute(statement).scalars())


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything on record that bears on one address."""

    contact_id: UUID | None
    entries: list[Entry]
    evidence: Mapping[int, str]
    choices: Sequence[tuple[str, str, Choice]]
    suppressions: Sequence[Suppression]


def timeline(connection: Connection, one: Address, fingerprints: Fingerprints) -> Timeline:
    """What happened to an address and its contact, oldest first."""
    prints = list(fingerprints.candidates(one))
    rows = connection.execute(_FACTS_CONTACTS, {"fingerprints": prints, "channel": one.channel.value})
    contact_id = next((row.contact_id for row in rows), None)
    mine = any_of(ledger_entry.c.fingerprint, "fingerprints")
    if contact_id is not None:
        on_channel = and_(ledger_entry.c.contact_id == contact_id, ledger_entry.c.channel == one.channel.value)
        mine = or_(mine, on_channel)
    found = connection.execute(
        select(ledger_entry, evidence.c.details)
        .outerjoin(evidence, evidence.c.seq == ledger_entry.c.seq)
        .where(mine)
        .order_by(ledger_entry.c.seq),
        {"fingerprints": prints},
    ).all()
    choices: list[tuple[str, str, Choice]] = []
    if contact_id is not None:
        kept = select(preference).where(
            preference.c.contact_id == contact_id, preference.c.channel == one.channel.value
        )
        choices = [(row.brand, row.topic, choice_of(row)) for row in connection.execute(kept)]
    suppressions = _active_suppressions(connection, prints)
    return Timeline(
        contact_id=contact_id,
        entries=[entry_of(row) for row in found],
        evidence={row.seq: row.details for row in found if row.details},
        choices=choices,
        suppressions=[s for (_, channel), many in suppressions.items() if channel == one.channel for s in many],
    )
