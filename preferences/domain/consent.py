"""The fold: which entries count, and the state that they add up to.

Invariant: the state is the greatest entry of a total order, so neither the order of arrival nor repetition changes it.

For preferences, an opt-in from an untrusted origin loses to any other entry; else the newer act wins, and an opt-out
wins ties. An opt-in of unknown or impossible time is ignored; an opt-out of such a time counts from `recorded_at`. For
pauses and frequency limits the newer wins, and the stricter wins ties. An undo removes the entry that it names, and the
echoes of that entry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from preferences.domain.records import Entry, Preference, SendingLimit, Suppression
from preferences.domain.vocabulary import BLANKET, LIMIT_VERBS, Actor, Basis, Status, Verb, is_connector

Weight = tuple[bool, datetime, bool, str]


EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""Earlier times are impossible, such as a provider's 0 or year 1."""


def known_time(occurred_at: datetime | None) -> datetime | None:
    """The stated time; None if it is impossible."""
    return None if occurred_at is None or occurred_at < EARLIEST else occurred_at


def clamp(occurred_at: datetime | None, recorded_at: datetime) -> datetime | None:
    """The stated time, but not later than `recorded_at`; None if it is unknown."""
    at = known_time(occurred_at)
    return None if at is None else min(at, recorded_at)


def weigh(status: Status, at: datetime, *, trusted: bool, basis: Basis | None) -> Weight:
    """The greatest weight wins."""
    is_opt_out = status is Status.UNSUBSCRIBED
    return (is_opt_out or trusted, at, is_opt_out, basis or "")


def _effective_time(entry: Entry, *, is_opt_out: bool) -> datetime | None:
    # Old entries may contain impossible times.
    at = known_time(entry.occurred_at)
    return entry.recorded_at if at is None and is_opt_out else at


def apply(old: Preference | None, entry: Entry) -> Preference | None:
    if entry.status is None or entry.undoes is not None:
        raise ValueError("a suppression or an undo is no preference")
    at = _effective_time(entry, is_opt_out=entry.status is Status.UNSUBSCRIBED)
    if at is None:
        return old
    if old is not None:
        weight = weigh(entry.status, at, trusted=entry.trusted, basis=entry.basis)
        if weight <= weigh(old.status, old.at, trusted=old.trusted, basis=old.basis):
            return old
    same = old is not None and old.status is entry.status
    return Preference(
        status=entry.status,
        at=at,
        since=old.since if same and old else at,
        seq=old.seq if same and old else entry.seq,
        trusted=entry.trusted,
        basis=entry.basis,
    )


def apply_suppression(old: Suppression | None, entry: Entry) -> Suppression | None:
    """Newest wins, suppressing wins ties, and only a trusted origin lifts."""
    if entry.reason is None:
        raise ValueError("a preference is no suppression")
    active = entry.verb is Verb.SUPPRESS
    at = _effective_time(entry, is_opt_out=active)
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


def apply_limit(old: SendingLimit | None, entry: Entry) -> SendingLimit | None:
    if entry.verb not in LIMIT_VERBS:
        raise ValueError("neither a pause nor a frequency limit")
    slows = entry.until is not None or entry.per_week is not None
    at = _effective_time(entry, is_opt_out=slows)
    if at is None:
        return old
    new = SendingLimit(verb=entry.verb, until=entry.until, per_week=entry.per_week, at=at, seq=entry.seq)
    return new if old is None or (at, _strictness(new)) > (old.at, _strictness(old)) else old


def _strictness(limit: SendingLimit) -> float:
    if limit.verb is Verb.PAUSE:
        return limit.until.timestamp() if limit.until else float("-inf")
    return -limit.per_week if limit.per_week is not None else float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What an undo removes: the opt-out `seq`, and its echoes.

    An echo is a connector's report of an opt-out that the person did not make there, usually of our own push. It counts
    as this opt-out's if it was recorded later, is about the same topic (any, for a blanket opt-out) and happened from
    `since` to `until`. Providers report whole seconds, so `since` is cut to the second.
    """

    seq: int
    topic: str
    since: datetime
    until: datetime

    def takes(self, entry: Entry) -> bool:
        if entry.seq == self.seq:
            return True
        if entry.seq < self.seq or self.topic not in {entry.topic, BLANKET} or not is_echo(entry):
            return False
        at = _effective_time(entry, is_opt_out=True)
        return at is not None and self.since <= at <= self.until


def is_echo(entry: Entry) -> bool:
    """Whether this is an opt-out that a connector reported as not made by the person."""
    return entry.status is Status.UNSUBSCRIBED and entry.actor is Actor.SYSTEM and is_connector(entry.origin)


def undone_by(undo: Entry, target: Entry) -> Undone:
    at = _effective_time(target, is_opt_out=True) or target.recorded_at
    return Undone(seq=target.seq, topic=target.topic, since=at.replace(microsecond=0), until=undo.recorded_at)


def counts(entry: Entry, undone: Iterable[Undone]) -> bool:
    return entry.undoes is None and not any(undo.takes(entry) for undo in undone)


def without_undone(entries: Collection[Entry]) -> Iterator[Entry]:
    """`entries` must be all about the preferences of a contact, channel and brand."""
    by_seq = {entry.seq: entry for entry in entries}
    undos = [entry for entry in entries if entry.undoes in by_seq]
    undone = [undone_by(undo, by_seq[undo.undoes]) for undo in undos if undo.undoes is not None]
    return (entry for entry in entries if counts(entry, undone))


def fold(entries: Iterable[Entry]) -> Preference | None:
    """The preference that these entries add up to; undone ones must be left out."""
    preference: Preference | None = None
    for entry in entries:
        preference = apply(preference, entry)
    return preference


def fold_by_topic(entries: Collection[Entry]) -> dict[str, Preference]:
    """The preference for each topic, from all entries of a contact, channel and brand."""
    preferences: dict[str, Preference] = {}
    for entry in without_undone(entries):
        preference = apply(preferences.get(entry.topic), entry)
        if preference is not None:
            preferences[entry.topic] = preference
    return preferences


def effective(own: Preference | None, blanket: Preference | None) -> Preference | None:
    """The topic's own preference or the blanket opt-out, whichever weighs more; an opt-out wins ties."""
    if blanket is None or blanket.status is not Status.UNSUBSCRIBED:
        return own
    if own is None:
        return blanket
    own_weight = weigh(own.status, own.at, trusted=own.trusted, basis=own.basis)
    return own if own_weight[:3] > (True, blanket.at, True) else blanket


def in_force(preferences: Mapping[str, Preference], topic: str) -> Preference | None:
    """The effective preference among those of a brand and channel."""
    return effective(preferences.get(topic), preferences.get(BLANKET))


def is_stopped(choices: Mapping[str, Preference], topic: str) -> bool:
    """Whether another opt-out of this topic, or of everything, would change nothing. `choices` are those of a brand and
    channel; `*` covers purposes too."""
    blanket = choices.get(BLANKET)
    covered = {topic, *choices} if topic == BLANKET else {topic}
    counting = (effective(choices.get(slug), blanket) for slug in covered)
    return all(found is not None and found.status is Status.UNSUBSCRIBED for found in counting)


def answer_to_new(
    topic_added_at: datetime | None, own: Preference | None, answer: Preference | None
) -> Preference | None:
    """The contact's opt-out from new topics, if it decides about this topic.

    It covers topics that were added later and that the contact has no preference for. An opt-in has no effect: it is no
    consent to a topic that was not named.
    """
    if answer is None or answer.status is not Status.UNSUBSCRIBED or topic_added_at is None:
        return None
    return None if own is not None or topic_added_at <= answer.since else answer
