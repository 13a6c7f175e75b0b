"""The letters that we write ourselves, from the queue to the mail server.

Owns what each kind says and links to. Invariants: whether an address is known is looked up here and nowhere on the way
in, so a page cannot tell; a letter that nobody may get is dropped without a word.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.headerregistry import Address as Mailbox
from typing import Any, Final
from uuid import UUID

import structlog

from preferences.domain.colours import ink_on
from preferences.domain.outbox import EmailKind, QueuedEmail
from preferences.domain.preference_form import Change, read_item
from preferences.domain.records import Address, Brand
from preferences.domain.vocabulary import Channel, Purpose, Relation
from preferences.i18n import Spoken
from preferences.mail.message import Writing, compose
from preferences.mail.smtp import MailServer
from preferences.people.consent_text import notice_for
from preferences.services import Services
from preferences.store import contacts, sign_ins
from preferences.store.contacts import Found
from preferences.tokens import ConfirmLink, ManageLink, Ticket

log = structlog.get_logger(__name__)

USUAL_COLOUR: Final = "#14594d"

Context = Mapping[str, Any]


def send(services: Services, server: MailServer, letter: QueuedEmail, now: datetime) -> None:
    """Write one letter and hand it over. Raises TryLater and Rejected as the mail server does."""
    catalog = services.catalog.get()
    brand = catalog.brands.get(letter.brand, catalog.first_brand)
    context = WRITERS[letter.kind](services, brand, letter)
    if context is None:
        return
    message = compose(
        _written(services, brand, letter, context),
        sender=_sender(services, brand),
        recipient=letter.address,
        host=services.settings.host,
        now=now,
    )
    server.send(message)
    log.info("email sent", kind=letter.kind.value)


def _written(services: Services, brand: Brand, letter: QueuedEmail, context: Context) -> Writing:
    template = services.templates[letter.language].get_template(f"mail/{letter.kind}.html")
    subject, text, page = (
        template.render(layout=f"mail/layout.{form}", brand=brand, button=_button(brand), **context)
        for form in ("subject", "text", "html")
    )
    # The two plain forms come from the same escaping template as the page.
    return Writing(
        subject=html.unescape(subject), text=html.unescape(text).strip("\n") + "\n", html=page, language=letter.language
    )


def _button(brand: Brand) -> Mapping[str, str]:
    paper = brand.colour or USUAL_COLOUR
    return {"paper": paper, "ink": ink_on(paper)}


def _sender(services: Services, brand: Brand) -> Mailbox:
    address = brand.contact_email or f"no-reply@{services.settings.host}"
    return Mailbox(display_name=" ".join(brand.name.split()), addr_spec=address)


def _query(letter: QueuedEmail) -> str:
    return f"?lang={letter.language}"


def _confirm(services: Services, brand: Brand, letter: QueuedEmail, contact_id: UUID) -> Context | None:
    asked = [read_item(item) for item in letter.details["items"]]
    changes = [change for change in asked if _is_offered(services, brand, change)]
    if not changes:
        return None
    items = tuple(change.item for change in changes)
    token = services.links.sign_confirm(ConfirmLink(contact_id, brand.slug, items, letter.created_at))
    spoken = Spoken(letter.language)
    return {
        "url": f"{services.url_of(brand)}/confirm/{token}{_query(letter)}",
        "wordings": [notice_for(services, brand, change, spoken).text for change in changes],
    }


def _is_offered(services: Services, brand: Brand, change: Change) -> bool:
    """Whether there is such a thing to choose, still: a topic may have gone since the letter was asked for."""
    slug = change.control.topic
    if slug in set(Purpose):
        return True
    topic = services.catalog.get(slug).topics.get(slug)
    if topic is None or topic.retired_at is not None:
        return False
    return topic.brand == brand.slug and change.control.channel in topic.channels


def _sign_up(services: Services, brand: Brand, letter: QueuedEmail) -> Context | None:
    address = Address(Channel.EMAIL, letter.address)
    typed = [address]
    services.database.write(contacts.find_or_create, typed, services.fingerprints, datetime.now(UTC), strangers=typed)
    owner = _owner(services, letter)
    return _confirm(services, brand, letter, owner.contact_id) if owner and owner.contact_id else None


def _opt_in(services: Services, brand: Brand, letter: QueuedEmail) -> Context | None:
    return _confirm(services, brand, letter, UUID(letter.details["contact"]))


def _owner(services: Services, letter: QueuedEmail) -> Found | None:
    """Whose letter this is: nobody's at an address that its owner has replaced, or that a system has added to them."""
    address = Address(Channel.EMAIL, letter.address)
    found = services.database.read(contacts.find_addresses, [address], services.fingerprints).get(address)
    if found is None or services.database.read(contacts.find_by_fingerprint, found.fingerprint) is None:
        return None
    return found


def _customer(services: Services, letter: QueuedEmail) -> Found | None:
    """Who may get what opens their own page: nobody of whom we know no more than that somebody typed their address."""
    owner = _owner(services, letter)
    return None if owner is None or owner.relation is Relation.STRANGER else owner


def _manage_link(services: Services, brand: Brand, letter: QueuedEmail) -> Context | None:
    owner = _customer(services, letter)
    if owner is None or owner.contact_id is None:
        return None
    url = services.manage_url(ManageLink(owner.contact_id, Channel.EMAIL, brand.slug, datetime.now(UTC)))
    return {"url": url + _query(letter)}


def _sign_in(services: Services, brand: Brand, letter: QueuedEmail) -> Context | None:
    owner = _customer(services, letter)
    if owner is None:
        return None
    sign_in_id = UUID(letter.details["sign_in"])
    code = f"{secrets.randbelow(1_000_000):06}"
    digest = services.links.code_digest(sign_in_id, code)
    services.database.save(sign_ins.set_code, sign_in_id, digest, owner.fingerprint)
    token = services.links.sign_sign_in(Ticket(sign_in_id, letter.created_at))
    return {"url": f"{services.url_of(brand)}/sign-in/link/{token}{_query(letter)}", "code": f"{code[:3]} {code[3:]}"}


def _new_address(services: Services, brand: Brand, letter: QueuedEmail) -> Context:
    token = services.links.sign_address(Ticket(UUID(letter.details["request"]), letter.created_at))
    return {"url": f"{services.url_of(brand)}/confirm/address/{token}{_query(letter)}"}


def _address_changed(services: Services, brand: Brand, letter: QueuedEmail) -> Context | None:
    said = {"old": letter.address, "new": letter.details["new"]}
    # Only who had the better claim to be written to can take it back by themselves.
    return {**said, **_new_address(services, brand, letter)} if "request" in letter.details else said


def _address_added(services: Services, brand: Brand, letter: QueuedEmail) -> Context:
    url = f"{services.url_of(brand)}/account/addresses{_query(letter)}"
    told = {"old": letter.address, "new": letter.details["new"], "confirmed": letter.details["confirmed"]}
    return {**told, "url": url}


WRITERS: Final[Mapping[EmailKind, Callable[[Services, Brand, QueuedEmail], Context | None]]] = {
    EmailKind.SIGN_UP: _sign_up,
    EmailKind.OPT_IN: _opt_in,
    EmailKind.MANAGE_LINK: _manage_link,
    EmailKind.SIGN_IN: _sign_in,
    EmailKind.NEW_ADDRESS: _new_address,
    EmailKind.ADDRESS_CHANGED: _address_changed,
    EmailKind.ADDRESS_ADDED: _address_added,
}
"""What each kind needs to be written; None where nobody may get it."""
