"""The machines' door for a hand-off: a company's own logged-in page leads somebody to their page here.

Owns `/api/v1/hand-offs`. Invariant: whoever holds an API key vouches for the person; the address it gets works once,
for two minutes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from flask import g, jsonify
from werkzeug.wrappers import Response

from preferences.address_parsing import read_address
from preferences.current import current_services
from preferences.domain.errors import BadAddress
from preferences.domain.records import Address, Brand
from preferences.domain.vocabulary import Channel, KeyScope, Relation
from preferences.sending.links import contacts_of
from preferences.services import Services
from preferences.tokens import HAND_OFF_LIFE, Ticket
from preferences.web.api.bodies import AddressText, BadFields, Slug, Strict, read_body
from preferences.web.api.operations import blueprint, operation

UNCONFIRMED: Final = "added to its contact by a system and not confirmed by them; hand over another of theirs"


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
    services = current_services()
    asked = read_body(HandOffRequest)
    brand, address = _brand(services, asked.brand), _address(asked)
    found = contacts_of(services, [address])[address]
    if found.contact_id is None:
        raise BadFields([{"field": "address", "detail": "erased, or a child's: it is not stored again"}])
    if found.relation is Relation.UNCONFIRMED:
        raise BadFields([{"field": "address", "detail": UNCONFIRMED}])
    now = datetime.now(UTC).replace(microsecond=0)  # a link is dated to the second
    may_opt_in = KeyScope.RETURNS in g.api_key.scopes
    token = services.links.sign_hand_off(Ticket(found.contact_id, now), may_opt_in=may_opt_in)
    url = f"{services.url_of(brand)}/sign-in/hand-off/{token}"
    return jsonify(url=url, expires_at=(now + HAND_OFF_LIFE).isoformat())


def _brand(services: Services, slug: str | None) -> Brand:
    catalog = services.catalog.get()
    if slug is None:
        return catalog.first_brand
    if slug not in catalog.brands:
        raise BadFields([{"field": "brand", "detail": "there is no such brand"}])
    return catalog.brands[slug]


def _address(asked: HandOffRequest) -> Address:
    try:
        return read_address(asked.channel, asked.address)
    except BadAddress:
        raise BadFields([{"field": "address", "detail": "not an address of this channel"}]) from None
