"""Which addresses a contact has: add a confirmed address, retire one.

Invariants: an address belongs to one contact; a retired address stays with its contact, so that its preferences keep
applying, and is suppressed as replaced by a ledger entry.
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
    """The result of confirming an address."""

    ADDED = "added"
    HAD_ALREADY = "had_already"
    SOMEBODY_ELSES = "somebody_elses"
    """It belongs to another contact. Two contacts are never merged: links in old emails name each of them."""
    BARRED = "barred"
    """Its owner was erased or is a child, so it must not be stored again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedAddress:
    """A confirmed address and the address that it replaced, if any.

    `notify` are the contact's other mailboxes, which receive a warning. `taken_back` is True for an address that the
    contact had retired.
    """

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
    """Give the contact an address whose owner has just confirmed it, and retire the address that it replaces."""
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
    """Make the address a confirmed one of the contact. Returns whether it was not before."""
    if owner is None:
        contacts.attach(write, contact_id, wanted, fingerprints, now)
        return True
    if owner.relation is Relation.UNCONFIRMED:
        contacts.confirm(write, owner.fingerprint)
        return True
    return False


def _to_replace(known: Sequence[KnownAddress], address_id: UUID | None, wanted: Address) -> Address | None:
    """The address with this id, unless it was retired meanwhile or is the wanted one."""
    current = (entry.address for entry in known if entry.id == address_id and not entry.replaced)
    return next((address for address in current if address != wanted), None)


def can_remove(known: Sequence[KnownAddress], removed: KnownAddress) -> bool:
    """Whether the contact uses another address on the same channel: the last one stays."""
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
    """Retire an address of the contact and return it. Raises NotAllowed for the last address on its channel, and for
    an address that the contact does not use."""
    known = addresses_of(write, contact_id)
    removed = next((entry for entry in known if entry.id == address_id and not entry.replaced), None)
    if removed is None or not can_remove(known, removed):
        raise NotAllowed("the last address of its channel, or no address of the contact")
    ledger.record(write, [acts.retire_address(removed.address, now, evidence)], fingerprints=fingerprints, now=now)
    return removed.address
