"""Orders for our own email.

Invariant: no lookup, so that known and unknown addresses take the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from preferences.domain.addresses import Fingerprints, mailbox_of
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Address
from preferences.services import Services
from preferences.store import outbox
from preferences.store.outbox import Order


def email_order(
    fingerprints: Fingerprints,
    kind: EmailKind,
    *,
    to: Address,
    brand: str,
    language: str,
    details: Mapping[str, Any] | None = None,
) -> Order:
    """An order for the caller's transaction. `brand` is a slug."""
    return Order(
        kind=kind,
        address=to.value,
        mailbox=fingerprints.of(mailbox_of(to)),
        brand=brand,
        language=language,
        details=details or {},
    )


def order_email(
    services: Services,
    kind: EmailKind,
    *,
    to: Address,
    brand: str,
    language: str,
    details: Mapping[str, Any] | None = None,
    after: timedelta = timedelta(),
) -> None:
    """Queue an email, due after the delay, unless the mailbox has reached its limit. Raises StoreBusy."""
    order = email_order(services.fingerprints, kind, to=to, brand=brand, language=language, details=details)
    services.database.save(outbox.enqueue, order, datetime.now(UTC), after=after)
