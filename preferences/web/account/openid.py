"""Sign-in with an OpenID provider: `/sign-in/with/<name>`.

Invariants: a sign-in ends once, in the browser where it began; until then only the session cookie is written; failures
are logged by kind only.
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
from preferences.people.sign_in import UnknownContact, sign_in_with_identity
from preferences.services import Services
from preferences.web.shared.forms import refuse_other_sites
from preferences.web.shared.limits import GUESSES, limiter
from preferences.web.shared.sign_in_page import Refusal, enter, refused, sign_in_page, unknown_contact
from preferences.web.shared.visit import brand_here, spoken_in

if TYPE_CHECKING:
    from preferences.people.oidc import Provider

log = structlog.get_logger(__name__)
blueprint = Blueprint("openid", __name__)

_ATTEMPT: Final = "elsewhere"

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
def begin(name: str) -> Response:
    """Send the browser to the provider with `Refresh`: `form-action 'self'` would block a redirected form."""
    refuse_other_sites()
    services = current_services()
    url, secrets = _provider(services, name).authorization()
    spoken = spoken_in(request, brand_here(services, request))
    session[_ATTEMPT] = secrets | {"name": name, "language": spoken.language, "query": spoken.query}
    answer = sign_in_page("with.html", url=url)
    answer.headers["Refresh"] = f"0; url={url}"
    return answer


@blueprint.get("/sign-in/with/<name>/callback")
def callback(name: str) -> Response:
    services = current_services()
    provider = _provider(services, name)
    attempt = session.pop(_ATTEMPT, None)
    if attempt is None or attempt["name"] != name:
        raise BadSignature("nothing began in this browser")
    address = provider.verified_address(attempt, request.args)
    spoken = Spoken(attempt["language"], attempt["query"])
    return enter(sign_in_with_identity(services, address, name), spoken)


def _provider(services: Services, name: str) -> Provider:
    """Raises NotFound."""
    settings = services.sign_in_providers.get(name)
    if settings is None:
        raise NotFound
    from preferences.people.oidc import Provider

    return Provider(settings, f"{services.url_of(brand_here(services, request))}/sign-in/with/{name}/callback")


@blueprint.errorhandler(TryLater)
@blueprint.errorhandler(NotAllowed)
@blueprint.errorhandler(BadSignature)
def refuse(error: Exception) -> Response:
    log.warning("sign-in elsewhere failed", kind=type(error).__name__, why=str(error))
    return refused({TryLater: AWAY, NotAllowed: UNVERIFIED}.get(type(error), FAILED))


blueprint.register_error_handler(UnknownContact, unknown_contact)
