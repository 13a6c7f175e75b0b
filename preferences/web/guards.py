"""Authentication: one guard per blueprint, assigned in the route map (`web/__init__.py`).

A guard runs before the view and puts what it proved in `flask.g`. Invariant: the site does not start with an unguarded
blueprint; only `open_to_all` proves nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

from flask import current_app, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain.errors import BadLink, StoreBusy
from preferences.domain.records import Brand
from preferences.people.sign_in import SubjectKind
from preferences.store import contact_state
from preferences.store.api_keys import digest_of, find_key
from preferences.web import signatures
from preferences.web.account import session
from preferences.web.api.operations import OPERATIONS, MissingScope
from preferences.web.shared.limits import check_api_limit
from preferences.web.shared.visit import brand_here, spoken_in


def open_to_all() -> None:
    """For pages that neither reveal nor change anything beyond the request's own data."""


def by_unsubscribe_link() -> None:
    """Sets `g.link`. Raises BadLink."""
    g.link = current_services().links.read_unsubscribe(_token())


def by_manage_link() -> None:
    """Sets `g.link` and `g.brand`. Raises BadLink, StaleLink, StoreBusy."""
    g.link = current_services().links.read_manage(_token(), datetime.now(UTC))
    g.brand = _get_brand(g.link.brand)


def by_confirm_link() -> None:
    """Sets `g.link` and `g.brand`. Raises BadLink, StaleLink, StoreBusy."""
    g.link = current_services().links.read_confirm(_token(), datetime.now(UTC))
    g.brand = _get_brand(g.link.brand)


def by_address_link() -> None:
    """Sets `g.link`, the ticket of an address request. Raises BadLink, StaleLink."""
    g.link = current_services().links.read_address(_token(), datetime.now(UTC))


def by_sign_in_link() -> None:
    """Sets `g.link`, the ticket of a sign-in. Raises BadLink, StaleLink."""
    g.link = current_services().links.read_sign_in(_token(), datetime.now(UTC))


def by_hand_off() -> None:
    """Sets `g.link`, the hand-off. Raises BadLink, StaleLink."""
    g.link = current_services().links.read_hand_off(_token(), datetime.now(UTC))


def by_signature() -> None:
    """Sets `g.connector`, and `g.report` for a verified report.

    Raises NotFound for an unknown connector; BadSignature, BadPayload and NoThreadFree for a report.
    """
    g.connector = signatures.get_connector(current_app, (request.view_args or {})["name"])
    if request.method == "POST":
        g.report = signatures.read_verified(g.connector, request, public_url=current_services().settings.public_url)


def by_api_key() -> None:
    """Sets `g.api_key` after checking scopes and rate limit.

    It is None while the database is away, for calls that work without it and then reveal nothing about anybody.
    """
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
    """Sets `g.session` and `g.contact`, or redirects to the sign-in."""
    current = session.current_session()
    services = current_services()
    if current is not None and current.subject.kind is SubjectKind.CONTACT:
        contact = services.database.read(contact_state.state_of, current.subject.id)
        if not session.is_void(current, contact):
            g.session, g.contact = current, contact
            return None
        session.end()
    brand = brand_here(services, request)
    place = f"{services.root_of(brand)}/sign-in{spoken_in(request, brand).query}"
    return Response(status=303, headers={"Location": place + _reason("&" if "?" in place else "?")})


def _reason(separator: str) -> str:
    """The sign-in page's explanation: unsaved form or ended session."""
    if request.method == "POST":
        return f"{separator}lapsed=1"
    name = current_app.config["SESSION_COOKIE_NAME"]
    return f"{separator}ended=1" if name in request.cookies else ""


def _token() -> str:
    token: str = (request.view_args or {})["token"]
    return token


def _get_brand(slug: str) -> Brand:
    """Raises BadLink for a deleted brand."""
    brand = current_services().catalog.get().brands.get(slug)
    if brand is None:
        raise BadLink("a brand that no longer exists")
    return brand
