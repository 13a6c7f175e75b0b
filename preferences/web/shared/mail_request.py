"""The email field of public forms.

Invariant: no lookup, so that known and unknown addresses get the same answer in the same time.
"""

from __future__ import annotations

from typing import Final

from preferences.address_parsing import read_address
from preferences.domain.errors import BadAddress
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel
from preferences.i18n import to_translate

EMAIL_REQUESTS: Final = "20 per minute; 100 per hour"
"""Per network, against address guessing. `domain.outbox` limits emails per mailbox."""

ENTER_EMAIL: Final = to_translate("Enter an email address, like name@example.com")


def typed_address(text: str) -> Address | None:
    try:
        return read_address(Channel.EMAIL, text)
    except BadAddress:
        return None
