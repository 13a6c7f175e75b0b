"""A contact's history: entries, their wording, consent receipts.

Invariant: entries are looked up among the contact's own only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from preferences.connectors import shown_as
from preferences.domain.receipts import Consent, is_consent
from preferences.domain.records import Brand, Entry
from preferences.domain.vocabulary import Purpose, connector_origin
from preferences.services import Services
from preferences.store import history
from preferences.store.contact_state import ContactState, KnownAddress
from preferences.store.history import HistoryEntry, HistoryOwner, HistoryPage
from preferences.tokens import UnsubscribeLink

PURPOSES: Final = {
    Purpose.TRACKING: "Recording of opens and clicks",
    Purpose.PROFILING: "Choosing what is shown by what was bought and looked at",
    Purpose.LOCATION: "Offers from nearby, by where the person is",
    Purpose.NEW_TOPICS: "News of new kinds of messages",
}
"""Purposes on receipts, which are in English."""


@dataclass(frozen=True, slots=True)
class ContactHistory:
    """Entries and added addresses, newest first, older than `start`. `older` is the last of them if there are more."""

    rows: Sequence[HistoryEntry | KnownAddress]
    start: HistoryEntry | None
    older: str | None


def read_history(services: Services, contact: ContactState, start: HistoryEntry | None) -> ContactHistory:
    """Read up to fifty entries older than `start`. Raises StoreBusy."""
    page = services.database.read(history.read, _owner(services, contact), start.entry if start else None)
    rows = _with_addresses(page, contact, before=start.entry.recorded_at if start else None)
    return ContactHistory(rows, start, page.entries[-1].reference if page.more else None)


def find_entry(services: Services, contact: ContactState, reference: str) -> HistoryEntry | None:
    """Return the contact's entry with this reference, or None."""
    return services.database.read(history.find, _owner(services, contact), reference)


def read_consent(services: Services, found: HistoryEntry, default_brand: Brand) -> Consent | None:
    """The data of a receipt; None if the entry is no consent."""
    entry = found.entry
    if not is_consent(entry):
        return None
    brand = services.catalog.get().brands.get(entry.brand) or default_brand
    return Consent(
        entry=entry,
        later=services.database.read(history.since, entry),
        brand=brand,
        purpose=_purpose(services, entry),
        notice=found.notice,
        recipients=sorted({shown_as(settings) for settings in services.connectors.values()}),
        home=services.url_of(brand),
        withdrawal_url=_withdrawal_url(services, brand, entry),
    )


def provider_names(services: Services) -> Mapping[str, str]:
    """Provider display names by origin."""
    return {connector_origin(name): shown_as(settings) for name, settings in services.connectors.items()}


def _owner(services: Services, contact: ContactState) -> HistoryOwner:
    addresses = [known.address for known in contact.addresses]
    return history.history_owner(contact.contact_id, addresses, services.fingerprints)


def _with_addresses(
    page: HistoryPage, contact: ContactState, before: datetime | None
) -> list[HistoryEntry | KnownAddress]:
    """Merge the entries with added addresses, which have no entry, by time."""
    oldest = page.entries[-1].entry.recorded_at if page.more else None
    added = [
        known
        for known in contact.addresses
        if contact.created_at is not None
        and known.added_at > contact.created_at
        and (oldest is None or known.added_at >= oldest)
        and (before is None or known.added_at < before)
    ]
    return sorted([*page.entries, *added], key=_time_of, reverse=True)


def _time_of(row: HistoryEntry | KnownAddress) -> datetime:
    return row.entry.recorded_at if isinstance(row, HistoryEntry) else row.added_at


def _purpose(services: Services, entry: Entry) -> str:
    if entry.topic in PURPOSES:
        return PURPOSES[Purpose(entry.topic)]
    topic = services.catalog.get(entry.topic).topics.get(entry.topic)
    if topic is None:
        return entry.topic
    return ". ".join(part.strip(". ") for part in (topic.name, topic.description, topic.frequency) if part)


def _withdrawal_url(services: Services, brand: Brand, entry: Entry) -> str:
    """An unsubscribe link for the topic, or the preference page for a purpose, which has no such link."""
    if entry.topic in PURPOSES or entry.contact_id is None:
        return f"{services.url_of(brand)}/account/"
    return services.unsubscribe_url(UnsubscribeLink(entry.contact_id, entry.channel, brand.slug, entry.topic))
