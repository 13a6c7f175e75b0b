"""The confirm link: `/confirm/<token>`.

Invariants: GET writes nothing; a link counts once; a newer opt-out outweighs it; the wording shown is the wording
stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flask import Blueprint, g, request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.addresses import mask
from preferences.domain.errors import BadLink, StaleLink
from preferences.domain.preference_form import Aspect, Change
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import Channel
from preferences.people import preferences
from preferences.people.preferences import Confirmation, Saved
from preferences.people.rate_limits import confirmations
from preferences.services import Services
from preferences.tokens import trim
from preferences.web.shared.evidence import evidence_of
from preferences.web.shared.preference_page import wording
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in

SOMETHING_NEWER: Final = 409

blueprint = Blueprint("confirm", __name__)


@blueprint.get("/confirm/<token>", strict_slashes=False)
def show(token: str) -> Response:
    services = current_services()
    asked = _read(services, token)
    return _over(services, token, asked) or _ask(services, token, asked)


@blueprint.post("/confirm/<token>", strict_slashes=False)
def confirm(token: str) -> Response:
    services = current_services()
    asked = _read(services, token)
    confirmations.check(asked.ref)
    if over := _over(services, token, asked):
        return over
    return _done(services, token, asked, preferences.confirm(services, asked, evidence_of(request)))


@blueprint.errorhandler(StaleLink)
def expired(_error: StaleLink) -> Response:
    return _unusable("confirm/expired.html", 410)


@blueprint.errorhandler(BadLink)
def broken(_error: BadLink) -> Response:
    """A truncated link: offer the way back to its purpose."""
    return _unusable("confirm/broken.html", 404)


def _unusable(template: str, status: int) -> Response:
    services = current_services()
    brand = brand_here(services, request)
    return render(services, template, brand=brand, spoken=spoken_in(request, brand), status=status)


def _read(services: Services, token: str) -> Confirmation:
    spoken = spoken_in(request, g.brand)
    return preferences.read_confirmation(services, token, link=g.link, brand=g.brand, spoken=spoken)


def _over(services: Services, token: str, asked: Confirmation) -> Response | None:
    """The page for a used link, or one without possible changes."""
    if asked.earlier:
        return _already(services, token, asked)
    return None if asked.changes else _page(services, token, asked, "confirm/gone.html")


def _ask(services: Services, token: str, asked: Confirmation) -> Response:
    controls = [change.control for change in asked.changes]
    topics_only = all(control.aspect is Aspect.STATUS and not control.topic.startswith("@") for control in controls)
    wordings = _wordings(services, asked, asked.changes)
    return _page(services, token, asked, "confirm/ask.html", wordings=wordings, topics_only=topics_only)


def _done(services: Services, token: str, asked: Confirmation, saved: Saved) -> Response:
    stale = _wordings(services, asked, saved.stale)
    if not saved.recorded:
        return _page(services, token, asked, "confirm/stale.html", status=SOMETHING_NEWER, stale=stale)
    return _page(
        services,
        token,
        asked,
        "confirm/done.html",
        cannot_be_reached=asked.page.cannot_be_reached,
        started=_wordings(services, asked, saved.recorded),
        stale=stale,
        at=saved.entries[0].recorded_at,
        reference=reference_of(saved.entries[0].hash),
        manage=preferences.fresh_manage_path(services, asked.page),
    )


def _already(services: Services, token: str, asked: Confirmation) -> Response:
    return _page(
        services,
        token,
        asked,
        "confirm/already.html",
        now_at=_wordings(services, asked, asked.now),
        ended=asked.is_ended,
        at=asked.earlier[0].recorded_at,
        reference=reference_of(asked.earlier[0].hash),
        manage=preferences.fresh_manage_path(services, asked.page),
    )


def _wordings(services: Services, asked: Confirmation, changes: Sequence[Change]) -> list[str]:
    return [wording(services, asked.page, change) for change in changes]


def _page(
    services: Services, token: str, asked: Confirmation, template: str, *, status: int = 200, **context: Any
) -> Response:
    """`action` fixes the language, so that the wording shown is stored."""
    page = asked.page
    known = page.contact.current_addresses(Channel.EMAIL)
    return render(
        services,
        template,
        brand=page.brand,
        spoken=page.spoken,
        status=status,
        address=mask(known[0].address) if known else None,
        action=f"{services.root_of(page.brand)}/confirm/{trim(token)}?lang={page.spoken.language}",
        **context,
    )
