"""Feeds: every ledger entry, posted to a receiver such as a warehouse (docs/feed.md).

Invariants: every entry is sent at least once, in ledger order; the position moves after the receiver has accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import structlog

from preferences.config import FeedSettings
from preferences.connectors.http import Session, json_body
from preferences.connectors.webhook import signed_headers
from preferences.domain.errors import NotAllowed, Rejected, TryLater
from preferences.store import cursors, feed
from preferences.store.feed import feed_page
from preferences.store.transactions import Database
from preferences.sync.push import Outcome, guarded

log = structlog.get_logger(__name__)

BATCH: Final = 500
"""Entries in a message: about 350 KB."""

Page = Sequence[Mapping[str, Any]]


class Feed:
    """One receiver, to which one worker at a time sends."""

    def __init__(self, database: Database, settings: FeedSettings, owner: str) -> None:
        self._database = database
        self._settings = settings
        self._owner = owner
        self._session = Session()

    def __call__(self) -> bool:
        """Returns whether a message was sent and accepted."""
        outcome = self.run_once(datetime.now(UTC))
        if outcome in {Outcome.POSTPONED, Outcome.PAUSED}:
            cursor = self._database.read(cursors.find_cursor, self._settings.cursor)
            why = cursor.last_error if cursor else None
            log.warning("feed stopped", feed=self._settings.name, outcome=outcome.value, why=why)
        return outcome is Outcome.DONE

    def run_once(self, now: datetime) -> Outcome:
        database, name = self._database, self._settings.cursor
        cursor = database.read(cursors.find_cursor, name)
        if cursor is None:
            database.save(cursors.start, name)
            return Outcome.IDLE
        if cursor.position >= database.read(feed.head_seq):
            return Outcome.IDLE
        claimed = database.save(cursors.claim, name, self._owner, now)
        page = database.read(feed_page, claimed.position, BATCH) if claimed else []
        if claimed is None or not page:
            return Outcome.IDLE
        post = partial(self._post, page, claimed.position)
        outcome = guarded(database, name, self._owner, now=now, work=post)
        if outcome is Outcome.DONE:
            last = page[-1]["seq"]
            database.save(cursors.advance, name, self._owner, last, datetime.now(UTC), pushed=len(page))
        return outcome

    def _post(self, page: Page, after: int) -> None:
        body = json_body({"entries": list(page), "after": after, "next": page[-1]["seq"]})
        # The same for every retry.
        message_id = f"{self._settings.name}-{page[0]['seq']}-{page[-1]['seq']}"
        headers = signed_headers(self._settings.signing_secrets, message_id, body, now=datetime.now(UTC))
        try:
            self._session.post(self._settings.url, headers=headers, body=body)
        except Rejected as refusal:
            # No entry may be skipped, so a rejected message is retried.
            raise TryLater(f"the receiver refused the message: {refusal}") from None


def replay(database: Database, settings: FeedSettings, after: int) -> int:
    """Send everything after this entry again. Returns the number of entries.

    Raises NotAllowed beyond the newest entry.
    """
    head = database.read(feed.head_seq)
    if after > head:
        raise NotAllowed(f"the newest entry is {head}")
    database.save(cursors.restart, settings.cursor, after)
    return head - after
