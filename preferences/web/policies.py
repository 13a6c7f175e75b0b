"""Response headers by area, as data: caching, content security policy, framing, indexing.

Areas are assigned in the route map (`web/__init__.py`). Invariant: caching, framing, indexing and scripts are denied
unless an area allows them.
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
"""Own stylesheet, images and forms; no script."""

NOTHING: Final = "default-src 'none'; form-action 'none'; base-uri 'none'"
"""For responses other than pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The headers of an area. `may_be_framed` admits `EMBED_ORIGINS`.

    Referrer-Policy is not no-referrer, under which browsers send `Origin: null` with our own forms (Fetch standard,
    "serializing a request origin").
    """

    content: str
    may_be_framed: bool = False
    headers: Sequence[tuple[str, str]] = ()

    def headers_for(self, embed_origins: Sequence[str]) -> Sequence[tuple[str, str]]:
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
            # Browsers ignore it on plain http, so local trials are not locked into https.
            ("Strict-Transport-Security", "max-age=31536000"),
        ),
    )


PUBLIC: Final = _policy(OWN_PAGES)
"""Pages for recipients, sign-in, and error pages."""

ACCOUNT: Final = _policy(OWN_PAGES, may_be_framed=True)
"""Pages of signed-in contacts; the company's own pages may frame them."""

MACHINES: Final = _policy(NOTHING)
"""API, webhooks and probes."""

DOCS: Final = _policy(OWN_PAGES)

FILES: Final = _policy(NOTHING)
"""Stylesheets and images. Caching is set elsewhere (`SEND_FILE_MAX_AGE_DEFAULT`, `shared.brand_style`)."""


def register(app: Flask, by_blueprint: Mapping[str, Policy]) -> None:
    """Add the area's headers to every Flask response that does not set them."""
    origins = services_of(app).settings.embed_origins

    @app.after_request
    def complete(response: Response) -> Response:
        _keep_on_host(response)
        for name, value in _policy_of(response, by_blueprint).headers_for(origins):
            response.headers.setdefault(name, value)
        return response


def _policy_of(response: Response, by_blueprint: Mapping[str, Policy]) -> Policy:
    policy = FILES if request.endpoint == "static" else by_blueprint.get(request.blueprint or "", PUBLIC)
    # Error pages have a stylesheet and a form in every area.
    return PUBLIC if response.mimetype == "text/html" and policy in {MACHINES, FILES} else policy


def _keep_on_host(response: Response) -> None:
    """Make the router's own redirects relative: they name the requested host."""
    place = response.headers.get("Location", "")
    if place.startswith(request.host_url):
        response.headers["Location"] = "/" + place.removeprefix(request.host_url).lstrip("/")
