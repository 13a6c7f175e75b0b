"""Signing in without a password: a code or a link by mail, and the hand-off from a company's own page; and signing out.

Owns `/sign-in` but for the way through a provider (`web.openid`). Invariants: asking for a code looks nothing up, so an
address that we know and one that we do not are answered alike; opening a link changes nothing; where one arrives is
never taken from the request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from flask import Blueprint, g, request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.addresses import mailbox_of
from preferences.domain.errors import BadLink, NotAllowed, StaleLink
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Address, Brand
from preferences.i18n import Spoken, to_translate
from preferences.services import Services
from preferences.store import contacts, outbox, sign_ins
from preferences.store.outbox import Order
from preferences.store.sign_ins import CodeOutcome, Used
from preferences.store.transactions import Save
from preferences.tokens import trim
from preferences.web.account import session
from preferences.web.shared import errors
from preferences.web.shared.forms import refuse_other_sites, require_token
from preferences.web.shared.limits import GUESSES, limiter
from preferences.web.shared.mail_request import EMAIL_REQUESTS, ENTER_EMAIL, typed_address
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

blueprint = Blueprint("sign_in", __name__)
by_email = Blueprint("sign_in_link", __name__)
"""Behind the link in our email."""
handing_over = Blueprint("hand_off", __name__)
"""Behind the link of a hand-off."""
leaving = Blueprint("leaving", __name__)
"""For those who are signed in."""

SIX_DIGITS: Final = to_translate("Enter the six-digit code")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nobody was signed in. Every such page offers a new code."""

    status: int
    title: str
    lead: str


OVER: Final = Refusal(
    410,
    to_translate("This code no longer works"),
    to_translate("A code works once, for 10 minutes and three tries. Get a new one here."),
)
REFUSALS: Final = {
    410: Refusal(
        410,
        to_translate("This link has expired"),
        to_translate("It works for a few minutes only. Get a new code here."),
    ),
    409: Refusal(
        409,
        to_translate("This link was already used"),
        to_translate("It works once. To sign in again, get a new code here."),
    ),
    404: Refusal(
        404,
        to_translate("We cannot read this link"),
        to_translate("Part of it may be missing. Open it from the email again, or get a new code here."),
    ),
}


@blueprint.get("/sign-in", strict_slashes=False)
def ask() -> Response:
    """The box for the address, and the buttons for accounts elsewhere."""
    return _ask(ended="ended" in request.args, unsaved="lapsed" in request.args)


@blueprint.post("/sign-in", strict_slashes=False)
@limiter.limit(EMAIL_REQUESTS)
def begin() -> Response:
    """Order the letter with the code, whether anybody has this address or not."""
    services = current_services()
    typed = request.form.get("address", "")
    address = typed_address(typed)
    if address is None:
        return _ask(value=typed, error=ENTER_EMAIL)
    brand = brand_here(services, request)
    sign_in_id = services.database.save(_begin, services, address, brand=brand, spoken=spoken_in(request, brand))
    # A page of its own, so that going back to it, or loading it again, orders no second letter.
    place = f"{services.root_of(brand)}/sign-in/code/{sign_in_id}{spoken_in(request, brand).query}"
    return Response(status=303, headers={"Location": place})


def _begin(save: Save, services: Services, address: Address, *, brand: Brand, spoken: Spoken) -> UUID:
    now = datetime.now(UTC)
    sign_in_id = sign_ins.begin(save, services.fingerprints.of(address), now)
    wanted = Order(
        kind=EmailKind.SIGN_IN,
        address=address.value,
        mailbox=services.fingerprints.of(mailbox_of(address)),
        brand=brand.slug,
        language=spoken.language,
        details={"sign_in": str(sign_in_id)},
    )
    outbox.order(save, wanted, now)
    return sign_in_id


@blueprint.get("/sign-in/code/<ref>")
def ask_for_code(ref: str) -> Response:
    """The box for the code, whether there is such a sign-in or not: the address says nothing about anybody."""
    sign_in_id = _read_id(ref)
    return refused(OVER) if sign_in_id is None else _code_page(sign_in_id)


@blueprint.post("/sign-in/code/<ref>")
@limiter.limit(GUESSES)
def try_code(ref: str) -> Response:
    """Try a code. One that cannot be right is no try."""
    refuse_other_sites()
    services = current_services()
    sign_in_id, code = _read_id(ref), read_code(request.form.get("code", ""))
    if sign_in_id is None:
        return refused(OVER)
    if code is None:
        return _code_page(sign_in_id, error=SIX_DIGITS)
    digest = services.links.code_digest(sign_in_id, code)
    tried = services.database.save(sign_ins.try_code, sign_in_id, lambda: digest, datetime.now(UTC))
    if tried.outcome is CodeOutcome.RIGHT and tried.used is not None:
        return _enter_by(services, tried.used, "code")
    return refused(OVER) if tried.outcome is CodeOutcome.OVER else _code_page(sign_in_id, left=tried.left)


def read_code(typed: str) -> str | None:
    """The six digits, in whichever script and however spaced; None for what is no code."""
    digits = "".join(str(int(one)) if one.isdecimal() else one for one in typed if not one.isspace() and one != "-")
    return digits if re.fullmatch("[0-9]{6}", digits) else None


def _read_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@by_email.get("/sign-in/link/<token>", strict_slashes=False)
def show_link(token: str) -> Response:
    """One button."""
    return page("link.html", here=f"/sign-in/link/{trim(token)}")


@by_email.post("/sign-in/link/<token>", strict_slashes=False)
def use_link(token: str) -> Response:  # noqa: ARG001 - the guard has read it
    """Sign in, once."""
    refuse_other_sites()
    services = current_services()
    return _enter_by(services, services.database.save(sign_ins.use_link, g.link.id, datetime.now(UTC)), "link")


@handing_over.get("/sign-in/hand-off/<token>", strict_slashes=False)
def show_hand_off(token: str) -> Response:
    """One button."""
    return page("hand_off.html", here=f"/sign-in/hand-off/{token}")


@handing_over.post("/sign-in/hand-off/<token>", strict_slashes=False)
def use_hand_off(token: str) -> Response:
    """Sign in, once."""
    refuse_other_sites()
    services = current_services()
    services.database.save(sign_ins.use_once, token, datetime.now(UTC))
    if _is_ended(services, g.link.id, g.link.issued_at):
        raise StaleLink("ended by its owner")
    return enter(services, g.link.id, "hand_off", may_opt_in=g.link.may_opt_in)


@by_email.errorhandler(BadLink)
@by_email.errorhandler(NotAllowed)
@by_email.errorhandler(StaleLink)
@handing_over.errorhandler(BadLink)
@handing_over.errorhandler(NotAllowed)
@handing_over.errorhandler(StaleLink)
def refuse_link(error: Exception) -> Response:
    """Say why the link does not work, and offer a code."""
    return refused(REFUSALS[errors.status_of(error)])


@leaving.post("/sign-in/out")
def sign_out() -> Response:
    """End the session in this browser."""
    require_token()
    session.sign_out()
    return page("signed_out.html", everywhere=False)


@leaving.post("/sign-in/out-everywhere")
def sign_out_everywhere() -> Response:
    """End every session and every manage link of this person."""
    require_token()
    services = current_services()
    brand = brand_here(services, request)
    session.end_links(services, g.standing, brand, spoken_in(request, brand))
    session.sign_out()
    return page("signed_out.html", everywhere=True)


def _enter_by(services: Services, used: Used, way: str) -> Response:
    contact_id = services.database.read(contacts.find_by_fingerprint, used.fingerprint)
    if contact_id is None:
        return nobody()
    if _is_ended(services, contact_id, used.began_at):
        return refused(OVER)
    return enter(services, contact_id, way)


def _is_ended(services: Services, contact_id: UUID, began_at: datetime) -> bool:
    """Whether the contact has since ended everything that signs them in."""
    revoked_at = services.database.read(sign_ins.revoked_at, contact_id)
    return revoked_at is not None and began_at <= revoked_at


def enter(
    services: Services, contact_id: UUID, way: str, spoken: Spoken | None = None, *, may_opt_in: bool = True
) -> Response:
    """Begin the session, and show the person their own page."""
    session.sign_in(contact_id, way, may_opt_in=may_opt_in)
    brand = brand_here(services, request)
    query = (spoken or spoken_in(request, brand)).query
    return Response(status=303, headers={"Location": f"{services.root_of(brand)}/account/{query}"})


def nobody() -> Response:
    """Proven, and nobody we know: there is nothing to show, and a way to begin."""
    return page("no_contact.html", status=404)


def refused(refusal: Refusal) -> Response:
    """Nobody was signed in. Says why, and offers a new code."""
    return page("refused.html", status=refusal.status, title=refusal.title, lead=refusal.lead)


def _ask(*, value: str = "", error: str | None = None, ended: bool = False, unsaved: bool = False) -> Response:
    providers = {name: one.label for name, one in current_services().sign_in_providers.items()}
    status = 400 if error else 200
    return page(
        "sign_in.html",
        status=status,
        value=value,
        error=error,
        ended=ended,
        unsaved=unsaved,
        providers=providers,
    )


def _code_page(sign_in_id: UUID, *, error: str | None = None, left: int = 0) -> Response:
    status, here = 400 if error or left else 200, f"/sign-in/code/{sign_in_id}"
    return page("code.html", status=status, here=here, sign_in_id=sign_in_id, error=error, left=left)


def page(template: str, *, status: int = 200, here: str = "/sign-in", **context: Any) -> Response:
    """A page about signing in, of the brand whose place this is."""
    services = current_services()
    brand = brand_here(services, request)
    here = f"{services.root_of(brand)}{here}"
    spoken = spoken_in(request, brand)
    return render(services, f"account/{template}", brand=brand, spoken=spoken, status=status, here=here, **context)
