"""A contact's entries, notices and consent receipts: `/account/history`, `/account/notices/…`, `/account/receipts/…`.

Invariant: no URL reveals the number of entries.
"""

from __future__ import annotations

import json

from flask import Blueprint, g, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.receipts import Consent, document, is_consent
from preferences.domain.references import reference_of
from preferences.people import history
from preferences.people.history import PURPOSES, find_entry, provider_names, read_consent
from preferences.store.history import HistoryEntry
from preferences.web.shared.account_page import account_page
from preferences.web.shared.visit import brand_here

blueprint = Blueprint("history", __name__)


@blueprint.get("/history")
def show() -> Response:
    services, before = current_services(), request.args.get("before")
    start = _get_entry(before) if before else None
    catalog = services.catalog.get()
    return account_page(
        "account/history.html",
        room="history",
        here=f"?before={start.reference}" if start else "",
        history=history.read_history(services, g.contact, start),
        connectors=provider_names(services),
        brands=catalog.brands,
        topics=catalog.topics,
        is_consent=is_consent,
    )


@blueprint.get("/notices/<reference>")
def notice(reference: str) -> Response:
    found = _get_entry(reference)
    if found.notice is None:
        raise NotFound
    return account_page("account/notice.html", room="history", found=found, kept=found.notice)


@blueprint.get("/receipts/<reference>")
def receipt(reference: str) -> Response:
    services, consent = current_services(), _get_consent(reference)
    return account_page(
        "account/receipt.html",
        room="history",
        brand=consent.brand,
        consent=consent,
        reference=reference_of(consent.entry.hash),
        by_link=consent.entry.topic not in PURPOSES,
        connectors=provider_names(services),
        topics=services.catalog.get().topics,
    )


@blueprint.get("/receipts/<reference>.json")
def receipt_file(reference: str) -> Response:
    consent = _get_consent(reference)
    body = json.dumps(document(consent), ensure_ascii=False, indent=2)
    name = f"receipt-{reference_of(consent.entry.hash)}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(f"{body}\n", headers=headers, content_type="application/json")


def _get_entry(reference: str) -> HistoryEntry:
    """Raises NotFound for an entry that is not the contact's."""
    found = find_entry(current_services(), g.contact, reference)
    if found is None:
        raise NotFound
    return found


def _get_consent(reference: str) -> Consent:
    """Raises NotFound for an entry that is no consent of the contact."""
    services = current_services()
    consent = read_consent(services, _get_entry(reference), brand_here(services, request))
    if consent is None:
        raise NotFound
    return consent
