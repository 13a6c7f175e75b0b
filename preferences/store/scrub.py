"""All decisions that differ from the default decision, in one pass: what a long file is scrubbed against.

Owns the reading; `domain.permission` decides. Invariants: the decision for an address is the one that `facts_for` leads
to (a property test compares them); memory does not grow with the number of contacts.
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
    """The message that every address is checked for."""

    channel: Channel
    message_class: MessageClass
    about: Topic
    now: datetime

    @property
    def unlike_others(self) -> str | None:
        """The preference about new topics, unless the message is about it: it cannot be judged by its own row alone."""
        return None if self.about.slug == Purpose.NEW_TOPICS else Purpose.NEW_TOPICS.value

    @property
    def default_decision(self) -> Decision:
        """The decision for an address without facts."""
        return may_send(self.message_class, facts_of(self.about, None, {}, blanket=False, now=self.now))


Answers = Iterator[tuple[Sequence[str], Decision]]
"""Fingerprints with the decision for their addresses, a block at a time."""


def answers(snapshot: Snapshot, asked: Question, fingerprints: Fingerprints) -> Answers:
    """The decision for each fingerprint for which it differs from `asked.default_decision`, and for some others.

    A fingerprint may come twice, with different decisions: the one that refuses counts.
    """
    with much_read(snapshot):
        yield from _by_preference(snapshot, asked)
    yield from _from_all_facts(snapshot, asked, fingerprints)
    yield from _by_suppression(snapshot, asked)


def _by_preference(snapshot: Snapshot, asked: Question) -> Answers:
    """Contacts with a single preference about the topic."""
    made: dict[tuple[str, str], Decision] = {}
    rows = snapshot.execute(_single_preferences(asked), execution_options={"yield_per": BLOCK})
    for block in rows.partitions():
        prints: dict[tuple[str, str], list[str]] = defaultdict(list)
        for topic, status, print_ in block:
            prints[topic, status].append(print_)
        for said, whose in prints.items():
            if said not in made:
                made[said] = _answer(asked, said[0], Status(said[1]))
            if made[said] != asked.default_decision:
                yield whose, made[said]


def _answer(asked: Question, topic: str, status: Status) -> Decision:
    """The decision for a contact with this preference alone. Of a blanket preference only an opt-out counts."""
    blanket = topic == BLANKET
    choice = Preference(status=status, at=asked.now, since=asked.now, seq=0, trusted=False, basis=None)
    counts = not blanket or status is Status.UNSUBSCRIBED
    facts = facts_of(asked.about, choice if counts else None, {}, blanket=blanket, now=asked.now)
    return may_send(asked.message_class, facts)


def _is_about(asked: Question) -> Any:
    """Preferences about the topic. A purpose, and new topics, are stored under email."""
    kept_under = Channel.EMAIL if asked.about.slug in set(Purpose) else asked.channel
    return and_(
        preference.c.brand == asked.about.brand,
        or_(
            and_(preference.c.topic.in_([asked.about.slug, BLANKET]), preference.c.channel == kept_under.value),
            and_(preference.c.topic == Purpose.NEW_TOPICS.value, preference.c.channel == Channel.EMAIL.value),
        ),
    )


def _single_preferences(asked: Question) -> Any:
    several = _needing_all_facts(asked).cte("several")
    return (
        select(preference.c.topic, preference.c.status, address.c.fingerprint)
        .join(address, address.c.contact_id == preference.c.contact_id)
        .outerjoin(several, several.c.contact_id == preference.c.contact_id)
        .where(_is_about(asked), address.c.channel == asked.channel.value, several.c.contact_id.is_(None))
    )


def _needing_all_facts(asked: Question) -> Any:
    """Contacts that need all facts: several preferences, a sending limit, or a preference about new topics."""
    more = select(preference.c.contact_id).where(_is_about(asked)).group_by(preference.c.contact_id)
    unlike = select(preference.c.contact_id).where(_is_about(asked), preference.c.topic == asked.unlike_others)
    about = [asked.about.slug, BLANKET, Purpose.NEW_TOPICS.value]
    slow = select(pace.c.contact_id).where(pace.c.brand == asked.about.brand, pace.c.topic.in_(about))
    return union(more.having(func.count() > 1), unlike, slow)


def _from_all_facts(snapshot: Snapshot, asked: Question, fingerprints: Fingerprints) -> Answers:
    """The decisions for contacts that need all facts. Their fingerprints may have been made with any key."""
    several = _needing_all_facts(asked).subquery()
    statement = (
        select(address.c.value)
        .join(several, several.c.contact_id == address.c.contact_id)
        .where(address.c.channel == asked.channel.value)
    )
    rows = snapshot.execute(statement, execution_options={"yield_per": BLOCK})
    for block in rows.partitions():
        known = [Address(asked.channel, row.value) for row in block]
        facts = facts_for(
            snapshot, known, channel=asked.channel, about=asked.about, fingerprints=fingerprints, now=asked.now
        )
        for recipient, found in facts.items():
            yield fingerprints.candidates(recipient), may_send(asked.message_class, found)


def _by_suppression(snapshot: Snapshot, asked: Question) -> Answers:
    """Suppressed addresses, where the suppression refuses this class of message."""
    statement = select(suppression.c.fingerprint, suppression.c.reason).where(
        suppression.c.channel == asked.channel.value, suppression.c.active
    )
    rows = snapshot.execute(statement, execution_options={"yield_per": BLOCK})
    for block in rows.partitions():
        prints: dict[str, list[str]] = defaultdict(list)
        for print_, reason in block:
            prints[reason].append(print_)
        for reason, whose in prints.items():
            answer = may_send(asked.message_class, Facts(reasons={Reason(reason): None}))
            if not answer.allowed:
                yield whose, answer
