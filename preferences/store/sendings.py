"""The places of a week: who with a cap was written to, and who may be once more.

Owns the rows `sending`. Invariants: nobody gets more than their cap in any seven days, however many senders ask at the
same time; asking twice about the same mailing takes one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, delete, select

from preferences.domain.permission import CAP_WEEK
from preferences.domain.terms import Channel, Verb
from preferences.store.contacts import new_id
from preferences.store.db import any_of, insert_rows
from preferences.store.facts import sent_this_week
from preferences.store.tables import pace, sending


def take_places(
    connection: Connection,
    caps: Mapping[UUID, int],
    *,
    channel: Channel,
    topic: str,
    message_ref: str | None,
    now: datetime,
) -> set[UUID]:
    """Take one place for each contact who has one left, and return those contacts. Run it inside `Database.save`.

    `caps` is how many each wants in a week at the most. Without a `message_ref` every call is another mailing.
    """
    # Their rows locked first, in one order: two senders who ask at the same time must not both take the last place.
    rows = select(pace).where(any_of(pace.c.contact_id, "contact_ids"), pace.c.verb == Verb.CAP.value)
    connection.execute(rows.order_by(pace.c.contact_id, pace.c.topic).with_for_update(), {"contact_ids": list(caps)})
    had = _had_already(connection, caps, channel, topic, message_ref) if message_ref else set()
    sent = sent_this_week(connection, list(caps), channel=channel, topic=topic, now=now)
    granted = {
        contact_id for contact_id, cap in caps.items() if contact_id not in had and sent.get(contact_id, 0) < cap
    }
    insert_rows(
        connection,
        sending,
        [
            {
                "contact_id": contact_id,
                "channel": channel.value,
                "topic": topic,
                "message_ref": message_ref or str(new_id(now)),
                "at": now,
            }
            for contact_id in granted
        ],
    )
    return granted | had


def _had_already(
    connection: Connection, caps: Mapping[UUID, int], channel: Channel, topic: str, message_ref: str
) -> set[UUID]:
    same = select(sending.c.contact_id).where(
        any_of(sending.c.contact_id, "contact_ids"),
        sending.c.channel == channel.value,
        sending.c.topic == topic,
        sending.c.message_ref == message_ref,
    )
    return set(connection.execute(same, {"contact_ids": list(caps)}).scalars())


def forget_old(connection: Connection, now: datetime) -> None:
    """Remove what no cap can count any more."""
    connection.execute(delete(sending).where(sending.c.at < now - CAP_WEEK))
