"""Contacts and their addresses: find, create, attach.

Owns the rows `contact` and `address`. Invariant: one address belongs to one contact, and an address whose owner was
erased, or is a child, is never stored again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
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
    """Where an address stands. `contact_id` is None for one that must not be stored."""

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
    """A random id that sorts by time: UUID version 7 (RFC 9562 §5.7), 74 bits of it random."""
    milliseconds = int(now.timestamp() * 1000) & (2**48 - 1)
    random = int.from_bytes(os.urandom(10), "big")
    return UUID(int=milliseconds << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & (2**62 - 1))


def find_addresses(read: Read, addresses: Collection[Address], fingerprints: Fingerprints) -> dict[Address, Found]:
    """Those of the addresses that some contact has."""
    by_fingerprint = fingerprints.by_print(addresses)
    rows = read.execute(_BY_FINGERPRINT, {"fingerprints": list(by_fingerprint)})
    return {
        by_fingerprint[row.fingerprint]: Found(row.contact_id, row.fingerprint, relation=Relation(row.relation))
        for row in rows
    }


def page_of(read: Read, channel: Channel, after: str, limit: int) -> list[tuple[str, Address]]:
    """The next addresses on a channel, each behind its fingerprint, in the order of these: a way through them all."""
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
    """Those of the contacts who have an address on this channel."""
    asked = {"contact_ids": list(contact_ids), "channel": channel.value}
    return set(read.execute(_REACHED, asked).scalars())


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
    """Whose address this is, if they use it: whoever can read the mail of one that was replaced is not its owner, nor
    is, for all we know, who can read that of one that a system added."""
    contact_id: UUID | None = read.execute(_CURRENT_OWNER, {"fingerprint": fingerprint}).scalar_one_or_none()
    return contact_id


def find_owner(read: Read, one: Address, fingerprints: Fingerprints) -> UUID | None:
    """Whose this address is, if they use it, by whichever key it was stored."""
    found = find_addresses(read, [one], fingerprints).get(one)
    return find_by_fingerprint(read, found.fingerprint) if found else None


def find_or_create(
    write: Write,
    addresses: Iterable[Address],
    fingerprints: Fingerprints,
    now: datetime,
    *,
    strangers: Collection[Address] = (),
) -> dict[Address, Found]:
    """Each address with its contact, made where nobody has it yet. The ledger's lock keeps two from making the same.

    `strangers` are those that somebody typed, to opt out or to sign up: of the others the company itself knows.
    """
    wanted = list(dict.fromkeys(addresses))
    found = find_addresses(write, wanted, fingerprints)
    _become_known(write, (found[one] for one in wanted if one in found and one not in strangers))
    missing = [one for one in wanted if one not in found]
    if not missing:
        return found
    barred = _never_stored_again(write, missing, fingerprints)
    found |= barred
    found |= _create(write, [one for one in missing if one not in barred], fingerprints, now, strangers)
    return found


def _become_known(write: Write, found: Iterable[Found]) -> None:
    prints = [one.fingerprint for one in found if one.relation is Relation.STRANGER]
    if prints:
        rows = address.c.fingerprint.in_(prints) & (address.c.relation == Relation.STRANGER.value)
        write.execute(update(address).where(rows).values(relation=Relation.KNOWN.value))


def become_known(write: Write, contact_id: UUID) -> None:
    """Somebody has said yes from their own mailbox: they are no stranger any more."""
    rows = (address.c.contact_id == contact_id) & (address.c.relation == Relation.STRANGER.value)
    write.execute(update(address).where(rows).values(relation=Relation.KNOWN.value))


def confirm(write: Write, fingerprint: str) -> None:
    """The contact has confirmed an address that a system added: it signs them in."""
    write.execute(update(address).where(address.c.fingerprint == fingerprint).values(relation=Relation.KNOWN.value))


def _never_stored_again(read: Read, addresses: list[Address], fingerprints: Fingerprints) -> dict[Address, Found]:
    by_fingerprint = fingerprints.by_print(addresses)
    rows = read.execute(_NEVER_AGAIN, {"fingerprints": list(by_fingerprint)})
    return {by_fingerprint[row.fingerprint]: Found(None, row.fingerprint) for row in rows}


def suppressed_for(read: Read, one: Address, fingerprints: Fingerprints) -> set[SuppressionReason]:
    """The reasons for which this address is suppressed."""
    held = select(suppression.c.reason).where(any_of(suppression.c.fingerprint, "fingerprints"), suppression.c.active)
    rows = read.execute(held, {"fingerprints": list(fingerprints.candidates(one))})
    return {SuppressionReason(reason) for reason in rows.scalars()}


def attach(write: Write, contact_id: UUID, one: Address, fingerprints: Fingerprints, now: datetime) -> None:
    """Give a contact one more address. It must be nobody's, and one that may be stored."""
    _insert_addresses(write, {one: Found(contact_id, fingerprints.of(one))}, now)


class UpsertOutcome(StrEnum):
    """What became of a contact that a system told us of."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Upserted:
    """One contact after `upsert`. `why` says why it was refused; it has no id then.

    `added` are the email addresses that a contact who was there already has got: nobody has confirmed them.
    """

    contact_id: UUID | None
    outcome: UpsertOutcome
    why: str = ""
    added: tuple[Address, ...] = ()


def upsert(
    write: Write, wanted: Sequence[Sequence[Address]], fingerprints: Fingerprints, now: datetime
) -> list[Upserted]:
    """Each group of addresses as one contact: made where nobody has any of them, and given those that are new.

    Refused are groups whose addresses two contacts have, and those with an address that is never stored again. Of a
    contact's email addresses only the one that it is made with signs in: the others are for the contact to confirm.
    """
    everything = list(dict.fromkeys(one for group in wanted for one in group))
    found = find_addresses(write, everything, fingerprints)
    _become_known(write, found.values())
    missing = [one for one in everything if one not in found]
    barred = _never_stored_again(write, missing, fingerprints)
    owners: dict[Address, UUID] = {one: held.contact_id for one, held in found.items() if held.contact_id}
    made: list[UUID] = []
    added: dict[Address, Found] = {}
    results = []
    for group in wanted:
        result = _place(group, owners, barred, now)
        if result.contact_id is not None:
            fresh = _fresh(result, [one for one in dict.fromkeys(group) if one not in owners], fingerprints)
            added |= fresh
            owners |= dict.fromkeys(fresh, result.contact_id)
            made += [result.contact_id] if result.outcome is UpsertOutcome.CREATED else []
            if result.outcome is UpsertOutcome.UPDATED:
                result = replace(result, added=tuple(one for one in fresh if one.channel is Channel.EMAIL))
        results.append(result)
    if made:
        insert_rows(write, contact, [{"id": one, "created_at": now} for one in made])
    if added:
        _insert_addresses(write, added, now)
    return results


def _fresh(placed: Upserted, addresses: Sequence[Address], fingerprints: Fingerprints) -> dict[Address, Found]:
    """The new addresses of a contact. A new contact's first email address is theirs, whoever they are."""
    by_email = [one for one in addresses if one.channel is Channel.EMAIL]
    unconfirmed = by_email[1:] if placed.outcome is UpsertOutcome.CREATED else by_email
    return {
        one: Found(
            placed.contact_id,
            fingerprints.of(one),
            relation=Relation.UNCONFIRMED if one in unconfirmed else Relation.KNOWN,
        )
        for one in addresses
    }


def _place(
    group: Sequence[Address], owners: Mapping[Address, UUID], barred: Collection[Address], now: datetime
) -> Upserted:
    if any(one in barred for one in group):
        return Upserted(None, UpsertOutcome.REFUSED, "an address was erased, or is a child's: it is not stored again")
    holders = {owners[one] for one in group if one in owners}
    if len(holders) > 1:
        return Upserted(None, UpsertOutcome.REFUSED, "its addresses belong to different contacts")
    if not holders:
        return Upserted(new_id(now), UpsertOutcome.CREATED)
    known = all(one in owners for one in group)
    return Upserted(holders.pop(), UpsertOutcome.UNCHANGED if known else UpsertOutcome.UPDATED)


def _create(
    write: Write,
    addresses: list[Address],
    fingerprints: Fingerprints,
    now: datetime,
    strangers: Collection[Address],
) -> dict[Address, Found]:
    made = {
        one: Found(
            new_id(now),
            fingerprints.of(one),
            created=True,
            relation=Relation.STRANGER if one in strangers else Relation.KNOWN,
        )
        for one in addresses
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
                "channel": one.channel.value,
                "value": one.value,
                "fingerprint": new.fingerprint,
                "created_at": now,
                "relation": new.relation.value,
            }
            for one, new in made.items()
        ],
    )
