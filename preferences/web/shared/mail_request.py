"""Asking for a letter: what every page with a field for an address has in common.

Owns the way from what was typed to the queue of letters. Invariant: nothing is looked up on this way, so that it is the
same, and takes as long, for an address that we know and for one that we do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from preferences.address_parsing import read_address
from preferences.domain.addresses import mailbox_of
from preferences.domain.errors import BadAddress
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Address, Brand
from preferences.domain.vocabulary import Channel
from preferences.i18n import Spoken
from preferences.services import Services
from preferences.store import outbox
from preferences.store.outbox import Order

EMAIL_REQUESTS: Final = "20 per minute; 100 per hour"
"""For each network, so that no program tries many addresses. How many letters one mailbox gets: `domain.letters`."""


def typed_address(text: str) -> Address | None:
    """The email address that somebody typed, or None where it is none."""
    try:
        return read_address(Channel.EMAIL, text)
    except BadAddress:
        return None


def order_email(
    services: Services,
    kind: EmailKind,
    address: Address,
    *,
    brand: Brand,
    spoken: Spoken,
    details: Mapping[str, Any],
    after: timedelta = timedelta(),
) -> None:
    """Queue a letter, to be sent `after` a while, unless this address has had its share. Raises StoreBusy."""
    wanted = Order(
        kind=kind,
        address=address.value,
        mailbox=services.fingerprints.of(mailbox_of(address)),
        brand=brand.slug,
        language=spoken.language,
        details=details,
    )
    services.database.save(outbox.order, wanted, datetime.now(UTC), after=after)
