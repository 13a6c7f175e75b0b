"""Authentication: one guard for each blueprint, named beside it in the route map (`web/__init__.py`).

A guard proves something about a request before any view runs, and leaves what it proved in `flask.g`. Invariant: a
blueprint without a guard does not start; `open_to_all` is the only guard that proves nothing.
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
    """Proves nothing. For what neither shows nor changes anything about a person beyond what the request says."""


def by_unsubscribe_link() -> None:
    """Leaves the signed link in `g.link`. Raises BadLink."""
    g.link = current_services().links.read_unsubscribe(_token())


def by_manage_link() -> None:
    """Leaves the signed link in `g.link`, and its brand in `g.brand`. Raises BadLink, StaleLink, StoreBusy."""
    g.link = current_services().links.read_manage(_token(), datetime.now(UTC))
    g.brand = _get_brand(g.link.brand)


def by_confirm_link() -> None:
    """Leaves the signed link in `g.link`, and its brand in `g.brand`. Raises BadLink, StaleLink, StoreBusy."""
    g.link = current_services().links.read_confirm(_token(), datetime.now(UTC))
    g.brand = _get_brand(g.link.brand)


def by_address_link() -> None:
    """Leaves the signed ticket of the request for a new address in `g.link`. Raises BadLink, StaleLink."""
    g.link = current_services().links.read_address(_token(), datetime.now(UTC))


def by_sign_in_link() -> None:
    """Leaves the signed ticket of the sign-in in `g.link`. Raises BadLink, StaleLink."""
    g.link = current_services().links.read_sign_in(_token(), datetime.now(UTC))


def by_hand_off() -> None:
    """Leaves the signed hand-off in `g.link`. Raises BadLink, StaleLink."""
    g.link = current_services().links.read_hand_off(_token(), datetime.now(UTC))


def by_signature() -> None:
    """Leaves the connector in `g.connector`, and a report whose signature was verified in `g.report`.

    Raises NotFound without such a connector, and BadSignature, BadPayload and NoThreadFree for a report.
    """
    g.connector = signatures.get_connector(current_app, (request.view_args or {})["name"])
    if request.method == "POST":
        g.report = signatures.read_verified(g.connector, request, public_url=current_services().settings.public_url)


def by_api_key() -> None:
    """Leaves the API key in `g.api_key`, after its scopes and its limit were checked.

    It is None while the database is away, for the calls that answer without it and say nothing about anybody then.
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
    """Leaves the session in `g.session`, and the contact's state in `g.contact`. Redirects others to the sign-in."""
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
    """What the sign-in page has to explain: a form that was not saved, or a session that has ended."""
    if request.method == "POST":
        return f"{separator}lapsed=1"
    name = current_app.config["SESSION_COOKIE_NAME"]
    return f"{separator}ended=1" if name in request.cookies else ""


def _token() -> str:
    token: str = (request.view_args or {})["token"]
    return token


def _get_brand(slug: str) -> Brand:
    """Raises BadLink for a brand that no longer exists."""
    brand = current_services().catalog.get().brands.get(slug)
    if brand is None:
        raise BadLink("a brand that no longer exists")
    return brand
