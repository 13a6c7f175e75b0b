"""A contact's addresses: ask to add one, take it in once its owner has confirmed it, put one away.

Owns the rows `address_request`, and the step that makes one of them an `address`. Invariants: an address belongs to one
contact; an address that is put away stays with its contact, so that the choices go on holding for it, and is suppressed
as replaced, which is an entry like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, delete, select

from preferences.domain.acts import put_away, taken_back
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import NotAllowed
from preferences.domain.letters import ADDRESS_LIFE
from preferences.domain.terms import Address, Channel, Entry
from preferences.store import ledger
from preferences.store.contacts import NEVER_STORED_AGAIN, attach, find_addresses, new_id, suppressed_for
from preferences.store.db import WriteTransaction, insert_rows
from preferences.store.queries import KnownAddress, addresses_of
from preferences.store.tables import address_request


class Outcome(StrEnum):
    """What became of a confirmed address."""

    ADDED = "added"
    HAD_ALREADY = "had_already"
    SOMEBODY_ELSES = "somebody_elses"
    """It has choices of its own. Two contacts are never made one: links in old mails name each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A confirmed request: what became of it, the address, and the one that it replaced."""

    outcome: Outcome
    contact_id: UUID
    address: Address
    replaced: Address | None = None


def request(connection: Connection, contact_id: UUID, wanted: Address, replaces: UUID | None, now: datetime) -> UUID:
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
    insert_rows(connection, address_request, [row])
    return request_id


def find_request(connection: Connection, request_id: UUID, now: datetime) -> tuple[UUID, Address] | None:
    """The contact and the address of a request that can still be confirmed, or None."""
    row = connection.execute(_open(request_id, now)).one_or_none()
    return None if row is None else (row.contact_id, Address(Channel(row.channel), row.value))


def _open(request_id: UUID, now: datetime):  # type: ignore[no-untyped-def]
    return select(address_request).where(
        address_request.c.id == request_id, address_request.c.created_at > now - ADDRESS_LIFE
    )


def confirm(
    write: WriteTransaction, request_id: UUID, *, fingerprints: Fingerprints, now: datetime, evidence: dict[str, str]
) -> Confirmed:
    """Give the contact the address that its owner has just confirmed. Raises NotAllowed when that was done already."""
    row = write.connection.execute(_open(request_id, now)).one_or_none()
    if row is None:
        raise NotAllowed("no such request any more")
    write.connection.execute(delete(address_request).where(address_request.c.id == request_id))
    wanted = Address(Channel(row.channel), row.value)
    owner = find_addresses(write.connection, [wanted], fingerprints).get(wanted)
    if owner is not None and owner.contact_id != row.contact_id:
        return Confirmed(outcome=Outcome.SOMEBODY_ELSES, contact_id=row.contact_id, address=wanted)
    held = suppressed_for(write.connection, wanted, fingerprints)
    if held & set(NEVER_STORED_AGAIN):
        return Confirmed(outcome=Outcome.SOMEBODY_ELSES, contact_id=row.contact_id, address=wanted)
    if owner is None:
        attach(write, row.contact_id, wanted, fingerprints, now)
    old = next((one for one in addresses_of(write.connection, row.contact_id) if one.id == row.replaces), None)
    acts = [taken_back(wanted, now, evidence)] if owner is not None else []
    if old is not None and old.address != wanted:
        acts.append(put_away(old.address, now, evidence))
    ledger.record(write, acts, fingerprints=fingerprints, now=now)
    return Confirmed(
        outcome=Outcome.HAD_ALREADY if owner is not None and not old else Outcome.ADDED,
        contact_id=row.contact_id,
        address=wanted,
        replaced=old.address if old else None,
    )


def remove(
    write: WriteTransaction,
    contact_id: UUID,
    address_id: UUID,
    *,
    fingerprints: Fingerprints,
    now: datetime,
    evidence: dict[str, str],
) -> list[Entry]:
    """Put one of the contact's addresses away. Raises NotAllowed for the last one on its channel, and for no address
    of theirs."""
    mine = [one for one in addresses_of(write.connection, contact_id) if not one.replaced]
    gone = next((one for one in mine if one.id == address_id), None)
    if gone is None or not _others(mine, gone):
        raise NotAllowed("the only address, or none of theirs")
    return ledger.record(write, [put_away(gone.address, now, evidence)], fingerprints=fingerprints, now=now)


def _others(mine: list[KnownAddress], one: KnownAddress) -> list[KnownAddress]:
    return [other for other in mine if other.id != one.id and other.address.channel is one.address.channel]


def forget_old(connection: Connection, now: datetime) -> None:
    """Remove requests that nobody can confirm any more."""
    connection.execute(delete(address_request).where(address_request.c.created_at < now - ADDRESS_LIFE))
