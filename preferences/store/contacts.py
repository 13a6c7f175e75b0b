"""Contacts and addresses: the rows `contact` and `address`.

Invariant: an address belongs to one contact; that of an erased person or a child is never stored again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, exists, select, update

from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, Relation, SuppressionReason
from preferences.store.dialect import any_of, insert_rows
from preferences.store.tables import address, contact, suppression
from preferences.store.transactions import Read, Write

BARRED_REASONS: Final = (SuppressionReason.ERASED, SuppressionReason.CHILD)


@dataclass(frozen=True, slots=True)
class Found:
    """`contact_id` is None for an address that must not be stored."""

    contact_id: UUID | None
    fingerprint: str
    created: bool = False
    relation: Relation = Relation.KNOWN


_BY_FINGERPRINT = select(address.c.fingerprint, address.c.contact_id, address.c.relation).where(
    any_of(address.c.fingerprint, "fingerprints")
)
_NEVER_AGAIN = select(suppression.c.fingerprint).where(
    any_of(suppression.c.fingerprint, "fingerprints"),
    suppression.c.active,
    suppression.c.reason.in_(BARRED_REASONS),
)


def new_id(now: datetime) -> UUID:
    """UUID version 7 (RFC 9562 §5.7): sorts by time, with 74 random bits."""
    milliseconds = int(now.timestamp() * 1000) & (2**48 - 1)
    random = int.from_bytes(os.urandom(10), "big")
    return UUID(int=milliseconds << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & (2**62 - 1))


def find_addresses(read: Read, addresses: Collection[Address], fingerprints: Fingerprints) -> dict[Address, Found]:
    by_fingerprint = fingerprints.by_print(addresses)
    rows = read.execute(_BY_FINGERPRINT, {"fingerprints": list(by_fingerprint)})
    return {
        by_fingerprint[row.fingerprint]: Found(row.contact_id, row.fingerprint, relation=Relation(row.relation))
        for row in rows
    }


def page_of(read: Read, channel: Channel, after: str, limit: int) -> list[tuple[str, Address]]:
    """Addresses in order of fingerprint, each with it."""
    statement = (
        select(address.c.fingerprint, address.c.value)
        .where(address.c.fingerprint > after, address.c.channel == channel.value)
        .order_by(address.c.fingerprint)
        .limit(limit)
    )
    return [(row.fingerprint, Address(channel, row.value)) for row in read.execute(statement)]


_REACHED = select(address.c.contact_id).where(
    any_of(address.c.contact_id, "contact_ids"), address.c.channel == bindparam("channel")
)


def reached_by(read: Read, channel: Channel, contact_ids: Collection[UUID]) -> set[UUID]:
    parameters = {"contact_ids": list(contact_ids), "channel": channel.value}
    return set(read.execute(_REACHED, parameters).scalars())


_CURRENT_OWNER = (
    select(address.c.contact_id)
    .where(address.c.fingerprint == bindparam("fingerprint"), address.c.relation != Relation.UNCONFIRMED.value)
    .where(
        ~exists().where(
            suppression.c.fingerprint == address.c.fingerprint,
            suppression.c.reason == SuppressionReason.REPLACED,
            suppression.c.active,
        )
    )
)


def find_by_fingerprint(read: Read, fingerprint: str) -> UUID | None:
    """None for a replaced or unconfirmed address."""
    contact_id: UUID | None = read.execute(_CURRENT_OWNER, {"fingerprint": fingerprint}).scalar_one_or_none()
    return contact_id


def find_owner(read: Read, wanted: Address, fingerprints: Fingerprints) -> UUID | None:
    """Finds fingerprints of any key."""
    found = find_addresses(read, [wanted], fingerprints).get(wanted)
    return find_by_fingerprint(read, found.fingerprint) if found else None


def find_or_create(
    write: Write,
    addresses: Iterable[Address],
    fingerprints: Fingerprints,
    now: datetime,
    *,
    strangers: Collection[Address] = (),
) -> dict[Address, Found]:
    """The ledger's lock prevents duplicates. `strangers`: addresses typed into a form, not supplied by the company."""
    wanted = list(dict.fromkeys(addresses))
    found = find_addresses(write, wanted, fingerprints)
    _become_known(write, (found[address] for address in wanted if address in found and address not in strangers))
    missing = [address for address in wanted if address not in found]
    if not missing:
        return found
    barred = _never_stored_again(write, missing, fingerprints)
    found |= barred
    found |= _create(write, [address for address in missing if address not in barred], fingerprints, now, strangers)
    return found


def _become_known(write: Write, found: Iterable[Found]) -> None:
    strange = [known.fingerprint for known in found if known.relation is Relation.STRANGER]
    if strange:
        rows = address.c.fingerprint.in_(strange) & (address.c.relation == Relation.STRANGER.value)
        write.execute(update(address).where(rows).values(relation=Relation.KNOWN.value))


def become_known(write: Write, contact_id: UUID) -> None:
    """Called after an opt-in from their own mailbox."""
    rows = (address.c.contact_id == contact_id) & (address.c.relation == Relation.STRANGER.value)
    write.execute(update(address).where(rows).values(relation=Relation.KNOWN.value))


def confirm(write: Write, fingerprint: str) -> None:
    """The address may then be used to sign in."""
    write.execute(update(address).where(address.c.fingerprint == fingerprint).values(relation=Relation.KNOWN.value))


def _never_stored_again(read: Read, addresses: list[Address], fingerprints: Fingerprints) -> dict[Address, Found]:
    by_fingerprint = fingerprints.by_print(addresses)
    rows = read.execute(_NEVER_AGAIN, {"fingerprints": list(by_fingerprint)})
    return {by_fingerprint[row.fingerprint]: Found(None, row.fingerprint) for row in rows}


def suppressed_for(read: Read, wanted: Address, fingerprints: Fingerprints) -> set[SuppressionReason]:
    held = select(suppression.c.reason).where(any_of(suppression.c.fingerprint, "fingerprints"), suppression.c.active)
    rows = read.execute(held, {"fingerprints": list(fingerprints.candidates(wanted))})
    return {SuppressionReason(reason) for reason in rows.scalars()}


def attach(write: Write, contact_id: UUID, new: Address, fingerprints: Fingerprints, now: datetime) -> None:
    _insert_addresses(write, {new: Found(contact_id, fingerprints.of(new))}, now)


class UpsertOutcome(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Upserted:
    """`why`: the refusal. `added`: unconfirmed emails of an existing contact."""

    contact_id: UUID | None
    outcome: UpsertOutcome
    why: str = ""
    added: tuple[Address, ...] = ()


def upsert(
    write: Write, wanted: Sequence[Sequence[Address]], fingerprints: Fingerprints, now: datetime
) -> list[Upserted]:
    """Make each group of addresses one contact, or add the new addresses to it.

    Refused: addresses of several contacts, and those that must not be stored. Only the email that a contact is created
    with can sign in unconfirmed.
    """
    everything = list(dict.fromkeys(chain.from_iterable(wanted)))
    found = find_addresses(write, everything, fingerprints)
    _become_known(write, found.values())
    missing = [address for address in everything if address not in found]
    barred = _never_stored_again(write, missing, fingerprints)
    owners: dict[Address, UUID] = {address: held.contact_id for address, held in found.items() if held.contact_id}
    made: list[UUID] = []
    added: dict[Address, Found] = {}
    results = []
    for group in wanted:
        result = _place(group, owners, barred, now)
        if result.contact_id is not None:
            unknown = [address for address in dict.fromkeys(group) if address not in owners]
            fresh = _fresh(result, unknown, fingerprints)
            added |= fresh
            owners |= dict.fromkeys(fresh, result.contact_id)
            made += [result.contact_id] if result.outcome is UpsertOutcome.CREATED else []
            if result.outcome is UpsertOutcome.UPDATED:
                result = replace(result, added=tuple(address for address in fresh if address.channel is Channel.EMAIL))
        results.append(result)
    if made:
        insert_rows(write, contact, [{"id": contact_id, "created_at": now} for contact_id in made])
    if added:
        _insert_addresses(write, added, now)
    return results


def _fresh(placed: Upserted, addresses: Sequence[Address], fingerprints: Fingerprints) -> dict[Address, Found]:
    """A new contact's first email counts as confirmed."""
    by_email = [address for address in addresses if address.channel is Channel.EMAIL]
    unconfirmed = by_email[1:] if placed.outcome is UpsertOutcome.CREATED else by_email
    return {
        address: Found(
            placed.contact_id,
            fingerprints.of(address),
            relation=Relation.UNCONFIRMED if address in unconfirmed else Relation.KNOWN,
        )
        for address in addresses
    }


def _place(
    group: Sequence[Address], owners: Mapping[Address, UUID], barred: Collection[Address], now: datetime
) -> Upserted:
    if any(address in barred for address in group):
        return Upserted(None, UpsertOutcome.REFUSED, "an address was erased, or is a child's: it is not stored again")
    holders = {owners[address] for address in group if address in owners}
    if len(holders) > 1:
        return Upserted(None, UpsertOutcome.REFUSED, "its addresses belong to different contacts")
    if not holders:
        return Upserted(new_id(now), UpsertOutcome.CREATED)
    known = all(address in owners for address in group)
    return Upserted(holders.pop(), UpsertOutcome.UNCHANGED if known else UpsertOutcome.UPDATED)


def _create(
    write: Write,
    addresses: list[Address],
    fingerprints: Fingerprints,
    now: datetime,
    strangers: Collection[Address],
) -> dict[Address, Found]:
    made = {
        address: Found(
            new_id(now),
            fingerprints.of(address),
            created=True,
            relation=Relation.STRANGER if address in strangers else Relation.KNOWN,
        )
        for address in addresses
    }
    insert_rows(write, contact, [{"id": new.contact_id, "created_at": now} for new in made.values()])
    _insert_addresses(write, made, now)
    return made


def _insert_addresses(write: Write, made: Mapping[Address, Found], now: datetime) -> None:
    insert_rows(
        write,
        address,
        [
            {
                "id": new_id(now),
                "contact_id": new.contact_id,
                "channel": made_for.channel.value,
                "value": made_for.value,
                "fingerprint": new.fingerprint,
                "created_at": now,
                "relation": new.relation.value,
            }
            for made_for, new in made.items()
        ],
    )
