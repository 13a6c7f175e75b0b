"""Errors, named by what the caller does next.

Invariant: no message here carries an address, a token or the body of a request; what a caller needs to say more is an
attribute with a safe value (a field, a row number, seconds).
"""

from __future__ import annotations

from collections.abc import Sequence


class PreferencesError(Exception):
    """The root of all errors that this package raises on purpose."""


class BadFields(PreferencesError):
    """Values that cannot be taken as they are. Correct these fields.

    `faults` are pairs of a field's name and what to do about it; neither repeats a value.
    """

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {detail}" for field, detail in faults[:3]))
        self.faults = tuple(faults)


class BadAddress(PreferencesError):
    """Not an address of that channel. Ask for another."""


class BadLink(PreferencesError):
    """Not a link of ours: forged, cut off, changed, or meant for another purpose. Offer the address box."""


class StaleLink(BadLink):
    """A link of ours whose time has passed. Offer another way to do the same."""


class NotAllowed(PreferencesError):
    """Understood, and refused as things stand, such as an undo that was used already."""


class TooOften(PreferencesError):
    """Repeated too many times in a minute. What was asked first has been done. Answer 429."""


class StoreBusy(PreferencesError):
    """The database could not be reached, or could not take it now. Nothing was recorded. Try again."""


class BadSignature(PreferencesError):
    """Not authentic. Answer with the provider's refusal."""


class BadPayload(PreferencesError):
    """Authentic, but not what the provider documents."""


class TryLater(PreferencesError):
    """The provider cannot take it now. Stop this connector for a while; `after` is its own wish in seconds."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class Rejected(PreferencesError):
    """The provider will never take this one contact. Park it and go on."""


class Misconfigured(PreferencesError):
    """Nothing will go through until somebody changes a setting. Pause the connector and say so."""
