"""Signing in with an account at a company's own provider: the way there and back.

Owns `/sign-in/with/<name>`. Invariants: what began in one browser ends in that browser, once; the only thing written is
its own cookie; no more than the kind of a failure is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from flask import Blueprint, request, session
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.errors import BadSignature, NotAllowed, TryLater
from preferences.i18n import Spoken, to_translate
from preferences.services import Services
from preferences.store import contacts
from preferences.web.account import sign_in
from preferences.web.account.sign_in import Refusal
from preferences.web.shared.forms import refuse_other_sites
from preferences.web.shared.limits import GUESSES, limiter
from preferences.web.shared.visit import brand_here, spoken_in

if TYPE_CHECKING:
    from preferences.people.oidc import Provider

log = structlog.get_logger(__name__)
blueprint = Blueprint("openid", __name__)

_KEPT: Final = "elsewhere"

AWAY: Final = Refusal(
    503,
    to_translate("We cannot reach your account right now"),
    to_translate("Nothing was changed. Try again in a few minutes, or sign in here with a code by email."),
)
UNVERIFIED: Final = Refusal(
    403,
    to_translate("Your email address is not confirmed there"),
    to_translate("Your account has not confirmed which address is yours. Sign in here with a code by email."),
)
FAILED: Final = Refusal(
    400,
    to_translate("You are not signed in"),
    to_translate("The sign-in was cancelled or ended in another browser. Start again here."),
)


@blueprint.post("/sign-in/with/<name>")
@limiter.limit(GUESSES)
def leave(name: str) -> Response:
    """Send the browser to the provider.

    By a page that goes on by itself, and not by a redirect: browsers hold a redirected form to the page's own policy,
    which lets forms go nowhere else.
    """
    refuse_other_sites()
    services = current_services()
    url, kept = _provider(services, name).leave()
    spoken = spoken_in(request, brand_here(services, request))
    session[_KEPT] = kept | {"name": name, "language": spoken.language, "query": spoken.query}
    answer = sign_in.page("with.html", url=url)
    answer.headers["Refresh"] = f"0; url={url}"
    return answer


@blueprint.get("/sign-in/with/<name>/callback")
def come_back(name: str) -> Response:
    """Sign in whom the provider vouches for."""
    services = current_services()
    provider = _provider(services, name)
    kept = session.pop(_KEPT, None)
    if kept is None or kept["name"] != name:
        raise BadSignature("nothing began in this browser")
    address = provider.come_back(kept, request.args)
    owner = services.database.read(contacts.find_owner, address, services.fingerprints)
    if owner is None:
        return sign_in.nobody()
    return sign_in.enter(services, owner, name, Spoken(kept["language"], kept["query"]))


def _provider(services: Services, name: str) -> Provider:
    settings = services.sign_in_providers.get(name)
    if settings is None:
        raise NotFound
    from preferences.people.oidc import Provider

    return Provider(settings, f"{services.url_of(brand_here(services, request))}/sign-in/with/{name}/callback")


@blueprint.errorhandler(TryLater)
@blueprint.errorhandler(NotAllowed)
@blueprint.errorhandler(BadSignature)
def refuse(error: Exception) -> Response:
    """Say what to do instead."""
    log.warning("sign-in elsewhere failed", kind=type(error).__name__, why=str(error))
    return sign_in.refused({TryLater: AWAY, NotAllowed: UNVERIFIED}.get(type(error), FAILED))
