"""Who made an entry, as an id."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from preferences.domain.records import Act, Address, Entry
from preferences.domain.vocabulary import Actor, Channel, Origin, Verb, api_origin, connector_origin

CONTACT = UUID(int=7)
ENTRY = Entry(
    seq=1,
    recorded_at=datetime(2026, 5, 31, tzinfo=UTC),
    occurred_at=None,
    verb=Verb.UNSUBSCRIBE,
    channel=Channel.EMAIL,
    contact_id=CONTACT,
    fingerprint=None,
    brand="default",
    topic="*",
    status=None,
    reason=None,
    basis=None,
    origin=Origin.PAGE,
    origin_ref=None,
    actor=Actor.RECIPIENT,
    trusted=False,
    changed=True,
    undoes=None,
    hash="",
)
ACT = Act(
    verb=Verb.UNSUBSCRIBE,
    channel=Channel.EMAIL,
    who=CONTACT,
    origin=Origin.PAGE,
    actor=Actor.RECIPIENT,
    occurred_at=None,
)

ACTORS = [
    (Actor.RECIPIENT, Origin.ONE_CLICK, str(CONTACT)),
    (Actor.RECIPIENT, api_origin("shop"), str(CONTACT)),
    (Actor.PROVIDER, connector_origin("mailer"), "mailer"),
    (Actor.SYSTEM, connector_origin("mailer"), "mailer"),
    (Actor.SYSTEM, api_origin("shop"), "shop"),
    (Actor.SYSTEM, Origin.SOFT_BOUNCES, None),
    (Actor.STAFF, Origin.IMPORT, None),
    (Actor.STAFF, "staff.0197", "0197"),
]


@pytest.mark.parametrize(("actor", "origin", "actor_id"), ACTORS)
def test_an_actor_has_the_id_that_contact_and_origin_say(actor: Actor, origin: str, actor_id: str | None) -> None:
    assert replace(ENTRY, actor=actor, origin=origin).actor_id == actor_id
    assert replace(ACT, actor=actor, origin=origin).actor_id == actor_id


def test_an_address_without_a_contact_names_no_actor() -> None:
    assert replace(ENTRY, contact_id=None, fingerprint="print").actor_id is None
    assert replace(ACT, who=Address(Channel.EMAIL, "jane.doe@example.com")).actor_id is None
