"""Rendering of pages behind the sign-in, after `guards.by_session`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import g, request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.records import Brand
from preferences.i18n import Spoken
from preferences.web.shared.evidence import evidence_of
from preferences.web.shared.forms import SessionForm
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in


def contact_id() -> UUID:
    signed_in: UUID = g.contact.contact_id
    return signed_in


def proof() -> dict[str, str]:
    """Evidence of an act, with the way of the sign-in."""
    return {**evidence_of(request), "signed_in_by": g.session.way}


def account_page(
    template: str,
    *,
    room: str,
    brand: Brand | None = None,
    spoken: Spoken | None = None,
    status: int = 200,
    here: str = "",
    **context: Any,
) -> Response:
    """`room` is the navigation entry: choices, history or addresses."""
    services = current_services()
    brand = brand or brand_here(services, request)
    return render(
        services,
        template,
        brand=brand,
        spoken=spoken or spoken_in(request, brand),
        status=status,
        here=here,
        room=room,
        token=SessionForm().hidden(),
        **context,
    )
