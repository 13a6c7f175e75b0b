"""The machines' door for a hand-off: a company's own logged-in page leads somebody to their page here.

Owns `/api/v1/hand-offs`. Invariant: whoever holds an API key vouches for the person; the address it gets works once,
for two minutes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from flask import Blueprint, g, jsonify
from pydantic import BaseModel, ConfigDict, StringConstraints
from werkzeug.wrappers import Response

from preferences.domain.addresses import read_address
from preferences.domain.errors import BadAddress, StoreBusy
from preferences.domain.terms import Address, Brand, Channel
from preferences.links import HAND_OFF_LIFE, Ticket
from preferences.minting import contacts_of
from preferences.site import Site, current_site
from preferences.web import api
from preferences.web.api import BadFields, Slug, read_body

blueprint = Blueprint("hand_offs", __name__)
blueprint.register_error_handler(BadFields, api.bad_fields)


class HandOffRequest(BaseModel):
    """Whom to hand over, and to the pages of which brand: the first one unless it is named."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    address: Annotated[str, StringConstraints(max_length=1000)]
    channel: Channel = Channel.EMAIL
    brand: Slug | None = None


@blueprint.post("/hand-offs")
def hand_off() -> Response:
    """An address that signs this person in. A contact that is new is made."""
    site = current_site()
    if g.store_busy:
        raise StoreBusy("the key could not be checked")
    asked = read_body(HandOffRequest)
    brand, address = _brand(site, asked.brand), _address(asked)
    contact_id = contacts_of(site, [address])[address].contact_id
    if contact_id is None:
        raise BadFields([{"field": "address", "detail": "erased, or a child's: it is not stored again"}])
    now = datetime.now(UTC).replace(microsecond=0)  # a link is dated to the second
    token = site.links.sign_hand_off(Ticket(contact_id, now))
    url = f"{site.url_of(brand)}/sign-in/hand-off/{token}"
    return jsonify(url=url, expires_at=(now + HAND_OFF_LIFE).isoformat())


def _brand(site: Site, slug: str | None) -> Brand:
    catalog = site.catalog.get()
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
