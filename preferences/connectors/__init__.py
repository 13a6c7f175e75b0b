"""The registry of connectors. A new provider is a module here and an entry in KINDS (docs/connectors.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from preferences.config import ConnectorSettings, read_connectors
from preferences.connectors.base import Connector
from preferences.domain.errors import Misconfigured
from preferences.domain.records import Topic


@dataclass(frozen=True, slots=True)
class Kind:
    """The connector as `module:class`, loaded when configured, and the provider's name."""

    place: str
    title: str = ""


KINDS: Final = {
    "amazon_ses": Kind("preferences.connectors.amazon_ses:AmazonSes", "Amazon SES"),
    "brevo": Kind("preferences.connectors.brevo:Brevo", "Brevo"),
    "klaviyo": Kind("preferences.connectors.klaviyo:Klaviyo", "Klaviyo"),
    "mailchimp": Kind("preferences.connectors.mailchimp:Mailchimp", "Mailchimp"),
    "resend": Kind("preferences.connectors.resend:Resend", "Resend"),
    "sparkpost": Kind("preferences.connectors.sparkpost:SparkPost", "SparkPost"),
    "twilio": Kind("preferences.connectors.twilio:Twilio", "Twilio"),
    "mailgun": Kind("preferences.connectors.mailgun:Mailgun", "Mailgun"),
    "postmark": Kind("preferences.connectors.postmark:Postmark", "Postmark"),
    "sendgrid": Kind("preferences.connectors.sendgrid:SendGrid", "SendGrid"),
    "webhook": Kind("preferences.connectors.webhook:WebhookConnector"),
}


def find_kind(kind: str) -> type[Connector] | None:
    if kind not in KINDS:
        return None
    module, _, name = KINDS[kind].place.partition(":")
    found: type[Connector] = getattr(import_module(module), name)
    return found


def shown_as(settings: ConnectorSettings) -> str:
    """The label, else the provider's name, else the connector's."""
    title = KINDS[settings.kind].title if settings.kind in KINDS else ""
    return settings.label or title or settings.name


def read_checked(path: Path, environment: Mapping[str, str]) -> dict[str, ConnectorSettings]:
    """The configured connectors by name. Raises Misconfigured, also for a secret with which reports could be forged."""
    found = read_connectors(path, environment)
    for settings in found.values():
        kind = find_kind(settings.kind)
        if kind is not None:
            kind.require_secrets(settings)
    return found


def make_connector(settings: ConnectorSettings) -> Connector:
    """Raises Misconfigured for an unknown kind or option."""
    kind = find_kind(settings.kind)
    if kind is None:
        known = ", ".join(sorted(KINDS))
        raise Misconfigured(f"connector {settings.name}: there is no kind {settings.kind!r}; known kinds: {known}")
    return kind(settings)


def require_own_topics(settings: ConnectorSettings, topics: Mapping[str, Topic]) -> None:
    """Raises Misconfigured for a topic of another brand: its opt-outs would be recorded for the connector's brand."""
    for slug in settings.topics:
        if slug in topics and topics[slug].brand != settings.brand:
            whose = f"brand {topics[slug].brand}, and the connector is of brand {settings.brand}"
            raise Misconfigured(f"connector {settings.name}: {slug} is a topic of {whose}; make a connector for each")
