"""Sign-in by code, link or hand-off, and sign-out: `/sign-in` except `/sign-in/with`.

Invariants: known and unknown addresses get the same answer; GET of a link changes nothing; redirects never follow
request data.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from flask import Blueprint, g, request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.errors import BadLink, NotAllowed, StaleLink
from preferences.i18n import to_translate
from preferences.people import sign_in
from preferences.people.sign_in import CodeExpired, UnknownContact, WrongCode
from preferences.tokens import trim
from preferences.web.account import session
from preferences.web.shared import errors
from preferences.web.shared.forms import refuse_other_sites, require_token
from preferences.web.shared.limits import GUESSES, limiter
from preferences.web.shared.mail_request import EMAIL_REQUESTS, ENTER_EMAIL, typed_address
from preferences.web.shared.sign_in_page import Refusal, enter, refused, sign_in_page, unknown_contact
from preferences.web.shared.visit import brand_here, spoken_in

blueprint = Blueprint("sign_in", __name__)
by_email = Blueprint("sign_in_link", __name__)
handing_over = Blueprint("hand_off", __name__)
leaving = Blueprint("leaving", __name__)

SIX_DIGITS: Final = to_translate("Enter the six-digit code")

CODE_EXPIRED: Final = Refusal(
    410,
    to_translate("This code no longer works"),
    to_translate("A code works once, for 10 minutes and three tries. Get a new one here."),
)
REFUSED_LINKS: Final = {
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
    return _form(ended="ended" in request.args, unsaved="lapsed" in request.args)


@blueprint.post("/sign-in", strict_slashes=False)
@limiter.limit(EMAIL_REQUESTS)
def request_code() -> Response:
    services = current_services()
    typed = request.form.get("address", "")
    address = typed_address(typed)
    if address is None:
        return _form(value=typed, error=ENTER_EMAIL)
    brand = brand_here(services, request)
    spoken = spoken_in(request, brand)
    sign_in_id = sign_in.request_code(services, address, brand=brand.slug, language=spoken.language)
    # A redirect, so that a reload does not send a second email.
    place = f"{services.root_of(brand)}/sign-in/code/{sign_in_id}{spoken.query}"
    return Response(status=303, headers={"Location": place})


@blueprint.get("/sign-in/code/<ref>")
def ask_for_code(ref: str) -> Response:
    """The same page for known and unknown ids."""
    return _code_page(_read_id(ref))


@blueprint.post("/sign-in/code/<ref>")
@limiter.limit(GUESSES)
def try_code(ref: str) -> Response:
    """Malformed codes do not count as tries."""
    refuse_other_sites()
    sign_in_id, code = _read_id(ref), read_code(request.form.get("code", ""))
    if code is None:
        return _code_page(sign_in_id, error=SIX_DIGITS)
    try:
        return enter(sign_in.sign_in_with_code(current_services(), sign_in_id, code))
    except WrongCode as wrong:
        return _code_page(sign_in_id, left=wrong.left)


def read_code(typed: str) -> str | None:
    """Six digits, in any script and spacing, or None."""
    digits = "".join(
        str(int(character)) if character.isdecimal() else character
        for character in typed
        if not character.isspace() and character != "-"
    )
    return digits if re.fullmatch("[0-9]{6}", digits) else None


def _read_id(text: str) -> UUID:
    """Raises CodeExpired."""
    try:
        return UUID(text)
    except ValueError:
        raise CodeExpired("not the id of a sign-in") from None


@by_email.get("/sign-in/link/<token>", strict_slashes=False)
def show_link(token: str) -> Response:
    return sign_in_page("link.html", here=f"/sign-in/link/{trim(token)}")


@by_email.post("/sign-in/link/<token>", strict_slashes=False)
def use_link(token: str) -> Response:  # noqa: ARG001 - the guard has read it
    refuse_other_sites()
    return enter(sign_in.sign_in_with_link(current_services(), g.link))


@handing_over.get("/sign-in/hand-off/<token>", strict_slashes=False)
def show_hand_off(token: str) -> Response:
    return sign_in_page("hand_off.html", here=f"/sign-in/hand-off/{token}")


@handing_over.post("/sign-in/hand-off/<token>", strict_slashes=False)
def use_hand_off(token: str) -> Response:
    refuse_other_sites()
    return enter(sign_in.sign_in_with_hand_off(current_services(), g.link, token))


def refuse_link(error: Exception) -> Response:
    return refused(REFUSED_LINKS[errors.status_of(error)])


def refuse_code(_error: Exception) -> Response:
    return refused(CODE_EXPIRED)


for _area in (blueprint, by_email, handing_over):
    _area.register_error_handler(CodeExpired, refuse_code)
    _area.register_error_handler(UnknownContact, unknown_contact)
for _area in (by_email, handing_over):
    for _error in (BadLink, NotAllowed, StaleLink):
        _area.register_error_handler(_error, refuse_link)


@leaving.post("/sign-in/out")
def sign_out() -> Response:
    require_token()
    session.end()
    return sign_in_page("signed_out.html", everywhere=False)


@leaving.post("/sign-in/out-everywhere")
def sign_out_everywhere() -> Response:
    require_token()
    services = current_services()
    brand = brand_here(services, request)
    language = spoken_in(request, brand).language
    sign_in.revoke_access(services, g.contact, brand=brand.slug, language=language)
    session.end()
    return sign_in_page("signed_out.html", everywhere=True)


def _form(*, value: str = "", error: str | None = None, ended: bool = False, unsaved: bool = False) -> Response:
    providers = {name: provider.label for name, provider in current_services().sign_in_providers.items()}
    return sign_in_page(
        "sign_in.html",
        status=400 if error else 200,
        value=value,
        error=error,
        ended=ended,
        unsaved=unsaved,
        providers=providers,
    )


def _code_page(sign_in_id: UUID, *, error: str | None = None, left: int = 0) -> Response:
    status, here = 400 if error or left else 200, f"/sign-in/code/{sign_in_id}"
    return sign_in_page("code.html", status=status, here=here, sign_in_id=sign_in_id, error=error, left=left)
