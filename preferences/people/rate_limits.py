"""Per-minute rate limits of this process.

Invariant: an effective opt-out of a known contact is never refused. Acts without effect, requests for more mail, and
unknown addresses are limited.
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
"""Bounds memory."""

PreferenceKey = tuple[UUID | None, Channel, str, str, Verb]


def _minute() -> int:
    return int(time.monotonic() // 60)


class RequestLimit:
    """Limits requests a minute per key, from its first. Never used for opt-outs."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)

    @cached_property
    def _counter(self) -> FixedWindowRateLimiter:
        # Created on first use, because the storage starts a thread.
        return FixedWindowRateLimiter(MemoryStorage())

    def check(self, key: str) -> None:
        """Raises TooOften beyond the limit."""
        if not self._counter.hit(self._limit, key):
            raise TooOften("too many requests in a minute")


class NewAddressLimit:
    """Limits unknown addresses a minute, since each creates rows.

    The only limit on opt-outs, so it uses a clock that cannot be set back. Contacts that receive mail have stored
    addresses, which are not counted.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._minute = 0
        self._counted = 0

    def is_reached(self) -> bool:
        return self._counted >= self._per_minute and self._minute == _minute()

    def count(self, addresses: int) -> None:
        with self._lock:
            if self._minute != _minute():
                self._minute, self._counted = _minute(), 0
            self._counted += addresses


class RepeatLimit:
    """Limits acts without effect a minute per preference; further ones need not be recorded.

    Counts distinct entries from every page (`limits` counts calls, and a repeated submission finds its own entry). At
    the limit, the ledger holds that many newer opt-outs of this preference, and another would neither refuse an undo
    nor outweigh anything more.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._minute = 0
        self._seqs: dict[PreferenceKey, set[int]] = {}

    def is_reached(
        self, contact_id: UUID | None, channel: Channel, *, brand: str, topic: str, verb: Verb = Verb.UNSUBSCRIBE
    ) -> bool:
        if not self._seqs or self._minute != _minute():
            return False
        return len(self._seqs.get((contact_id, channel, brand, topic, verb), ())) >= self._per_minute

    def count(self, entries: Iterable[Entry]) -> None:
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
"""For every page. Mail programs repeat a request a few times, never 120 times a minute."""

opt_ins: Final = RequestLimit(per_minute=120)
"""Per contact, for changes to more mail."""

confirmations: Final = RequestLimit(per_minute=60)
"""Per confirm link."""

new_addresses: Final = NewAddressLimit(per_minute=600)
"""For the opt-out form."""
