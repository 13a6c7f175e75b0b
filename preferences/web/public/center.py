"""The preferences page behind a manage link.

Owns `/p/<token>`. Invariants: GET writes nothing; the link shows no address in full and no history; it stops things at
once, and lets nothing more through without a letter to the person's own mailbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.addresses import mask
from preferences.domain.errors import BadLink, StaleLink
from preferences.domain.preference_form import Asker, BadValue
from preferences.domain.vocabulary import Origin
from preferences.services import Services
from preferences.tokens import ManageLink, trim
from preferences.web.account import session
from preferences.web.public.unsubscribe import circumstances
from preferences.web.shared import preferences_page
from preferences.web.shared.preferences_page import Page, Saved
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

blueprint = Blueprint("center", __name__)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A manage link that was read, and the page behind it."""

    token: str
    link: ManageLink
    page: Page


@blueprint.get("/p/<token>", strict_slashes=False)
def show(token: str) -> Response:
    """The choices as they are."""
    services = current_services()
    return _page(services, _open(services, token))


@blueprint.post("/p/<token>", strict_slashes=False)
def save(token: str) -> Response:
    """Save what was moved, or stop everything."""
    services = current_services()
    opened = _open(services, token)
    asker = Asker(
        contact_id=opened.link.contact_id,
        brand=opened.page.brand.slug,
        origin=Origin.PAGE,
        evidence=circumstances(request),
    )
    try:
        saved = preferences_page.answer(services, opened.page, request.form, asker, fresh=False)
    except BadValue as problem:
        return _page(services, opened, problem=problem.control.name, form=request.form)
    return _page(services, _open(services, token), saved=saved)


@blueprint.post("/p/<token>/revoke", strict_slashes=False)
def revoke(token: str) -> Response:
    """Somebody else has this link: end it, every other one and every session, and mail a fresh one to its owner."""
    services = current_services()
    opened = _open(services, token)
    session.end_links(services, opened.page.standing, opened.page.brand, opened.page.spoken)
    return render(
        services,
        "center/revoked.html",
        brand=opened.page.brand,
        spoken=opened.page.spoken,
        here=f"{services.root_of(opened.page.brand)}/link",
    )


@blueprint.errorhandler(StaleLink)
def expired(_error: StaleLink) -> Response:
    """A link whose time has passed, or that its owner has ended: offer a fresh one, and to stop everything."""
    services = current_services()
    brand = brand_here(services, request)
    return render(
        services,
        "center/expired.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        status=410,
        here=f"{services.root_of(brand)}/link",
    )


def _open(services: Services, token: str) -> _Opened:
    """Raises BadLink, and StaleLink for a link that its owner has revoked."""
    link = services.links.read_manage(token, datetime.now(UTC))
    catalog = services.catalog.get()
    brand = catalog.brands.get(link.brand)
    if brand is None:
        raise BadLink("a brand that is no more")
    page = preferences_page.read_page(services, link.contact_id, brand, spoken_in(request, brand))
    revoked_at = page.standing.revoked_at
    if revoked_at is not None and link.issued_at <= revoked_at:
        raise StaleLink("revoked by its owner")
    return _Opened(token, link, page)


def _page(
    services: Services,
    opened: _Opened,
    *,
    saved: Saved | None = None,
    problem: str | None = None,
    form: Mapping[str, str] | None = None,
) -> Response:
    known = opened.page.standing.current_addresses(opened.link.channel)
    context: dict[str, Any] = preferences_page.context(services, opened.page, saved=saved, problem=problem, form=form)
    return render(
        services,
        "center/page.html",
        brand=opened.page.brand,
        spoken=opened.page.spoken,
        status=400 if problem else 200,
        address=mask(known[0].address) if known else None,
        action=f"{services.root_of(opened.page.brand)}/p/{trim(opened.token)}",
        mailed_to=mask(saved.mailed_to) if saved and saved.mailed_to else None,
        **context,
    )
