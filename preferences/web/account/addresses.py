"""A person's addresses: see them, add one, change one, take one away; and the page that proves a new one.

Owns `/account/addresses` (signed in) and `/confirm/address/<token>` (by the link in the letter to the new address).
Invariants: nothing changes before the owner of the new address has pressed a button; the answer to asking is the same
whether an address is known or not; an address that is no longer used is told so; whoever may not opt in adds none:
it would sign them in as somebody who may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from flask import Blueprint, g, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.addresses import mailbox_of, mask
from preferences.domain.errors import NotAllowed, StaleLink
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Address, Brand
from preferences.domain.vocabulary import Channel
from preferences.i18n import Spoken
from preferences.ledger import edits
from preferences.ledger.edits import Confirmed, can_remove
from preferences.people.rate_limits import RequestLimit
from preferences.services import Services
from preferences.store import outbox
from preferences.store.contact_state import KnownAddress
from preferences.store.outbox import Order
from preferences.store.transactions import Save, Write
from preferences.tokens import stem, trim
from preferences.web.account.page import contact_id, own_page, proof
from preferences.web.shared.evidence import evidence_of
from preferences.web.shared.forms import require_token
from preferences.web.shared.limits import limiter
from preferences.web.shared.mail_request import ENTER_EMAIL, typed_address
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

own = Blueprint("addresses", __name__)
blueprint = Blueprint("new_address", __name__)
confirmations = RequestLimit(per_minute=60)
"""For each link."""

ASKED: Final = "20 per hour"
"""New addresses for each person: each is a letter to somebody who may not have asked for it."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The brand at whose address a request arrived, and the language of the answer."""

    services: Services
    brand: Brand
    spoken: Spoken


@own.get("/addresses")
def show() -> Response:
    """The addresses that we use."""
    return _list()


@own.route("/addresses/add", methods=["GET", "POST"])
@limiter.limit(ASKED, key_func=lambda: str(contact_id()), methods=["POST"])
def add() -> Response:
    """One more email address."""
    if not g.session.may_opt_in:
        return _list(status=403)
    return _ask(None) if request.method == "POST" else _form(None)


@own.route("/addresses/<uuid:address_id>/change", methods=["GET", "POST"])
@limiter.limit(ASKED, key_func=lambda: str(contact_id()), methods=["POST"])
def change(address_id: UUID) -> Response:
    """Another email address in the place of this one."""
    old = _mine(address_id)
    if old.address.channel is not Channel.EMAIL:
        raise NotFound
    if not g.session.may_opt_in:
        return _list(status=403)
    return _ask(old) if request.method == "POST" else _form(old)


@own.get("/addresses/<uuid:address_id>/remove")
def ask_to_remove(address_id: UUID) -> Response:
    """The question whether it shall go."""
    gone = _mine(address_id)
    if not can_remove(g.standing.addresses, gone):
        raise NotFound
    return own_page(current_services(), "account/address_remove.html", room="addresses", gone=gone)


@own.post("/addresses/<uuid:address_id>/remove")
def remove(address_id: UUID) -> Response:
    """Put the address away, and tell it so."""
    require_token()
    gone = _mine(address_id)
    kept = next((one for one in _in_use(gone.address.channel) if one.id != gone.id), None)
    if kept is None:
        raise NotAllowed("the only address")
    place = _place()
    place.services.writer.run(_remove, contact_id(), gone=gone, kept=kept.address, place=place, evidence=proof())
    return _list(removed=gone)


@blueprint.get("/confirm/address/<token>", strict_slashes=False)
def ask_to_confirm(token: str) -> Response:
    """The question to the owner of the new address. Only their button does something."""
    place, now = _place(), datetime.now(UTC)
    wanted = place.services.database.read(edits.find_request, g.link.id, now)
    if wanted is None:
        return _page(place, "account/address_over.html", status=409, expired=False)
    action = f"{place.services.root_of(place.brand)}/confirm/address/{trim(token)}"
    return _page(
        place,
        "account/address_confirm.html",
        action=action,
        address=mask(wanted.address),
        taken_back=wanted.taken_back,
    )


@blueprint.post("/confirm/address/<token>", strict_slashes=False)
def confirm(token: str) -> Response:
    """The owner of the new address says that it is theirs."""
    place, now, evidence = _place(), datetime.now(UTC), evidence_of(request)
    confirmations.check(stem(token))
    try:
        done = place.services.writer.run(_confirm, g.link.id, place=place, now=now, evidence=evidence)
    except NotAllowed:
        return _page(place, "account/address_over.html", status=409, expired=False)
    return _page(place, "account/address_done.html", outcome=done.outcome, address=mask(done.address), done=done)


@blueprint.errorhandler(StaleLink)
def expired(_error: StaleLink) -> Response:
    return _page(_place(), "account/address_over.html", status=410, expired=True)


def _place() -> _Place:
    services = current_services()
    brand = brand_here(services, request)
    return _Place(services, brand, spoken_in(request, brand))


def _page(place: _Place, template: str, *, status: int = 200, **context: Any) -> Response:
    return render(place.services, template, brand=place.brand, spoken=place.spoken, status=status, **context)


def _list(removed: KnownAddress | None = None, *, status: int = 200) -> Response:
    known = [one for one in g.standing.addresses if not one.replaced and one != removed]
    return own_page(
        current_services(),
        "account/addresses.html",
        room="addresses",
        status=status,
        here=f"{current_services().root_of(_place().brand)}/account/addresses",
        by_channel=[(channel, [one for one in known if one.address.channel is channel]) for channel in Channel],
        removable={one.id for one in known if can_remove(known, one)},
        removed=removed,
        may_add=g.session.may_opt_in,
    )


def _form(old: KnownAddress | None, *, typed: str = "", error: str | None = None) -> Response:
    status = 400 if error else 200
    return own_page(
        current_services(),
        "account/address_new.html",
        room="addresses",
        status=status,
        old=old,
        typed=typed,
        error=error,
    )


def _ask(old: KnownAddress | None) -> Response:
    """Send a letter to the address that was typed, whoever has it."""
    require_token()
    place, typed = _place(), request.form.get("address", "")
    wanted = typed_address(typed)
    if wanted is None:
        return _form(old, typed=typed, error=ENTER_EMAIL)
    letter = _letter(place, EmailKind.NEW_ADDRESS, wanted)
    place.services.database.save(_request, contact_id(), wanted=wanted, old=old, letter=letter)
    return own_page(place.services, "account/address_sent.html", room="addresses", address=wanted.value)


def _request(save: Save, asking: UUID, *, wanted: Address, old: KnownAddress | None, letter: Order) -> None:
    now = datetime.now(UTC)
    request_id = edits.request(save, asking, wanted=wanted, replaces=old.id if old else None, now=now)
    outbox.order(save, replace(letter, details={"request": str(request_id)}), now)


def _confirm(write: Write, request_id: UUID, *, place: _Place, now: datetime, evidence: Mapping[str, str]) -> Confirmed:
    fingerprints = place.services.fingerprints
    done = edits.confirm(write, request_id, fingerprints=fingerprints, now=now, evidence=evidence)
    if done.replaced is not None:
        _tell(write, place, done.contact_id, old=done.replaced, new=done.address, now=now)
    details = {"new": mask(done.address), "confirmed": True}
    told = [replace(_letter(place, EmailKind.ADDRESS_ADDED, mailbox), details=details) for mailbox in done.told]
    outbox.order_all(write, told, now)
    return done


def _remove(
    write: Write,
    owner: UUID,
    *,
    gone: KnownAddress,
    kept: Address,
    place: _Place,
    evidence: Mapping[str, str],
) -> None:
    now, fingerprints = datetime.now(UTC), place.services.fingerprints
    old = edits.remove(write, owner, address_id=gone.id, fingerprints=fingerprints, now=now, evidence=evidence)
    _tell(write, place, owner, old=old, new=kept, now=now)


def _tell(write: Write, place: _Place, owner: UUID, *, old: Address, new: Address, now: datetime) -> None:
    """A letter to the address that is no longer used: whoever lost it to a thief learns so, with a way back."""
    if old.channel is not Channel.EMAIL:
        return
    details = {"new": mask(new)}
    request_id = edits.request_back(write, owner, old=old, new=new, now=now)
    if request_id is not None:
        details["request"] = str(request_id)
    letter = replace(_letter(place, EmailKind.ADDRESS_CHANGED, old), details=details)
    outbox.order(write, letter, now)


def _letter(place: _Place, kind: EmailKind, to: Address) -> Order:
    return Order(
        kind=kind,
        address=to.value,
        mailbox=place.services.fingerprints.of(mailbox_of(to)),
        brand=place.brand.slug,
        language=place.spoken.language,
        details={},
    )


def _in_use(channel: Channel) -> list[KnownAddress]:
    found: list[KnownAddress] = g.standing.current_addresses(channel)
    return found


def _mine(address_id: UUID) -> KnownAddress:
    """Raises NotFound for what is no address that the person uses."""
    for channel in Channel:
        for one in _in_use(channel):
            if one.id == address_id:
                return one
    raise NotFound
