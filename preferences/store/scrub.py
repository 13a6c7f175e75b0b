"""Everybody whose answer differs from a stranger's, read in one pass: what the scrub of a long file is made against.

Owns the reading; `domain.permission` decides. Invariants: the answer for an address is the one that `facts_for` leads
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
    """What is asked about every address: may we send this class of message, about this topic, on this channel?"""

    channel: Channel
    message_class: MessageClass
    about: Topic
    now: datetime

    @property
    def unlike_others(self) -> str | None:
        """The answer to new kinds of mail, unless that is what is asked about: it needs more than its own row to be
        understood."""
        return None if self.about.slug == Purpose.NEW_TOPICS else Purpose.NEW_TOPICS.value

    @property
    def default_decision(self) -> Decision:
        """The answer for an address of which nothing is on record."""
        return may_send(self.message_class, facts_of(self.about, None, {}, blanket=False, now=self.now))


Answers = Iterator[tuple[Sequence[str], Decision]]
"""Fingerprints with the decision for their addresses, a block at a time."""


def answers(snapshot: Snapshot, asked: Question, fingerprints: Fingerprints) -> Answers:
    """The decision for each fingerprint for which it differs from `asked.default_decision`, and for some others.

    A fingerprint may come twice, with different decisions: the one that refuses counts.
    """
    with much_read(snapshot):
        yield from _by_wish(snapshot, asked)
    yield from _in_full(snapshot, asked, fingerprints)
    yield from _by_suppression(snapshot, asked)


def _by_wish(snapshot: Snapshot, asked: Question) -> Answers:
    """Contacts who have said one plain thing, which says all."""
    made: dict[tuple[str, str], Decision] = {}
    rows = snapshot.execute(_plain_wishes(asked), execution_options={"yield_per": BLOCK})
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
    """The answer to somebody who has said this alone. Of everything (`*`), only a no says something."""
    blanket = topic == BLANKET
    choice = Preference(status=status, at=asked.now, since=asked.now, seq=0, trusted=False, basis=None)
    says_something = not blanket or status is Status.UNSUBSCRIBED
    facts = facts_of(asked.about, choice if says_something else None, {}, blanket=blanket, now=asked.now)
    return may_send(asked.message_class, facts)


def _bears(asked: Question) -> Any:
    """The wishes that bear on the topic. A purpose is kept under email, and so is the answer to new kinds of mail."""
    kept_under = Channel.EMAIL if asked.about.slug in set(Purpose) else asked.channel
    return and_(
        preference.c.brand == asked.about.brand,
        or_(
            and_(preference.c.topic.in_([asked.about.slug, BLANKET]), preference.c.channel == kept_under.value),
            and_(preference.c.topic == Purpose.NEW_TOPICS.value, preference.c.channel == Channel.EMAIL.value),
        ),
    )


def _plain_wishes(asked: Question) -> Any:
    several = _of_several(asked).cte("several")
    return (
        select(preference.c.topic, preference.c.status, address.c.fingerprint)
        .join(address, address.c.contact_id == preference.c.contact_id)
        .outerjoin(several, several.c.contact_id == preference.c.contact_id)
        .where(_bears(asked), address.c.channel == asked.channel.value, several.c.contact_id.is_(None))
    )


def _of_several(asked: Question) -> Any:
    """Contacts who must be looked at in full: more than one wish, a pause or a cap, an answer to new kinds of mail."""
    more = select(preference.c.contact_id).where(_bears(asked)).group_by(preference.c.contact_id)
    unlike = select(preference.c.contact_id).where(_bears(asked), preference.c.topic == asked.unlike_others)
    about = [asked.about.slug, BLANKET, Purpose.NEW_TOPICS.value]
    slow = select(pace.c.contact_id).where(pace.c.brand == asked.about.brand, pace.c.topic.in_(about))
    return union(more.having(func.count() > 1), unlike, slow)


def _in_full(snapshot: Snapshot, asked: Question, fingerprints: Fingerprints) -> Answers:
    """As any single decision is made. Their addresses' prints may be of any key."""
    several = _of_several(asked).subquery()
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
        for one, found in facts.items():
            yield fingerprints.candidates(one), may_send(asked.message_class, found)


def _by_suppression(snapshot: Snapshot, asked: Question) -> Answers:
    """Those whose address itself is suppressed, if that stops this class of message."""
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
