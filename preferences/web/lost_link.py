"""The lost link: type your address, and get a fresh link to your choices.

Owns `/link`. Invariant: the answer, and the time that it takes, are the same for an address that we know and for one
that we do not: whether there is anybody to write to is found out later, by the worker.
"""

from __future__ import annotations

from flask import Blueprint, request
from werkzeug.wrappers import Response

from preferences.domain.letters import LetterKind
from preferences.site import Site, current_site
from preferences.web.limits import limiter
from preferences.web.optout import HOW_TO_WRITE
from preferences.web.pages import render
from preferences.web.postbox import LETTERS, ask_for_letter, typed_address
from preferences.web.visits import brand_here, spoken_in

blueprint = Blueprint("lost_link", __name__)


@blueprint.get("/link")
def ask() -> Response:
    """The field."""
    return _page(current_site(), "lost_link/form.html", value="", error=None)


@blueprint.post("/link")
@limiter.limit(LETTERS)
def order() -> Response:
    """Order the letter with the link."""
    site, typed = current_site(), request.form.get("address", "")
    address = typed_address(typed)
    if address is None:
        return _page(site, "lost_link/form.html", status=400, value=typed, error=HOW_TO_WRITE)
    brand = brand_here(site, request)
    spoken = spoken_in(request, brand)
    ask_for_letter(site, LetterKind.MANAGE_LINK, address, brand=brand, spoken=spoken, details={})
    return _page(site, "lost_link/sent.html")


def _page(site: Site, template: str, *, status: int = 200, **context: str | None) -> Response:
    brand = brand_here(site, request)
    return render(
        site,
        template,
        brand=brand,
        spoken=spoken_in(request, brand),
        status=status,
        here=f"{site.root_of(brand)}/link",
        **context,
    )
