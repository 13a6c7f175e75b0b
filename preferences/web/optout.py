"""The address box: stop all marketing by typing an address, without a link.

Owns `/optout`. Invariants: it takes effect at once, and what is shown is the same for an address that we know and one
that we do not; it stops the brand whose place it is, and the others only when asked.
"""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Blueprint, request
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import StringField
from wtforms.validators import DataRequired, Length

from preferences.domain import acts
from preferences.domain.addresses import read_address
from preferences.domain.errors import BadAddress
from preferences.domain.terms import BLANKET, Channel, Origin
from preferences.languages import to_translate
from preferences.site import Site, current_site
from preferences.web import metrics
from preferences.web.limits import ADDRESS_BOX, limiter, network
from preferences.web.pages import render
from preferences.web.visits import brand_here, spoken_in

blueprint = Blueprint("optout", __name__)

HOW_TO_WRITE = to_translate("Enter an e-mail address, like name@example.com")


class AddressForm(FlaskForm):  # type: ignore[misc]
    """One field. No token against forged requests: it asks for nothing but less mail, and must work without cookies."""

    class Meta:
        csrf = False

    address = StringField(validators=[DataRequired(HOW_TO_WRITE), Length(max=320, message=HOW_TO_WRITE)])


@blueprint.get("/")
def home() -> Response:
    """What this place is for."""
    site = current_site()
    brand = brand_here(site, request)
    return render(site, "home.html", brand=brand, spoken=spoken_in(request, brand))


@blueprint.get("/optout")
def ask() -> Response:
    """The box."""
    return _box(current_site())


@blueprint.post("/optout")
@limiter.limit(ADDRESS_BOX)
def stop() -> Response:
    """Stop all marketing to the address, known or not."""
    site = current_site()
    form = AddressForm(request.form)  # and never files or JSON, which Flask-WTF would read as well
    typed = form.address.data or ""
    if not form.validate():
        return _box(site, value=typed, error=HOW_TO_WRITE)
    try:
        address = read_address(Channel.EMAIL, typed)
    except BadAddress:
        return _box(site, value=typed, error=HOW_TO_WRITE)
    brand = brand_here(site, request)
    brands = list(site.catalog.get().brands)
    everywhere = request.form.get("everywhere") == "1"
    now, evidence = datetime.now(UTC), {"network": network()}
    entries = site.writer.record(
        [
            acts.unsubscribe(
                address,
                Channel.EMAIL,
                brand=slug,
                topic=BLANKET,
                origin=Origin.ADDRESS_BOX,
                now=now,
                evidence=evidence,
            )
            for slug in (brands if everywhere else [brand.slug])
        ]
    )
    metrics.RECORDED.labels(Origin.ADDRESS_BOX).inc(len(entries))
    return render(
        site,
        "optout/done.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        everywhere=everywhere,
        many_brands=len(brands) > 1,
        address=address.value,
    )


def _box(site: Site, value: str = "", error: str | None = None) -> Response:
    brand = brand_here(site, request)
    return render(
        site,
        "optout/form.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        status=400 if error else 200,
        value=value,
        error=error,
        action=f"{site.root_of(brand)}/optout",
    )
