"""The names under which the site is reached.

Owns which `Host` is answered. Invariants: an unsubscribe link works under whatever name it was mailed, and a webhook
under whatever name the provider was given; probes, which call by address, are answered under any.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from preferences.domain.records import Brand
from preferences.services import Services

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ANY_HOST: Final = ("/u/", "/webhooks/", "/healthz", "/readyz", "/metrics")
"""Paths that are answered under any name: a link's token alone says whose it is, and a brand may have had another host
when it was mailed; a report is proven by its signature or its secret, and a provider that is refused gives up; the
others say nothing about a person."""


def host_name(host: str) -> str:
    """The name in a Host header: small letters, without a port or a dot at its end."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def is_ours(services: Services, brands: Collection[Brand], environ: WSGIEnvironment) -> bool:
    """Whether this request is for us: by the host of `PUBLIC_URL`, of a brand, or of `TRUSTED_HOSTS`."""
    name = host_name(environ.get("HTTP_HOST", ""))
    settings = services.settings
    if name == settings.host or name in settings.trusted_hosts or environ["PATH_INFO"].startswith(ANY_HOST):
        return True
    # Nothing known about brands: the database is away since before the start, and every page says so.
    return not brands or any(brand.host == name for brand in brands)
