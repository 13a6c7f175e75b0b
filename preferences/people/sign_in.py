"""Sign-in by emailed code or link, hand-off, or a provider's verified identity.

Invariants: requesting a code does no lookup; a code, link or hand-off works once; nothing issued before the contact
revoked access is accepted.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from preferences.domain.errors import NotAllowed, StaleLink
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Address
from preferences.people.emails import email_order
from preferences.services import Services
from preferences.store import contacts, outbox, sign_ins
from preferences.store.contact_state import ContactState, own_mailboxes
from preferences.store.outbox import Order
from preferences.store.sign_ins import CodeOutcome, Used
from preferences.store.transactions import Read, Save
from preferences.tokens import HandOff, Ticket

FRESH_LINK_DELAY: Final = timedelta(seconds=2)
"""Links are dated in whole seconds, so a fresh one must date from after the revocation."""


class SubjectKind(StrEnum):
    CONTACT = "contact"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who signed in: the id of a contact or staff member."""

    kind: SubjectKind
    id: UUID


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`way` is `code`, `link`, `hand_off` or the OpenID provider's name. `may_opt_in` is False for a hand-off by a
    system without that right: opt-ins are then confirmed by email."""

    subject: Subject
    way: str
    may_opt_in: bool = True


class CodeExpired(NotAllowed):
    """Expired, used, revoked, or too many tries."""


class WrongCode(NotAllowed):
    """`left` is the number of remaining tries."""

    def __init__(self, left: int) -> None:
        super().__init__("not the code that was sent")
        self.left = left


class UnknownContact(NotAllowed):
    """The verified address belongs to no contact."""


def request_code(services: Services, address: Address, *, brand: str, language: str) -> UUID:
    """Queue the email with a code and a link. Returns the sign-in's id. Raises StoreBusy."""
    order = email_order(services.fingerprints, EmailKind.SIGN_IN, to=address, brand=brand, language=language)
    return services.database.save(_request_code, services.fingerprints.of(address), order)


def _request_code(save: Save, fingerprint: str, order: Order) -> UUID:
    now = datetime.now(UTC)
    sign_in_id = sign_ins.begin(save, fingerprint, now)
    outbox.enqueue(save, replace(order, details={"sign_in": str(sign_in_id)}), now)
    return sign_in_id


def issue_code(services: Services, sign_in_id: UUID, fingerprint: str) -> str:
    """Return a new code, which replaces earlier ones. `fingerprint` is that of the stored address."""
    code = f"{secrets.randbelow(1_000_000):06}"
    digest = services.links.code_digest(sign_in_id, code)
    services.database.save(sign_ins.set_code, sign_in_id, digest, fingerprint)
    return code


def sign_in_with_code(services: Services, sign_in_id: UUID, code: str) -> SignedIn:
    """Raises WrongCode, CodeExpired and UnknownContact."""
    digest = services.links.code_digest(sign_in_id, code)
    tried = services.database.save(sign_ins.try_code, sign_in_id, digest, datetime.now(UTC))
    if tried.outcome is CodeOutcome.WRONG:
        raise WrongCode(tried.left)
    if tried.used is None:
        raise CodeExpired("too late, used or tried too often")
    return _signed_in(services, tried.used, "code")


def sign_in_with_link(services: Services, link: Ticket) -> SignedIn:
    """Raises NotAllowed for a used link, CodeExpired and UnknownContact."""
    return _signed_in(services, services.database.save(sign_ins.use_link, link.id, datetime.now(UTC)), "link")


def sign_in_with_hand_off(services: Services, hand_off: HandOff, token: str) -> SignedIn:
    """`token` is the signed hand-off. Raises NotAllowed for a used hand-off, and StaleLink."""
    services.database.save(sign_ins.use_once, token, datetime.now(UTC))
    if services.database.read(_is_revoked, hand_off.id, hand_off.issued_at):
        raise StaleLink("revoked by the contact")
    return SignedIn(Subject(SubjectKind.CONTACT, hand_off.id), "hand_off", hand_off.may_opt_in)


def sign_in_with_identity(services: Services, address: Address, provider: str) -> SignedIn:
    """Raises UnknownContact."""
    contact_id = services.database.read(contacts.find_owner, address, services.fingerprints)
    if contact_id is None:
        raise UnknownContact("no contact uses the address")
    return SignedIn(Subject(SubjectKind.CONTACT, contact_id), provider)


def revoke_access(services: Services, contact: ContactState, *, brand: str, language: str) -> None:
    """Revoke all manage links, codes, sign-in links, hand-offs and sessions, and email a new manage link.

    Unsubscribe links keep working.
    """
    orders = [
        email_order(services.fingerprints, EmailKind.MANAGE_LINK, to=mailbox, brand=brand, language=language)
        for mailbox in own_mailboxes(contact.addresses)[:1]
    ]
    services.database.save(_revoke_access, contact.contact_id, orders)


def _revoke_access(save: Save, contact_id: UUID, orders: Sequence[Order]) -> None:
    now = datetime.now(UTC)
    sign_ins.revoke(save, contact_id, now)
    outbox.enqueue_all(save, orders, now, after=FRESH_LINK_DELAY)


def _signed_in(services: Services, used: Used, way: str) -> SignedIn:
    contact_id = services.database.read(contacts.find_by_fingerprint, used.fingerprint)
    if contact_id is None:
        raise UnknownContact("no contact uses the address")
    if services.database.read(_is_revoked, contact_id, used.began_at):
        raise CodeExpired("revoked by the contact")
    return SignedIn(Subject(SubjectKind.CONTACT, contact_id), way)


def _is_revoked(read: Read, contact_id: UUID, issued_at: datetime) -> bool:
    return is_revoked(issued_at, sign_ins.revoked_at(read, contact_id))


def is_revoked(issued_at: datetime, revoked_at: datetime | None) -> bool:
    """Whether a link, code or session dates from before its contact revoked all access."""
    return revoked_at is not None and issued_at <= revoked_at
