"""What happened, for the person it happened to: their history in plain words, the wording of each yes, and receipts.

Owns `/account/history`, `/account/notices/…` and `/account/receipts/…`. Invariants: everything is looked up among the
person's own entries, so what is somebody else's is not found; no address holds a number that tells how many entries
there are.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from flask import Blueprint, g, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.connectors import shown_as
from preferences.current import current_services
from preferences.domain.receipts import Consent, document, is_consent
from preferences.domain.records import Brand, Entry
from preferences.domain.vocabulary import Purpose, connector_origin
from preferences.services import Services
from preferences.store import history
from preferences.store.contact_state import KnownAddress
from preferences.store.history import HistoryEntry, HistoryOwner, HistoryPage
from preferences.tokens import UnsubscribeLink
from preferences.web.shared.account_page import account_page, contact_id
from preferences.web.shared.visit import brand_here

blueprint = Blueprint("history", __name__)

PURPOSES: Final = {
    Purpose.TRACKING: "Recording of opens and clicks",
    Purpose.PROFILING: "Choosing what is shown by what was bought and looked at",
    Purpose.LOCATION: "Offers from nearby, by where the person is",
    Purpose.NEW_TOPICS: "News of new kinds of messages",
}
"""A purpose in a receipt, in English, which prevails. Pages say it in their own language."""


@blueprint.get("/history")
def show() -> Response:
    """The entries of the person, the newest first, fifty to a page."""
    services = current_services()
    before = request.args.get("before")
    start = _find(services, before) if before else None
    catalog = services.catalog.get()
    chapter = services.database.read(history.read, _me(services), start.entry if start else None)
    return account_page(
        "account/history.html",
        room="history",
        here=f"?before={start.reference}" if start else "",
        chapter=chapter,
        rows=_rows(chapter, start.entry.recorded_at if start else None),
        connectors=_connectors(services),
        later=start is not None,
        brands=catalog.brands,
        topics=catalog.topics,
        is_consent=is_consent,
    )


def _rows(chapter: HistoryPage, before: datetime | None) -> list[HistoryEntry | KnownAddress]:
    """What happened, and in between, by time, each address that was added later: none of these is an entry."""
    standing = g.standing
    oldest = chapter.entries[-1].entry.recorded_at if chapter.more else None
    added = [
        known
        for known in standing.addresses
        if standing.created_at is not None
        and known.added_at > standing.created_at
        and (oldest is None or known.added_at >= oldest)
        and (before is None or known.added_at < before)
    ]
    return sorted([*chapter.entries, *added], key=_time_of, reverse=True)


def _time_of(row: HistoryEntry | KnownAddress) -> datetime:
    return row.entry.recorded_at if isinstance(row, HistoryEntry) else row.added_at


@blueprint.get("/notices/<reference>")
def notice(reference: str) -> Response:
    """The wording that was shown with one entry, exactly as it was."""
    services = current_services()
    happening = _find(services, reference)
    if happening.notice is None:
        raise NotFound
    return account_page("account/notice.html", room="history", happening=happening, kept=happening.notice)


@blueprint.get("/receipts/<reference>")
def receipt(reference: str) -> Response:
    """The receipt of one consent, to read and to print."""
    services = current_services()
    happening = _find(services, reference)
    consent = _consent(services, happening)
    return account_page(
        "account/receipt.html",
        room="history",
        brand=consent.brand,
        consent=consent,
        reference=happening.reference,
        by_link=happening.entry.topic not in PURPOSES,
        connectors=_connectors(services),
        topics=services.catalog.get().topics,
    )


@blueprint.get("/receipts/<reference>.json")
def receipt_file(reference: str) -> Response:
    """The same receipt as a file."""
    services = current_services()
    happening = _find(services, reference)
    body = json.dumps(document(_consent(services, happening)), ensure_ascii=False, indent=2)
    headers = {"Content-Disposition": f'attachment; filename="receipt-{happening.reference}.json"'}
    return Response(f"{body}\n", headers=headers, content_type="application/json")


def _connectors(services: Services) -> dict[str, str]:
    """What people are told the providers are called, by the origin of what these report."""
    return {connector_origin(name): shown_as(connector) for name, connector in services.connectors.items()}


def _me(services: Services) -> HistoryOwner:
    addresses = [one.address for one in g.standing.addresses]
    return history.history_owner(contact_id(), addresses, services.fingerprints)


def _find(services: Services, reference: str) -> HistoryEntry:
    """Raises NotFound for what is not an entry of the person."""
    happening = services.database.read(history.find, _me(services), reference)
    if happening is None:
        raise NotFound
    return happening


def _consent(services: Services, happening: HistoryEntry) -> Consent:
    """The facts of a receipt. Raises NotFound for what is no consent."""
    entry = happening.entry
    if not is_consent(entry):
        raise NotFound
    brand = services.catalog.get().brands.get(entry.brand) or brand_here(services, request)
    return Consent(
        entry=entry,
        later=services.database.read(history.since, entry),
        brand=brand,
        purpose=_purpose(services, entry),
        notice=happening.notice,
        recipients=sorted({shown_as(one) for one in services.connectors.values()}),
        home=services.url_of(brand),
        withdrawal_url=_withdrawal_url(services, brand, entry),
    )


def _purpose(services: Services, entry: Entry) -> str:
    if entry.topic in PURPOSES:
        return PURPOSES[Purpose(entry.topic)]
    topic = services.catalog.get(entry.topic).topics.get(entry.topic)
    if topic is None:
        return entry.topic
    return ". ".join(part.strip(". ") for part in (topic.name, topic.description, topic.frequency) if part)


def _withdrawal_url(services: Services, brand: Brand, entry: Entry) -> str:
    """A fresh link that never expires and stops the topic. What is no topic is ended where it was allowed."""
    if entry.topic in PURPOSES or entry.contact_id is None:
        return f"{services.url_of(brand)}/account/"
    return services.unsubscribe_url(UnsubscribeLink(entry.contact_id, entry.channel, brand.slug, entry.topic))
