"""Signed links and list headers for messages.

Invariants: messages without opt-out get no unsubscribe link and no list headers; contacts are created in blocks, so
that opt-outs wait for the ledger's lock only briefly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from preferences.domain.errors import BadFields
from preferences.domain.records import Address, Brand
from preferences.domain.vocabulary import BLANKET, Channel, MessageClass, Relation
from preferences.sending.scope import Scope
from preferences.services import Services
from preferences.store import contacts
from preferences.store.contacts import Found
from preferences.tokens import HAND_OFF_LIFE, ManageLink, Ticket, UnsubscribeLink

BLOCK: Final = 1_000
"""Contacts per transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLinks:
    """Links and headers for one address; empty if erased or a child's."""

    unsubscribe_url: str | None = None
    manage_url: str | None = None
    headers: Mapping[str, str]


NO_LINKS: Final = MessageLinks(headers={})


def make_links(
    services: Services, scope: Scope, addresses: Sequence[Address], *, message_ref: str = ""
) -> list[MessageLinks]:
    """Results are in the order of the addresses. Creates unknown contacts. Raises StoreBusy."""
    found, now = contacts_of(services, addresses), datetime.now(UTC)
    return [_links(services, scope, found[address], message_ref=message_ref, now=now) for address in addresses]


def contacts_of(services: Services, addresses: Sequence[Address]) -> dict[Address, Found]:
    """Creates unknown contacts."""
    found = services.database.read(contacts.find_addresses, set(addresses), services.fingerprints)
    # An address typed on a page becomes known once the company writes to it.
    missing = [
        address
        for address in dict.fromkeys(addresses)
        if address not in found or found[address].relation is Relation.STRANGER
    ]
    for start in range(0, len(missing), BLOCK):
        block = missing[start : start + BLOCK]
        found |= services.database.write(contacts.find_or_create, block, services.fingerprints, datetime.now(UTC))
    return found


def _links(services: Services, scope: Scope, found: Found, *, message_ref: str, now: datetime) -> MessageLinks:
    if found.contact_id is None:
        return NO_LINKS
    manage = None
    # The reader of an unconfirmed address may be another person.
    if found.relation is not Relation.UNCONFIRMED:
        manage = services.manage_url(ManageLink(found.contact_id, scope.channel, scope.brand.slug, now))
    if scope.topic is not None and scope.topic.message_class is not MessageClass.MARKETING:
        # RFC 8058 is for optional mail; Gmail's guidelines want no list headers on transactional mail.
        return MessageLinks(manage_url=manage, headers={})
    link = UnsubscribeLink(found.contact_id, scope.channel, scope.brand.slug, scope.slug, message_ref)
    url = services.unsubscribe_url(link)
    headers = _list_headers(services, scope, url) if scope.channel is Channel.EMAIL else {}
    return MessageLinks(unsubscribe_url=url, manage_url=manage, headers=headers)


def _list_headers(services: Services, scope: Scope, url: str) -> dict[str, str]:
    """RFC 2369, RFC 8058 and RFC 2919."""
    brand = scope.brand.slug
    label = brand if scope.slug == BLANKET else f"{scope.slug}.{brand}"
    return {
        "List-Unsubscribe": f"<{url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"<{label}.list-id.{services.settings.host}>",
    }


def hand_off(services: Services, brand: Brand, address: Address, *, may_opt_in: bool) -> tuple[str, datetime]:
    """A single-use sign-in URL for the address's owner, and its expiry. Creates unknown contacts.

    Raises BadFields for an address that must not be stored or is unconfirmed.
    """
    found = contacts_of(services, [address])[address]
    if found.contact_id is None:
        raise BadFields([("address", "erased, or a child's: it is not stored again")])
    if found.relation is Relation.UNCONFIRMED:
        detail = "added to its contact by a system and not confirmed by them; hand over another of theirs"
        raise BadFields([("address", detail)])
    now = datetime.now(UTC).replace(microsecond=0)  # links are dated in whole seconds
    token = services.links.sign_hand_off(Ticket(found.contact_id, now), may_opt_in=may_opt_in)
    return f"{services.url_of(brand)}/sign-in/hand-off/{token}", now + HAND_OFF_LIFE
