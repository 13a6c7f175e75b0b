"""Where a request arrived and what it speaks: the brand of the place, and the language of the answer.

Owns both choices. Invariant: they come from the address and from `Accept-Language` alone, so they need no cookie.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final

from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header
from werkzeug.wrappers import Request

from preferences.domain.records import Brand
from preferences.domain.vocabulary import LANGUAGES
from preferences.i18n import Spoken, choose
from preferences.services import Services
from preferences.web.hosts import host_name

BRAND_KEY: Final = "preferences.brand"
"""Where `web.front` leaves the slug of the brand in whose folder the request arrived."""

MOST_ACCEPTED: Final = 200
"""How many characters of `Accept-Language` are read: nobody reads forty languages, and what is read is remembered."""


def brand_here(services: Services, request: Request) -> Brand:
    """The brand whose place this is: by its folder, by its host, else the first one. Raises StoreBusy."""
    catalog = services.catalog.get()
    slug: str = request.environ.get(BRAND_KEY, "")
    if slug in catalog.brands:
        return catalog.brands[slug]
    host = host_name(request.host)
    here = [brand for brand in catalog.brands.values() if brand.host and brand.host == host]
    return min(here, key=lambda brand: brand.path, default=catalog.first_brand)


def brand_in(brands: Collection[Brand], host: str, folder: str) -> Brand | None:
    """The brand that has this folder: at this host, else at no host of its own, else anywhere.

    The last, because a page opened at a host that its brand once had must still find its own forms.
    """
    having = [brand for brand in brands if brand.path == folder]
    name = host_name(host)
    return min(having, key=lambda brand: (brand.host != name, brand.host != ""), default=None)


def spoken_in(request: Request, brand: Brand | None) -> Spoken:
    """The language of the answer to this request."""
    asked = request.args.get("lang") if request.query_string else None
    accepted = _accepted(request.headers.get("Accept-Language", "")[:MOST_ACCEPTED])
    return choose(asked, accepted, brand.language if brand else LANGUAGES[0])


@lru_cache(maxsize=1_000)
def _accepted(header: str) -> tuple[str, ...]:
    """The languages of the header, the dearest first. There are few different headers, and each is read once."""
    accepted = parse_accept_header(header, LanguageAccept)
    return tuple(tag for tag, quality in accepted if quality > 0)
