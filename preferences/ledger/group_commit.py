"""Group commit: concurrent calls of `Writer.record` share one write transaction, so one lock and one disk flush.

Owns the transactions in which acts are recorded, but for imports. Invariant: nothing is returned before it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Concatenate, Final, ParamSpec, TypeVar

from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Act, Entry
from preferences.ledger import record as ledger
from preferences.store.batching import Batcher, Take
from preferences.store.transactions import Database, Write

P = ParamSpec("P")
T = TypeVar("T")

BLOCK: Final = 500
"""Acts in one transaction of `Writer.record_many`: it holds the lock while clicks wait for it."""


class Writer:
    """Opens the write transactions that record acts: one for many concurrent calls, or one of a call's own."""

    def __init__(self, database: Database, fingerprints: Fingerprints) -> None:
        self._database = database
        self._fingerprints = fingerprints
        self._batches = Batcher(self._record_batch)

    def record(self, acts: Sequence[Act]) -> list[Entry]:
        """Record acts, all or none, and return their entries once they are durable. Raises StoreBusy for none."""
        return self._batches(acts)

    def record_many(self, acts: Sequence[Act]) -> list[Entry]:
        """Record acts that came in bulk, in transactions of their own, a BLOCK in each.

        Raises StoreBusy when not all were recorded; acts with references can be given again.
        """
        blocks = (acts[start : start + BLOCK] for start in range(0, len(acts), BLOCK))
        return [entry for block in blocks for entry in self.run(self._record, block)]

    def run(self, work: Callable[Concatenate[Write, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work that reads and records under the ledger's lock (edits, undos, addresses), in its own transaction."""
        return self._database.write(work, *args, **kwargs)

    def _record_batch(self, take: Take[Sequence[Act]]) -> list[list[Entry]]:
        return self._database.write(self._record_taken, take)

    def _record_taken(self, write: Write, take: Take[Sequence[Act]]) -> list[list[Entry]]:
        calls = take()
        entries = iter(self._record(write, [act for acts in calls for act in acts]))
        return [list(islice(entries, len(acts))) for acts in calls]

    def _record(self, write: Write, acts: Sequence[Act]) -> list[Entry]:
        return ledger.record(write, acts, fingerprints=self._fingerprints, now=datetime.now(UTC))
