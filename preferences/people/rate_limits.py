"""Rate limits of what people do, counted in this process for a minute.

Owns the counters. Invariant: an opt-out of a known contact that would change something is never refused, whatever
anybody did before. Limited are acts that change nothing, requests for more mail, and addresses that are not stored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from functools import cached_property
from typing import Final
from uuid import UUID

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from preferences.domain.errors import TooOften
from preferences.domain.records import Entry
from preferences.domain.vocabulary import Channel, Verb

MOST_PREFERENCES: Final = 100_000
"""How many preferences are counted in a minute, as a bound on memory."""

PreferenceKey = tuple[UUID | None, Channel, str, str, Verb]


def _minute() -> int:
    return int(time.monotonic() // 60)


class RequestLimit:
    """At most this many requests a minute for each key, from its first. Never used for what stops mail."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)

    @cached_property
    def _counter(self) -> FixedWindowRateLimiter:
        # Made on first use: the storage starts a thread, which removes what has expired.
        return FixedWindowRateLimiter(MemoryStorage())

    def check(self, key: str) -> None:
        """Count a request. Raises TooOften beyond the limit."""
        if not self._counter.hit(self._limit, key):
            raise TooOften("too many requests in a minute")


class NewAddressLimit:
    """At most this many addresses a minute that no contact has: each creates rows.

    The only limit that an opt-out can meet, so its minutes do not depend on a clock that can be set back. A contact
    that we write to has a stored address, which is not counted.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._minute = 0
        self._counted = 0

    def is_reached(self) -> bool:
        """Whether no further address is accepted now."""
        return self._counted >= self._per_minute and self._minute == _minute()

    def count(self, addresses: int) -> None:
        """Count new addresses."""
        with self._lock:
            if self._minute != _minute():
                self._minute, self._counted = _minute(), 0
            self._counted += addresses


class RepeatLimit:
    """At most this many acts a minute that change nothing, for each preference; further ones need not be recorded.

    Counted are the distinct entries that changed nothing, whichever page recorded them (`limits` counts calls, and a
    repeated submission finds its own entry again). So at the limit that many newer opt-outs of the very preference
    are in the ledger, and one more would neither refuse an undo nor outweigh anything that they do not.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._minute = 0
        self._seqs: dict[PreferenceKey, set[int]] = {}

    def is_reached(
        self, contact_id: UUID | None, channel: Channel, *, brand: str, topic: str, verb: Verb = Verb.UNSUBSCRIBE
    ) -> bool:
        """Whether one more act that changes nothing need not be recorded."""
        if not self._seqs or self._minute != _minute():
            return False
        return len(self._seqs.get((contact_id, channel, brand, topic, verb), ())) >= self._per_minute

    def count(self, entries: Iterable[Entry]) -> None:
        """Count the entries that changed nothing."""
        for entry in entries:
            if not entry.changed:
                self._add((entry.contact_id, entry.channel, entry.brand, entry.topic, entry.verb), entry.seq)

    def _add(self, key: PreferenceKey, seq: int) -> None:
        minute = _minute()
        with self._lock:
            if minute != self._minute or len(self._seqs) > MOST_PREFERENCES:
                self._minute, self._seqs = minute, {}
            self._seqs.setdefault(key, set()).add(seq)


repeats: Final = RepeatLimit(per_minute=120)
"""For every page. Mail programs repeat a request a few times, and nothing repeats it 120 times in a minute."""

opt_ins: Final = RequestLimit(per_minute=120)
"""For each contact's changes on the preference page that let more mail through."""

confirmations: Final = RequestLimit(per_minute=60)
"""For each confirm link."""

new_addresses: Final = NewAddressLimit(per_minute=600)
"""For the address box."""
