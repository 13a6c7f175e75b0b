"""The time, as the sandbox writes it.

Invariant: every instant is text in UTC with its milliseconds, so that the later one is also the greater one.
"""

from __future__ import annotations

from datetime import UTC, datetime


def iso_now() -> str:
    """Now."""
    return _text(datetime.now(UTC))


def iso(text: str) -> str:
    """An instant that somebody else wrote, in our way. Raises ValueError."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("an instant needs its time zone")
    return _text(instant.astimezone(UTC))


def from_seconds(seconds: float) -> str:
    """An instant that was kept as seconds since 1970."""
    return _text(datetime.fromtimestamp(seconds, UTC))


def _text(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds")
