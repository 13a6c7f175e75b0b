"""The preference page behind a manage link: `/p/<token>`.

Invariants: GET writes nothing; no full address and no history is shown; opt-outs are recorded at once, opt-ins only
after confirmation by email.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, g, request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.addresses import mask
from preferences.domain.errors import StaleLink
from preferences.domain.preference_form import BadValue, Provenance
from preferences.domain.vocabulary import Origin
from preferences.people.preferences import Page, Saved, read_linked_page
from preferences.people.sign_in import revoke_access
from preferences.services import Services
from preferences.tokens import trim
from preferences.web.shared import preference_page
from preferences.web.shared.evidence import evidence_of
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

blueprint = Blueprint("center", __name__)


@blueprint.get("/p/<token>", strict_slashes=False)
def show(token: str) -> Response:
    services = current_services()
    return _page(services, token, _read(services))


@blueprint.post("/p/<token>", strict_slashes=False)
def save(token: str) -> Response:
    services = current_services()
    page = _read(services)
    by = Provenance(contact_id=g.link.contact_id, brand=g.brand.slug, origin=Origin.PAGE, evidence=evidence_of(request))
    try:
        saved = preference_page.submit(services, page, request.form, by=by, fresh=False)
    except BadValue as problem:
        return _page(services, token, page, problem=problem.control.name, form=request.form)
    return _page(services, token, _read(services), saved=saved)


@blueprint.post("/p/<token>/revoke", strict_slashes=False)
def revoke(token: str) -> Response:  # noqa: ARG001 - the guard has read it
    """Revoke all manage links and sessions, and email a new link."""
    services = current_services()
    page = _read(services)
    revoke_access(services, page.contact, brand=page.brand.slug, language=page.spoken.language)
    here = f"{services.root_of(page.brand)}/link"
    return render(services, "center/revoked.html", brand=page.brand, spoken=page.spoken, here=here)


@blueprint.errorhandler(StaleLink)
def expired(_error: StaleLink) -> Response:
    """Offer a new link, and to stop everything."""
    services = current_services()
    brand = brand_here(services, request)
    spoken, here = spoken_in(request, brand), f"{services.root_of(brand)}/link"
    return render(services, "center/expired.html", brand=brand, spoken=spoken, status=410, here=here)


def _read(services: Services) -> Page:
    return read_linked_page(services, g.link, brand=g.brand, spoken=spoken_in(request, g.brand))


def _page(
    services: Services,
    token: str,
    page: Page,
    *,
    saved: Saved | None = None,
    problem: str | None = None,
    form: Mapping[str, str] | None = None,
) -> Response:
    known = page.contact.current_addresses(g.link.channel)
    return render(
        services,
        "center/page.html",
        brand=page.brand,
        spoken=page.spoken,
        status=400 if problem else 200,
        address=mask(known[0].address) if known else None,
        action=f"{services.root_of(page.brand)}/p/{trim(token)}",
        mailed_to=mask(saved.mailed_to) if saved and saved.mailed_to else None,
        **preference_page.context(services, page, saved=saved, problem=problem, form=form),
    )
