"""Why somebody may or may not be written to, in plain lines.

Owns the wording of `flask explain`. Invariant: reads only.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

from preferences.domain.errors import NotAllowed
from preferences.domain.notices import KeptNotice
from preferences.domain.permission import Decision, Facts, may_send, purpose_topic
from preferences.domain.records import Address, Entry, Topic
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import MessageClass, Purpose, Verb
from preferences.services import Services
from preferences.store import contact_state, history, notices
from preferences.store.catalog import read_catalog
from preferences.store.decision_facts import facts_for


def explanation(services: Services, address: Address) -> Iterator[str]:
    """Line by line: the decision for each topic and each purpose, then every entry, oldest first."""
    catalog = services.database.read(read_catalog)
    timeline = services.database.read(history.timeline, address, services.fingerprints)
    yield f"contact: {timeline.contact_id or 'none; nobody has this address'}"
    yield ""
    yield "may we send?"
    for topic in catalog.topics.values():
        if address.channel in topic.channels:
            facts = _facts(services, address, topic)
            words = _words(may_send(topic.message_class, facts))
            yield f"  {topic.slug} ({topic.message_class}): {words}{_cap_words(facts)}"
    yield ""
    yield "may we do this as well?"
    for brand in catalog.brands:
        for purpose in Purpose:
            decision = may_send(MessageClass.MARKETING, _facts(services, address, purpose_topic(purpose, brand)))
            yield f"  {brand}/{purpose}: {_words(decision)}"
    yield ""
    yield "entries, oldest first:" if timeline.entries else "no entries"
    shown = services.database.read(notices.find, {entry.notice for entry in timeline.entries if entry.notice})
    for entry in timeline.entries:
        yield f"  {_line(entry)}"
        if entry.seq in timeline.evidence:
            yield f"      evidence: {timeline.evidence[entry.seq]}"
        if entry.notice in shown:
            yield f"      notice: {_notice_words(shown[entry.notice])}"


def explanation_of_contact(services: Services, contact_id: UUID) -> Iterator[str]:
    """The explanation of each address of a contact, named by its channel. Raises NotAllowed where there is none."""
    known = services.database.read(contact_state.addresses_of, contact_id)
    if not known:
        raise NotAllowed(f"contact {contact_id} is not there, or has no address any more")
    for number, one in enumerate(known, 1):
        yield f"address {number} of {len(known)}, {one.address.channel}"
        yield from explanation(services, one.address)


def _facts(services: Services, address: Address, topic: Topic) -> Facts:
    found = services.database.read(
        facts_for,
        [address],
        channel=address.channel,
        about=topic,
        fingerprints=services.fingerprints,
        now=datetime.now(UTC),
    )
    return found[address]


def _words(decision: Decision) -> str:
    verdict = "yes" if decision.allowed else "no"
    because = f", because of entry {decision.entry}" if decision.entry else ""
    return f"{verdict}  ({decision.rule}{because})"


def _cap_words(facts: Facts) -> str:
    return f", at most {facts.cap.per_week} a week since entry {facts.cap.seq}" if facts.cap else ""


def _notice_words(kept: KeptNotice) -> str:
    one = kept.notice
    return f"{one.slug}, version {kept.version}, {one.language}: {' '.join(one.text.split())}"


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
