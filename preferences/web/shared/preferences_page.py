"""The preferences page, whichever door leads to it: what it shows, and what saving it does.

Owns the way from a form to the ledger and to the mailbox. Invariants: only what the person moved is written; what lets
less through is recorded at once, whoever asks; what lets more through is recorded at once only for somebody who has
just signed in, and is otherwise asked for by mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from werkzeug.datastructures import MultiDict

from preferences import metrics
from preferences.domain import acts
from preferences.domain.consent import effective, is_stopped
from preferences.domain.notices import Notice
from preferences.domain.outbox import EmailKind
from preferences.domain.preference_form import (
    CAPS,
    LONGEST_PAUSE,
    OFF,
    ON,
    PACE_VERB,
    UNANSWERED,
    Asker,
    Aspect,
    Change,
    Control,
    Setting,
    channels_of,
    check_value,
    edit_for,
    lets_more_through,
    settings_of,
    slugs_had,
)
from preferences.domain.records import Address, Brand, Edit, Entry, Topic
from preferences.domain.references import reference_of
from preferences.domain.topics import Section, is_shown, sections_of
from preferences.domain.vocabulary import BLANKET, Channel, Purpose, Status, Verb
from preferences.i18n import Spoken
from preferences.ledger import record as ledger
from preferences.people.consent_text import notice_for
from preferences.people.emails import order_email
from preferences.services import Services
from preferences.store import contact_state, contacts, notices
from preferences.store.contact_state import Standing, own_mailboxes
from preferences.store.transactions import Write
from preferences.web.shared.limits import RequestLimit, TooOften, repeats

limit = RequestLimit(per_minute=120)
"""For each contact's changes that let more through. Nothing that lets less through is ever refused."""

SET, WAS, SEEN = "set.", "was.", "seen."
"""What a form's fields are called: the value chosen, the value that was shown, and the entry it came from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A contact's choices about one brand, as they stand. `settings` by the name of their control: of every topic that
    is sent, whether or not it is among those shown."""

    brand: Brand
    topics: Sequence[Topic]
    channels: Sequence[Channel]
    """Those on which the brand sends marketing, and those of retired topics, which may come back."""
    standing: Standing
    settings: Mapping[str, Setting]
    spoken: Spoken

    @property
    def sections(self) -> list[Section]:
        """The topics shown, by section."""
        return sections_of(self.topics)

    def tag(self, control: Control) -> str:
        """What names the entry that a control's value comes from: nothing sequential, since it stands in the page."""
        seen = self.settings[control.name].seen
        return reference_of(self.standing.entry_hashes[seen]) if seen in self.standing.entry_hashes else ""


@dataclass(slots=True)
class Saved:
    """What became of a form: what was recorded, what was asked for by mail, and what was out of date."""

    recorded: list[Change] = field(default_factory=list)
    mailed: list[Change] = field(default_factory=list)
    mailed_to: Address | None = None
    stale: list[Change] = field(default_factory=list)
    stopped_all: bool = False
    everywhere: bool = False
    entries: list[Entry] = field(default_factory=list)

    @property
    def newest(self) -> Entry | None:
        """The entry whose reference and time the person can keep."""
        return self.entries[-1] if self.entries else None

    @property
    def is_nothing(self) -> bool:
        """Nothing was moved."""
        return not (self.recorded or self.mailed or self.stale or self.stopped_all)


def read_page(services: Services, contact_id: UUID, brand: Brand, spoken: Spoken) -> Page:
    """The page as it stands. Raises StoreBusy."""
    standing = services.database.read(contact_state.standing_of, contact_id)
    catalog = services.catalog.get()
    topics = catalog.topics_of(brand.slug, marketing=True)
    now = datetime.now(UTC)
    settings = settings_of(brand.slug, topics, standing.choices, standing.paces, now)
    having = slugs_had(settings, brand.slug, standing.choices)
    return Page(
        brand=brand,
        topics=[one for one in topics if is_shown(one, flags=standing.flags, has_it=one.slug in having)],
        channels=channels_of(catalog.topics_of(brand.slug, marketing=True, retired=True)),
        standing=standing,
        settings={one.control.name: one for one in settings},
        spoken=spoken,
    )


def moved(page: Page, form: MultiDict[str, str]) -> list[Change]:
    """The controls that the person moved, each checked. Raises BadValue for the first that cannot be."""
    now, changes = datetime.now(UTC), []
    for name, setting in page.settings.items():
        value = form.get(SET + name)
        if value is None or value == form.get(WAS + name, UNANSWERED):
            continue
        check_value(setting.control, value, now)
        # A page that knew of another entry, or of none, has seen nothing of what counts now.
        seen = setting.seen if form.get(SEEN + name, "") == page.tag(setting.control) else 0
        changes.append(Change(setting.control, value, seen))
    return [*changes, *pauses_to_end(page, changes)]


def pauses_to_end(page: Page, changes: Iterable[Change]) -> list[Change]:
    """What is switched on is on: a pause that the page did not show, since its topic was off, ends with it."""
    named = {change.control for change in changes}
    wanted = [change.control for change in changes if change.control.aspect is Aspect.STATUS and change.value == ON]
    ended = (Control(one.channel, one.topic, Aspect.PAUSE) for one in wanted)
    running = (one for one in ended if one not in named and one.name in page.settings)
    return [
        Change(one, UNANSWERED, page.settings[one.name].seen)
        for one in running
        if page.settings[one.name].value != UNANSWERED
    ]


def save(services: Services, page: Page, form: MultiDict[str, str], asker: Asker, *, fresh: bool) -> Saved:
    """Do what the form asks. `fresh` says that the person has just proven who they are. Raises BadValue, StoreBusy, and
    TooOften for what lets more through, once what lets less through is recorded."""
    saved = Saved()
    less: list[Change] = []
    more: list[Change] = []
    for change in moved(page, form):
        now_at = page.settings[change.control.name].value
        lets_more = lets_more_through(change, now_at)
        if lets_more and change.value == now_at:
            continue  # somebody, perhaps they themselves in another window, has done it already
        if change.value == now_at and _is_repetition(change, asker):
            continue
        (more if lets_more else less).append(change)
    try:
        if more:
            limit.check(asker.contact_id)
    except TooOften:
        record(services, page, less, asker, saved=saved)
        raise
    record(services, page, [*less, *(more if fresh else [])], asker, saved=saved)
    if more and not fresh:
        ask_by_mail(services, page, more, saved)
    return saved


def _is_repetition(change: Change, asker: Asker) -> bool:
    """Whether what stands already was recorded so often in this minute that once more is not needed."""
    control = change.control
    verb = PACE_VERB.get(control.aspect, Verb.UNSUBSCRIBE)
    return repeats.is_reached(asker.contact_id, control.channel, brand=asker.brand, topic=control.topic, verb=verb)


def record(
    services: Services, page: Page, changes: Sequence[Change], asker: Asker, *, saved: Saved, ref: str = ""
) -> None:
    """Record changes, but for those that are out of date. `ref` names a confirm link, which counts once, and whose
    presser is no stranger any more."""
    if not changes:
        return
    now = datetime.now(UTC)
    edits, shown = [], []
    for change in changes:
        more = lets_more_through(change, page.settings[change.control.name].value)
        notice = notice_for(services, page.brand, change, page.spoken) if more else None
        origin_ref = ref_of(ref, change.control.name) if ref else None
        edits.append(
            edit_for(change, asker, more=more, notice=notice.hash if notice else None, now=now, ref=origin_ref)
        )
        shown += [notice] if notice else []
    met = asker.contact_id if ref else None
    entries, stale = services.writer.run(_record, edits, shown, services, now=now, met=met)
    by_edit = dict(zip(map(id, edits), changes, strict=True))
    saved.stale += [by_edit[id(edit)] for edit in stale]
    saved.recorded += [change for change in changes if change not in saved.stale]
    saved.entries += entries
    repeats.count(entries)
    metrics.RECORDED.labels(asker.origin).inc(len(entries))


def ref_of(ref: str, control_name: str) -> str:
    """What an entry is called that a confirm link made: by the link's own name and the control's."""
    return f"{ref}.{control_name}"


def _record(
    write: Write,
    edits: Sequence[Edit],
    shown: Sequence[Notice],
    services: Services,
    *,
    now: datetime,
    met: UUID | None,
) -> tuple[list[Entry], list[Edit]]:
    """`met` is a contact who answers from their own mailbox: known from then on, or nothing of this stands."""
    if met is not None:
        contacts.become_known(write, met)
    notices.keep(write, shown, now)
    return ledger.record_edits(write, edits, fingerprints=services.fingerprints, now=now)


def ask_by_mail(services: Services, page: Page, changes: Sequence[Change], saved: Saved) -> None:
    """Send a letter that asks whether it was them. Where there is no email address, nobody can be asked."""
    mailboxes = own_mailboxes(page.standing.addresses)
    saved.mailed += changes
    if not mailboxes:
        return
    saved.mailed_to = address = mailboxes[0]
    details = {"contact": str(page.standing.contact_id), "items": [change.item for change in changes]}
    order_email(
        services,
        EmailKind.OPT_IN,
        to=address,
        brand=page.brand.slug,
        language=page.spoken.language,
        details=details,
    )


def stop_all(services: Services, page: Page, asker: Asker, *, everywhere: bool = False) -> Saved:
    """Stop all marketing of the brand on every channel, or of every brand. Raises TooOften for what is not worth
    recording."""
    now = datetime.now(UTC)
    places = _places(services, list(services.catalog.get().brands) if everywhere else [page.brand.slug])
    if all(_is_stopped_again(page, channel, slug) for channel, slug in places):
        raise TooOften("an opt-out that changes nothing, too many times in a minute")
    origin, evidence = asker.origin, asker.evidence
    entries = services.writer.record(
        [
            acts.unsubscribe(
                asker.contact_id, channel, brand=slug, topic=BLANKET, origin=origin, now=now, evidence=evidence
            )
            for channel, slug in places
        ]
    )
    repeats.count(entries)
    metrics.RECORDED.labels(asker.origin).inc(len(entries))
    return Saved(stopped_all=True, everywhere=everywhere, entries=list(entries))


def _places(services: Services, brands: Iterable[str]) -> list[tuple[Channel, str]]:
    """The channels on which each of the brands sends marketing, or may again."""
    catalog = services.catalog.get()
    return [
        (channel, slug)
        for slug in brands
        for channel in channels_of(catalog.topics_of(slug, marketing=True, retired=True)) or [Channel.EMAIL]
    ]


def _is_stopped(page: Page, channel: Channel, brand: str) -> bool:
    choices = page.standing.choices
    here = {slug: choice for (on, of, slug), choice in choices.items() if (on, of) == (channel, brand)}
    return is_stopped(here, BLANKET)


def _is_stopped_again(page: Page, channel: Channel, brand: str) -> bool:
    if not repeats.is_reached(page.standing.contact_id, channel, brand=brand, topic=BLANKET):
        return False
    return _is_stopped(page, channel, brand)


def values_to_show(page: Page, form: Mapping[str, str] | None) -> dict[str, str]:
    """What each control shows: what was chosen, on a page that could not be saved; else what it stands at."""
    chosen = form or {}
    return {name: chosen.get(SET + name, setting.value) for name, setting in page.settings.items()}


def cannot_be_reached(page: Page) -> bool:
    """Whether no email address of the contact can be written to, whatever they choose."""
    known = page.standing.current_addresses(Channel.EMAIL)
    return bool(known) and all(one.cannot_be_reached for one in known)


def _all_stopped(page: Page) -> dict[str, Any] | None:
    """Since when nothing of the brand may be sent on any of its channels, because the person stopped everything; and
    the reference of that. None when something may be sent."""
    topics = [one for one in page.settings.values() if not one.control.topic.startswith("@")]
    statuses = [one for one in topics if one.control.aspect is Aspect.STATUS]
    blankets = [page.standing.choices.get((channel, page.brand.slug, BLANKET)) for channel in page.channels]
    held = [one for one in blankets if one is not None]
    if not statuses or len(held) < len(blankets) or any(one.value != OFF for one in statuses):
        return None
    newest = max(held, key=lambda one: one.since)
    return {"since": newest.since, "reference": reference_of(page.standing.entry_hashes[newest.seq])}


def answer(services: Services, page: Page, form: MultiDict[str, str], asker: Asker, *, fresh: bool) -> Saved:
    """Do what the pressed button asks: stop all, stop all of every brand, or save what was moved."""
    intent = form.get("intent", "save")
    if intent in {"all", "all-brands"}:
        return stop_all(services, page, asker, everywhere=intent == "all-brands")
    return save(services, page, form, asker, fresh=fresh)


def context(
    services: Services, page: Page, *, saved: Saved | None, problem: str | None, form: Mapping[str, str] | None
) -> dict[str, Any]:
    """What the page's template needs, whichever door it stands behind."""
    catalog = services.catalog.get()
    return {
        "page": page,
        "Control": Control,
        "Aspect": Aspect,
        "Purpose": Purpose,
        "caps": CAPS,
        "tag": page.tag,
        "values": values_to_show(page, form),
        "all_stopped": _all_stopped(page),
        "all_brands_stopped": all(_is_stopped(page, *place) for place in _places(services, list(catalog.brands))),
        "cannot_be_reached": cannot_be_reached(page),
        "reference_of": reference_of,
        "always_sent": catalog.topics_of(page.brand.slug, marketing=False),
        "brand_names": [brand.name for brand in catalog.brands.values()],
        "stopped_since": partial(_stopped_since, page),
        "saved": saved,
        "problem": problem,
        "say": partial(_say, services, page),
        "first_day": (datetime.now(UTC) + timedelta(days=1)).date(),
        "last_day": (datetime.now(UTC) + LONGEST_PAUSE).date(),
    }


def _stopped_since(page: Page, control: Control) -> datetime | None:
    """When the person unsubscribed from what a control is about; None if what counts is something else."""
    own, blanket = (
        page.standing.choices.get((control.channel, page.brand.slug, slug)) for slug in (control.topic, BLANKET)
    )
    choice = effective(own, blanket)
    return choice.since if choice is not None and choice.status is Status.UNSUBSCRIBED else None


def _say(services: Services, page: Page, change: Change) -> str:
    """A change in words, in the language of the page."""
    return notice_for(services, page.brand, change, page.spoken).text
