"""Accepted `Host` headers.

Invariant: unsubscribe links, webhooks and probes work under any name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from preferences.domain.records import Brand
from preferences.services import Services

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ANY_HOST: Final = ("/u/", "/webhooks/", "/healthz", "/readyz", "/metrics")
"""Accepted under any name: a link has a token, and its brand may have moved since; a report has a signature, and
providers stop after refusals; probes use IP addresses."""


def host_name(host: str) -> str:
    """The name of a Host header, lower-case, without port and final dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def is_ours(services: Services, brands: Collection[Brand], environ: WSGIEnvironment) -> bool:
    """Whether the host is that of `PUBLIC_URL` or a brand, or in `TRUSTED_HOSTS`."""
    name = host_name(environ.get("HTTP_HOST", ""))
    settings = services.settings
    if name == settings.host or name in settings.trusted_hosts or environ["PATH_INFO"].startswith(ANY_HOST):
        return True
    # No brands: the database has been away since the start, and every page says so.
    return not brands or any(brand.host == name for brand in brands)
