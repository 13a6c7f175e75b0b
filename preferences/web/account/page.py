"""The preferences page of somebody who has signed in, and the frame of everything else behind the sign-in.

Owns `/account/`. Invariants: a post is acted on only with the token of its session; a yes is immediate here, since
whoever is signed in has just proven who they are, or was vouched for by a system that may opt people in; GET writes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import Blueprint, g, request
from markupsafe import Markup
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.preference_form import BadValue, Provenance
from preferences.domain.records import Brand
from preferences.domain.vocabulary import Channel, Origin
from preferences.i18n import Spoken
from preferences.people.preferences import Page, Saved, read_page
from preferences.services import Services
from preferences.web.shared import preference_page
from preferences.web.shared.evidence import evidence_of
from preferences.web.shared.forms import SessionForm
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

blueprint = Blueprint("account", __name__)


@blueprint.get("/")
def show() -> Response:
    """The choices about one brand as they are."""
    services = current_services()
    return _page(services, _read(services))


@blueprint.post("/")
def save() -> Response:
    """Save what was moved, or stop everything."""
    services = current_services()
    page = _read(services)
    if not SessionForm(request.form).validate():
        return _page(services, page, refused=True)
    by = Provenance(contact_id=page.standing.contact_id, brand=page.brand.slug, origin=Origin.ACCOUNT, evidence=proof())
    try:
        saved = preference_page.submit(services, page, request.form, by=by, fresh=g.session.may_opt_in)
    except BadValue as problem:
        return _page(services, page, problem=problem.control.name, form=request.form)
    return _page(services, _read(services), saved=saved)


def contact_id() -> UUID:
    """Who is signed in."""
    signed_in: UUID = g.standing.contact_id
    return signed_in


def proof() -> dict[str, str]:
    """What proves an act of somebody who is signed in: the circumstances, and how they signed in."""
    return {**evidence_of(request), "signed_in_by": g.session.way}


def own_page(
    services: Services,
    template: str,
    *,
    room: str,
    brand: Brand | None = None,
    spoken: Spoken | None = None,
    status: int = 200,
    here: str = "",
    **context: Any,
) -> Response:
    """A page behind the sign-in. `room` is where the person is: choices, history or addresses."""
    brand = brand or brand_here(services, request)
    return render(
        services,
        template,
        brand=brand,
        spoken=spoken or spoken_in(request, brand),
        status=status,
        here=here,
        room=room,
        token=SessionForm().hidden(),
        **context,
    )


def _read(services: Services) -> Page:
    """The page of the brand that is asked for, or of the place. Raises NotFound for a brand that is not there."""
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
    return own_page(
        services,
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
        other_brands=[one for one in brands.values() if one.slug != page.brand.slug],
        **context,
    )


def _addresses_of(page: Page) -> str:
    """Where we write to and call, in full. Letters by post have an address that nobody knows by its normal form."""
    channels = (Channel.EMAIL, Channel.SMS, Channel.VOICE)
    known = [one.address.value for channel in channels for one in page.standing.current_addresses(channel)]
    return ", ".join(dict.fromkeys(known))
