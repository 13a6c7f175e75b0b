"""The errors that several packages share, by what the caller does next.

Invariant: no message contains an address, a token or a request body; attributes hold safe values only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final


class PreferencesError(Exception):
    """Base class of this package's errors."""


Fault = tuple[str, str]
"""A field's name and how to correct it, without the value."""

MOST_FAULTS: Final = 100


class BadFields(PreferencesError):
    """Invalid values; the first MOST_FAULTS of them."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{field}: {detail}" for field, detail in faults[:3]))
        self.faults = tuple(faults[:MOST_FAULTS])


class BadAddress(PreferencesError):
    """Not an address of the channel."""


class BadLink(PreferencesError):
    """Forged, truncated, changed, or of another purpose. Offer the address form."""


class StaleLink(BadLink):
    """A valid link that has expired. Offer another way."""


class NotAllowed(PreferencesError):
    """Valid, but refused in the current state, such as a second undo."""


class TooOften(PreferencesError):
    """Rate limit exceeded; earlier calls took effect. Answer 429."""


class StoreBusy(PreferencesError):
    """The database is unavailable. Nothing was recorded. Try again."""


class BadSignature(PreferencesError):
    """Not authentic. Answer with the provider's refusal."""


class BadPayload(PreferencesError):
    """Authentic, but not as the provider documents it."""


class TryLater(PreferencesError):
    """The provider is unavailable. Back off; `after` is its `Retry-After` in seconds."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class Rejected(PreferencesError):
    """The provider will never accept this contact. Skip it."""


class Misconfigured(PreferencesError):
    """A setting must change first. Pause the connector and report it."""
