"""Who may come in: one guard for each blueprint, named beside it in the route map (`web/__init__.py`).

Owns authentication. Invariant: a blueprint without a guard does not start; a test proves it for every route.
"""

from __future__ import annotations

from flask import g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response

from preferences.domain.errors import StoreBusy
from preferences.site import current_site
from preferences.store import queries
from preferences.store.keys import digest_of, key_name
from preferences.web import identity
from preferences.web.visits import brand_here, spoken_in


def open_to_all() -> None:
    """Anybody: nothing here tells or changes anything about a person beyond what they type themselves."""


def by_link() -> None:
    """Whoever holds the signed link. The view reads the link first; nothing else can be done without."""


def by_signature() -> None:
    """A provider, by its signature over the raw body. The view verifies before it parses."""


def by_api_key() -> None:
    """A sending system, by its bearer key. Whether the database could be asked is left in `g.store_busy`."""
    g.key_name, g.store_busy = None, False
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized(www_authenticate=WWWAuthenticate("bearer"))
    digest = digest_of(key.strip())
    try:
        g.key_name = current_site().database.read(key_name, digest)
    except StoreBusy:
        # A decision can still be answered without the database, and says nothing about anybody then.
        g.store_busy = True
        return
    if g.key_name is None:
        raise Unauthorized(www_authenticate=WWWAuthenticate("bearer", {"error": "invalid_token"}))


def by_session() -> Response | None:
    """Somebody who has signed in a short while ago; others are shown the way. What the view needs is left in
    `g.session` and `g.standing`."""
    current = identity.current_session()
    site = current_site()
    if current is not None:
        standing = site.database.read(queries.standing_of, current.contact_id)
        if not identity.is_void(current, standing):
            g.session, g.standing = current, standing
            return None
        identity.sign_out()
    brand = brand_here(site, request)
    place = f"{site.root_of(brand)}/sign-in{spoken_in(request, brand).query}"
    # Whoever pressed a button must be told that it did nothing.
    lapsed = ("&" if "?" in place else "?") + "lapsed=1" if request.method == "POST" else ""
    return Response(status=303, headers={"Location": place + lapsed})
