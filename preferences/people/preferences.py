"""The preference page: read, save, stop everything, and confirm by link.

Invariants: only changed controls are recorded; changes to less mail at once; changes to more mail only after a fresh
sign-in or from a confirm link, else after confirmation by email.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from preferences.domain import acts
from preferences.domain.consent import effective, is_stopped
from preferences.domain.errors import StaleLink, TooOften
from preferences.domain.notices import Notice
from preferences.domain.outbox import EmailKind
from preferences.domain.preference_form import (
    LIMIT_VERB,
    OFF,
    ON,
    UNANSWERED,
    Aspect,
    BadValue,
    Change,
    Control,
    Provenance,
    Setting,
    channels_of,
    check_value,
    edit_for,
    lets_more_through,
    read_item,
    settings_of,
    slugs_had,
)
from preferences.domain.records import Address, Brand, Edit, Entry, Topic
from preferences.domain.references import reference_of
from preferences.domain.topics import Section, is_shown, sections_of
from preferences.domain.vocabulary import BLANKET, Channel, Origin, Status, Verb
from preferences.i18n import Spoken
from preferences.ledger import record as ledger
from preferences.ledger.duplicates import find_by_refs
from preferences.people.consent_text import notice_for
from preferences.people.emails import order_email
from preferences.people.opt_outs import Stopped, count_recorded
from preferences.people.rate_limits import opt_ins, repeats
from preferences.people.sign_in import is_revoked
from preferences.services import Services
from preferences.store import contact_state, contacts, notices
from preferences.store.contact_state import ContactState, own_mailboxes
from preferences.store.transactions import Write
from preferences.tokens import ConfirmLink, ManageLink


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A contact's preferences for one brand.

    `settings` holds all controls by name, `channels` those of all marketing topics, hidden and retired ones included.
    """

    brand: Brand
    topics: Sequence[Topic]
    channels: Sequence[Channel]
    contact: ContactState
    settings: Mapping[str, Setting]
    spoken: Spoken

    @property
    def sections(self) -> list[Section]:
        return sections_of(self.topics)

    @property
    def all_stopped(self) -> Stopped | None:
        """Since when all marketing of the brand is stopped on every channel; None if any may be sent."""
        topics = (setting for setting in self.settings.values() if not setting.control.topic.startswith("@"))
        statuses = [setting.value for setting in topics if setting.control.aspect is Aspect.STATUS]
        blankets = [self.contact.preferences.get((channel, self.brand.slug, BLANKET)) for channel in self.channels]
        held = [blanket for blanket in blankets if blanket is not None]
        if not statuses or len(held) < len(blankets) or any(value != OFF for value in statuses):
            return None
        newest = max(held, key=lambda blanket: blanket.since)
        return Stopped(newest.since, reference_of(self.contact.entry_hashes[newest.seq]))

    @property
    def cannot_be_reached(self) -> bool:
        known = self.contact.current_addresses(Channel.EMAIL)
        return bool(known) and all(address.cannot_be_reached for address in known)

    def stopped_since(self, control: Control) -> datetime | None:
        """When the contact opted out of the topic; None if no opt-out is in force."""
        key = control.channel, self.brand.slug
        choice = effective(
            self.contact.preferences.get((*key, control.topic)), self.contact.preferences.get((*key, BLANKET))
        )
        return choice.since if choice is not None and choice.status is Status.UNSUBSCRIBED else None

    def tag(self, control: Control) -> str:
        """A non-sequential reference to the entry behind a control's value."""
        seen = self.settings[control.name].seen
        return reference_of(self.contact.entry_hashes[seen]) if seen in self.contact.entry_hashes else ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submitted control: the new value, and the value and tag that the page showed."""

    value: str
    shown: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    recorded: Sequence[Change] = ()
    stale: Sequence[Change] = ()
    mailed: Sequence[Change] = ()
    mailed_to: Address | None = None
    entries: Sequence[Entry] = ()
    stopped_all: bool = False
    everywhere: bool = False

    @property
    def newest(self) -> Entry | None:
        return self.entries[-1] if self.entries else None

    @property
    def is_nothing(self) -> bool:
        return not (self.recorded or self.mailed or self.stale or self.stopped_all)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The changes of a confirm link that are still possible, and its earlier entries.

    `ref` is the link's origin reference.
    """

    ref: str
    link: ConfirmLink
    page: Page
    changes: Sequence[Change]
    earlier: Sequence[Entry]

    @property
    def now(self) -> list[Change]:
        return [Change(change.control, self.page.settings[change.control.name].value) for change in self.changes]

    @property
    def is_ended(self) -> bool:
        """Whether something that the link switched on is off again."""
        pairs = zip(self.changes, self.now, strict=True)
        return any(change.value == ON and current.value == OFF for change, current in pairs)


def read_page(services: Services, contact_id: UUID, *, brand: Brand, spoken: Spoken) -> Page:
    """Raises StoreBusy."""
    contact = services.database.read(contact_state.state_of, contact_id)
    catalog = services.catalog.get()
    topics = catalog.topics_of(brand.slug, marketing=True)
    settings = settings_of(brand.slug, topics, contact.preferences, contact.limits, datetime.now(UTC))
    having = slugs_had(settings, brand.slug, contact.preferences)
    return Page(
        brand=brand,
        topics=[topic for topic in topics if is_shown(topic, flags=contact.flags, has_it=topic.slug in having)],
        channels=channels_of(catalog.topics_of(brand.slug, marketing=True, retired=True)),
        contact=contact,
        settings={setting.control.name: setting for setting in settings},
        spoken=spoken,
    )


def read_linked_page(services: Services, link: ManageLink, *, brand: Brand, spoken: Spoken) -> Page:
    """Raises StaleLink for a revoked link."""
    page = read_page(services, link.contact_id, brand=brand, spoken=spoken)
    if is_revoked(link.issued_at, page.contact.revoked_at):
        raise StaleLink("revoked by its owner")
    return page


def read_confirmation(
    services: Services, token: str, *, link: ConfirmLink, brand: Brand, spoken: Spoken
) -> Confirmation:
    """Raises StaleLink for a revoked link or a missing contact."""
    page = read_page(services, link.contact_id, brand=brand, spoken=spoken)
    if not page.contact.exists or is_revoked(link.issued_at, page.contact.revoked_at):
        raise StaleLink("revoked, or of a contact that no longer exists")
    ref = services.links.confirm_ref(token)
    changes = list(_offered_changes(page, link))
    refs = [_ref_of(ref, item.partition("=")[0]) for item in link.items]
    earlier = services.database.read(find_by_refs, Origin.CONFIRMATION, refs)
    return Confirmation(ref, link, page, [*changes, *_pauses_to_end(page, changes)], earlier)


def save(services: Services, page: Page, submitted: Mapping[str, Submitted], *, by: Provenance, fresh: bool) -> Saved:
    """Record changed controls. `fresh` means that the contact has just signed in.

    Raises BadValue, StoreBusy, and TooOften for changes to more mail, after changes to less mail are recorded.
    """
    less: list[Change] = []
    more: list[Change] = []
    for change in _moved(page, submitted):
        current = page.settings[change.control.name].value
        lets_more = lets_more_through(change, current)
        if change.value == current and (lets_more or _is_repetition(change, by)):
            continue
        (more if lets_more else less).append(change)
    try:
        if more:
            opt_ins.check(str(by.contact_id))
    except TooOften:
        _record(services, page, less, by)
        raise
    saved = _record(services, page, [*less, *(more if fresh else [])], by)
    if more and not fresh:
        return replace(saved, mailed=more, mailed_to=_request_confirmation(services, page, more))
    return saved


def stop_all(services: Services, page: Page, *, by: Provenance, everywhere: bool) -> Saved:
    """Stop all marketing of the page's brand, or of every brand.

    Raises TooOften for a repetition without effect.
    """
    scopes = _scopes(services, services.catalog.get().brands if everywhere else [page.brand.slug])
    if all(_is_stopped_again(page, channel, brand) for channel, brand in scopes):
        raise TooOften("an opt-out that changes nothing, too many times in a minute")
    now = datetime.now(UTC)
    entries = services.writer.record(
        [
            acts.unsubscribe(
                by.contact_id, channel, brand=brand, topic=BLANKET, origin=by.origin, now=now, evidence=by.evidence
            )
            for channel, brand in scopes
        ]
    )
    count_recorded(entries, by.origin)
    return Saved(stopped_all=True, everywhere=everywhere, entries=entries)


def confirm(services: Services, asked: Confirmation, evidence: Mapping[str, str]) -> Saved:
    """Record the changes of a confirm link, except where a newer opt-out exists."""
    by = Provenance(
        contact_id=asked.link.contact_id,
        brand=asked.page.brand.slug,
        origin=Origin.CONFIRMATION,
        evidence=evidence,
        asked_at=asked.link.issued_at,
    )
    return _record(services, asked.page, asked.changes, by, ref=asked.ref)


def all_brands_stopped(services: Services, page: Page) -> bool:
    return all(_is_stopped(page, *scope) for scope in _scopes(services, services.catalog.get().brands))


def fresh_manage_path(services: Services, page: Page) -> str:
    """A manage link with the rights of those in every email."""
    link = ManageLink(page.contact.contact_id, Channel.EMAIL, page.brand.slug, datetime.now(UTC))
    return f"{services.root_of(page.brand)}/p/{services.links.sign_manage(link)}"


def _offered_changes(page: Page, link: ConfirmLink) -> Iterator[Change]:
    """The link's changes, without removed topics and past days."""
    now = datetime.now(UTC)
    for item in link.items:
        with suppress(ValueError, BadValue):
            change = read_item(item)
            check_value(change.control, change.value, now)
            if change.control.name in page.settings:
                yield change


def _moved(page: Page, submitted: Mapping[str, Submitted]) -> list[Change]:
    """Raises BadValue for an invalid value."""
    now, changes = datetime.now(UTC), []
    for name, setting in page.settings.items():
        field = submitted.get(name)
        if field is None or field.value == field.shown:
            continue
        check_value(setting.control, field.value, now)
        # A missing or different tag means that the page did not show the current value.
        seen = setting.seen if field.tag == page.tag(setting.control) else 0
        changes.append(Change(setting.control, field.value, seen))
    return [*changes, *_pauses_to_end(page, changes)]


def _pauses_to_end(page: Page, changes: Iterable[Change]) -> list[Change]:
    """End the pause of a topic that is switched on: the page hid the pause while the topic was off."""
    named = {change.control for change in changes}
    switched_on = (change.control for change in changes if change.value == ON)
    pauses = (Control(control.channel, control.topic, Aspect.PAUSE) for control in switched_on)
    running = (page.settings[pause.name] for pause in pauses if pause not in named and pause.name in page.settings)
    return [Change(pause.control, UNANSWERED, pause.seen) for pause in running if pause.value != UNANSWERED]


def _is_repetition(change: Change, by: Provenance) -> bool:
    control = change.control
    verb = LIMIT_VERB.get(control.aspect, Verb.UNSUBSCRIBE)
    return repeats.is_reached(by.contact_id, control.channel, brand=by.brand, topic=control.topic, verb=verb)


def _record(services: Services, page: Page, changes: Sequence[Change], by: Provenance, *, ref: str = "") -> Saved:
    """Record changes that are not out of date. `ref` is a confirm link, which counts once."""
    if not changes:
        return Saved()
    now, wordings, edits = datetime.now(UTC), list[Notice](), list[Edit]()
    for change in changes:
        more = lets_more_through(change, page.settings[change.control.name].value)
        notice = notice_for(services, page.brand, change, page.spoken) if more else None
        wordings += [notice] if notice else []
        origin_ref = _ref_of(ref, change.control.name) if ref else None
        edits.append(edit_for(change, by, more=more, notice=notice.hash if notice else None, now=now, ref=origin_ref))
    confirmed = by.contact_id if ref else None
    entries, stale_edits = services.writer.run(_record_edits, edits, wordings, services, now=now, confirmed=confirmed)
    count_recorded(entries, by.origin)
    stale_ids = {id(edit) for edit in stale_edits}
    stale = [change for change, edit in zip(changes, edits, strict=True) if id(edit) in stale_ids]
    return Saved(recorded=[change for change in changes if change not in stale], stale=stale, entries=entries)


def _record_edits(
    write: Write,
    edits: Sequence[Edit],
    wordings: Sequence[Notice],
    services: Services,
    *,
    now: datetime,
    confirmed: UUID | None,
) -> tuple[list[Entry], list[Edit]]:
    """`confirmed` is a contact whose address is confirmed by this link."""
    if confirmed is not None:
        contacts.become_known(write, confirmed)
    notices.keep(write, wordings, now)
    return ledger.record_edits(write, edits, fingerprints=services.fingerprints, now=now)


def _ref_of(ref: str, control_name: str) -> str:
    return f"{ref}.{control_name}"


def _request_confirmation(services: Services, page: Page, changes: Sequence[Change]) -> Address | None:
    """Returns the address, or None without a confirmed email address."""
    mailboxes = own_mailboxes(page.contact.addresses)
    if not mailboxes:
        return None
    details = {"contact": str(page.contact.contact_id), "items": [change.item for change in changes]}
    brand, language = page.brand.slug, page.spoken.language
    order_email(services, EmailKind.OPT_IN, to=mailboxes[0], brand=brand, language=language, details=details)
    return mailboxes[0]


def _scopes(services: Services, brands: Iterable[str]) -> list[tuple[Channel, str]]:
    """Channel and brand pairs with marketing topics, retired ones included."""
    catalog = services.catalog.get()
    return [
        (channel, brand)
        for brand in brands
        for channel in channels_of(catalog.topics_of(brand, marketing=True, retired=True)) or [Channel.EMAIL]
    ]


def _is_stopped(page: Page, channel: Channel, brand: str) -> bool:
    choices = page.contact.preferences
    here = {slug: choice for (on, of, slug), choice in choices.items() if (on, of) == (channel, brand)}
    return is_stopped(here, BLANKET)


def _is_stopped_again(page: Page, channel: Channel, brand: str) -> bool:
    contact_id = page.contact.contact_id
    return repeats.is_reached(contact_id, channel, brand=brand, topic=BLANKET) and _is_stopped(page, channel, brand)
