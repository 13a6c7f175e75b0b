"""Signed links and ready headers, for the mails of a sending system.

Owns `/api/v1/links`. Invariant: a mail that nobody unsubscribes from gets no unsubscribe link and no list headers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import jsonify
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.records import Address, Topic
from preferences.domain.vocabulary import BLANKET, Channel, KeyScope, MessageClass
from preferences.sending.links import contacts_of, list_headers, manage_url
from preferences.services import Services
from preferences.store.contacts import Found
from preferences.tokens import UnsubscribeLink
from preferences.web.api.bodies import Addresses, BadFields, MessageRef, Slug, Strict, read_body, read_or_none
from preferences.web.api.operations import blueprint, operation


class LinksRequest(Strict):
    """Links and headers for one mail to each of these addresses. `brand` says whose `*` it is, where there are many."""

    channel: Channel
    topic: Slug = BLANKET
    """A topic's slug, or `*` for everything of a brand."""
    brand: Slug | None = None
    message_ref: MessageRef | None = None
    """Your own name of the mailing. It travels inside the link, so put nothing about a person into it."""
    addresses: Addresses


class LinksOf(Strict):
    """What a mail to one address needs. All is empty for an address that was erased, or is a child's."""

    address: str
    unsubscribe_url: str | None
    """It never expires. Null for a topic that is not marketing."""
    manage_url: str | None
    """It works for 30 days. Null for an address that a system added to its contact, until they have confirmed it."""
    headers: dict[str, str]
    """List headers, to be put on the mail as they are and signed with DKIM."""


class LinksAnswer(Strict):
    """Links and headers for each address, in the order asked."""

    links: list[LinksOf]


@blueprint.post("/links")
@operation(scope=KeyScope.LINKS, body=LinksRequest, answer=LinksAnswer)
def links() -> Response:
    """Signed links and ready headers for one mail to each address. Contacts that are new are made."""
    services = current_services()
    asked = read_body(LinksRequest)
    topic = _known_topic(services, asked)
    brand = _known_brand(services, asked, topic)
    addresses = _all_readable(asked)
    found = contacts_of(services, addresses)
    now = datetime.now(UTC)
    return jsonify(
        links=[
            {"address": text, **_links_for(services, asked, topic, found[address], brand=brand, now=now)}
            for text, address in zip(asked.addresses, addresses, strict=True)
        ]
    )


def _known_topic(services: Services, asked: LinksRequest) -> Topic | None:
    if asked.topic == BLANKET:
        return None
    topic = services.catalog.get(asked.topic).topics.get(asked.topic)
    if topic is None:
        raise BadFields([{"field": "topic", "detail": "there is no such topic; `flask topic add` makes one"}])
    if asked.channel not in topic.channels:
        raise BadFields([{"field": "channel", "detail": "this topic is not sent on this channel"}])
    return topic


def _known_brand(services: Services, asked: LinksRequest, topic: Topic | None) -> str:
    if topic is not None:
        if asked.brand not in {None, topic.brand}:
            raise BadFields([{"field": "brand", "detail": "this topic is another brand's"}])
        return topic.brand
    catalog = services.catalog.get()
    if asked.brand is not None and asked.brand not in catalog.brands:
        raise BadFields([{"field": "brand", "detail": "there is no such brand; `flask brand set` makes one"}])
    return asked.brand or catalog.first_brand.slug


def _all_readable(asked: LinksRequest) -> list[Address]:
    addresses = [read_or_none(asked.channel, text) for text in asked.addresses]
    bad = [index for index, one in enumerate(addresses) if one is None]
    if bad:
        detail = "not an address of this channel; remove it or correct it. No link was made"
        raise BadFields([{"field": f"addresses[{index}]", "detail": detail} for index in bad[:100]])
    return [one for one in addresses if one is not None]


def _links_for(
    services: Services, asked: LinksRequest, topic: Topic | None, found: Found, *, brand: str, now: datetime
) -> dict[str, Any]:
    if found.contact_id is None:
        return {"unsubscribe_url": None, "manage_url": None, "headers": {}}
    manage = manage_url(services, found, asked.channel, brand=brand, now=now)
    if topic is not None and topic.message_class is not MessageClass.MARKETING:
        # RFC 8058 is for mail one can leave; Gmail's guidelines ask for no list headers on transactional mail.
        return {"unsubscribe_url": None, "manage_url": manage, "headers": {}}
    url = services.unsubscribe_url(
        UnsubscribeLink(found.contact_id, asked.channel, brand, asked.topic, asked.message_ref or "")
    )
    headers = list_headers(services, url, brand, asked.topic) if asked.channel is Channel.EMAIL else {}
    return {"unsubscribe_url": url, "manage_url": manage, "headers": headers}
