"""The letters that we write ourselves, from the queue to the mail server.

Owns what each kind says and links to. Invariants: whether an address is known is looked up here and nowhere on the way
in, so a page cannot tell; a letter that nobody may get is dropped without a word.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address as Mailbox
from typing import Any, Final
from uuid import UUID

import structlog

from preferences.domain.choices import Change, read_item
from preferences.domain.colours import ink_on
from preferences.domain.errors import Rejected, StoreBusy, TryLater
from preferences.domain.letters import LETTER_LIFE, SIGN_IN_LIFE, WARNINGS, Letter, LetterKind, wait_after
from preferences.domain.terms import Address, Brand, Channel, Purpose, Relation
from preferences.languages import Spoken
from preferences.links import ConfirmLink, ManageLink, Ticket
from preferences.mail import MailServer, ServerAway, Writing, compose
from preferences.site import Site
from preferences.store import contacts, letters, sign_ins
from preferences.store.contacts import Found
from preferences.wording import notice_for

log = structlog.get_logger(__name__)

BATCH: Final = 20
"""Letters leased in one pass: what one worker takes, no other can send meanwhile."""

LONGEST_ROUND: Final = timedelta(seconds=5)
"""After so long no further letter of a pass is begun: the lease on a letter must outlast the slowest mail server, which
may use up its time-out at every step (about 90 seconds)."""

LONGEST_AWAY: Final = timedelta(minutes=1)
"""How long a mail server that took nothing is left alone at the most: each look at one that hangs takes ten seconds."""

LIVES: Final = {LetterKind.SIGN_IN: SIGN_IN_LIFE, **dict.fromkeys(WARNINGS, timedelta(days=7))}
"""Letters whose life is not the usual one: a code that is dead helps nobody, and whoever did not change their address
must hear of it, however late."""

USUAL_COLOUR: Final = "#14594d"

Context = Mapping[str, Any]


class Postman:
    """Sends what is due, pass after pass. A mail server that is away is left alone for a while."""

    def __init__(self, site: Site) -> None:
        self._site = site
        url = site.settings.smtp_url
        self._server = MailServer(url) if url else None
        self._away_until = datetime.min.replace(tzinfo=UTC)
        self._times_away = 0

    def __call__(self) -> bool:
        """One pass. Returns whether there was anything to do."""
        began = datetime.now(UTC)
        if self._server is None or began < self._away_until or not self._site.database.read(letters.is_any_due, began):
            return False
        for letter in self._site.database.save(letters.claim, began, BATCH):
            now = datetime.now(UTC)
            if now < self._away_until or now - began > LONGEST_ROUND:
                self._site.database.save(letters.postpone, letter, max(now, self._away_until))
            else:
                self._deliver(self._server, letter, now)
        return True

    def _deliver(self, server: MailServer, letter: Letter, now: datetime) -> None:
        if _is_too_late(letter, now):
            self._give_up(letter, "too late")
            return
        try:
            send(self._site, server, letter, now)
        except TryLater as failure:
            if isinstance(failure, ServerAway):
                self._times_away += 1
                self._away_until = datetime.now(UTC) + min(wait_after(self._times_away), LONGEST_AWAY)
            self._put_off(letter, now, str(failure))
            return
        except Rejected as failure:
            log.warning("letter refused", kind=letter.kind.value, why=str(failure))
        except StoreBusy:
            raise
        except Exception as error:  # noqa: BLE001 - one that cannot be written must not hold up the others
            self._put_off(letter, now, type(error).__name__)
            return
        self._times_away = 0
        self._site.database.save(letters.done, letter)

    def _put_off(self, letter: Letter, now: datetime, why: str) -> None:
        if _is_too_late(letter, now):
            self._give_up(letter, why)
            return
        log.warning("letter put off", kind=letter.kind.value, attempts=letter.attempts, why=why)
        self._site.database.save(letters.postpone, letter, now + wait_after(letter.attempts))

    def _give_up(self, letter: Letter, why: str) -> None:
        log.error("letter given up", kind=letter.kind.value, attempts=letter.attempts, why=why)
        self._site.database.save(letters.done, letter)


def _is_too_late(letter: Letter, now: datetime) -> bool:
    return now - letter.created_at > LIVES.get(letter.kind, LETTER_LIFE)


def send(site: Site, server: MailServer, letter: Letter, now: datetime) -> None:
    """Write one letter and hand it over. Raises TryLater and Rejected as the mail server does."""
    catalog = site.catalog.get()
    brand = catalog.brands.get(letter.brand, catalog.first_brand)
    context = WRITERS[letter.kind](site, brand, letter)
    if context is None:
        return
    message = compose(
        _written(site, brand, letter, context),
        sender=_sender(site, brand),
        recipient=letter.address,
        host=site.settings.host,
        now=now,
    )
    server.send(message)
    log.info("letter sent", kind=letter.kind.value)


def _written(site: Site, brand: Brand, letter: Letter, context: Context) -> Writing:
    template = site.templates[letter.language].get_template(f"mail/{letter.kind}.html")
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


def _sender(site: Site, brand: Brand) -> Mailbox:
    address = brand.contact_email or f"no-reply@{site.settings.host}"
    return Mailbox(display_name=" ".join(brand.name.split()), addr_spec=address)


def _query(letter: Letter) -> str:
    return f"?lang={letter.language}"


def _confirm(site: Site, brand: Brand, letter: Letter, contact_id: UUID) -> Context | None:
    asked = [read_item(item) for item in letter.details["items"]]
    changes = [change for change in asked if _is_offered(site, brand, change)]
    if not changes:
        return None
    items = tuple(change.item for change in changes)
    token = site.links.sign_confirm(ConfirmLink(contact_id, brand.slug, items, letter.created_at))
    spoken = Spoken(letter.language)
    return {
        "url": f"{site.url_of(brand)}/confirm/{token}{_query(letter)}",
        "wordings": [notice_for(site, brand, change, spoken).text for change in changes],
    }


def _is_offered(site: Site, brand: Brand, change: Change) -> bool:
    """Whether there is such a thing to choose, still: a topic may have gone since the letter was asked for."""
    slug = change.control.topic
    if slug in set(Purpose):
        return True
    topic = site.catalog.get(slug).topics.get(slug)
    if topic is None or topic.retired_at is not None:
        return False
    return topic.brand == brand.slug and change.control.channel in topic.channels


def _sign_up(site: Site, brand: Brand, letter: Letter) -> Context | None:
    address = Address(Channel.EMAIL, letter.address)
    typed = [address]
    site.database.write(contacts.find_or_create, typed, site.fingerprints, datetime.now(UTC), strangers=typed)
    owner = _owner(site, letter)
    return _confirm(site, brand, letter, owner.contact_id) if owner and owner.contact_id else None


def _opt_in(site: Site, brand: Brand, letter: Letter) -> Context | None:
    return _confirm(site, brand, letter, UUID(letter.details["contact"]))


def _owner(site: Site, letter: Letter) -> Found | None:
    """Whose letter this is: nobody's at an address that its owner has replaced, or that a system has added to them."""
    address = Address(Channel.EMAIL, letter.address)
    found = site.database.read(contacts.find_addresses, [address], site.fingerprints).get(address)
    if found is None or site.database.read(contacts.find_by_fingerprint, found.fingerprint) is None:
        return None
    return found


def _customer(site: Site, letter: Letter) -> Found | None:
    """Who may get what opens their own page: nobody of whom we know no more than that somebody typed their address."""
    owner = _owner(site, letter)
    return None if owner is None or owner.relation is Relation.STRANGER else owner


def _manage_link(site: Site, brand: Brand, letter: Letter) -> Context | None:
    owner = _customer(site, letter)
    if owner is None or owner.contact_id is None:
        return None
    url = site.manage_url(ManageLink(owner.contact_id, Channel.EMAIL, brand.slug, datetime.now(UTC)))
    return {"url": url + _query(letter)}


def _sign_in(site: Site, brand: Brand, letter: Letter) -> Context | None:
    owner = _customer(site, letter)
    if owner is None:
        return None
    sign_in_id = UUID(letter.details["sign_in"])
    code = f"{secrets.randbelow(1_000_000):06}"
    digest = site.links.code_digest(sign_in_id, code)
    site.database.save(sign_ins.set_code, sign_in_id, digest, owner.fingerprint)
    token = site.links.sign_sign_in(Ticket(sign_in_id, letter.created_at))
    return {"url": f"{site.url_of(brand)}/sign-in/link/{token}{_query(letter)}", "code": f"{code[:3]} {code[3:]}"}


def _new_address(site: Site, brand: Brand, letter: Letter) -> Context:
    token = site.links.sign_address(Ticket(UUID(letter.details["request"]), letter.created_at))
    return {"url": f"{site.url_of(brand)}/confirm/address/{token}{_query(letter)}"}


def _address_changed(site: Site, brand: Brand, letter: Letter) -> Context | None:
    said = {"old": letter.address, "new": letter.details["new"]}
    # Only who had the better claim to be written to can take it back by themselves.
    return {**said, **_new_address(site, brand, letter)} if "request" in letter.details else said


def _address_added(site: Site, brand: Brand, letter: Letter) -> Context:
    url = f"{site.url_of(brand)}/account/addresses{_query(letter)}"
    told = {"old": letter.address, "new": letter.details["new"], "confirmed": letter.details["confirmed"]}
    return {**told, "url": url}


WRITERS: Final[Mapping[LetterKind, Callable[[Site, Brand, Letter], Context | None]]] = {
    LetterKind.SIGN_UP: _sign_up,
    LetterKind.OPT_IN: _opt_in,
    LetterKind.MANAGE_LINK: _manage_link,
    LetterKind.SIGN_IN: _sign_in,
    LetterKind.NEW_ADDRESS: _new_address,
    LetterKind.ADDRESS_CHANGED: _address_changed,
    LetterKind.ADDRESS_ADDED: _address_added,
}
"""What each kind needs to be written; None where nobody may get it."""
