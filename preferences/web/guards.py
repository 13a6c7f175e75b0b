"""Who may come in: one guard for each blueprint, named beside it in the route map (`web/__init__.py`).

Owns authentication. Invariant: a blueprint without a guard does not start; a test proves it for every route.
"""

from __future__ import annotations

from datetime import UTC, datetime

from flask import current_app, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain.errors import StoreBusy
from preferences.store import contact_state
from preferences.store.api_keys import digest_of, find_key
from preferences.web.account import session
from preferences.web.api.operations import OPERATIONS, MissingScope
from preferences.web.shared.limits import check_api_limit
from preferences.web.shared.visit import brand_here, spoken_in


def open_to_all() -> None:
    """Anybody: nothing here tells or changes anything about a person beyond what they type themselves."""


def by_link() -> None:
    """Whoever holds the signed link. The view reads the link first; nothing else can be done without."""


def by_signature() -> None:
    """A provider, by its signature over the raw body. The view verifies before it parses."""


def by_api_key() -> None:
    """A sending system, by its bearer key, for what the key's scopes cover. The key is left in `g.api_key`, which is
    None when the database is away: a decision can still be answered then, and says nothing about anybody."""
    g.api_key = None
    asked = OPERATIONS[request.endpoint or ""]
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Unauthorized(www_authenticate=WWWAuthenticate("bearer"))
    try:
        g.api_key = current_services().database.read(find_key, digest_of(text.strip()), datetime.now(UTC))
    except StoreBusy:
        if asked.without_database:
            return
        raise
    if g.api_key is None:
        raise Unauthorized(www_authenticate=WWWAuthenticate("bearer", {"error": "invalid_token"}))
    if asked.scope is not None and asked.scope not in g.api_key.scopes:
        detail = f"the key has no scope {asked.scope}; `flask api-key list` shows those it has"
        raise MissingScope([("scope", detail)])
    if not asked.unlimited:
        check_api_limit(current_services().settings.api_limit, g.api_key.name)
    call = (request.endpoint or "").removeprefix("api.")
    metrics.API_CALLS.labels(g.api_key.name, call, str(g.api_key.is_old).lower()).inc()


def by_session() -> Response | None:
    """Somebody who has signed in a short while ago; others are shown the way. What the view needs is left in
    `g.session` and `g.standing`."""
    current = session.current_session()
    services = current_services()
    if current is not None:
        standing = services.database.read(contact_state.standing_of, current.contact_id)
        if not session.is_void(current, standing):
            g.session, g.standing = current, standing
            return None
        session.sign_out()
    brand = brand_here(services, request)
    place = f"{services.root_of(brand)}/sign-in{spoken_in(request, brand).query}"
    return Response(status=303, headers={"Location": place + _why("&" if "?" in place else "?")})


def _why(separator: str) -> str:
    """What the sign-in page has to explain: a press that did nothing, or a session that has ended meanwhile."""
    if request.method == "POST":
        return f"{separator}lapsed=1"
    name = current_app.config["SESSION_COOKIE_NAME"]
    return f"{separator}ended=1" if name in request.cookies else ""
