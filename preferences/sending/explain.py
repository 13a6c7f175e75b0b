"""`flask explain`: decisions about an address and their entries, as text. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from preferences.domain.errors import NotAllowed
from preferences.domain.notices import KeptNotice
from preferences.domain.permission import purpose_topic
from preferences.domain.records import Address, Entry, Topic
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import Purpose, Verb
from preferences.sending.decide import decide, message_about
from preferences.services import Services
from preferences.store import contact_state, history, notices
from preferences.store.catalog import read_catalog
from preferences.store.history import Timeline


def explanation(services: Services, address: Address) -> Iterator[str]:
    """Decisions for each topic and purpose, then all entries, oldest first."""
    catalog = services.database.read(read_catalog)
    timeline = services.database.read(history.timeline, address, services.fingerprints)
    yield f"contact: {timeline.contact_id or 'none; nobody has this address'}"
    yield ""
    yield "may we send?"
    for topic in catalog.topics.values():
        if address.channel in topic.channels:
            yield f"  {topic.slug} ({topic.message_class}): {_decision_words(services, topic, address)}"
    yield ""
    yield "may we do this as well?"
    for brand in catalog.brands:
        for purpose in Purpose:
            yield f"  {brand}/{purpose}: {_decision_words(services, purpose_topic(purpose, brand), address)}"
    yield ""
    yield from _entry_lines(services, timeline)


def _entry_lines(services: Services, timeline: Timeline) -> Iterator[str]:
    yield "entries, oldest first:" if timeline.entries else "no entries"
    shown = services.database.read(notices.find, {entry.notice for entry in timeline.entries if entry.notice})
    for entry in timeline.entries:
        yield f"  {_line(entry)}"
        if entry.seq in timeline.evidence:
            yield f"      evidence: {timeline.evidence[entry.seq]}"
        if entry.notice in shown:
            yield f"      notice: {_notice_words(shown[entry.notice])}"


def explanation_of_contact(services: Services, contact_id: UUID) -> Iterator[str]:
    """The explanation of each address of a contact. Raises NotAllowed for an unknown contact."""
    known = services.database.read(contact_state.addresses_of, contact_id)
    if not known:
        raise NotAllowed(f"contact {contact_id} is not there, or has no address any more")
    for number, state in enumerate(known, 1):
        yield f"address {number} of {len(known)}, {state.address.channel}"
        yield from explanation(services, state.address)


def _decision_words(services: Services, topic: Topic, address: Address) -> str:
    decided = decide(services, message_about(topic, address.channel), [address])
    (decision,), (facts,) = decided.decisions, decided.facts
    because = f", because of entry {decision.entry}" if decision.entry else ""
    limit = f", at most {facts.limit.per_week} a week since entry {facts.limit.seq}" if facts.limit else ""
    return f"{'yes' if decision.allowed else 'no'}  ({decision.rule}{because}){limit}"


def _notice_words(kept: KeptNotice) -> str:
    notice = kept.notice
    return f"{notice.slug}, version {kept.version}, {notice.language}: {' '.join(notice.text.split())}"


def _line(entry: Entry) -> str:
    about = entry.reason or f"{entry.brand}/{entry.topic}"
    when = (entry.occurred_at or entry.recorded_at).isoformat(timespec="seconds")
    effect = "" if entry.changed else ", changed nothing"
    return (
        f"{entry.seq}  {reference_of(entry.hash)}  {when}  {entry.verb} {about}{_pace_words(entry)}"
        f"  by {entry.actor} through {entry.origin}{effect}"
    )


def _pace_words(entry: Entry) -> str:
    if entry.verb is Verb.PAUSE:
        return f" until {entry.until.isoformat(timespec='minutes')}" if entry.until else " no longer"
    if entry.verb is Verb.CAP:
        return f" at {entry.per_week} a week" if entry.per_week is not None else " no longer"
    return ""
