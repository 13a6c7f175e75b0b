"""A WSGI function in front of Flask: serves `/u/<token>` and strips brand folders.

Answers GET, HEAD and POST of the unsubscribe link as Flask's route does, without sessions, hooks and contexts: twice as
fast. Invariant: a link mailed under a folder works after the folder is changed or removed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Request

from preferences.domain.errors import StoreBusy
from preferences.domain.records import Brand
from preferences.domain.vocabulary import SHORTEST_FOLDER
from preferences.services import Services
from preferences.tokens import TOKEN_START
from preferences.web.hosts import is_ours
from preferences.web.policies import PUBLIC
from preferences.web.public import unsubscribe
from preferences.web.shared import errors
from preferences.web.shared.render import plain
from preferences.web.shared.visit import BRAND_KEY, brand_in

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX: Final = "/u/"
OLD_LINK: Final = re.compile(rf"/[a-z0-9][a-z0-9-]+/(u|p|confirm)/{TOKEN_START}")
"""A signed link in the folder of no brand."""
NOT_OURS: Final = plain("No page is served under this host name.\n", 400)
METHODS: Final = frozenset({"GET", "HEAD", "POST"})


class Front:
    """Answers the unsubscribe link; passes other requests to Flask."""

    def __init__(self, behind: WSGIApplication, services: Services, own_folders: frozenset[str]) -> None:
        self._behind = behind
        self._services = services
        self._own_folders = own_folders
        self._root = services.settings.root

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._root or not environ.get("PATH_INFO", "").startswith(PREFIX):
            self._enter_folder(environ)
        token = _token(environ)
        if token is not None:
            return self._answer_link(environ, start_response, token)
        if not is_ours(self._services, _brands(self._services), environ):
            return NOT_OURS(environ, start_response)
        return self._behind(environ, start_response)

    def _answer_link(self, environ: WSGIEnvironment, start_response: StartResponse, token: str) -> list[bytes]:
        services, request = self._services, Request(environ)
        try:
            link = services.links.read_unsubscribe(token)  # verified before a thread may wait for the body
            text, content_type = unsubscribe.respond(services, request, link=link, token=token)
            status, body = "200 OK", text.encode()
            headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        except Exception as error:  # noqa: BLE001 - every error gets an error page
            response = errors.page_for(services, request, error)
            status, headers, body = response.status, response.headers.to_wsgi_list(), response.get_data()
        start_response(status, [*headers, *PUBLIC.headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _enter_folder(self, environ: WSGIEnvironment) -> None:
        """Remove the site's path and the brand's folder from the path, and set the brand's slug for `shared.visit`.

        The site's own pages do not read brands: `/healthz` works without the database.
        """
        if self._root and environ.get("PATH_INFO", "").startswith(f"{self._root}/"):
            _step_into(environ, self._root)  # a proxy may leave it in place
        path: str = environ.get("PATH_INFO", "")
        folder = path[1:].partition("/")[0]
        if len(folder) < SHORTEST_FOLDER or folder in self._own_folders:
            return
        brand = brand_in(_brands(self._services), Request(environ).host, folder)
        if brand is not None:
            environ[BRAND_KEY] = brand.slug
            _step_into(environ, f"/{folder}")
        elif OLD_LINK.match(path):
            _step_into(environ, f"/{folder}")


def _brands(services: Services) -> Collection[Brand]:
    """The brands, cached ones if the database fails."""
    try:
        return services.catalog.get().brands.values()
    except (StoreBusy, SQLAlchemyError):
        last = services.catalog.last()
        return last.brands.values() if last else ()


def _step_into(environ: WSGIEnvironment, folder: str) -> None:
    environ["SCRIPT_NAME"] = f"{environ.get('SCRIPT_NAME', '')}{folder}"
    environ["PATH_INFO"] = environ["PATH_INFO"][len(folder) :] or "/"


def _token(environ: WSGIEnvironment) -> str | None:
    path: str = environ.get("PATH_INFO", "")
    if not path.startswith(PREFIX) or environ["REQUEST_METHOD"] not in METHODS:
        return None
    token = path[len(PREFIX) :].removesuffix("/")
    return token if token and "/" not in token else None
