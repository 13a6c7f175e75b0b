"""Limits on how often, and how an address on the network is shortened before anything remembers it.

Owns the counters. Invariant: an opt-out of anybody we know that would change something is never refused, whoever did
what before. Limits count what changes nothing, what asks for more mail, what makes us write to somebody, and addresses
that we have never heard of.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar
from uuid import UUID

from flask import request
from flask_limiter import Limiter
from limits import parse

from preferences.domain.errors import PreferencesError
from preferences.domain.records import Entry
from preferences.domain.vocabulary import Channel, Verb

MOST_KEYS: Final = 100_000

GUESSES: Final = "60 per minute; 600 per hour"
"""For each network: codes that are tried, and ways to an account elsewhere that are begun."""

NOWHERE: Final = "unknown"
"""The network of requests whose own is not known, such as those by a local socket: they share one limit."""

MAPPED: Final = bytes(10) + b"\xff\xff"
"""How an IPv6 address begins that stands for an IPv4 one (RFC 4291 §2.5.5.2)."""


def network() -> str:
    """The network that the request at hand comes from. Never empty: without a key there would be no limit."""
    return shorten_ip(request.remote_addr or "") or NOWHERE


# Counted in this process when the shared counter (`RATE_LIMIT_URL`) is away: a limit must not become an outage.
limiter = Limiter(key_func=network, in_memory_fallback_enabled=True)


class TooOften(PreferencesError):
    """Asked again and again. What was asked first has been done."""


def check_api_limit(limit: str, key_name: str) -> None:
    """Count one more call with this key, whichever of its texts it came with. Raises TooOften beyond the limit."""
    try:
        fits = limiter.limiter.hit(parse(limit), "api", key_name)
    except Exception:  # noqa: BLE001 - any failure of the shared counter is the same: it is away
        return  # a limit must not become an outage
    if not fits:
        raise TooOften("too many calls with one key")


Kept = TypeVar("Kept")


class _Minute(Generic[Kept]):
    """What is kept for each key in this minute. Nothing is remembered for longer."""

    def __init__(self, empty: Kept) -> None:
        self._empty = empty
        self._lock = threading.Lock()
        self._minute = 0
        self._kept: dict[Hashable, Kept] = {}

    def change(self, key: Hashable, change: Callable[[Kept], Kept]) -> Kept:
        """Put something in the place of what is kept. Returns what is kept now."""
        minute = int(time.monotonic() // 60)
        with self._lock:
            if minute != self._minute or len(self._kept) > MOST_KEYS:
                self._minute, self._kept = minute, {}
            self._kept[key] = changed = change(self._kept.get(key, self._empty))
            return changed

    def get(self, key: Hashable) -> Kept:
        """What is kept in this minute."""
        with self._lock:
            is_now = int(time.monotonic() // 60) == self._minute
            return self._kept.get(key, self._empty) if is_now else self._empty


class RequestLimit:
    """So many requests a minute for each link or contact. Never for anything that stops mail."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute = _Minute(0)

    def check(self, key: Hashable) -> None:
        """Count one more. Raises TooOften beyond the limit."""
        if self._minute.change(key, lambda count: count + 1) > self._per_minute:
            raise TooOften("the same, too many times in a minute")


class StrangerLimit:
    """So many addresses a minute that nobody here has, in this process: each makes rows for somebody we never met.

    The one limit that an opt-out can meet. Whoever we write to has an address that is known, and is not counted.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute = _Minute(0)

    def is_reached(self) -> bool:
        """Whether no more are taken in this minute."""
        return self._minute.get(None) >= self._per_minute

    def count(self, addresses: int) -> None:
        """Count so many more."""
        self._minute.change(None, lambda count: count + addresses)


class RepeatLimit:
    """So many acts a minute that change nothing, for each preference; after that they need not be recorded.

    Counted are entries that were made and changed nothing, whichever page made them. So when the limit is reached, that
    many newer opt-outs of the very preference stand in the ledger, and one more would bear on no undo and outweigh
    nothing that they do not. What would change something is no repetition, and is recorded always.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute = _Minute[frozenset[int]](frozenset())

    def is_reached(
        self, contact_id: UUID | None, channel: Channel, *, brand: str, topic: str, verb: Verb = Verb.UNSUBSCRIBE
    ) -> bool:
        """Whether one more that changes nothing need not be recorded."""
        return len(self._minute.get((contact_id, channel, brand, topic, verb))) >= self._per_minute

    def count(self, entries: Iterable[Entry]) -> None:
        """Count those that changed nothing. An entry that a repeated press found again is counted once."""
        for entry in entries:
            if not entry.changed:
                key = (entry.contact_id, entry.channel, entry.brand, entry.topic, entry.verb)
                self._minute.change(key, frozenset([entry.seq]).union)


repeats: Final = RepeatLimit(per_minute=120)
"""For every page. Mail programs repeat themselves a few times; nobody does so 120 times in a minute."""


def shorten_ip(text: str) -> str:
    """The network an address belongs to: /24 for IPv4, /48 for IPv6; empty for what is not an address."""
    for family, kept, length in ((socket.AF_INET, 3, 24), (socket.AF_INET6, 6, 48)):
        try:
            packed = socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        if packed.startswith(MAPPED):
            return shorten_ip(socket.inet_ntop(socket.AF_INET, packed[-4:]))
        return f"{socket.inet_ntop(family, packed[:kept].ljust(len(packed), bytes(1)))}/{length}"
    return ""
