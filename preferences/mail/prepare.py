"""What an email needs before composing: whether it may be sent, and its template's values.

Invariant: an address is looked up here and never while a page answers, so that no page reveals whether it is known.
Besides the outbox, only a sign-up's contact and a sign-in's code are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from preferences.domain.outbox import EmailKind, QueuedEmail
from preferences.domain.preference_form import Change, read_item
from preferences.domain.records import Address, Brand
from preferences.domain.vocabulary import Channel, Purpose, Relation
from preferences.i18n import Spoken
from preferences.people.consent_text import notice_for
from preferences.people.sign_in import issue_code
from preferences.services import Services
from preferences.store import contacts
from preferences.store.contacts import Found
from preferences.tokens import ConfirmLink, ManageLink, Ticket

Context = Mapping[str, Any]


def prepare(services: Services, brand: Brand, queued: QueuedEmail) -> Context | None:
    """The template values, or None if nobody may receive the email."""
    return PREPARATIONS[queued.kind](services, brand, queued)


def create_contact(services: Services, queued: QueuedEmail) -> None:
    """Create a sign-up's contact, unless the address has one or may not be stored."""
    typed = [Address(Channel.EMAIL, queued.address)]
    services.database.write(contacts.find_or_create, typed, services.fingerprints, datetime.now(UTC), strangers=typed)


def _sign_up(services: Services, brand: Brand, queued: QueuedEmail) -> Context | None:
    create_contact(services, queued)
    owner = _owner(services, queued)
    return _confirm(services, brand, queued, owner.contact_id) if owner and owner.contact_id else None


def _opt_in(services: Services, brand: Brand, queued: QueuedEmail) -> Context | None:
    return _confirm(services, brand, queued, UUID(queued.details["contact"]))


def _confirm(services: Services, brand: Brand, queued: QueuedEmail, contact_id: UUID) -> Context | None:
    requested = [read_item(item) for item in queued.details["items"]]
    changes = [change for change in requested if _is_offered(services, brand, change)]
    if not changes:
        return None
    items = tuple(change.item for change in changes)
    token = services.links.sign_confirm(ConfirmLink(contact_id, brand.slug, items, queued.created_at))
    spoken = Spoken(queued.language)
    return {
        "url": f"{services.url_of(brand)}/confirm/{token}{_query(queued)}",
        "wordings": [notice_for(services, brand, change, spoken).text for change in changes],
    }


def _is_offered(services: Services, brand: Brand, change: Change) -> bool:
    """The topic may be retired meanwhile."""
    slug = change.control.topic
    if slug in set(Purpose):
        return True
    topic = services.catalog.get(slug).topics.get(slug)
    if topic is None or topic.retired_at is not None:
        return False
    return topic.brand == brand.slug and change.control.channel in topic.channels


def _manage_link(services: Services, brand: Brand, queued: QueuedEmail) -> Context | None:
    owner = _known_owner(services, queued)
    if owner is None or owner.contact_id is None:
        return None
    url = services.manage_url(ManageLink(owner.contact_id, Channel.EMAIL, brand.slug, datetime.now(UTC)))
    return {"url": url + _query(queued)}


def _sign_in(services: Services, brand: Brand, queued: QueuedEmail) -> Context | None:
    owner = _known_owner(services, queued)
    if owner is None:
        return None
    sign_in_id = UUID(queued.details["sign_in"])
    code = issue_code(services, sign_in_id, owner.fingerprint)
    token = services.links.sign_sign_in(Ticket(sign_in_id, queued.created_at))
    return {"url": f"{services.url_of(brand)}/sign-in/link/{token}{_query(queued)}", "code": f"{code[:3]} {code[3:]}"}


def _new_address(services: Services, brand: Brand, queued: QueuedEmail) -> Context:
    token = services.links.sign_address(Ticket(UUID(queued.details["request"]), queued.created_at))
    return {"url": f"{services.url_of(brand)}/confirm/address/{token}{_query(queued)}"}


def _address_changed(services: Services, brand: Brand, queued: QueuedEmail) -> Context:
    """With a link to take the address back, if requested: see `people.addresses`."""
    addresses = {"old": queued.address, "new": queued.details["new"]}
    return {**addresses, **_new_address(services, brand, queued)} if "request" in queued.details else addresses


def _address_added(services: Services, brand: Brand, queued: QueuedEmail) -> Context:
    return {
        "old": queued.address,
        "new": queued.details["new"],
        "confirmed": queued.details["confirmed"],
        "url": f"{services.url_of(brand)}/account/addresses{_query(queued)}",
    }


def _owner(services: Services, queued: QueuedEmail) -> Found | None:
    """The contact of the address; None if it was replaced or added by a system."""
    address = Address(Channel.EMAIL, queued.address)
    found = services.database.read(contacts.find_addresses, [address], services.fingerprints).get(address)
    if found is None or services.database.read(contacts.find_by_fingerprint, found.fingerprint) is None:
        return None
    return found


def _known_owner(services: Services, queued: QueuedEmail) -> Found | None:
    """Also None for an address only typed into a form."""
    owner = _owner(services, queued)
    return None if owner is None or owner.relation is Relation.STRANGER else owner


def _query(queued: QueuedEmail) -> str:
    return f"?lang={queued.language}"


PREPARATIONS: Final[Mapping[EmailKind, Callable[[Services, Brand, QueuedEmail], Context | None]]] = {
    EmailKind.SIGN_UP: _sign_up,
    EmailKind.OPT_IN: _opt_in,
    EmailKind.MANAGE_LINK: _manage_link,
    EmailKind.SIGN_IN: _sign_in,
    EmailKind.NEW_ADDRESS: _new_address,
    EmailKind.ADDRESS_CHANGED: _address_changed,
    EmailKind.ADDRESS_ADDED: _address_added,
}
