"""Response headers for each area of the site, as data: caching, content security policy, framing, indexing.

Owns the headers; which blueprint is in which area is in the route map (`web/__init__.py`). Invariant: nothing that a
browser keeps, frames, indexes or runs is allowed unless its area says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flask import Flask, request
from werkzeug.wrappers import Response

from preferences.current import services_of

NO_STORE: Final = "no-store"

OWN_PAGES: Final = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'"
"""Our stylesheet, our images and our forms, and no script."""

NOTHING: Final = "default-src 'none'; form-action 'none'; base-uri 'none'"
"""For what is no page: should a browser show it, it loads and sends nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The headers of one area. `may_be_framed` allows the pages of `EMBED_ORIGINS` to frame it.

    Referrer-Policy is same-origin and not no-referrer: under the latter browsers send `Origin: null` with our own forms
    (Fetch standard, "serializing a request origin"), which looks like an attack to whatever checks it.
    """

    content: str
    may_be_framed: bool = False
    headers: Sequence[tuple[str, str]] = ()

    def headers_for(self, embed_origins: Sequence[str]) -> Sequence[tuple[str, str]]:
        """The headers, where the company's own pages are at these origins."""
        if not (self.may_be_framed and embed_origins):
            return self.headers
        framed = ("Content-Security-Policy", f"{self.content}; frame-ancestors {' '.join(embed_origins)}")
        return [framed if name == "Content-Security-Policy" else (name, value) for name, value in self.headers]


def _policy(content: str, *, may_be_framed: bool = False) -> Policy:
    return Policy(
        content=content,
        may_be_framed=may_be_framed,
        headers=(
            ("Cache-Control", NO_STORE),
            ("Content-Security-Policy", f"{content}; frame-ancestors 'none'"),
            ("Referrer-Policy", "same-origin"),
            ("X-Robots-Tag", "noindex, nofollow"),
            ("X-Content-Type-Options", "nosniff"),
            # Browsers ignore it on plain http, so a trial on this machine is not locked into https.
            ("Strict-Transport-Security", "max-age=31536000"),
        ),
    )


PUBLIC: Final = _policy(OWN_PAGES)
"""Pages for recipients, signing in, and every error page."""

ACCOUNT: Final = _policy(OWN_PAGES, may_be_framed=True)
"""Pages of a signed-in contact, the hand-off and the end: the company's own pages may frame them."""

MACHINES: Final = _policy(NOTHING)
"""The API, webhooks and probes."""

DOCS: Final = _policy(OWN_PAGES)
"""The API's description."""

FILES: Final = _policy(NOTHING)
"""Stylesheets and images. What may be cached says so itself (`SEND_FILE_MAX_AGE_DEFAULT`, `shared.brand_style`)."""


def register(app: Flask, by_blueprint: Mapping[str, Policy]) -> None:
    """Give every response that leaves through Flask the headers of its area that it does not set itself."""
    origins = services_of(app).settings.embed_origins

    @app.after_request
    def complete(response: Response) -> Response:
        _keep_on_host(response)
        for name, value in _policy_of(response, by_blueprint).headers_for(origins):
            response.headers.setdefault(name, value)
        return response


def _policy_of(response: Response, by_blueprint: Mapping[str, Policy]) -> Policy:
    policy = FILES if request.endpoint == "static" else by_blueprint.get(request.blueprint or "", PUBLIC)
    # An error page has our stylesheet and a form, wherever it stands.
    return PUBLIC if response.mimetype == "text/html" and policy in {MACHINES, FILES} else policy


def _keep_on_host(response: Response) -> None:
    """The router's own redirects name the host that was called: make them relative to it."""
    place = response.headers.get("Location", "")
    if place.startswith(request.host_url):
        response.headers["Location"] = "/" + place.removeprefix(request.host_url).lstrip("/")
