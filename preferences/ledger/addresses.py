"""Add and retire a contact's addresses.

Invariants: an address belongs to one contact. A retired one stays with its contact, whose preferences still apply to
it, and is suppressed by an entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from preferences.domain import acts
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import NotAllowed
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import Relation, SuppressionReason
from preferences.ledger import record as ledger
from preferences.store import contacts
from preferences.store.contact_state import KnownAddress, addresses_of, own_mailboxes
from preferences.store.contacts import BARRED_REASONS, Found
from preferences.store.transactions import Write


class AddressOutcome(StrEnum):
    ADDED = "added"
    HAD_ALREADY = "had_already"
    SOMEBODY_ELSES = "somebody_elses"
    """Contacts are never merged: old links name each of them."""
    BARRED = "barred"
    """An erased person's or child's address, which must not be stored again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedAddress:
    """`notify`: other mailboxes to warn. `taken_back`: the contact had retired this address."""

    outcome: AddressOutcome
    contact_id: UUID
    address: Address
    replaced: Address | None = None
    notify: tuple[Address, ...] = ()
    taken_back: bool = False


def add_address(
    write: Write,
    contact_id: UUID,
    wanted: Address,
    *,
    replaces: UUID | None,
    fingerprints: Fingerprints,
    now: datetime,
    evidence: Mapping[str, str],
) -> ConfirmedAddress:
    """Add an address that its owner just confirmed, and retire the one it replaces."""
    owner = contacts.find_addresses(write, [wanted], fingerprints).get(wanted)
    held = contacts.suppressed_for(write, wanted, fingerprints)
    refused = _refusal(owner, contact_id, held)
    if refused is not None:
        return ConfirmedAddress(outcome=refused, contact_id=contact_id, address=wanted)
    before = addresses_of(write, contact_id)
    is_news = _own(write, contact_id, wanted, owner=owner, fingerprints=fingerprints, now=now)
    was_retired = SuppressionReason.REPLACED in held
    old = _to_replace(before, replaces, wanted)
    changes: list[Act] = [acts.restore_address(wanted, now, evidence)] if was_retired else []
    changes += [acts.retire_address(old, now, evidence)] if old is not None else []
    ledger.record(write, changes, fingerprints=fingerprints, now=now)
    is_news = is_news or bool(changes)
    return ConfirmedAddress(
        outcome=AddressOutcome.ADDED if is_news else AddressOutcome.HAD_ALREADY,
        contact_id=contact_id,
        address=wanted,
        replaced=old,
        notify=tuple(mailbox for mailbox in own_mailboxes(before) if mailbox not in {wanted, old}) if is_news else (),
        taken_back=was_retired,
    )


def _refusal(owner: Found | None, contact_id: UUID, held: set[SuppressionReason]) -> AddressOutcome | None:
    if owner is not None and owner.contact_id != contact_id:
        return AddressOutcome.SOMEBODY_ELSES
    return None if held.isdisjoint(BARRED_REASONS) else AddressOutcome.BARRED


def _own(
    write: Write,
    contact_id: UUID,
    wanted: Address,
    *,
    owner: Found | None,
    fingerprints: Fingerprints,
    now: datetime,
) -> bool:
    """Returns False if the address was already confirmed."""
    if owner is None:
        contacts.attach(write, contact_id, wanted, fingerprints, now)
        return True
    if owner.relation is Relation.UNCONFIRMED:
        contacts.confirm(write, owner.fingerprint)
        return True
    return False


def _to_replace(known: Sequence[KnownAddress], address_id: UUID | None, wanted: Address) -> Address | None:
    current = (entry.address for entry in known if entry.id == address_id and not entry.replaced)
    return next((address for address in current if address != wanted), None)


def can_remove(known: Sequence[KnownAddress], removed: KnownAddress) -> bool:
    """The last address on a channel cannot be removed."""
    return any(
        entry.address.channel is removed.address.channel and entry.id != removed.id and not entry.replaced
        for entry in known
    )


def remove_address(
    write: Write,
    contact_id: UUID,
    address_id: UUID,
    *,
    fingerprints: Fingerprints,
    now: datetime,
    evidence: Mapping[str, str],
) -> Address:
    """Retire an address. Raises NotAllowed for the last on its channel, and for one not in use."""
    known = addresses_of(write, contact_id)
    removed = next((entry for entry in known if entry.id == address_id and not entry.replaced), None)
    if removed is None or not can_remove(known, removed):
        raise NotAllowed("the last address of its channel, or no address of the contact")
    ledger.record(write, [acts.retire_address(removed.address, now, evidence)], fingerprints=fingerprints, now=now)
    return removed.address
