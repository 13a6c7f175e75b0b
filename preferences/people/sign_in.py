"""Signing in without a password: by a code or link sent by email, by hand-off, or with a provider's verified identity.

Invariants: requesting a code looks nothing up; a code, a link and a hand-off work once; nothing that was issued before
the contact revoked all access signs anybody in.
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
"""Links are dated to the second, so a fresh link must be dated after the second in which access was revoked."""


class SubjectKind(StrEnum):
    CONTACT = "contact"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who signed in, with the id of the contact or staff member."""

    kind: SubjectKind
    id: UUID


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`way` is `code`, `link`, `hand_off` or the name of an OpenID provider. `may_opt_in` is False for a hand-off by a
    system that may not opt people in: opt-ins are then confirmed by email."""

    subject: Subject
    way: str
    may_opt_in: bool = True


class CodeExpired(NotAllowed):
    """Too old, used, revoked, or tried too often. Ask for a new code."""


class WrongCode(NotAllowed):
    """`left` is the number of tries that remain."""

    def __init__(self, left: int) -> None:
        super().__init__("not the code that was sent")
        self.left = left


class UnknownContact(NotAllowed):
    """The address was proven, but belongs to no contact."""


def request_code(services: Services, address: Address, *, brand: str, language: str) -> UUID:
    """Order the email with a code and a link. Returns the id of the sign-in. Raises StoreBusy."""
    order = email_order(services.fingerprints, EmailKind.SIGN_IN, to=address, brand=brand, language=language)
    return services.database.save(_request_code, services.fingerprints.of(address), order)


def _request_code(save: Save, fingerprint: str, order: Order) -> UUID:
    now = datetime.now(UTC)
    sign_in_id = sign_ins.begin(save, fingerprint, now)
    outbox.enqueue(save, replace(order, details={"sign_in": str(sign_in_id)}), now)
    return sign_in_id


def issue_code(services: Services, sign_in_id: UUID, fingerprint: str) -> str:
    """Return a new code, which replaces any earlier one. `fingerprint` is that of the stored address."""
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
    """Raises NotAllowed when the link was used before, CodeExpired and UnknownContact."""
    return _signed_in(services, services.database.save(sign_ins.use_link, link.id, datetime.now(UTC)), "link")


def sign_in_with_hand_off(services: Services, hand_off: HandOff, token: str) -> SignedIn:
    """`token` is the one that the hand-off was read from. Raises NotAllowed when it was used before, and StaleLink."""
    services.database.save(sign_ins.use_once, token, datetime.now(UTC))
    if services.database.read(_is_revoked, hand_off.id, hand_off.issued_at):
        raise StaleLink("revoked by the contact")
    return SignedIn(Subject(SubjectKind.CONTACT, hand_off.id), "hand_off", hand_off.may_opt_in)


def sign_in_with_identity(services: Services, address: Address, provider: str) -> SignedIn:
    """Sign in the contact whose address the provider has verified. Raises UnknownContact."""
    contact_id = services.database.read(contacts.find_owner, address, services.fingerprints)
    if contact_id is None:
        raise UnknownContact("no contact uses the address")
    return SignedIn(Subject(SubjectKind.CONTACT, contact_id), provider)


def revoke_access(services: Services, contact: ContactState, *, brand: str, language: str) -> None:
    """Void every manage link, code, sign-in link, hand-off and session of the contact, and email a fresh manage link.

    Links that stop mail keep working.
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
    revoked_at = sign_ins.revoked_at(read, contact_id)
    return revoked_at is not None and issued_at <= revoked_at
