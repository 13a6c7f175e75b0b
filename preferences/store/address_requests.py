"""Requests to add an address: the rows `address_request`.

Invariant: they expire after a day, and when the contact revokes all access: a thief may have made them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, or_, select

from preferences.domain.outbox import ADDRESS_LIFE
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel
from preferences.store.contacts import new_id
from preferences.store.dialect import insert_rows
from preferences.store.tables import address_request, contact
from preferences.store.transactions import Read, Save


@dataclass(frozen=True, slots=True)
class AddressRequest:
    """`replaces`: the id of the address to replace."""

    contact_id: UUID
    address: Address
    replaces: UUID | None


def add(save: Save, request: AddressRequest, now: datetime) -> UUID:
    request_id = new_id(now)
    row = {
        "id": request_id,
        "contact_id": request.contact_id,
        "channel": request.address.channel.value,
        "value": request.address.value,
        "replaces": request.replaces,
        "created_at": now,
    }
    insert_rows(save, address_request, [row])
    return request_id


def find_open(read: Read, request_id: UUID, now: datetime) -> AddressRequest | None:
    not_revoked = or_(contact.c.revoked_at.is_(None), contact.c.revoked_at < address_request.c.created_at)
    statement = (
        select(address_request)
        .join(contact, contact.c.id == address_request.c.contact_id)
        .where(address_request.c.id == request_id, address_request.c.created_at > now - ADDRESS_LIFE, not_revoked)
    )
    row = read.execute(statement).one_or_none()
    if row is None:
        return None
    return AddressRequest(row.contact_id, Address(Channel(row.channel), row.value), row.replaces)


def delete_request(save: Save, request_id: UUID) -> None:
    save.execute(delete(address_request).where(address_request.c.id == request_id))


def forget_old(save: Save, now: datetime) -> None:
    save.execute(delete(address_request).where(address_request.c.created_at < now - ADDRESS_LIFE))
