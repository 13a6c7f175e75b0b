"""Opt-out by typing an address: `/optout` and `/`.

Invariant: known and unknown addresses get the same answer.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, request
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import StringField
from wtforms.validators import Length

from preferences.current import current_services
from preferences.domain.records import Address, Brand
from preferences.domain.vocabulary import PHONE_CHANNELS, Channel
from preferences.i18n import to_translate
from preferences.people import opt_outs
from preferences.services import Services
from preferences.web.shared.limits import network
from preferences.web.shared.mail_request import ENTER_EMAIL
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

blueprint = Blueprint("optout", __name__)

ENTER_EITHER: Final = to_translate(
    "Enter an email address, like name@example.com, or a phone number with its country code, like +1 202 555 0123"
)
ENTER_POSTAL: Final = to_translate("Enter the postal address")

ADDRESS, POSTAL = "address", "postal"
"""Field names. The second is shown if a topic comes by post."""

CROWDED: Final = to_translate("Please wait a minute")
TRY_AGAIN: Final = to_translate(
    "Too many addresses are being entered here right now. If we write to the address you gave, we have stopped."
    " If it was new to us, we could not note it: try again in a minute, or write to %(us)s."
)
"""Shown for every address while new ones are refused, so as not to reveal known ones."""

PHONE: Final = "phone"
"""Text messages and calls together."""


class AddressForm(FlaskForm):  # type: ignore[misc]
    """No CSRF token: it can only reduce mail, and must work without cookies."""

    class Meta:
        csrf = False

    address = StringField(validators=[Length(max=320)])
    postal = StringField(validators=[Length(max=1_000)])


@blueprint.get("/")
def home() -> Response:
    services = current_services()
    brand = brand_here(services, request)
    return render(services, "home.html", brand=brand, spoken=spoken_in(request, brand))


@blueprint.get("/optout")
def ask() -> Response:
    return _box(current_services())


@blueprint.post("/optout")
def stop() -> Response:
    services = current_services()
    form = AddressForm(request.form)  # no files or JSON, which Flask-WTF would read
    field = POSTAL if POSTAL in request.form else ADDRESS
    typed = form[field].data or ""
    addresses = opt_outs.read_typed_address(services, typed, postal=field == POSTAL) if form.validate() else []
    if not addresses:
        return _box(services, field=field, value=typed, error=_how_to_write(services, field))
    brand, everywhere = brand_here(services, request), request.form.get("everywhere") == "1"
    brands = services.catalog.get().brands if everywhere else [brand.slug]
    if not opt_outs.stop_addresses(services, addresses, brands, {"network": network()}):
        return _crowded(services, brand)
    return _done(services, brand, addresses, everywhere=everywhere)


def _how_to_write(services: Services, field: str) -> str:
    if field == POSTAL:
        return ENTER_POSTAL
    return ENTER_EITHER if services.catalog.get().marketing_channels & PHONE_CHANNELS else ENTER_EMAIL


def _done(services: Services, brand: Brand, addresses: list[Address], *, everywhere: bool) -> Response:
    return render(
        services,
        "optout/done.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        everywhere=everywhere,
        brand_names=[known.name for known in services.catalog.get().brands.values()],
        address=addresses[0].value,
        channel=PHONE if len(addresses) > 1 else addresses[0].channel,
    )


def _crowded(services: Services, brand: Brand) -> Response:
    response = render(
        services,
        "error.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        status=429,
        title=CROWDED,
        lead=TRY_AGAIN,
        address_box=False,
        retry=True,
    )
    response.headers["Retry-After"] = "60"
    return response


def _box(services: Services, *, field: str = ADDRESS, value: str = "", error: str | None = None) -> Response:
    brand = brand_here(services, request)
    return render(
        services,
        "optout/form.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        status=400 if error else 200,
        field=field,
        value=value,
        error=error,
        action=f"{services.root_of(brand)}/optout",
        letters=Channel.POST in services.catalog.get().marketing_channels,
    )
