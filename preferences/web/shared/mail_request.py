"""The email address field that several public forms have in common.

Invariant: nothing is looked up, so a form answers alike, and as fast, for a known address and for an unknown one.
"""

from __future__ import annotations

from typing import Final

from preferences.address_parsing import read_address
from preferences.domain.errors import BadAddress
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel
from preferences.i18n import to_translate

EMAIL_REQUESTS: Final = "20 per minute; 100 per hour"
"""Per network, against programs that try many addresses. `domain.outbox` limits how many emails a mailbox gets."""

ENTER_EMAIL: Final = to_translate("Enter an email address, like name@example.com")


def typed_address(text: str) -> Address | None:
    """The email address in the text, or None."""
    try:
        return read_address(Channel.EMAIL, text)
    except BadAddress:
        return None
