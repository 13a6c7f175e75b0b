"""Host names: which `Host` headers are answered.

Invariant: unsubscribe links, webhooks and probes are answered under any name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from preferences.domain.records import Brand
from preferences.services import Services

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ANY_HOST: Final = ("/u/", "/webhooks/", "/healthz", "/readyz", "/metrics")
"""Paths that are answered under any name. A link is proven by its token, and its brand may have had another host when
it was mailed; a report is proven by its signature or secret, and a refused provider gives up; probes call by IP."""


def host_name(host: str) -> str:
    """The name in a Host header, in lower case, without a port and a final dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def is_ours(services: Services, brands: Collection[Brand], environ: WSGIEnvironment) -> bool:
    """Whether the host is that of `PUBLIC_URL`, of a brand, or one of `TRUSTED_HOSTS`."""
    name = host_name(environ.get("HTTP_HOST", ""))
    settings = services.settings
    if name == settings.host or name in settings.trusted_hosts or environ["PATH_INFO"].startswith(ANY_HOST):
        return True
    # Without brands the database has been away since before the start, and every page says so.
    return not brands or any(brand.host == name for brand in brands)
