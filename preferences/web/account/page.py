"""The preference page of a signed-in contact: `/account/`.

Invariants: POST requires the session's token; an opt-in is recorded at once only if the session may opt in, else
confirmed by email; GET writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, g, request
from markupsafe import Markup
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.preference_form import BadValue, Provenance
from preferences.domain.vocabulary import Channel, Origin
from preferences.people.preferences import Page, Saved, read_page
from preferences.services import Services
from preferences.web.shared import preference_page
from preferences.web.shared.account_page import account_page, contact_id, proof
from preferences.web.shared.forms import SessionForm
from preferences.web.shared.visit import brand_here, spoken_in

blueprint = Blueprint("account", __name__)


@blueprint.get("/")
def show() -> Response:
    services = current_services()
    return _page(services, _read(services))


@blueprint.post("/")
def save() -> Response:
    services = current_services()
    page = _read(services)
    if not SessionForm(request.form).validate():
        return _page(services, page, refused=True)
    by = Provenance(contact_id=page.contact.contact_id, brand=page.brand.slug, origin=Origin.ACCOUNT, evidence=proof())
    try:
        saved = preference_page.submit(services, page, request.form, by=by, fresh=g.session.may_opt_in)
    except BadValue as problem:
        return _page(services, page, problem=problem.control.name, form=request.form)
    return _page(services, _read(services), saved=saved)


def _read(services: Services) -> Page:
    """The page of the named brand, else of the brand at this URL. Raises NotFound."""
    slug = request.values.get("brand")
    brand = services.catalog.get().brands.get(slug) if slug else brand_here(services, request)
    if brand is None:
        raise NotFound
    return read_page(services, contact_id(), brand=brand, spoken=spoken_in(request, brand))


def _page(
    services: Services,
    page: Page,
    *,
    saved: Saved | None = None,
    problem: str | None = None,
    form: Mapping[str, str] | None = None,
    refused: bool = False,
) -> Response:
    context = preference_page.context(services, page, saved=saved, problem=problem, form=form)
    action = f"{services.root_of(page.brand)}/account/"
    brands = services.catalog.get().brands
    brand_field = Markup('<input type="hidden" name="brand" value="{}">').format(page.brand.slug)
    return account_page(
        "account/page.html",
        room="choices",
        brand=page.brand,
        spoken=page.spoken,
        status=400 if problem or refused else 200,
        here=f"{action}?brand={page.brand.slug}",
        address=_addresses_of(page),
        action=action,
        csrf=SessionForm().hidden() + brand_field,
        mailed_to=None,
        refused=refused,
        other_brands=[brand for brand in brands.values() if brand.slug != page.brand.slug],
        **context,
    )


def _addresses_of(page: Page) -> str:
    """Full addresses in use, except postal ones, whose stored form is unreadable."""
    channels = (Channel.EMAIL, Channel.SMS, Channel.VOICE)
    known = [entry.address.value for channel in channels for entry in page.contact.current_addresses(channel)]
    return ", ".join(dict.fromkeys(known))
