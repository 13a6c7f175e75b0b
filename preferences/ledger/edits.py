"""A contact's addresses: ask to add one, take it in once its owner has confirmed it, put one away.

Owns the rows `address_request`, and the step that makes one of them an `address`. Invariants: an address belongs to one
contact; an address that is put away stays with its contact, so that the choices go on holding for it, and is suppressed
as replaced, which is an entry like any other; what was asked for before its contact ended every sign-in is void.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, or_, select

from preferences.domain.acts import restore_address, retire_address
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import NotAllowed
from preferences.domain.outbox import ADDRESS_LIFE
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import Channel, Relation, SuppressionReason
from preferences.ledger import record as ledger
from preferences.store import contacts
from preferences.store.contact_state import KnownAddress, addresses_of, own_mailboxes
from preferences.store.contacts import BARRED_REASONS, attach, find_addresses, new_id, suppressed_for
from preferences.store.dialect import insert_rows
from preferences.store.tables import address_request, contact
from preferences.store.transactions import Read, Save, Write


class Outcome(StrEnum):
    """What became of a confirmed address."""

    ADDED = "added"
    HAD_ALREADY = "had_already"
    SOMEBODY_ELSES = "somebody_elses"
    """It has choices of its own. Two contacts are never made one: links in old mails name each of them."""
    BARRED = "barred"
    """Its owner was erased, or is a child: it must not be stored again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A confirmed request: what became of it, the address, and the one that it took the place of.

    `told` are the contact's other mailboxes, which shall hear of it. `taken_back` says that it was theirs before.
    """

    outcome: Outcome
    contact_id: UUID
    address: Address
    replaced: Address | None = None
    told: tuple[Address, ...] = ()
    taken_back: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an open request asks for. `taken_back` says that the address was the contact's own until it was put away."""

    address: Address
    taken_back: bool


def request(save: Save, contact_id: UUID, *, wanted: Address, replaces: UUID | None, now: datetime) -> UUID:
    """Note that a contact wants this address. `replaces` is the id of the one that it shall take the place of."""
    request_id = new_id(now)
    row = {
        "id": request_id,
        "contact_id": contact_id,
        "channel": wanted.channel.value,
        "value": wanted.value,
        "replaces": replaces,
        "created_at": now,
    }
    insert_rows(save, address_request, [row])
    return request_id


def request_back(save: Save, contact_id: UUID, *, old: Address, new: Address, now: datetime) -> UUID | None:
    """A way back for the owner of an address that was put away: a request that they can confirm, as any other.

    Only where it is the older of the two. Whoever came into somebody's account and gave their own address in its place
    must not be able to undo the repair.
    """
    added_at = {one.address: one.added_at for one in addresses_of(save, contact_id)}
    if added_at[old] >= added_at[new]:
        return None
    return request(save, contact_id, wanted=old, replaces=None, now=now)


def find_request(read: Read, request_id: UUID, now: datetime) -> Wanted | None:
    """What a request asks for that can still be confirmed, or None."""
    row = _open(read, request_id, now)
    if row is None:
        return None
    address = Address(Channel(row.channel), row.value)
    put_away = (one.address for one in addresses_of(read, row.contact_id) if one.replaced)
    return Wanted(address, taken_back=address in put_away)


def _open(read: Read, request_id: UUID, now: datetime) -> Row[Any] | None:
    """A request that is young enough, of a contact who has not ended every sign-in since: a thief may have asked."""
    owner = contact.c.id == address_request.c.contact_id
    not_ended = or_(contact.c.revoked_at.is_(None), contact.c.revoked_at < address_request.c.created_at)
    statement = (
        select(address_request)
        .join(contact, owner)
        .where(address_request.c.id == request_id, address_request.c.created_at > now - ADDRESS_LIFE, not_ended)
    )
    return read.execute(statement).one_or_none()


def confirm(
    write: Write,
    request_id: UUID,
    *,
    fingerprints: Fingerprints,
    now: datetime,
    evidence: Mapping[str, str],
) -> Confirmed:
    """Give the contact the address that its owner has just confirmed. Raises NotAllowed when that was done already."""
    row = _open(write, request_id, now)
    if row is None:
        raise NotAllowed("no such request any more")
    write.execute(delete(address_request).where(address_request.c.id == request_id))
    contact_id, wanted = row.contact_id, Address(Channel(row.channel), row.value)
    owner = find_addresses(write, [wanted], fingerprints).get(wanted)
    if owner is not None and owner.contact_id != contact_id:
        return Confirmed(outcome=Outcome.SOMEBODY_ELSES, contact_id=contact_id, address=wanted)
    held = suppressed_for(write, wanted, fingerprints)
    if held & set(BARRED_REASONS):
        return Confirmed(outcome=Outcome.BARRED, contact_id=contact_id, address=wanted)
    others = own_mailboxes(addresses_of(write, contact_id))
    if owner is None:
        attach(write, contact_id, wanted, fingerprints, now)
    is_confirmed = owner is not None and owner.relation is Relation.UNCONFIRMED
    if owner is not None and is_confirmed:
        contacts.confirm(write, owner.fingerprint)
    was_put_away = SuppressionReason.REPLACED in held
    acts: list[Act] = [restore_address(wanted, now, evidence)] if was_put_away else []
    old = _still_used(addresses_of(write, contact_id), row.replaces, wanted)
    if old is not None:
        acts.append(retire_address(old, now, evidence))
    ledger.record(write, acts, fingerprints=fingerprints, now=now)
    news = owner is None or is_confirmed or bool(acts)
    return Confirmed(
        outcome=Outcome.ADDED if news else Outcome.HAD_ALREADY,
        contact_id=contact_id,
        address=wanted,
        replaced=old,
        told=tuple(one for one in others if one not in {wanted, old}) if news else (),
        taken_back=was_put_away,
    )


def _still_used(mine: Sequence[KnownAddress], address_id: UUID | None, wanted: Address) -> Address | None:
    """The address that the wanted one takes the place of, unless it was put away meanwhile, or is the same."""
    used = (one.address for one in mine if one.id == address_id and not one.replaced)
    return next((one for one in used if one != wanted), None)


def can_remove(mine: Sequence[KnownAddress], gone: KnownAddress) -> bool:
    """Whether a contact has another address on the same channel: the last one stays."""
    others = (one for one in mine if one.id != gone.id and not one.replaced)
    return any(one.address.channel is gone.address.channel for one in others)


def remove(
    write: Write,
    contact_id: UUID,
    *,
    address_id: UUID,
    fingerprints: Fingerprints,
    now: datetime,
    evidence: Mapping[str, str],
) -> Address:
    """Put one of the contact's addresses away, and return it. Raises NotAllowed for the last one on its channel, and
    for what is no address of theirs."""
    mine = addresses_of(write, contact_id)
    gone = next((one for one in mine if one.id == address_id and not one.replaced), None)
    if gone is None or not can_remove(mine, gone):
        raise NotAllowed("the only address, or none of theirs")
    ledger.record(write, [retire_address(gone.address, now, evidence)], fingerprints=fingerprints, now=now)
    return gone.address


def forget_old(save: Save, now: datetime) -> None:
    """Remove requests that nobody can confirm any more."""
    save.execute(delete(address_request).where(address_request.c.created_at < now - ADDRESS_LIFE))
