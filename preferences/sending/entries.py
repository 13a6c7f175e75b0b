"""Paged feed of the ledger for other systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preferences.services import Services
from preferences.store import feed


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries in order. `next` is the position to continue after; it equals `head` at the end."""

    entries: Sequence[Mapping[str, Any]]
    next: int
    head: int


def read_entries(services: Services, after: int, limit: int) -> EntryPage:
    """Up to `limit` entries after a position. Raises StoreBusy."""
    # Head first: entries read later are at least as new.
    head = services.database.read(feed.head_seq)
    entries = services.database.read(feed.feed_page, after, limit)
    last = entries[-1]["seq"] if entries else after
    return EntryPage(entries, last, max(head, last) if entries else head)
