"""Frequency limits: the messages sent to contacts who set one.

Owns the rows `sending`. Invariants: no contact gets more messages than their limit in any seven days, however many
senders ask at the same time; a mailing counts once, however often it asks.
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
    """Reserve a message of a mailing for each contact whose limit allows one, and return these contacts.

    `limits` is the most messages a week that each wants; `message_ref` names the mailing.
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
        on_conflict="replace",  # an earlier mailing of the same name
    )
    return granted | reserved


def _lock(read: Read, contact_ids: Sequence[UUID], channel: Channel, topic: str) -> None:
    """Lock the limits, so that two senders cannot both reserve the last message.

    In the order in which the ledger writes them, which prevents deadlocks.
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
    """Remove messages that no limit counts any more."""
    save.execute(delete(sending).where(sending.c.at < now - LIMIT_PERIOD))
