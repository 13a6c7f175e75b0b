"""The providers we know, one line each. To add one: a file beside this, a line here (docs/connectors.md)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from preferences.config import ConnectorSettings, require_standard_secrets
from preferences.connectors.base import Connector
from preferences.domain.errors import Misconfigured
from preferences.domain.terms import Topic

# Loaded when configured, so that a process pays only for the providers it has.
KINDS: Final = {
    "amazon_ses": "preferences.connectors.amazon_ses:AmazonSes",
    "brevo": "preferences.connectors.brevo:Brevo",
    "klaviyo": "preferences.connectors.klaviyo:Klaviyo",
    "mailchimp": "preferences.connectors.mailchimp:Mailchimp",
    "resend": "preferences.connectors.resend:Resend",
    "sparkpost": "preferences.connectors.sparkpost:SparkPost",
    "twilio": "preferences.connectors.twilio:Twilio",
    "mailgun": "preferences.connectors.mailgun:Mailgun",
    "postmark": "preferences.connectors.postmark:Postmark",
    "sendgrid": "preferences.connectors.sendgrid:SendGrid",
    "webhook": "preferences.connectors.webhook:WebhookConnector",
}


def find_kind(kind: str) -> type[Connector] | None:
    """The class of connectors of this kind, or None where we know none."""
    module, _, name = KINDS.get(kind, "").partition(":")
    found: type[Connector] | None = getattr(import_module(module), name) if module else None
    return found


def make_connector(settings: ConnectorSettings) -> Connector:
    """The connector for these settings. Raises Misconfigured for a kind or an option that we do not know."""
    kind = find_kind(settings.kind)
    if kind is None:
        known = ", ".join(sorted(KINDS))
        raise Misconfigured(f"connector {settings.name}: there is no kind {settings.kind!r}; known kinds: {known}")
    require_standard_secrets(settings)
    return kind(settings)


def require_own_topics(settings: ConnectorSettings, topics: Mapping[str, Topic]) -> None:
    """Raises Misconfigured where the mapping names a topic of another brand than the connector's.

    An opt-out from it would be recorded for a topic that the connector's brand does not have, and so stop nothing.
    """
    for slug in settings.topics:
        if slug in topics and topics[slug].brand != settings.brand:
            whose = f"brand {topics[slug].brand}, and the connector is of brand {settings.brand}"
            raise Misconfigured(f"connector {settings.name}: {slug} is a topic of {whose}; make a connector for each")
