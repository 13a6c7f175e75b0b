"""Tidying: rows that nothing will ask for any more are removed, once an hour.

Owns when, and nothing of what: each room knows its own rows. Invariant: nothing that bears on permission is touched.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from preferences.store import address_requests, frequency, outbox, sign_ins, soft_bounces, webhook_tokens, workers
from preferences.store.transactions import Database, Save

EVERY: Final = timedelta(hours=1)


class Tidying:
    """Tidies when an hour has passed. Many workers may do so at the same time: what is gone is gone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due_at = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> bool:
        """Tidy if it is due. Returns False: there is no more to do right away."""
        now = datetime.now(UTC)
        if now >= self._due_at:
            self._due_at = now + EVERY
            self._database.save(forget_old, now)
        return False


def forget_old(save: Save, now: datetime) -> None:
    """Remove whatever has run out."""
    for room in (address_requests, outbox, frequency, sign_ins, soft_bounces, webhook_tokens, workers):
        room.forget_old(save, now)
