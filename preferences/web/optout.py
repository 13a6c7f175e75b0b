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

from preferences.domain import acts
from preferences.domain.addresses import read_address
from preferences.domain.consent import is_stopped
from preferences.domain.errors import BadAddress
from preferences.domain.terms import BLANKET, Address, Brand, Channel, Entry, Origin
from preferences.languages import to_translate
from preferences.site import Site, current_site
from preferences.store import contacts
from preferences.store.contacts import Found
from preferences.store.queries import WishesKey
from preferences.web import metrics
from preferences.web.limits import StrangerLimit, network, repeats
from preferences.web.pages import PHONE_CHANNELS, render
from preferences.web.visits import brand_here, spoken_in

blueprint = Blueprint("optout", __name__)

HOW_TO_WRITE = to_translate("Enter an email address, like name@example.com")
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
    site = current_site()
    brand = brand_here(site, request)
    return render(site, "home.html", brand=brand, spoken=spoken_in(request, brand))


@blueprint.get("/optout")
def ask() -> Response:
    """The box."""
    return _box(current_site())


@blueprint.post("/optout")
def stop() -> Response:
    """Stop all marketing to the address, known or not."""
    site = current_site()
    form = AddressForm(request.form)  # and never files or JSON, which Flask-WTF would read as well
    field = POSTAL if POSTAL in request.form else ADDRESS
    typed = form[field].data or ""
    addresses = _addresses(site, field, typed) if form.validate() else []
    if not addresses:
        return _box(site, field=field, value=typed, error=_how_to_write(site, field))
    brand = brand_here(site, request)
    brands = site.catalog.get().brands
    everywhere = request.form.get("everywhere") == "1"
    wanted = [(address, slug) for address in addresses for slug in (brands if everywhere else [brand.slug])]
    is_crowded = strangers.is_reached()
    entries = _record(site, wanted, only_known=is_crowded)
    metrics.RECORDED.labels(Origin.ADDRESS_BOX).inc(len(entries))
    if is_crowded:
        return _crowded(site, brand)
    return render(
        site,
        "optout/done.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        everywhere=everywhere,
        brand_names=[one.name for one in brands.values()],
        address=addresses[0].value,
        channel=PHONE if len(addresses) > 1 else addresses[0].channel,
    )


def _addresses(site: Site, field: str, typed: str) -> list[Address]:
    """What was typed, on each channel that it is an address of; none where it is no address.

    A telephone number takes text messages as well as calls, and stops both where topics use both.
    """
    used = site.catalog.get().marketing_channels
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


def _how_to_write(site: Site, field: str) -> str:
    if field == POSTAL:
        return HOW_TO_WRITE_POSTAL
    return HOW_TO_WRITE_EITHER if site.catalog.get().marketing_channels & PHONE_CHANNELS else HOW_TO_WRITE


def _record(site: Site, wanted: Sequence[tuple[Address, str]], *, only_known: bool) -> list[Entry]:
    """Stop each brand's marketing to each address, or to each that we know. Of those only what changes nothing, said
    very often, is left out: nobody may use up somebody else's way out."""
    now, evidence = datetime.now(UTC), {"network": network()}
    addresses = {address for address, _ in wanted}
    found = site.database.read(contacts.find_addresses, addresses, site.fingerprints)
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
        if not _is_repetition(site, address, brand, found.get(address))
    ]
    entries = site.writer.record(told) if told else []
    repeats.count(entries)
    return entries


def _crowded(site: Site, brand: Brand) -> Response:
    response = render(
        site,
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


def _is_repetition(site: Site, address: Address, brand: str, owner: Found | None) -> bool:
    contact_id = owner.contact_id if owner else None
    if not repeats.is_reached(contact_id, address.channel, brand=brand, topic=BLANKET):
        return False
    if contact_id is None:  # nothing can change for an address that is never stored again
        reasons = site.database.read(contacts.suppressed_for, address, site.fingerprints)
        return not reasons.isdisjoint(contacts.NEVER_STORED_AGAIN)
    return is_stopped(site.reader.wishes(WishesKey(contact_id, address.channel, brand)).choices, BLANKET)


def _box(site: Site, *, field: str = ADDRESS, value: str = "", error: str | None = None) -> Response:
    brand = brand_here(site, request)
    return render(
        site,
        "optout/form.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        status=400 if error else 200,
        field=field,
        value=value,
        error=error,
        action=f"{site.root_of(brand)}/optout",
        letters=Channel.POST in site.catalog.get().marketing_channels,
    )
