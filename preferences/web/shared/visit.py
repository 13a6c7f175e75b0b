"""Brand and language of a request, from the URL and `Accept-Language` only: no cookies."""

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
"""WSGI key of the slug of the folder's brand, set by `web.front`."""

MOST_ACCEPTED: Final = 200
"""Characters of `Accept-Language` that are read; bounds the cache."""


def brand_here(services: Services, request: Request) -> Brand:
    """The brand by folder, else by host, else the first. Raises StoreBusy."""
    catalog = services.catalog.get()
    slug: str = request.environ.get(BRAND_KEY, "")
    if slug in catalog.brands:
        return catalog.brands[slug]
    host = host_name(request.host)
    here = [brand for brand in catalog.brands.values() if brand.host and brand.host == host]
    return min(here, key=lambda brand: brand.path, default=catalog.first_brand)


def brand_in(brands: Collection[Brand], host: str, folder: str) -> Brand | None:
    """The brand with this folder: at this host, else without a host, else at any host, so that forms opened at a
    brand's former host still work."""
    having = [brand for brand in brands if brand.path == folder]
    name = host_name(host)
    return min(having, key=lambda brand: (brand.host != name, brand.host != ""), default=None)


def spoken_in(request: Request, brand: Brand | None) -> Spoken:
    asked = request.args.get("lang") if request.query_string else None
    accepted: str = request.environ.get("HTTP_ACCEPT_LANGUAGE", "")[:MOST_ACCEPTED]
    return _choose(asked if asked in LANGUAGES else None, accepted, brand.language if brand else LANGUAGES[0])


@lru_cache(maxsize=1_000)
def _choose(asked: str | None, accepted: str, usual: str) -> Spoken:
    """Cached: few distinct headers exist."""
    tags = [tag for tag, quality in parse_accept_header(accepted, LanguageAccept) if quality > 0]
    return choose(asked, tags, usual)
