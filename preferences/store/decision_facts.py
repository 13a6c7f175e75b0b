"""Facts for decisions on a message to many addresses, for `domain.permission`.

Invariants: read only; the number of statements is independent of the number of addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, null, select, type_coerce, union_all

from preferences.domain.addresses import Fingerprints
from preferences.domain.consent import answer_to_new, effective
from preferences.domain.permission import LIMIT_PERIOD, Facts, Reason, facts_of
from preferences.domain.records import Address, Preference, SendingLimit, Topic
from preferences.domain.vocabulary import BLANKET, Channel, Purpose, Status, SuppressionReason
from preferences.store.codec import limit_of, preference_of
from preferences.store.contact_state import active_suppressions
from preferences.store.dialect import any_of
from preferences.store.tables import UtcDateTime, address, pace, preference, sending
from preferences.store.transactions import Read

_FOUND: Final = (
    select(address.c.fingerprint, address.c.contact_id)
    .where(any_of(address.c.fingerprint, "fingerprints"), address.c.channel == bindparam("channel"))
    .cte("found")
    .prefix_with("MATERIALIZED", dialect="sqlite")
)

_PREFERENCES: Final = union_all(
    select(
        _FOUND.c.fingerprint,
        *(preference.c.contact_id, preference.c.channel, preference.c.topic),
        *(preference.c.status, preference.c.at, preference.c.since, preference.c.seq),
        *(preference.c.trusted, preference.c.basis),
        null().label("verb"),
        type_coerce(null(), UtcDateTime).label("until"),
        null().label("per_week"),
    )
    .join(preference, preference.c.contact_id == _FOUND.c.contact_id)
    .where(preference.c.brand == bindparam("brand"), any_of(preference.c.topic, "topics")),
    select(
        _FOUND.c.fingerprint,
        *(pace.c.contact_id, pace.c.channel, pace.c.topic),
        *(null(), pace.c.at, null(), pace.c.seq, null(), null()),
        *(pace.c.verb, pace.c.until, pace.c.per_week),
    )
    .join(pace, pace.c.contact_id == _FOUND.c.contact_id)
    .where(pace.c.brand == bindparam("brand"), any_of(pace.c.topic, "topics")),
)
"""By address, in one round trip."""

_SENT: Final = (
    select(sending.c.contact_id, func.count())
    .where(
        any_of(sending.c.contact_id, "contact_ids"),
        sending.c.channel == bindparam("channel"),
        sending.c.topic == bindparam("topic"),
        sending.c.at > bindparam("since"),
        sending.c.message_ref != bindparam("except_ref"),
    )
    .group_by(sending.c.contact_id)
)


@dataclass(slots=True)
class _TopicPreferences:
    contact_id: UUID | None = None
    own: Preference | None = None
    blanket: Preference | None = None
    new_topics: Preference | None = None
    paces: list[SendingLimit] = field(default_factory=list)


_NO_PREFERENCES: Final = _TopicPreferences()


def facts_for(
    read: Read,
    addresses: Sequence[Address],
    *,
    channel: Channel,
    about: Topic | None,
    fingerprints: Fingerprints,
    now: datetime,
    message_ref: str = "",
) -> dict[Address, Facts]:
    """Facts for a message about `about`. Addresses without any share one `Facts`.

    The mailing `message_ref` does not count towards its own frequency limit.
    """
    by_fingerprint = fingerprints.by_print(addresses)
    held = _suppressed(read, by_fingerprint, channel)
    chosen: dict[Address, _TopicPreferences] = {}
    sent: dict[UUID, int] = {}
    if about is not None:
        chosen = _preferences_about(read, by_fingerprint, channel, about)
        sent = sent_this_week(
            read, _limited(chosen.values()), channel=channel, topic=about.slug, now=now, except_ref=message_ref
        )
    facts = dict.fromkeys(addresses, _facts(about, _NO_PREFERENCES, {}, sent=0, now=now))
    for recipient in held.keys() | chosen.keys():
        preferences = chosen.get(recipient, _NO_PREFERENCES)
        times = sent.get(preferences.contact_id, 0) if preferences.contact_id else 0
        facts[recipient] = _facts(about, preferences, held.get(recipient, {}), sent=times, now=now)
    return facts


def _suppressed(
    read: Read, by_fingerprint: Mapping[str, Address], channel: Channel
) -> dict[Address, dict[SuppressionReason, int]]:
    """Active suppressions by reason, with their entries."""
    found: dict[Address, dict[SuppressionReason, int]] = {}
    for (fingerprint, held_on), states in active_suppressions(read, list(by_fingerprint)).items():
        if held_on == channel:
            found.setdefault(by_fingerprint[fingerprint], {}).update({state.reason: state.seq for state in states})
    return found


def _facts(
    about: Topic | None, preferences: _TopicPreferences, held: dict[SuppressionReason, int], *, sent: int, now: datetime
) -> Facts:
    counts = effective(preferences.own, preferences.blanket)
    blanket = counts is not None and counts is preferences.blanket
    if counts is None or counts.status is Status.NEVER_ASKED:
        counts = answer_to_new(about.added_at if about else None, preferences.own, preferences.new_topics) or counts
    facts = facts_of(
        about, counts, held, blanket=blanket, now=now, paces=preferences.paces, contact_id=preferences.contact_id
    )
    if facts.limit is not None and facts.limit.per_week is not None and sent >= facts.limit.per_week:
        return replace(facts, reasons={**facts.reasons, Reason.OVER_CAP: facts.limit.seq})
    return facts


def _preferences_about(
    read: Read, by_fingerprint: Mapping[str, Address], channel: Channel, about: Topic
) -> dict[Address, _TopicPreferences]:
    """Preferences for purposes and new topics are stored under email for all channels."""
    found: dict[Address, _TopicPreferences] = {}
    stored_under = Channel.EMAIL if about.slug in set(Purpose) else channel
    parameters = {
        "fingerprints": list(by_fingerprint),
        "channel": channel.value,
        "brand": about.brand,
        "topics": [about.slug, BLANKET, Purpose.NEW_TOPICS.value],
    }
    for row in read.execute(_PREFERENCES, parameters):
        chosen = found.setdefault(by_fingerprint[row.fingerprint], _TopicPreferences(contact_id=row.contact_id))
        if row.verb is not None:
            chosen.paces += [limit_of(row)] if row.channel == stored_under else []
            continue
        if row.topic == Purpose.NEW_TOPICS and row.channel == Channel.EMAIL:
            chosen.new_topics = preference_of(row)
        if row.topic == about.slug and row.channel == stored_under:
            chosen.own = preference_of(row)
        if row.topic == BLANKET and row.channel == stored_under:
            chosen.blanket = preference_of(row)
    return found


def _limited(chosen: Iterable[_TopicPreferences]) -> list[UUID]:
    return [
        preferences.contact_id
        for preferences in chosen
        if preferences.contact_id and any(limit.per_week is not None for limit in preferences.paces)
    ]


def sent_this_week(
    read: Read,
    contact_ids: Sequence[UUID],
    *,
    channel: Channel,
    topic: str,
    now: datetime,
    except_ref: str = "",
) -> dict[UUID, int]:
    """Messages in the week before `now`, without those of `except_ref`."""
    if not contact_ids:
        return {}
    parameters = {
        "contact_ids": list(contact_ids),
        "channel": channel.value,
        "topic": topic,
        "since": now - LIMIT_PERIOD,
        "except_ref": except_ref,
    }
    return {row[0]: row[1] for row in read.execute(_SENT, parameters)}
