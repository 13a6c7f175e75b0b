"""Request a new manage link by email: `/link`.

Invariant: same answer and timing for known and unknown addresses; the worker does the lookup.
"""

from __future__ import annotations

from flask import Blueprint, request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.outbox import EmailKind
from preferences.people.emails import order_email
from preferences.services import Services
from preferences.web.shared.limits import limiter
from preferences.web.shared.mail_request import EMAIL_REQUESTS, ENTER_EMAIL, typed_address
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

blueprint = Blueprint("lost_link", __name__)


@blueprint.get("/link")
def ask() -> Response:
    return _page(current_services(), "lost_link/form.html", value="", error=None)


@blueprint.post("/link")
@limiter.limit(EMAIL_REQUESTS)
def order() -> Response:
    services, typed = current_services(), request.form.get("address", "")
    address = typed_address(typed)
    if address is None:
        return _page(services, "lost_link/form.html", status=400, value=typed, error=ENTER_EMAIL)
    brand = brand_here(services, request)
    spoken = spoken_in(request, brand)
    order_email(services, EmailKind.MANAGE_LINK, to=address, brand=brand.slug, language=spoken.language)
    return _page(services, "lost_link/sent.html")


def _page(services: Services, template: str, *, status: int = 200, **context: str | None) -> Response:
    brand = brand_here(services, request)
    return render(
        services,
        template,
        brand=brand,
        spoken=spoken_in(request, brand),
        status=status,
        here=f"{services.root_of(brand)}/link",
        **context,
    )
