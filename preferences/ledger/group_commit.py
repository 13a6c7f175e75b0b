"""The two pieces of work that many requests share: recording acts, and reading one contact's wishes.

Owns which reads and writes are shared. The ledger's lock and the disk's flush are the dear part of an opt-out, and the
round trip that of a page; paid once for all who wait, they cost each of them little.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Act, Entry
from preferences.ledger import record as ledger
from preferences.store import contact_state
from preferences.store.contact_state import Wishes, WishesKey
from preferences.store.shared_calls import Shared, Take
from preferences.store.transactions import Database, Write


class Writer:
    """Records acts, many callers to a commit."""

    def __init__(self, database: Database, fingerprints: Fingerprints) -> None:
        self._database = database
        self._fingerprints = fingerprints
        self._shared = Shared(self._record)

    def record(self, acts: Sequence[Act]) -> list[Entry]:
        """Record acts and return their entries once they are durable. Raises StoreBusy when nothing was recorded."""
        return self._shared(acts)

    def _record(self, take: Take[Sequence[Act]]) -> list[list[Entry]]:
        return self._database.write(self._record_taken, take)

    def _record_taken(self, write: Write, take: Take[Sequence[Act]]) -> list[list[Entry]]:
        """With the lock in hand: who came while it was waited for is in time."""
        calls = take()
        acts = [act for call in calls for act in call]
        entries = iter(ledger.record(write, acts, fingerprints=self._fingerprints, now=datetime.now(UTC)))
        return [[next(entries) for _ in call] for call in calls]


class Reader:
    """Reads wishes, many callers to a statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shared = Shared(self._read)

    def wishes(self, key: WishesKey) -> Wishes:
        """One contact's wishes on one channel of one brand. Raises StoreBusy."""
        return self._shared(key)

    def _read(self, take: Take[WishesKey]) -> list[Wishes]:
        return self._database.read(contact_state.wishes_of, take())
