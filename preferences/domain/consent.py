"""Which wish counts: the fold from entries to the current state.

Owns the order between entries and nothing else. Invariant: the state is the *greatest* entry of a total order, so it
is the same whatever the order of arrival and however often an entry is repeated.

The order, from the weightiest consideration to the lightest:

1. A yes from a door that is not trusted for it (an import, a provider's list) yields to everything else, so it can
   start a subscription and never revive one.
2. The newer act wins. An act is never newer than the moment we learned of it.
3. At the same instant the stricter one wins: a no beats a yes.

A yes of unknown time weighs nothing; a no of unknown time counts from when we learned of it.

A pause and a cap stand beside the wish and have an order of their own: the newer one counts, and of two at the same
instant the one that lets less through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from preferences.domain.terms import BLANKET, PACE_VERBS, Basis, Choice, Entry, Pace, Status, Suppression, Verb

STRICTNESS: Final = {Status.SUBSCRIBED: 0, Status.NEVER_ASKED: 1, Status.UNSUBSCRIBED: 2}

Weight = tuple[bool, datetime, int, str]


def clamp(occurred_at: datetime | None, recorded_at: datetime) -> datetime | None:
    """When it is taken to have happened: as told, but never later than we learned of it."""
    return None if occurred_at is None else min(occurred_at, recorded_at)


def weigh(status: Status, at: datetime, *, trusted: bool, basis: Basis | None) -> Weight:
    """The place of a wish in the order: the greater one is the state."""
    is_no = status is Status.UNSUBSCRIBED
    return (is_no or trusted, at, STRICTNESS[status], basis or "")


def _effective_time(entry: Entry, *, is_no: bool) -> datetime | None:
    if entry.occurred_at is None and is_no:
        return entry.recorded_at
    return entry.occurred_at


def apply(old: Choice | None, entry: Entry) -> Choice | None:
    """The wish after `entry`, given the one before it."""
    if entry.status is None:
        raise ValueError("a suppression says nothing about a wish")
    at = _effective_time(entry, is_no=entry.status is Status.UNSUBSCRIBED)
    if at is None:
        return old
    if old is not None:
        weight = weigh(entry.status, at, trusted=entry.trusted, basis=entry.basis)
        if weight <= weigh(old.status, old.at, trusted=old.trusted, basis=old.basis):
            return old
    same = old is not None and old.status is entry.status
    return Choice(
        status=entry.status,
        at=at,
        since=old.since if same and old else at,
        seq=old.seq if same and old else entry.seq,
        trusted=entry.trusted,
        basis=entry.basis,
    )


def apply_suppression(old: Suppression | None, entry: Entry) -> Suppression | None:
    """The suppression after `entry`: newest wins, suppressing wins ties, and only a trusted door lifts one."""
    if entry.reason is None:
        raise ValueError("a wish says nothing about a suppression")
    active = entry.verb is Verb.SUPPRESS
    at = _effective_time(entry, is_no=active)
    if at is None or not (active or entry.trusted):
        return old
    if old is not None and (at, active) <= (old.at, old.active):
        return old
    same = old is not None and old.active is active
    return Suppression(
        reason=entry.reason,
        active=active,
        at=at,
        since=old.since if same and old else at,
        seq=old.seq if same and old else entry.seq,
    )


def apply_pace(old: Pace | None, entry: Entry) -> Pace | None:
    """The pause or the cap after `entry`: newest wins, and the one that lets less through wins ties."""
    if entry.verb not in PACE_VERBS:
        raise ValueError("only a pause or a cap says how fast")
    slows = entry.until is not None or entry.per_week is not None
    at = _effective_time(entry, is_no=slows)
    if at is None:
        return old
    new = Pace(verb=entry.verb, until=entry.until, per_week=entry.per_week, at=at, seq=entry.seq)
    return new if old is None or (at, _slowness(new)) > (old.at, _slowness(old)) else old


def _slowness(pace: Pace) -> float:
    """The greater, the less gets through."""
    if pace.verb is Verb.PAUSE:
        return pace.until.timestamp() if pace.until else float("-inf")
    return -pace.per_week if pace.per_week is not None else float("-inf")


def fold(entries: Iterable[Entry]) -> Choice | None:
    """The wish that these entries of one preference add up to."""
    choice: Choice | None = None
    for entry in entries:
        choice = apply(choice, entry)
    return choice


def effective(own: Choice | None, blanket: Choice | None) -> Choice | None:
    """What counts for a topic: its own choice or a blanket no, whichever is the weightier; the no wins ties.

    "Never asked" is no wish, so however new it is it outweighs none: the undo of one topic brings back that topic, and
    not against a blanket no that we learn of later.
    """
    if blanket is None or blanket.status is not Status.UNSUBSCRIBED:
        return own
    if own is None or own.status is Status.NEVER_ASKED:
        return blanket
    own_weight = weigh(own.status, own.at, trusted=own.trusted, basis=own.basis)
    return own if own_weight[:3] > (True, blanket.at, STRICTNESS[blanket.status]) else blanket


def is_stopped(choices: Mapping[str, Choice], topic: str) -> bool:
    """Whether one more opt-out of this topic, or of everything, would change nothing. `choices` are of one brand on one
    channel; purposes among them are not marketing's."""
    blanket = choices.get(BLANKET)
    topics = [slug for slug in choices if not slug.startswith("@")] if topic == BLANKET else []
    counting = (effective(choices.get(slug), blanket) for slug in [topic, *topics])
    return all(choice is not None and choice.status is Status.UNSUBSCRIBED for choice in counting)


def answer_to_new(topic_added_at: datetime | None, own: Choice | None, answer: Choice | None) -> Choice | None:
    """The contact's no to new kinds of mail, if that is what counts for this topic.

    It covers what was added after it was said and what the contact has said nothing about. A yes is not consent to a
    topic that nobody has named yet, so it changes nothing.
    """
    if answer is None or answer.status is not Status.UNSUBSCRIBED or topic_added_at is None:
        return None
    asked = own is not None and own.status is not Status.NEVER_ASKED
    return None if asked or topic_added_at <= answer.since else answer
