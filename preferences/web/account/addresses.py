"""A contact's address pages: `/account/addresses`, and `/confirm/address/<token>` for the link in the email.

Invariants: known and unknown addresses get the same answer; a session that may not opt in adds no address, because a
sign-in with that address would have the right to.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from flask import Blueprint, g, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.addresses import mask
from preferences.domain.errors import NotAllowed, StaleLink
from preferences.domain.vocabulary import Channel
from preferences.people import addresses
from preferences.people.rate_limits import confirmations
from preferences.store.contact_state import KnownAddress
from preferences.tokens import stem, trim
from preferences.web.shared.account_page import account_page, contact_id, proof
from preferences.web.shared.evidence import evidence_of
from preferences.web.shared.forms import require_token
from preferences.web.shared.limits import limiter
from preferences.web.shared.mail_request import ENTER_EMAIL, typed_address
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

own = Blueprint("addresses", __name__)
blueprint = Blueprint("new_address", __name__)

REQUESTS: Final = "20 per hour"
"""Per contact, since each request emails an address that may be another person's."""


@own.get("/addresses")
def show() -> Response:
    return _list()


@own.route("/addresses/add", methods=["GET", "POST"])
@limiter.limit(REQUESTS, key_func=lambda: str(contact_id()), methods=["POST"])
def add() -> Response:
    if not g.session.may_opt_in:
        return _list(status=403)
    return _request(None) if request.method == "POST" else _form(None)


@own.route("/addresses/<uuid:address_id>/change", methods=["GET", "POST"])
@limiter.limit(REQUESTS, key_func=lambda: str(contact_id()), methods=["POST"])
def change(address_id: UUID) -> Response:
    old = _current(address_id)
    if old.address.channel is not Channel.EMAIL:
        raise NotFound
    if not g.session.may_opt_in:
        return _list(status=403)
    return _request(old) if request.method == "POST" else _form(old)


@own.get("/addresses/<uuid:address_id>/remove")
def ask_to_remove(address_id: UUID) -> Response:
    removed = _current(address_id)
    if address_id not in addresses.removable(g.contact.addresses):
        raise NotFound
    return account_page("account/address_remove.html", room="addresses", gone=removed)


@own.post("/addresses/<uuid:address_id>/remove")
def remove(address_id: UUID) -> Response:
    require_token()
    removed = _current(address_id)
    addresses.remove_address(current_services(), contact_id(), address_id, evidence=proof(), **_look())
    return _list(removed=removed)


@blueprint.get("/confirm/address/<token>", strict_slashes=False)
def ask_to_confirm(token: str) -> Response:
    services = current_services()
    wanted = addresses.find_request(services, g.link.id)
    action = f"{services.root_of(brand_here(services, request))}/confirm/address/{trim(token)}"
    return _page(
        "account/address_confirm.html", action=action, address=mask(wanted.address), taken_back=wanted.taken_back
    )


@blueprint.post("/confirm/address/<token>", strict_slashes=False)
def confirm(token: str) -> Response:
    confirmations.check(stem(token))
    evidence = evidence_of(request)
    done = addresses.confirm_address(current_services(), g.link.id, evidence=evidence, **_look())
    return _page("account/address_done.html", outcome=done.outcome, address=mask(done.address), done=done)


@blueprint.errorhandler(StaleLink)
def expired(_error: StaleLink) -> Response:
    return _page("account/address_over.html", status=410, expired=True)


@blueprint.errorhandler(NotAllowed)
def over(_error: NotAllowed) -> Response:
    return _page("account/address_over.html", status=409, expired=False)


def _look() -> dict[str, str]:
    brand = brand_here(current_services(), request)
    return {"brand": brand.slug, "language": spoken_in(request, brand).language}


def _page(template: str, *, status: int = 200, **context: Any) -> Response:
    services = current_services()
    brand = brand_here(services, request)
    return render(services, template, brand=brand, spoken=spoken_in(request, brand), status=status, **context)


def _list(removed: KnownAddress | None = None, *, status: int = 200) -> Response:
    services = current_services()
    known = [entry for entry in g.contact.addresses if not entry.replaced and entry != removed]
    return account_page(
        "account/addresses.html",
        room="addresses",
        status=status,
        here=f"{services.root_of(brand_here(services, request))}/account/addresses",
        by_channel=[(channel, [entry for entry in known if entry.address.channel is channel]) for channel in Channel],
        removable=addresses.removable(known),
        removed=removed,
        may_add=g.session.may_opt_in,
    )


def _form(old: KnownAddress | None, *, typed: str = "", error: str | None = None) -> Response:
    status = 400 if error else 200
    return account_page("account/address_new.html", room="addresses", status=status, old=old, typed=typed, error=error)


def _request(old: KnownAddress | None) -> Response:
    require_token()
    typed = request.form.get("address", "")
    wanted = typed_address(typed)
    if wanted is None:
        return _form(old, typed=typed, error=ENTER_EMAIL)
    replaces = old.id if old else None
    addresses.request_address(current_services(), contact_id(), wanted, replaces=replaces, **_look())
    return account_page("account/address_sent.html", room="addresses", address=wanted.value)


def _current(address_id: UUID) -> KnownAddress:
    """Raises NotFound for an address that is not in use."""
    for known in g.contact.addresses:
        if known.id == address_id and not known.replaced:
            found: KnownAddress = known
            return found
    raise NotFound
