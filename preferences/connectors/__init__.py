"""The providers we know, one line each. To add one: a file beside this, a line here (docs/connectors.md)."""

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
    """Where a kind of connector is, as `module:class`, and what people know the provider as, written as it writes
    itself; without that, a connector is known by its own name.

    It is loaded when one is configured, so that a process pays only for the providers it has.
    """

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
    """The class of connectors of this kind, or None where we know none."""
    if kind not in KINDS:
        return None
    module, _, name = KINDS[kind].place.partition(":")
    found: type[Connector] = getattr(import_module(module), name)
    return found


def shown_as(settings: ConnectorSettings) -> str:
    """What people are told a connector is called: its label, or the usual name of its provider."""
    title = KINDS[settings.kind].title if settings.kind in KINDS else ""
    return settings.label or title or settings.name


def read_checked(path: Path, environment: Mapping[str, str]) -> dict[str, ConnectorSettings]:
    """The connectors in the configuration file, by name. Raises Misconfigured, also where a secret cannot be one of
    its kind: that is refused at start, since it may let anybody report anything."""
    found = read_connectors(path, environment)
    for settings in found.values():
        kind = find_kind(settings.kind)
        if kind is not None:
            kind.require_secrets(settings)
    return found


def make_connector(settings: ConnectorSettings) -> Connector:
    """The connector for these settings. Raises Misconfigured for a kind or an option that we do not know."""
    kind = find_kind(settings.kind)
    if kind is None:
        known = ", ".join(sorted(KINDS))
        raise Misconfigured(f"connector {settings.name}: there is no kind {settings.kind!r}; known kinds: {known}")
    return kind(settings)


def require_own_topics(settings: ConnectorSettings, topics: Mapping[str, Topic]) -> None:
    """Raises Misconfigured where the mapping names a topic of another brand than the connector's.

    An opt-out from it would be recorded for a topic that the connector's brand does not have, and so stop nothing.
    """
    for slug in settings.topics:
        if slug in topics and topics[slug].brand != settings.brand:
            whose = f"brand {topics[slug].brand}, and the connector is of brand {settings.brand}"
            raise Misconfigured(f"connector {settings.name}: {slug} is a topic of {whose}; make a connector for each")
