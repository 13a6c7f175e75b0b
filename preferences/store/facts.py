"""The facts for a decision: everything on record that bears on one message to many addresses.

Owns what is looked up when a sending system asks "may I send?"; `domain.permission` decides. Invariants: nothing here
writes; the number of statements does not depend on the number of addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, null, select, type_coerce, union_all

from preferences.domain.addresses import Fingerprints
from preferences.domain.consent import answer_to_new, effective
from preferences.domain.permission import CAP_WEEK, Facts, Reason, facts_of
from preferences.domain.terms import BLANKET, Address, Channel, Choice, Pace, Purpose, Status, SuppressionReason, Topic
from preferences.store.db import any_of
from preferences.store.queries import CONTACTS_BY_PRINT, active_suppressions
from preferences.store.rows import choice_of, pace_of
from preferences.store.tables import UtcDateTime, pace, preference, sending

_SAID: Final = union_all(
    select(
        *(preference.c.contact_id, preference.c.channel, preference.c.topic),
        *(preference.c.status, preference.c.at, preference.c.since, preference.c.seq),
        *(preference.c.trusted, preference.c.basis),
        null().label("verb"),
        type_coerce(null(), UtcDateTime).label("until"),
        null().label("per_week"),
    ).where(
        any_of(preference.c.contact_id, "contact_ids"),
        preference.c.brand == bindparam("brand"),
        any_of(preference.c.topic, "topics"),
    ),
    select(
        *(pace.c.contact_id, pace.c.channel, pace.c.topic),
        *(null(), pace.c.at, null(), pace.c.seq, null(), null()),
        *(pace.c.verb, pace.c.until, pace.c.per_week),
    ).where(
        any_of(pace.c.contact_id, "contact_ids"),
        pace.c.brand == bindparam("brand"),
        any_of(pace.c.topic, "topics"),
    ),
)
"""Wishes, and below them pauses and caps: one round trip for all that bears on a topic."""

_SENDINGS: Final = (
    select(sending.c.contact_id, func.count())
    .where(
        any_of(sending.c.contact_id, "contact_ids"),
        sending.c.channel == bindparam("channel"),
        sending.c.topic == bindparam("topic"),
        sending.c.at > bindparam("since"),
        sending.c.message_ref != bindparam("besides"),
    )
    .group_by(sending.c.contact_id)
)


@dataclass(slots=True)
class _About:
    """What one contact has said that bears on a topic."""

    own: Choice | None = None
    blanket: Choice | None = None
    new_topics: Choice | None = None
    paces: list[Pace] = field(default_factory=list)


def facts_for(
    connection: Connection,
    addresses: Sequence[Address],
    *,
    channel: Channel,
    about: Topic | None,
    fingerprints: Fingerprints,
    now: datetime,
    message_ref: str = "",
) -> dict[Address, Facts]:
    """What bears on a message about `about` to each of the addresses: a few statements, however many there are.

    `message_ref` names the mailing, if it is known: who got a place in their week for it has not lost it again.
    """
    prints = {one: fingerprints.candidates(one) for one in addresses}
    every_print = [print_ for candidates in prints.values() for print_ in candidates]
    suppressions = active_suppressions(connection, every_print)
    contacts: dict[str, UUID] = {}
    said: dict[UUID, _About] = {}
    sent: dict[UUID, int] = {}
    if about is not None:
        rows = connection.execute(CONTACTS_BY_PRINT, {"fingerprints": every_print, "channel": channel.value})
        contacts = {row.fingerprint: row.contact_id for row in rows}
        said = _said_about(connection, list(contacts.values()), channel, about)
        sent = sent_this_week(
            connection, _capped(said), channel=channel, topic=about.slug, now=now, besides=message_ref
        )
    facts: dict[Address, Facts] = {}
    for one, candidates in prints.items():
        contact_id = next((contacts[print_] for print_ in candidates if print_ in contacts), None)
        held = {s.reason: s.seq for print_ in candidates for s in suppressions.get((print_, channel), [])}
        heard = said.get(contact_id, _About()) if contact_id else _About()
        found = _facts(about, heard, held, sent=sent.get(contact_id, 0) if contact_id else 0, now=now)
        facts[one] = replace(found, contact_id=contact_id)
    return facts


def _facts(
    about: Topic | None, heard: _About, held: dict[SuppressionReason, int], *, sent: int, now: datetime
) -> Facts:
    counts = effective(heard.own, heard.blanket)
    blanket = counts is not None and counts is heard.blanket
    if counts is None or counts.status is Status.NEVER_ASKED:
        counts = answer_to_new(about.added_at if about else None, heard.own, heard.new_topics) or counts
    facts = facts_of(about, counts, held, blanket=blanket, now=now, paces=heard.paces)
    if facts.cap is not None and facts.cap.per_week is not None and sent >= facts.cap.per_week:
        facts.reasons[Reason.OVER_CAP] = facts.cap.seq
    return facts


def _said_about(connection: Connection, contact_ids: list[UUID], channel: Channel, about: Topic) -> dict[UUID, _About]:
    """A purpose is kept under e-mail, whichever channel is asked about; so is the answer to new kinds of mail."""
    found: dict[UUID, _About] = {}
    kept_under = Channel.EMAIL if about.slug in set(Purpose) else channel
    topics = [about.slug, BLANKET, Purpose.NEW_TOPICS.value]
    asked = {"contact_ids": contact_ids, "brand": about.brand, "topics": topics}
    for row in connection.execute(_SAID, asked):
        said = found.setdefault(row.contact_id, _About())
        if row.verb is not None:
            said.paces += [pace_of(row)] if row.channel == kept_under else []
            continue
        if row.topic == Purpose.NEW_TOPICS and row.channel == Channel.EMAIL:
            said.new_topics = choice_of(row)
        if row.topic == about.slug and row.channel == kept_under:
            said.own = choice_of(row)
        if row.topic == BLANKET and row.channel == kept_under:
            said.blanket = choice_of(row)
    return found


def _capped(said: Mapping[UUID, _About]) -> list[UUID]:
    return [contact_id for contact_id, one in said.items() if any(pace.per_week is not None for pace in one.paces)]


def sent_this_week(
    connection: Connection,
    contact_ids: Sequence[UUID],
    *,
    channel: Channel,
    topic: str,
    now: datetime,
    besides: str = "",
) -> dict[UUID, int]:
    """How many messages about the topic, besides one mailing, these contacts were sent in the week before `now`."""
    if not contact_ids:
        return {}
    parameters = {
        "contact_ids": list(contact_ids),
        "channel": channel.value,
        "topic": topic,
        "since": now - CAP_WEEK,
        "besides": besides,
    }
    return {row[0]: row[1] for row in connection.execute(_SENDINGS, parameters)}
