"""`/api/v1/hand-offs`: sign-in from a company's own signed-in page.

Invariant: the URL works once, for two minutes, and only for an address in use.
"""

from __future__ import annotations

from datetime import datetime

from flask import g, jsonify
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.errors import BadFields
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, KeyScope
from preferences.sending import links
from preferences.sending.scope import catalog_for, get_brand
from preferences.web.api.bodies import AddressText, Slug, Strict, read_body, read_or_none
from preferences.web.api.operations import blueprint, operation


class HandOffRequest(Strict):
    """Whom to hand over, and to the pages of which brand: the first one unless it is named."""

    address: AddressText
    """Of somebody who is logged in with you, and that you know to be theirs."""
    channel: Channel = Channel.EMAIL
    brand: Slug | None = None


class HandOffAnswer(Strict):
    """Where to send the browser, and until when."""

    url: str
    """It works once."""
    expires_at: datetime
    """Two minutes from now."""


@blueprint.post("/hand-offs")
@operation(scope=KeyScope.HAND_OFFS, body=HandOffRequest, answer=HandOffAnswer)
def hand_off() -> Response:
    """An address that signs this person in. A contact that is new is made.

    They opt in at once only if the key has the scope `returns`, too; otherwise what they ask for more of is confirmed
    by mail, and to add or change an address they sign in with a code. An address that a system has added to a contact
    is refused until the contact has confirmed it.
    """
    services, body = current_services(), read_body(HandOffRequest)
    brand = get_brand(catalog_for(services), body.brand)
    may_opt_in = KeyScope.RETURNS in g.api_key.scopes
    url, expires_at = links.hand_off(services, brand, _address(body), may_opt_in=may_opt_in)
    return jsonify(url=url, expires_at=expires_at.isoformat())


def _address(body: HandOffRequest) -> Address:
    address = read_or_none(body.channel, body.address)
    if address is None:
        raise BadFields([("address", "not an address of this channel")])
    return address
