"""Where a request arrived and what it speaks: the brand of the place, and the language of the answer.

Owns both choices. Invariant: they come from the address and from `Accept-Language` alone, so they need no cookie.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header
from werkzeug.wrappers import Request

from preferences.domain.terms import LANGUAGES, Brand
from preferences.languages import Spoken, choose
from preferences.site import Site

BRAND_KEY: Final = "preferences.brand"
"""Where `web.front` leaves the slug of the brand in whose folder the request arrived."""


def brand_here(site: Site, request: Request) -> Brand:
    """The brand whose place this is: by its folder, by its host, else the first one. Raises StoreBusy."""
    catalog = site.catalog.get()
    slug: str = request.environ.get(BRAND_KEY, "")
    if slug in catalog.brands:
        return catalog.brands[slug]
    host = request.host.partition(":")[0].lower()
    by_host = {brand.host: brand for brand in catalog.brands.values() if brand.host}
    return by_host.get(host, catalog.first_brand)


def spoken_in(request: Request, brand: Brand | None) -> Spoken:
    """The language of the answer to this request."""
    asked = request.args.get("lang") if request.query_string else None
    return choose(
        asked, _accepted(request.headers.get("Accept-Language", "")), brand.language if brand else LANGUAGES[0]
    )


@lru_cache(maxsize=1_000)
def _accepted(header: str) -> tuple[str, ...]:
    """The languages of the header, the dearest first. There are few different headers, and each is read once."""
    accepted = parse_accept_header(header, LanguageAccept)
    return tuple(tag for tag, quality in accepted if quality > 0)
