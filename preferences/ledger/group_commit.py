"""Group commit: concurrent `Writer.record` calls share one transaction, lock and disk flush.

Owns all transactions that record acts, except imports. Invariant: a call returns once its entries are durable.
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
"""Acts per transaction of `record_many`: one-click requests wait for its lock."""


class Writer:
    def __init__(self, database: Database, fingerprints: Fingerprints) -> None:
        self._database = database
        self._fingerprints = fingerprints
        self._batches = Batcher(self._record_batch)

    def record(self, acts: Sequence[Act]) -> list[Entry]:
        """Record acts, all or none, and return durable entries. Raises StoreBusy if none was recorded."""
        return self._batches(acts) if acts else []

    def record_many(self, acts: Sequence[Act]) -> list[Entry]:
        """Record acts in transactions of at most BLOCK.

        Raises StoreBusy if some were not recorded; acts with references can be repeated.
        """
        blocks = (acts[start : start + BLOCK] for start in range(0, len(acts), BLOCK))
        return [entry for block in blocks for entry in self.run(self._record, block)]

    def run(self, work: Callable[Concatenate[Write, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in its own transaction, under the ledger's lock."""
        return self._database.write(work, *args, **kwargs)

    def _record_batch(self, take: Take[Sequence[Act]]) -> list[list[Entry]]:
        return self._database.write(self._record_taken, take)

    def _record_taken(self, write: Write, take: Take[Sequence[Act]]) -> list[list[Entry]]:
        calls = take()
        entries = iter(self._record(write, [act for acts in calls for act in acts]))
        return [list(islice(entries, len(acts))) for acts in calls]

    def _record(self, write: Write, acts: Sequence[Act]) -> list[Entry]:
        return ledger.record(write, acts, fingerprints=self._fingerprints, now=datetime.now(UTC))
