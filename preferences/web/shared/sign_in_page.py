"""Answers common to all ways of signing in.

Invariant: a refusal offers another way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import request
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.i18n import Spoken
from preferences.people.sign_in import SignedIn
from preferences.web.account import session
from preferences.web.shared.render import render
from preferences.web.shared.visit import brand_here, spoken_in


@dataclass(frozen=True, slots=True)
class Refusal:
    """The status, title and first paragraph of a refusal."""

    status: int
    title: str
    lead: str


def sign_in_page(template: str, *, status: int = 200, here: str = "/sign-in", **context: Any) -> Response:
    """A sign-in page in the look of the brand at this URL."""
    services = current_services()
    brand = brand_here(services, request)
    here = f"{services.root_of(brand)}{here}"
    spoken = spoken_in(request, brand)
    return render(services, f"account/{template}", brand=brand, spoken=spoken, status=status, here=here, **context)


def refused(refusal: Refusal) -> Response:
    return sign_in_page("refused.html", status=refusal.status, title=refusal.title, lead=refusal.lead)


def unknown_contact(_error: Exception) -> Response:
    """Error handler: the verified address belongs to no contact."""
    return sign_in_page("no_contact.html", status=404)


def enter(signed_in: SignedIn, spoken: Spoken | None = None) -> Response:
    """Start the session and redirect to the preference page."""
    session.begin(signed_in)
    services = current_services()
    brand = brand_here(services, request)
    query = (spoken or spoken_in(request, brand)).query
    return Response(status=303, headers={"Location": f"{services.root_of(brand)}/account/{query}"})
