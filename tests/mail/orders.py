"""Emails to order, with the details that each kind needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from preferences.domain.addresses import mailbox_of
from preferences.domain.outbox import EmailKind
from preferences.services import Services
from preferences.store import outbox, sign_ins
from preferences.store.outbox import Order
from tests.support import add_contact, email

JANE = "jane.doe@example.com"
ITEMS = ["email.offers.status=on", "email.product-news.status=on"]


def details_for(services: Services, kind: EmailKind, address: str) -> dict[str, Any]:
    """The details of this kind, for an email to a contact."""
    contact_id = add_contact(services, email(address))
    if kind is EmailKind.SIGN_IN:
        fingerprint = services.fingerprints.of(email(address))
        return {"sign_in": str(services.database.save(sign_ins.begin, fingerprint, datetime.now(UTC)))}
    details: dict[EmailKind, dict[str, Any]] = {
        EmailKind.SIGN_UP: {"items": ITEMS},
        EmailKind.OPT_IN: {"contact": str(contact_id), "items": ITEMS},
        EmailKind.MANAGE_LINK: {},
        EmailKind.NEW_ADDRESS: {"request": str(uuid4())},
        EmailKind.ADDRESS_CHANGED: {"new": "n•••@example.com", "request": str(uuid4())},
        EmailKind.ADDRESS_ADDED: {"new": "n•••@example.com", "confirmed": True},
    }
    return details[kind]


def order(
    services: Services,
    kind: EmailKind = EmailKind.MANAGE_LINK,
    address: str = JANE,
    *,
    language: str = "en",
    now: datetime | None = None,
    **details: Any,
) -> bool:
    """Order an email to a contact."""
    wanted = Order(
        kind=kind,
        address=address,
        mailbox=services.fingerprints.of(mailbox_of(email(address))),
        brand="default",
        language=language,
        details=details or details_for(services, kind, address),
    )
    return services.database.save(outbox.enqueue, wanted, now or datetime.now(UTC))


def waiting(services: Services) -> int:
    return services.database.read(outbox.count_waiting, datetime.now(UTC) + timedelta(minutes=1))
