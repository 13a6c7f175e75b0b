"""The short way to the unsubscribe link: a plain WSGI function in front of Flask.

Owns which requests take it: GET, HEAD and POST of `/u/<token>`, the two that come in millions. It calls the very
function that Flask's route calls, without the sessions, hooks and contexts that the link does not need. Without this
module everything works the same, at about half the speed; a test compares the two answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from werkzeug.wrappers import Request

from preferences.domain.errors import StoreBusy
from preferences.site import Site
from preferences.web import errors, unsubscribe
from preferences.web.pages import PAGE_HEADERS
from preferences.web.visits import BRAND_KEY

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX: Final = "/u/"
METHODS: Final = frozenset({"GET", "HEAD", "POST"})


class Front:
    """Answers the link itself and hands everything else to Flask."""

    def __init__(self, behind: WSGIApplication, site: Site) -> None:
        self._behind = behind
        self._site = site

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        _enter_folder(environ, self._site)
        token = _token(environ)
        if token is None:
            return self._behind(environ, start_response)
        try:
            response = unsubscribe.link(self._site, Request(environ), token)
        except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, a page that helps
            response = errors.page_for(self._site, Request(environ), error)
        # Not `response(environ, start_response)`: werkzeug would check and copy each header once more.
        start_response(response.status, [*response.headers.to_wsgi_list(), *PAGE_HEADERS])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.get_data()]


def _enter_folder(environ: WSGIEnvironment, site: Site) -> None:
    """Take a brand's folder off the path, and leave the brand's slug for `web.visits`."""
    path: str = environ.get("PATH_INFO", "")
    folder = path[1:].partition("/")[0]
    if len(folder) <= 1:  # no brand has a folder so short, and the link that comes in millions is `/u/…`
        return
    try:
        brands = site.catalog.get().brands.values()
    except StoreBusy:
        last = site.catalog.last()
        brands = (last.brands if last else {}).values()
    slug = next((brand.slug for brand in brands if brand.path == folder), None)
    if slug is not None:
        environ[BRAND_KEY] = slug
        environ["SCRIPT_NAME"] = f"{environ.get('SCRIPT_NAME', '')}/{folder}"
        environ["PATH_INFO"] = path[len(folder) + 1 :] or "/"


def _token(environ: WSGIEnvironment) -> str | None:
    path: str = environ.get("PATH_INFO", "")
    if not path.startswith(PREFIX) or environ["REQUEST_METHOD"] not in METHODS:
        return None
    token = path[len(PREFIX) :].removesuffix("/")
    return token if token and "/" not in token else None
