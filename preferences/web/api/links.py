"""`/api/v1/links`: signed links and list headers."""

from __future__ import annotations

from typing import Any, Final

from flask import jsonify
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.errors import BadFields
from preferences.domain.records import Address
from preferences.domain.vocabulary import BLANKET, Channel, KeyScope
from preferences.sending.links import MessageLinks, make_links
from preferences.sending.scope import catalog_for, resolve
from preferences.web.api.bodies import Addresses, MessageRef, Slug, Strict, read_body, read_or_none
from preferences.web.api.operations import blueprint, operation

BAD_ADDRESS: Final = "not an address of this channel; remove it or correct it. No link was made"


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
    services, body = current_services(), read_body(LinksRequest)
    scope = resolve(catalog_for(services, body.topic), body.channel, topic=body.topic, brand=body.brand)
    made = make_links(services, scope, _addresses(body), message_ref=body.message_ref or "")
    return jsonify(links=list(map(_rendered, body.addresses, made)))


def _addresses(body: LinksRequest) -> list[Address]:
    read = [read_or_none(body.channel, text) for text in body.addresses]
    bad = [index for index, address in enumerate(read) if address is None]
    if bad:
        raise BadFields([(f"addresses[{index}]", BAD_ADDRESS) for index in bad])
    return [address for address in read if address is not None]


def _rendered(address: str, made: MessageLinks) -> dict[str, Any]:
    return {
        "address": address,
        "unsubscribe_url": made.unsubscribe_url,
        "manage_url": made.manage_url,
        "headers": dict(made.headers),
    }
