"""The address box: stop all marketing by typing an address, without a link.

Owns `/optout`. Invariants: it takes effect at once for every address that we know, however many others are typed; what
is shown is the same for an address that we know and one that we do not; it stops the brand whose place it is, and the
others only when asked; what is typed is an address of a channel that some topic uses, and only such channels are
stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from flask import Blueprint, request
from flask_wtf import FlaskForm
from werkzeug.wrappers import Response
from wtforms import StringField
from wtforms.validators import Length

from preferences import metrics
from preferences.address_parsing import read_address
from preferences.current import current_services
from preferences.domain import acts
from preferences.domain.consent import is_stopped
from preferences.domain.errors import BadAddress
from preferences.domain.records import Address, Brand, Entry
from preferences.domain.vocabulary import BLANKET, Channel, Origin
from preferences.i18n import to_translate
from preferences.services import Services
from preferences.store import contacts
from preferences.store.contact_state import WishesKey
from preferences.store.contacts import Found
from preferences.web.shared.limits import StrangerLimit, network, repeats
from preferences.web.shared.mail_request import ENTER_EMAIL
from preferences.web.shared.render import PHONE_CHANNELS, render
from preferences.web.shared.visit import brand_here, spoken_in

blueprint = Blueprint("optout", __name__)

HOW_TO_WRITE_EITHER = to_translate(
    "Enter an email address, like name@example.com, or a phone number with its country code, like +1 202 555 0123"
)
HOW_TO_WRITE_POSTAL = to_translate("Enter the postal address")

ADDRESS, POSTAL = "address", "postal"
"""The two boxes, by the name of their field. The second is there where some topic comes by post."""

CROWDED = to_translate("Please wait a minute")
TRY_AGAIN = to_translate(
    "Too many addresses are being entered here right now. If we write to the address you gave, we have stopped."
    " If it was new to us, we could not note it: try again in a minute, or write to %(us)s."
)
"""Said to everybody while strangers are refused, so that it does not tell whom we know."""

strangers: Final = StrangerLimit(per_minute=600)

PHONE: Final = "phone"
"""What a page calls text messages and calls together."""


class AddressForm(FlaskForm):  # type: ignore[misc]
    """One field. No token against forged requests: it asks for nothing but less mail, and must work without cookies."""

    class Meta:
        csrf = False

    address = StringField(validators=[Length(max=320)])
    postal = StringField(validators=[Length(max=1_000)])


@blueprint.get("/")
def home() -> Response:
    """What this place is for."""
    services = current_services()
    brand = brand_here(services, request)
    return render(services, "home.html", brand=brand, spoken=spoken_in(request, brand))


@blueprint.get("/optout")
def ask() -> Response:
    """The box."""
    return _box(current_services())


@blueprint.post("/optout")
def stop() -> Response:
    """Stop all marketing to the address, known or not."""
    services = current_services()
    form = AddressForm(request.form)  # and never files or JSON, which Flask-WTF would read as well
    field = POSTAL if POSTAL in request.form else ADDRESS
    typed = form[field].data or ""
    addresses = _addresses(services, field, typed) if form.validate() else []
    if not addresses:
        return _box(services, field=field, value=typed, error=_how_to_write(services, field))
    brand = brand_here(services, request)
    brands = services.catalog.get().brands
    everywhere = request.form.get("everywhere") == "1"
    wanted = [(address, slug) for address in addresses for slug in (brands if everywhere else [brand.slug])]
    is_crowded = strangers.is_reached()
    entries = _record(services, wanted, only_known=is_crowded)
    metrics.RECORDED.labels(Origin.ADDRESS_BOX).inc(len(entries))
    if is_crowded:
        return _crowded(services, brand)
    return render(
        services,
        "optout/done.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        everywhere=everywhere,
        brand_names=[one.name for one in brands.values()],
        address=addresses[0].value,
        channel=PHONE if len(addresses) > 1 else addresses[0].channel,
    )


def _addresses(services: Services, field: str, typed: str) -> list[Address]:
    """What was typed, on each channel that it is an address of; none where it is no address.

    A telephone number takes text messages as well as calls, and stops both where topics use both.
    """
    used = services.catalog.get().marketing_channels
    if field == POSTAL:
        channels = used & {Channel.POST}
    elif "@" in typed or not used & PHONE_CHANNELS:
        channels = {Channel.EMAIL}
    else:
        channels = used & PHONE_CHANNELS
    try:
        return [read_address(channel, typed) for channel in sorted(channels)]
    except BadAddress:
        return []


def _how_to_write(services: Services, field: str) -> str:
    if field == POSTAL:
        return HOW_TO_WRITE_POSTAL
    return HOW_TO_WRITE_EITHER if services.catalog.get().marketing_channels & PHONE_CHANNELS else ENTER_EMAIL


def _record(services: Services, wanted: Sequence[tuple[Address, str]], *, only_known: bool) -> list[Entry]:
    """Stop each brand's marketing to each address, or to each that we know. Of those only what changes nothing, said
    very often, is left out: nobody may use up somebody else's way out."""
    now, evidence = datetime.now(UTC), {"network": network()}
    addresses = {address for address, _ in wanted}
    found = services.database.read(contacts.find_addresses, addresses, services.fingerprints)
    if only_known:
        wanted = [(address, brand) for address, brand in wanted if address in found]
    else:
        strangers.count(len(addresses - found.keys()))
    told = [
        acts.unsubscribe(
            address,
            address.channel,
            brand=brand,
            topic=BLANKET,
            origin=Origin.ADDRESS_BOX,
            now=now,
            evidence=evidence,
        )
        for address, brand in wanted
        if not _is_repetition(services, address, brand, found.get(address))
    ]
    entries = services.writer.record(told) if told else []
    repeats.count(entries)
    return entries


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


def _is_repetition(services: Services, address: Address, brand: str, owner: Found | None) -> bool:
    contact_id = owner.contact_id if owner else None
    if not repeats.is_reached(contact_id, address.channel, brand=brand, topic=BLANKET):
        return False
    if contact_id is None:  # nothing can change for an address that is never stored again
        reasons = services.database.read(contacts.suppressed_for, address, services.fingerprints)
        return not reasons.isdisjoint(contacts.NEVER_STORED_AGAIN)
    return is_stopped(services.reader.wishes(WishesKey(contact_id, address.channel, brand)).choices, BLANKET)


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
