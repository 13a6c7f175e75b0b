"""The providers we know, one line each. To add one: a file beside this, a line here (docs/connectors.md)."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from preferences.config import ConnectorSettings
from preferences.connectors.base import Connector
from preferences.domain.errors import Misconfigured

# Loaded when configured, so that a process pays only for the providers it has.
KINDS: Final = {
    "webhook": "preferences.connectors.webhook:WebhookConnector",
}


def make_connector(settings: ConnectorSettings) -> Connector:
    """The connector for these settings. Raises Misconfigured for a kind that we do not know."""
    place = KINDS.get(settings.kind)
    if place is None:
        known = ", ".join(sorted(KINDS))
        raise Misconfigured(f"connector {settings.name}: there is no kind {settings.kind!r}; known kinds: {known}")
    module, _, name = place.partition(":")
    connector: Connector = getattr(import_module(module), name)(settings)
    return connector
