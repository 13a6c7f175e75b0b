"""Error pages and problem documents.

Invariants: every page offers another way out; no answer or log line repeats request data.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from flask import Flask, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain.errors import BadAddress, BadLink, NotAllowed, StaleLink, StoreBusy, TooOften
from preferences.domain.records import Brand
from preferences.i18n import to_translate
from preferences.services import Services
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

log = structlog.get_logger(__name__)

BUSY_SECONDS: Final = "30"


@dataclass(frozen=True, slots=True)
class Message:
    """Text of an error page, translated by the template; `%(us)s` is a contact address.

    `address_box` offers the opt-out form, `retry` another try.
    """

    title: str
    lead: str
    address_box: bool = False
    retry: bool = False


UNREAD: Final = to_translate("We could not read that request")
UNCHANGED: Final = to_translate("Nothing was changed. You can unsubscribe here.")

MESSAGES: Final = {
    400: Message(UNREAD, UNCHANGED, address_box=True),
    404: Message(
        to_translate("We cannot find that page"),
        to_translate(
            "This link is incomplete or no longer valid."
            " You can still unsubscribe: enter your address, or write to %(us)s."
        ),
        address_box=True,
    ),
    405: Message(to_translate("That does not work here"), UNCHANGED, address_box=True),
    408: Message(UNREAD, UNCHANGED, address_box=True, retry=True),
    409: Message(
        to_translate("That can no longer be undone"),
        to_translate("Nothing was changed. You can undo once, and only if nothing has changed since."),
        address_box=True,
    ),
    410: Message(
        to_translate("This link has expired"),
        to_translate(
            "Nothing was changed. The choice you made still counts. You can also unsubscribe from everything here."
        ),
        address_box=True,
    ),
    411: Message(UNREAD, UNCHANGED, address_box=True),
    413: Message(to_translate("Your entry is too long"), UNCHANGED, address_box=True),
    415: Message(UNREAD, UNCHANGED, address_box=True),
    429: Message(
        to_translate("Please wait a minute"),
        to_translate("Too many requests. Anything already saved still counts. Try again in a minute."),
        retry=True,
    ),
    500: Message(
        to_translate("Something went wrong on our side"),
        to_translate(
            "Your choice may not have been saved. Please try again (twice does no harm),"
            " or write to %(us)s and we will do it for you."
        ),
        retry=True,
    ),
    503: Message(
        to_translate("We cannot save your choice right now"),
        to_translate(
            "Your choice was not saved. Please try again in a minute, or write to %(us)s and we will do it for you."
        ),
        retry=True,
    ),
}


def status_of(error: Exception) -> int:
    match error:
        case HTTPException():
            return error.code or 500
        case StaleLink():
            return 410
        case BadLink():
            return 404
        case NotAllowed():
            return 409
        case BadAddress():
            return 400
        case TooOften():
            return 429
        case StoreBusy():
            return 503
        case _:
            return 500


def page_for(services: Services, request: Request, error: Exception) -> Response:
    """The page for an error. Unexpected ones are logged by kind and place, since their text might quote a value."""
    status = status_of(error)
    count_failure(error, status)
    message = MESSAGES.get(status, MESSAGES[500 if status >= 500 else 400])
    brand = _brand(services, request, status)
    response = render(
        services,
        "error.html",
        brand=brand,
        spoken=spoken_in(request, brand),
        status=status,
        here=_here(services, request, brand, status=status),
        title=message.title,
        lead=message.lead,
        address_box=message.address_box,
        retry=message.retry,
    )
    response.status_code = status
    return _with_headers(response, error, status)


def problem_for(error: Exception, status: int, title: str, **more: Any) -> Response:
    """RFC 9457."""
    count_failure(error, status)
    body = json.dumps({"type": "about:blank", "status": status, "title": title, **more})
    response = Response(body, status, content_type="application/problem+json")
    return _with_headers(response, error, status)


def _here(services: Services, request: Request, brand: Brand | None, *, status: int) -> str:
    """This page's URL in another language: its own unless GET fails there. A bad link gets the same page for every
    method."""
    return "" if request.method in {"GET", "HEAD"} or status == 404 else f"{services.root_of(brand)}/optout"


def _with_headers(response: Response, error: Exception, status: int) -> Response:
    if status in {429, 503}:
        response.headers["Retry-After"] = BUSY_SECONDS
    if isinstance(error, HTTPException):
        for name, value in error.get_headers():
            if name in {"Allow", "WWW-Authenticate"}:
                response.headers[name] = value
    return response


def count_failure(error: Exception, status: int) -> None:
    if status < 500:
        return
    metrics.FAILURES.labels(type(error).__name__).inc()
    place = _place_of(error)
    log.error("request failed", kind=type(error).__name__, status=status, place=place)


def _place_of(error: Exception) -> str:
    """The innermost line of our package in the traceback."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__", "").startswith("preferences"):
            place = f"{frame.f_globals['__name__']}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _brand(services: Services, request: Request, status: int) -> Brand | None:
    """The request's brand; after a database failure, the first cached one."""
    if status < 500:
        with suppress(StoreBusy, SQLAlchemyError, StopIteration):
            return brand_here(services, request)
    catalog = services.catalog.last()
    return next(iter(catalog.brands.values()), None) if catalog else None


TITLES: Final = {
    400: "The request could not be read",
    401: "A valid API key is needed",
    403: "This key may not do that",
    404: "There is nothing at this address",
    405: "This method is not offered here",
    408: "The body did not arrive in time",
    409: "Something else came in between",
    411: "Content-Length is needed",
    413: "The body is too large",
    415: "Only JSON is read here",
    422: "Some fields are wrong",
    429: "Too many requests",
    503: "The database cannot be reached",
}


def register(app: Flask) -> None:
    """Problem documents for the API, pages for the rest."""

    @app.errorhandler(Exception)
    def answer(error: Exception) -> Response:
        status = status_of(error)
        if request.path.startswith("/api/"):
            return problem_for(error, status, TITLES.get(status, "Something went wrong on our side"))
        return page_for(current_services(), request, error)
