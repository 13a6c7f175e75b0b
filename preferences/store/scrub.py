"""All decisions that differ from the default, in one pass, to scrub a long file.

Invariants: decisions equal those from `facts_for` (a property test compares them); memory is independent of the number
of contacts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, func, or_, select, union

from preferences.domain.addresses import Fingerprints
from preferences.domain.permission import Decision, Facts, Reason, facts_of, may_send
from preferences.domain.records import Address, Preference, Topic
from preferences.domain.vocabulary import BLANKET, Channel, MessageClass, Purpose, Status
from preferences.store.bulk_copy import much_read
from preferences.store.decision_facts import facts_for
from preferences.store.tables import address, pace, preference, suppression
from preferences.store.transactions import Snapshot

BLOCK: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    channel: Channel
    message_class: MessageClass
    about: Topic
    now: datetime

    @property
    def unlike_others(self) -> str | None:
        """The preference about new topics, whose row alone does not decide."""
        return None if self.about.slug == Purpose.NEW_TOPICS else Purpose.NEW_TOPICS.value

    @property
    def default_decision(self) -> Decision:
        """For an address without facts."""
        return may_send(self.message_class, facts_of(self.about, None, {}, blanket=False, now=self.now))


Answers = Iterator[tuple[Sequence[str], Decision]]
"""Blocks of fingerprints with their decision."""


def answers(snapshot: Snapshot, question: Question, fingerprints: Fingerprints) -> Answers:
    """Decisions that differ from `question.default_decision`, and some others. If a fingerprint comes twice, a refusal
    counts.
    """
    with much_read(snapshot):
        yield from _by_preference(snapshot, question)
    yield from _from_all_facts(snapshot, question, fingerprints)
    yield from _by_suppression(snapshot, question)


def _by_preference(snapshot: Snapshot, question: Question) -> Answers:
    """Contacts with a single preference about the topic."""
    made: dict[tuple[str, str], Decision] = {}
    rows = snapshot.execute(_single_preferences(question), execution_options={"yield_per": BLOCK})
    for block in rows.partitions():
        fingerprints_of: dict[tuple[str, str], list[str]] = defaultdict(list)
        for topic, status, fingerprint in block:
            fingerprints_of[topic, status].append(fingerprint)
        for preferred, found in fingerprints_of.items():
            if preferred not in made:
                made[preferred] = _answer(question, preferred[0], Status(preferred[1]))
            if made[preferred] != question.default_decision:
                yield found, made[preferred]


def _answer(question: Question, topic: str, status: Status) -> Decision:
    """For a contact with this preference alone. A blanket one counts only as an opt-out."""
    blanket = topic == BLANKET
    held = Preference(status=status, at=question.now, since=question.now, seq=0, trusted=False, basis=None)
    counts = not blanket or status is Status.UNSUBSCRIBED
    facts = facts_of(question.about, held if counts else None, {}, blanket=blanket, now=question.now)
    return may_send(question.message_class, facts)


def _is_about(question: Question) -> Any:
    """Preferences for purposes and new topics are stored under email."""
    stored_under = Channel.EMAIL if question.about.slug in set(Purpose) else question.channel
    return and_(
        preference.c.brand == question.about.brand,
        or_(
            and_(preference.c.topic.in_([question.about.slug, BLANKET]), preference.c.channel == stored_under.value),
            and_(preference.c.topic == Purpose.NEW_TOPICS.value, preference.c.channel == Channel.EMAIL.value),
        ),
    )


def _single_preferences(question: Question) -> Any:
    several = _needing_all_facts(question).cte("several")
    return (
        select(preference.c.topic, preference.c.status, address.c.fingerprint)
        .join(address, address.c.contact_id == preference.c.contact_id)
        .outerjoin(several, several.c.contact_id == preference.c.contact_id)
        .where(_is_about(question), address.c.channel == question.channel.value, several.c.contact_id.is_(None))
    )


def _needing_all_facts(question: Question) -> Any:
    """Contacts with several preferences, a limit, or a preference about new topics."""
    more = select(preference.c.contact_id).where(_is_about(question)).group_by(preference.c.contact_id)
    unlike = select(preference.c.contact_id).where(_is_about(question), preference.c.topic == question.unlike_others)
    about = [question.about.slug, BLANKET, Purpose.NEW_TOPICS.value]
    slow = select(pace.c.contact_id).where(pace.c.brand == question.about.brand, pace.c.topic.in_(about))
    return union(more.having(func.count() > 1), unlike, slow)


def _from_all_facts(snapshot: Snapshot, question: Question, fingerprints: Fingerprints) -> Answers:
    """Fingerprints may be of any key."""
    several = _needing_all_facts(question).subquery()
    statement = (
        select(address.c.value)
        .join(several, several.c.contact_id == address.c.contact_id)
        .where(address.c.channel == question.channel.value)
    )
    rows = snapshot.execute(statement, execution_options={"yield_per": BLOCK})
    for block in rows.partitions():
        known = [Address(question.channel, row.value) for row in block]
        facts = facts_for(
            snapshot, known, channel=question.channel, about=question.about, fingerprints=fingerprints, now=question.now
        )
        for recipient, its_facts in facts.items():
            yield fingerprints.candidates(recipient), may_send(question.message_class, its_facts)


def _by_suppression(snapshot: Snapshot, question: Question) -> Answers:
    statement = select(suppression.c.fingerprint, suppression.c.reason).where(
        suppression.c.channel == question.channel.value, suppression.c.active
    )
    rows = snapshot.execute(statement, execution_options={"yield_per": BLOCK})
    for block in rows.partitions():
        fingerprints_of: dict[str, list[str]] = defaultdict(list)
        for fingerprint, reason in block:
            fingerprints_of[reason].append(fingerprint)
        for reason, found in fingerprints_of.items():
            answer = may_send(question.message_class, Facts(reasons={Reason(reason): None}))
            if not answer.allowed:
                yield found, answer
