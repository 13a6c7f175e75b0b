"""The places of a week: who with a cap was written to, and who may be once more.

Owns the rows `sending`. Invariants: nobody gets more than their cap in any seven days, however many senders ask at the
same time; asking twice about the same mailing takes one place.
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
    caps: Mapping[UUID, int],
    *,
    channel: Channel,
    topic: str,
    message_ref: str,
    now: datetime,
) -> set[UUID]:
    """Take one place for each contact who has one left, and return those contacts.

    `caps` is how many each wants in a week at the most; `message_ref` names the mailing.
    """
    _lock(save, list(caps), channel, topic)
    had = _had_already(save, list(caps), channel=channel, topic=topic, message_ref=message_ref, now=now)
    sent = sent_this_week(save, list(caps), channel=channel, topic=topic, now=now)
    granted = {
        contact_id for contact_id, cap in caps.items() if contact_id not in had and sent.get(contact_id, 0) < cap
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
        on_conflict="replace",  # a mailing of the same name in an earlier week
    )
    return granted | had


def _lock(read: Read, contact_ids: Sequence[UUID], channel: Channel, topic: str) -> None:
    """Lock the caps that count here: two senders who ask at the same time must not both take the last place.

    In one order, the same in which the ledger writes them, so that no two wait for each other.
    """
    caps = select(pace.c.seq).where(
        any_of(pace.c.contact_id, "contact_ids"),
        pace.c.channel == channel.value,
        pace.c.topic.in_([topic, BLANKET]),
        pace.c.verb == Verb.CAP.value,
    )
    in_order = caps.order_by(pace.c.contact_id, bytewise(pace.c.brand), bytewise(pace.c.topic)).with_for_update()
    read.execute(in_order, {"contact_ids": list(contact_ids)})


def _had_already(
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
    """Remove what no cap can count any more."""
    save.execute(delete(sending).where(sending.c.at < now - LIMIT_PERIOD))
