"""A contact's addresses: request, confirm from its mailbox, remove.

Invariants: nothing changes before the new address is confirmed; known and unknown addresses get the same answer and
email; a retired address gets a final email.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from preferences.domain.addresses import Fingerprints, mask
from preferences.domain.errors import NotAllowed
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel
from preferences.ledger import addresses as ledger
from preferences.ledger.addresses import ConfirmedAddress
from preferences.people.emails import email_order
from preferences.services import Services
from preferences.store import address_requests, outbox
from preferences.store.address_requests import AddressRequest
from preferences.store.contact_state import KnownAddress, addresses_of
from preferences.store.outbox import Order
from preferences.store.transactions import Read, Save, Write


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """An address that can be confirmed. `taken_back`: the contact had retired it."""

    address: Address
    taken_back: bool


@dataclass(frozen=True, slots=True)
class _Emails:
    """Email orders with one brand and language."""

    fingerprints: Fingerprints
    brand: str
    language: str

    def order(self, kind: EmailKind, to: Address, details: Mapping[str, Any]) -> Order:
        return email_order(self.fingerprints, kind, to=to, brand=self.brand, language=self.language, details=details)


def request_address(
    services: Services, contact_id: UUID, wanted: Address, *, replaces: UUID | None, brand: str, language: str
) -> None:
    """Email a confirm link. `replaces` is the id of the address to retire."""
    order = _Emails(services.fingerprints, brand, language).order(EmailKind.NEW_ADDRESS, wanted, {})
    services.database.save(_request, AddressRequest(contact_id, wanted, replaces), order)


def _request(save: Save, request: AddressRequest, order: Order) -> None:
    now = datetime.now(UTC)
    request_id = address_requests.add(save, request, now)
    outbox.enqueue(save, replace(order, details={"request": str(request_id)}), now)


def removable(known: Sequence[KnownAddress]) -> set[UUID]:
    """Ids of removable addresses: all but the last of each channel."""
    return {entry.id for entry in known if ledger.can_remove(known, entry)}


def find_request(services: Services, request_id: UUID) -> OpenRequest:
    """Raises NotAllowed for a request that is no longer open."""
    return services.database.read(_find_request, request_id, datetime.now(UTC))


def _find_request(read: Read, request_id: UUID, now: datetime) -> OpenRequest:
    request = _open_request(read, request_id, now)
    retired = {entry.address for entry in addresses_of(read, request.contact_id) if entry.replaced}
    return OpenRequest(request.address, taken_back=request.address in retired)


def confirm_address(
    services: Services, request_id: UUID, *, brand: str, language: str, evidence: Mapping[str, str]
) -> ConfirmedAddress:
    """Add the requested address. Raises NotAllowed for a request that is no longer open."""
    emails = _Emails(services.fingerprints, brand, language)
    return services.writer.run(_confirm, request_id, emails, evidence)


def _confirm(write: Write, request_id: UUID, emails: _Emails, evidence: Mapping[str, str]) -> ConfirmedAddress:
    now = datetime.now(UTC)
    request = _open_request(write, request_id, now)
    address_requests.delete_request(write, request_id)
    done = ledger.add_address(
        write,
        request.contact_id,
        request.address,
        replaces=request.replaces,
        fingerprints=emails.fingerprints,
        now=now,
        evidence=evidence,
    )
    if done.replaced is not None:
        _notify_replaced(write, request.contact_id, emails, old=done.replaced, new=done.address, now=now)
    details = {"new": mask(done.address), "confirmed": True}
    warnings = [emails.order(EmailKind.ADDRESS_ADDED, mailbox, details) for mailbox in done.notify]
    outbox.enqueue_all(write, warnings, now)
    return done


def remove_address(
    services: Services,
    contact_id: UUID,
    address_id: UUID,
    *,
    brand: str,
    language: str,
    evidence: Mapping[str, str],
) -> None:
    """Retire an address. Raises NotAllowed for the last one of its channel."""
    emails = _Emails(services.fingerprints, brand, language)
    services.writer.run(_remove, contact_id, address_id, emails=emails, evidence=evidence)


def _remove(write: Write, contact_id: UUID, address_id: UUID, *, emails: _Emails, evidence: Mapping[str, str]) -> None:
    now = datetime.now(UTC)
    old = ledger.remove_address(
        write, contact_id, address_id, fingerprints=emails.fingerprints, now=now, evidence=evidence
    )
    kept = next(
        entry.address
        for entry in addresses_of(write, contact_id)
        if entry.address.channel is old.channel and not entry.replaced
    )
    _notify_replaced(write, contact_id, emails, old=old, new=kept, now=now)


def _notify_replaced(
    write: Write, contact_id: UUID, emails: _Emails, *, old: Address, new: Address, now: datetime
) -> None:
    """Email the retired address, so that the victim of a takeover can take it back."""
    if old.channel is not Channel.EMAIL:
        return
    details = {"new": mask(new)}
    if _may_take_back(write, contact_id, old=old, new=new):
        request = AddressRequest(contact_id, old, replaces=None)
        details["request"] = str(address_requests.add(write, request, now))
    outbox.enqueue(write, emails.order(EmailKind.ADDRESS_CHANGED, old, details), now)


def _may_take_back(read: Read, contact_id: UUID, *, old: Address, new: Address) -> bool:
    """Only the older address: a thief must not be able to undo the recovery."""
    added_at = {entry.address: entry.added_at for entry in addresses_of(read, contact_id)}
    return added_at[old] < added_at[new]


def _open_request(read: Read, request_id: UUID, now: datetime) -> AddressRequest:
    request = address_requests.find_open(read, request_id, now)
    if request is None:
        raise NotAllowed("no such request, or no longer")
    return request
