"""Frequency limits: the rows `sending`, messages to contacts with a limit.

Invariants: nobody gets more than their limit in any seven days, with any number of senders; a mailing counts once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select

from preferences.domain.permission import LIMIT_PERIOD
from preferences.domain.vocabulary import BLANKET, Channel, Verb
from preferences.store.decision_facts import sent_this_week
from preferences.store.dialect import any_of, bytewise, insert_rows
from preferences.store.tables import pace, sending
from preferences.store.transactions import Read, Save


def reserve(
    save: Save,
    limits: Mapping[UUID, int],
    *,
    channel: Channel,
    topic: str,
    message_ref: str,
    now: datetime,
) -> set[UUID]:
    """Reserve a message for contacts below their limit, and return these.

    `limits`: messages a week; `message_ref`: the mailing.
    """
    _lock(save, list(limits), channel, topic)
    reserved = _reserved(save, list(limits), channel=channel, topic=topic, message_ref=message_ref, now=now)
    sent = sent_this_week(save, list(limits), channel=channel, topic=topic, now=now)
    granted = {
        contact_id
        for contact_id, limit in limits.items()
        if contact_id not in reserved and sent.get(contact_id, 0) < limit
    }
    insert_rows(
        save,
        sending,
        [
            {
                "contact_id": contact_id,
                "channel": channel.value,
                "topic": topic,
                "message_ref": message_ref,
                "at": now,
            }
            for contact_id in granted
        ],
        on_conflict="replace",  # an earlier mailing of that name
    )
    return granted | reserved


def _lock(read: Read, contact_ids: Sequence[UUID], channel: Channel, topic: str) -> None:
    """Prevent concurrent reservations of the last message.

    Ordered as `ledger.record` writes the limits, which prevents deadlocks.
    """
    limits = select(pace.c.seq).where(
        any_of(pace.c.contact_id, "contact_ids"),
        pace.c.channel == channel.value,
        pace.c.topic.in_([topic, BLANKET]),
        pace.c.verb == Verb.CAP.value,
    )
    in_order = limits.order_by(pace.c.contact_id, bytewise(pace.c.brand), bytewise(pace.c.topic)).with_for_update()
    read.execute(in_order, {"contact_ids": list(contact_ids)})


def _reserved(
    read: Read,
    contact_ids: Sequence[UUID],
    *,
    channel: Channel,
    topic: str,
    message_ref: str,
    now: datetime,
) -> set[UUID]:
    same = select(sending.c.contact_id).where(
        any_of(sending.c.contact_id, "contact_ids"),
        sending.c.channel == channel.value,
        sending.c.topic == topic,
        sending.c.message_ref == message_ref,
        sending.c.at > now - LIMIT_PERIOD,
    )
    return set(read.execute(same, {"contact_ids": list(contact_ids)}).scalars())


def forget_old(save: Save, now: datetime) -> None:
    save.execute(delete(sending).where(sending.c.at < now - LIMIT_PERIOD))
