"""Contacts that a company's systems save and look up.

Invariants: contacts are created in blocks, so that opt-outs wait for the ledger's lock only briefly; a contact is
notified of each address that a system adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from preferences.domain.addresses import Fingerprints, mask
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Address, Brand
from preferences.domain.vocabulary import BLANKET, Channel
from preferences.people.emails import email_order
from preferences.services import Services
from preferences.store import contact_state, contacts, outbox
from preferences.store.contact_flags import set_flags
from preferences.store.contact_state import ContactState
from preferences.store.contacts import Upserted, UpsertOutcome
from preferences.store.outbox import Order
from preferences.store.transactions import Write
from preferences.tokens import UnsubscribeLink

BLOCK: Final = 500
"""Contacts per transaction."""


@dataclass(frozen=True, slots=True)
class NewContact:
    """A contact with all addresses. `flags` replace the stored ones; None keeps them."""

    addresses: Sequence[Address]
    flags: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class SavedContact:
    """The result for one contact. `unsubscribe_url` never expires; None without an email address."""

    result: Upserted
    unsubscribe_url: str | None


def save_contacts(services: Services, wanted: Sequence[NewContact]) -> list[SavedContact]:
    """Create contacts or add addresses. Idempotent. Raises StoreBusy.

    Refuses, individually, contacts whose addresses belong to different contacts, and addresses that must not be stored.
    """
    brand = services.catalog.get().first_brand
    results: list[Upserted] = []
    for start in range(0, len(wanted), BLOCK):
        block, now = wanted[start : start + BLOCK], datetime.now(UTC)
        results += services.database.write(_save, block, services.fingerprints, brand=brand, now=now)
    ids = [result.contact_id for result in results if result.contact_id]
    by_email = services.database.read(contacts.reached_by, Channel.EMAIL, ids)
    return [SavedContact(result, _lasting_link(services, brand, result.contact_id, by_email)) for result in results]


def _lasting_link(services: Services, brand: Brand, contact_id: UUID | None, by_email: set[UUID]) -> str | None:
    if contact_id is None or contact_id not in by_email:
        return None
    return services.unsubscribe_url(UnsubscribeLink(contact_id, Channel.EMAIL, brand.slug, BLANKET))


def _save(
    write: Write, block: Sequence[NewContact], fingerprints: Fingerprints, *, brand: Brand, now: datetime
) -> list[Upserted]:
    results = contacts.upsert(write, [new.addresses for new in block], fingerprints, now)
    outbox.enqueue_all(write, _warnings(write, results, fingerprints, brand=brand), now)
    marked = {
        result.contact_id: new.flags
        for result, new in zip(results, block, strict=True)
        if result.contact_id and new.flags is not None
    }
    changed = set_flags(write, marked) if marked else set()
    return [
        replace(result, outcome=UpsertOutcome.UPDATED)
        if result.outcome is UpsertOutcome.UNCHANGED and result.contact_id in changed
        else result
        for result in results
    ]


def _warnings(write: Write, results: Sequence[Upserted], fingerprints: Fingerprints, *, brand: Brand) -> list[Order]:
    """Emails to the contact's own mailboxes about each added address, which may be a thief's."""
    changed = [(result.contact_id, result.added) for result in results if result.contact_id and result.added]
    if not changed:
        return []
    known = contact_state.addresses_of_all(write, [contact_id for contact_id, _ in changed])
    return [
        email_order(
            fingerprints,
            EmailKind.ADDRESS_ADDED,
            to=mailbox,
            brand=brand.slug,
            language=brand.language,
            details={"new": mask(new), "confirmed": False},
        )
        for contact_id, added in changed
        for mailbox in contact_state.own_mailboxes(known.get(contact_id, []))
        for new in added
    ]


def find_contact(services: Services, address: Address) -> ContactState | None:
    """Raises StoreBusy."""
    found = services.database.read(contacts.find_addresses, [address], services.fingerprints).get(address)
    return find_by_id(services, found.contact_id) if found and found.contact_id else None


def find_by_id(services: Services, contact_id: UUID) -> ContactState | None:
    """Raises StoreBusy."""
    contact = services.database.read(contact_state.state_of, contact_id)
    return None if contact.created_at is None else contact
