"""Opt-outs by unsubscribe link or typed address, without signing in: state, stop, undo, reason.

Invariants: an opt-out is durable before a function returns; an undo token reverts only the entries of its own
submission.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from preferences import metrics
from preferences.address_parsing import read_address
from preferences.domain import acts
from preferences.domain.addresses import mask
from preferences.domain.consent import in_force, is_stopped
from preferences.domain.errors import BadAddress, BadLink, StoreBusy, TooOften
from preferences.domain.records import Address, Brand, Entry, Preference, Topic
from preferences.domain.references import reference_of
from preferences.domain.topics import removed_topic
from preferences.domain.vocabulary import BLANKET, PHONE_CHANNELS, Channel, OneClick, Origin, Status
from preferences.i18n import to_translate
from preferences.ledger import record as ledger
from preferences.people.rate_limits import new_addresses, repeats
from preferences.services import Services
from preferences.store import contacts
from preferences.store.catalog import Catalog
from preferences.store.contact_state import ChannelKey, ChannelPreferences
from preferences.store.contacts import Found
from preferences.store.reasons import state_reason
from preferences.store.transactions import Write
from preferences.tokens import UNDO_LIFE, UndoToken, UnsubscribeLink

ALL, TOPIC, ALL_BRANDS = "all", "topic", "all-brands"
"""The brand, the topic, every brand."""

REASONS: Final = {
    "too_many": to_translate("Too many messages"),
    "not_relevant": to_translate("Not relevant to me"),
    "never_asked": to_translate("I never signed up"),
    "other_address": to_translate("I get them at another address"),
    "other": to_translate("Another reason"),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """The scope of an unsubscribe link. `brand` is None if deleted, `topic` for `*`."""

    link: UnsubscribeLink
    brand: Brand | None
    topic: Topic | None
    catalog: Catalog

    @property
    def brand_names(self) -> tuple[str, ...]:
        return tuple(brand.name for brand in self.catalog.brands.values())

    @property
    def one_click_topic(self) -> str:
        return acts.one_click_topic(self.brand.one_click if self.brand else OneClick.EVERYTHING, self.link.topic)


@dataclass(frozen=True, slots=True)
class Stopped:
    since: datetime
    reference: str


@dataclass(frozen=True, slots=True)
class LinkState:
    """What is stopped within the link's scope. `address` is masked."""

    subject: Subject
    address: str | None
    everything: Stopped | None
    topic: Stopped | None
    every_brand: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a submission or an undo. `entry` is its first entry; `brands` the number of brands."""

    subject: Subject
    entry: Entry
    brands: int
    address: str | None
    reference: str
    at: datetime
    undo_tokens: Sequence[str] = ()
    subscribed: bool = False

    @property
    def topic(self) -> str:
        return self.entry.topic


def read_subject(services: Services, link: UnsubscribeLink) -> Subject:
    """Raises StoreBusy."""
    catalog = services.catalog.get()
    topic = None
    if link.topic != BLANKET:
        topic = catalog.topics.get(link.topic) or removed_topic(link.topic, link.brand, link.channel)
    return Subject(link, catalog.brands.get(link.brand), topic, catalog)


def read_state(services: Services, link: UnsubscribeLink) -> LinkState:
    """Raises StoreBusy."""
    subject = read_subject(services, link)
    state = _state(services, link, link.brand)
    everything = _stopped(state, state.preferences.get(BLANKET))
    return LinkState(
        subject,
        _masked(state),
        everything,
        _stopped(state, in_force(state.preferences, link.topic)),
        everything is not None and _is_stopped_everywhere(services, subject),
    )


def one_click(services: Services, link: UnsubscribeLink, evidence: Mapping[str, str]) -> tuple[str, str]:
    """One click (RFC 8058). Returns the name of what is stopped, and the reference."""
    subject = read_subject(services, link)
    topic = subject.one_click_topic
    try:
        (entry,) = _record(services, link, topic, Origin.ONE_CLICK, brands=[link.brand], evidence=evidence)
        entry_hash = entry.hash
    except TooOften:
        # Already stopped: the mail program gets a success.
        entry_hash = _hash_in_force(services, link, topic)
    return subject.topic.name if topic != BLANKET and subject.topic else "all marketing", reference_of(entry_hash)


def stop(
    services: Services, link: UnsubscribeLink, *, intent: str, submission: str, evidence: Mapping[str, str]
) -> Outcome:
    """Stop what the intent names. `submission` is the form's random field: a repeated one finds its own entries. Raises
    TooOften for a repetition without effect."""
    subject = read_subject(services, link)
    topic = {ALL: BLANKET, ALL_BRANDS: BLANKET, TOPIC: link.topic}.get(intent) or subject.one_click_topic
    brands = _all_brands(subject) if intent == ALL_BRANDS else [link.brand]
    entries = _record(services, link, topic, Origin.PAGE, brands=brands, evidence=evidence, submission=submission)
    states = [_state_after(services, link, brand) for brand in brands]
    choice = states[0].preferences.get(topic)
    return Outcome(
        subject=subject,
        entry=entries[0],
        brands=len(brands),
        address=_masked(states[0]),
        reference=reference_of(states[0].entry_hashes.get(choice.seq, entries[0].hash) if choice else entries[0].hash),
        at=choice.since if choice else entries[0].recorded_at,
        undo_tokens=_undo_tokens(services, entries, states),
    )


def undo(services: Services, link: UnsubscribeLink, tokens: Sequence[str], evidence: Mapping[str, str]) -> Outcome:
    """Revert the entries of these undo tokens, all or none.

    Raises BadLink, StaleLink, and NotAllowed if a newer entry counts.
    """
    now, subject = datetime.now(UTC), read_subject(services, link)
    undos = [services.links.read_undo(token, now) for token in dict.fromkeys(tokens or [""])]
    if any(undo.contact_id != link.contact_id for undo in undos):
        raise BadLink("an undo of another contact")
    entries = services.writer.run(_undo_all, undos, now=now, evidence=evidence)
    metrics.RECORDED.labels(Origin.UNDO).inc(len(undos))
    state, topic = _state_after(services, link, link.brand), entries[0].topic
    choice = in_force(state.preferences, topic)
    return Outcome(
        subject=subject,
        entry=entries[0],
        brands=len(entries),
        address=_masked(state),
        reference=reference_of(entries[0].hash),
        at=entries[0].recorded_at,
        subscribed=topic != BLANKET and choice is not None and choice.status is Status.SUBSCRIBED,
    )


def give_reason(services: Services, link: UnsubscribeLink, reason: str, undo_tokens: Sequence[str]) -> list[str]:
    """Record the reason of an opt-out in force. Returns the undo tokens that still work."""
    state = _state(services, link, link.brand)
    choice = _opt_out(in_force(state.preferences, link.topic)) or _opt_out(state.preferences.get(BLANKET))
    if choice is None:
        return []
    now = datetime.now(UTC)
    if reason in REASONS:
        services.database.save(state_reason, choice.seq, reason, now)
    return [token for token in dict.fromkeys(undo_tokens) if _undoes_for(services, token, link, now)]


def read_typed_address(services: Services, typed: str, *, postal: bool) -> list[Address]:
    """Parse an address for each channel in use; empty if invalid.

    A phone number yields both text messages and calls.
    """
    used = services.catalog.get().marketing_channels
    if postal:
        channels = used & {Channel.POST}
    elif "@" in typed or not used & PHONE_CHANNELS:
        channels = {Channel.EMAIL}
    else:
        channels = used & PHONE_CHANNELS
    try:
        return [read_address(channel, typed) for channel in sorted(channels)]
    except BadAddress:
        return []


def stop_addresses(
    services: Services, addresses: Collection[Address], brands: Collection[str], evidence: Mapping[str, str]
) -> bool:
    """Stop all marketing of the brands to known or unknown addresses. Returns False while new addresses are refused,
    whether or not these are new; known ones are stopped in any case."""
    found = services.database.read(contacts.find_addresses, set(addresses), services.fingerprints)
    accepts_new = not new_addresses.is_reached()
    if accepts_new:
        new_addresses.count(len(set(addresses) - found.keys()))
    now = datetime.now(UTC)
    opt_outs = [
        acts.unsubscribe(
            address, address.channel, brand=brand, topic=BLANKET, origin=Origin.ADDRESS_BOX, now=now, evidence=evidence
        )
        for address in addresses
        if accepts_new or address in found
        for brand in brands
        if not _is_address_repetition(services, address, brand, found.get(address))
    ]
    entries = services.writer.record(opt_outs)
    count_recorded(entries, Origin.ADDRESS_BOX)
    return accepts_new


def _record(
    services: Services,
    link: UnsubscribeLink,
    topic: str,
    origin: Origin,
    *,
    brands: Sequence[str],
    evidence: Mapping[str, str],
    submission: str = "",
) -> list[Entry]:
    """Stop the topic for each brand; one entry each. Raises TooOften at the repeat limit."""
    if _is_repetition(services, link, topic, brands):
        raise TooOften("an opt-out that changes nothing, too many times in a minute")
    now = datetime.now(UTC)
    entries = services.writer.record(
        [
            acts.unsubscribe(
                link.contact_id,
                link.channel,
                brand=brand,
                topic=topic,
                origin=origin,
                now=now,
                evidence=evidence,
                ref=acts.press_ref(submission, link.contact_id, link.channel, brand=brand, topic=topic),
            )
            for brand in brands
        ]
    )
    count_recorded(entries, origin)
    return entries


def count_recorded(entries: Sequence[Entry], origin: Origin) -> None:
    """For the repeat limit and the metrics."""
    repeats.count(entries)
    metrics.RECORDED.labels(origin).inc(len(entries))


def _is_repetition(services: Services, link: UnsubscribeLink, topic: str, brands: Sequence[str]) -> bool:
    for brand in brands:
        if not repeats.is_reached(link.contact_id, link.channel, brand=brand, topic=topic):
            return False
    return all(is_stopped(_state(services, link, brand).preferences, topic) for brand in brands)


def _is_address_repetition(services: Services, address: Address, brand: str, owner: Found | None) -> bool:
    contact_id = owner.contact_id if owner else None
    if not repeats.is_reached(contact_id, address.channel, brand=brand, topic=BLANKET):
        return False
    if contact_id is None:  # an address that must not be stored has no preferences to change
        reasons = services.database.read(contacts.suppressed_for, address, services.fingerprints)
        return not reasons.isdisjoint(contacts.BARRED_REASONS)
    held = services.reader.channel_preferences(ChannelKey(contact_id, address.channel, brand))
    return is_stopped(held.preferences, BLANKET)


def _all_brands(subject: Subject) -> list[str]:
    return list(dict.fromkeys((subject.link.brand, *subject.catalog.brands)))


def _is_stopped_everywhere(services: Services, subject: Subject) -> bool:
    return all(is_stopped(_state(services, subject.link, brand).preferences, BLANKET) for brand in _all_brands(subject))


def _undo_all(write: Write, undos: Sequence[UndoToken], *, now: datetime, evidence: Mapping[str, str]) -> list[Entry]:
    return [ledger.undo(write, undo.seq, contact_id=undo.contact_id, now=now, details=evidence) for undo in undos]


def _undo_tokens(services: Services, entries: Sequence[Entry], states: Sequence[ChannelPreferences]) -> list[str]:
    """A token per brand that reverts only what this submission stopped."""
    now = datetime.now(UTC)
    return [
        services.links.sign_undo(UndoToken(entry.contact_id, entry.seq, entry.recorded_at))
        for entry, state in zip(entries, states, strict=True)
        if entry.contact_id and entry.changed and now < entry.recorded_at + UNDO_LIFE and _is_stopped_by(state, entry)
    ]


def _is_stopped_by(state: ChannelPreferences, entry: Entry) -> bool:
    """Whether this entry, not an earlier one, is what stopped it."""
    choice = _opt_out(state.preferences.get(entry.topic))
    return choice is not None and choice.seq <= entry.seq


def _undoes_for(services: Services, token: str, link: UnsubscribeLink, now: datetime) -> bool:
    with suppress(BadLink):
        return services.links.read_undo(token, now).contact_id == link.contact_id
    return False


def _hash_in_force(services: Services, link: UnsubscribeLink, topic: str) -> str:
    state = _state(services, link, link.brand)
    choice = in_force(state.preferences, topic)
    return state.entry_hashes[choice.seq] if choice else ""


def _state(services: Services, link: UnsubscribeLink, brand: str) -> ChannelPreferences:
    return services.reader.channel_preferences(ChannelKey(link.contact_id, link.channel, brand))


def _state_after(services: Services, link: UnsubscribeLink, brand: str) -> ChannelPreferences:
    """The state after recording. If the database fails here, the page shows less instead of an error."""
    try:
        return _state(services, link, brand)
    except StoreBusy:
        return ChannelPreferences(address=None, preferences={}, entry_hashes={})


def _opt_out(choice: Preference | None) -> Preference | None:
    return choice if choice is not None and choice.status is Status.UNSUBSCRIBED else None


def _stopped(state: ChannelPreferences, choice: Preference | None) -> Stopped | None:
    choice = _opt_out(choice)
    return None if choice is None else Stopped(choice.since, reference_of(state.entry_hashes[choice.seq]))


def _masked(state: ChannelPreferences) -> str | None:
    return mask(state.address) if state.address else None
