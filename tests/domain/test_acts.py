"""Each door's way to say a thing to the ledger, and what no door may say."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from preferences.domain.acts import (
    RECORDED,
    EventKind,
    ImportedRow,
    ProviderEvent,
    bears_on_permission,
    imported,
    one_click_topic,
    press_ref,
    provider_event,
    unsubscribe,
)
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import BLANKET, Actor, Basis, Channel, OneClick, Origin, SuppressionReason, Verb

JANE = Address(Channel.EMAIL, "jane.doe@example.com")
CONTACT = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def event_of(kind: EventKind, *, topic: str = "offers") -> ProviderEvent:
    return ProviderEvent(kind=kind, address=JANE, event_id="evt-1", occurred_at=NOON, brand="default", topic=topic)


def reported(kind: EventKind, *, occurred_at: datetime | None = NOON, event_id: str | None = "evt-1") -> Act:
    event = replace(event_of(kind), occurred_at=occurred_at, event_id=event_id)
    return provider_event(event, "mailer")


def from_file(
    verb: Verb, *, reason: SuppressionReason | None = None, basis: Basis | None = None, topic: str = "offers"
) -> Act:
    return imported(
        ImportedRow(
            address=JANE,
            verb=verb,
            brand="default",
            topic=topic,
            reason=reason,
            basis=basis,
            occurred_at=NOON,
            origin_ref="line-1",
            evidence={"source": "shop"},
        )
    )


def by_recipient(topic: str = "offers") -> Act:
    return unsubscribe(
        CONTACT,
        Channel.EMAIL,
        brand="default",
        topic=topic,
        origin=Origin.ONE_CLICK,
        now=NOON,
        evidence={"network": "192.0.2.0/24"},
    )


def test_one_click_stops_everything_or_the_topic_as_the_brand_says() -> None:
    assert one_click_topic(OneClick.EVERYTHING, "offers") == BLANKET
    assert one_click_topic(OneClick.TOPIC, "offers") == "offers"
    assert one_click_topic(OneClick.TOPIC, BLANKET) == BLANKET


def test_a_click_is_the_recipients_no_at_this_moment() -> None:
    assert by_recipient() == Act(
        verb=Verb.UNSUBSCRIBE,
        channel=Channel.EMAIL,
        who=CONTACT,
        brand="default",
        topic="offers",
        origin="one_click",
        actor=Actor.RECIPIENT,
        occurred_at=NOON,
        evidence={"network": "192.0.2.0/24"},
    )


def test_every_click_is_an_act_of_its_own() -> None:
    assert by_recipient().origin_ref is None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (EventKind.HARD_BOUNCE, SuppressionReason.HARD_BOUNCE),
        (EventKind.COMPLAINT, SuppressionReason.COMPLAINT),
        (EventKind.INVALID, SuppressionReason.INVALID),
    ],
)
def test_bounces_and_complaints_suppress_the_address_for_every_brand(
    kind: EventKind, reason: SuppressionReason
) -> None:
    act = reported(kind)
    assert (act.verb, act.reason, act.who) == (Verb.SUPPRESS, reason, JANE)
    assert (act.brand, act.topic) == ("", "")


def test_an_unsubscribe_at_a_provider_is_a_wish_about_its_topic_alone() -> None:
    act = reported(EventKind.UNSUBSCRIBE)
    assert (act.verb, act.reason, act.brand, act.topic) == (Verb.UNSUBSCRIBE, None, "default", "offers")


def test_a_provider_report_never_overrules_an_opt_out() -> None:
    verbs = {kind: reported(kind).verb for kind in RECORDED}
    assert {kind for kind, verb in verbs.items() if verb is Verb.SUBSCRIBE} == {EventKind.RESUBSCRIBE}
    assert set(verbs.values()) == {Verb.SUPPRESS, Verb.UNSUBSCRIBE, Verb.SUBSCRIBE}
    assert not reported(EventKind.RESUBSCRIBE).trusted


def test_a_no_that_somebody_else_put_there_counts_as_one_and_says_so() -> None:
    act = reported(EventKind.SUPPRESSION_ADDED)
    assert (act.verb, act.topic, act.actor) == (Verb.UNSUBSCRIBE, "offers", Actor.SYSTEM)
    assert reported(EventKind.UNSUBSCRIBE).actor is Actor.PROVIDER


def test_a_press_is_named_after_all_that_it_is_about() -> None:
    who, other = UUID(int=1), UUID(int=2)
    press = "a-random-field-of-a-form"
    names = {
        press_ref(press, who, Channel.EMAIL, brand="default", topic="offers"),
        press_ref(press, other, Channel.EMAIL, brand="default", topic="offers"),
        press_ref(press, who, Channel.SMS, brand="default", topic="offers"),
        press_ref(press, who, Channel.EMAIL, brand="tea", topic="offers"),
        press_ref(press, who, Channel.EMAIL, brand="default", topic="*"),
        press_ref(press + "2", who, Channel.EMAIL, brand="default", topic="offers"),
    }
    assert len(names) == 6
    assert all(re.fullmatch("press:[0-9a-f]{32}", name or "") for name in names)


@pytest.mark.parametrize(
    "press", ["", "short", "x" * 65, "with a space in between", "<script>alert(1)</script>", "é" * 20]
)
def test_junk_in_the_field_of_a_press_names_nothing(press: str) -> None:
    assert press_ref(press, UUID(int=1), Channel.EMAIL, brand="default", topic="*") is None


@pytest.mark.parametrize("kind", EventKind)
def test_what_bears_on_no_permission_is_not_recorded(kind: EventKind) -> None:
    assert bears_on_permission(event_of(kind)) == (kind in RECORDED)


def test_nobody_says_yes_to_everything() -> None:
    assert not bears_on_permission(event_of(EventKind.RESUBSCRIBE, topic=BLANKET))
    assert bears_on_permission(event_of(EventKind.UNSUBSCRIBE, topic=BLANKET))


def test_a_report_bears_its_connector_and_the_providers_own_id() -> None:
    act = reported(EventKind.COMPLAINT)
    assert (act.origin, act.origin_ref, act.actor) == ("connector.mailer", "evt-1", Actor.PROVIDER)


def test_a_report_without_a_time_or_an_id_stays_without() -> None:
    act = reported(EventKind.COMPLAINT, occurred_at=None, event_id=None)
    assert (act.occurred_at, act.origin_ref) == (None, None)


def test_a_line_of_a_file_keeps_its_date_its_ground_and_its_proof() -> None:
    assert from_file(Verb.SUBSCRIBE, basis=Basis.CONSENT) == Act(
        verb=Verb.SUBSCRIBE,
        channel=Channel.EMAIL,
        who=JANE,
        brand="default",
        topic="offers",
        basis=Basis.CONSENT,
        origin="import",
        origin_ref="line-1",
        actor=Actor.STAFF,
        occurred_at=NOON,
        evidence={"source": "shop"},
    )


def test_a_suppression_in_a_file_is_about_the_address_and_no_topic() -> None:
    act = from_file(Verb.SUPPRESS, reason=SuppressionReason.LEGAL, topic=BLANKET)
    assert (act.reason, act.brand, act.topic) == (SuppressionReason.LEGAL, "", "")


@pytest.mark.parametrize(
    "act",
    [by_recipient(), *(reported(kind) for kind in sorted(RECORDED)), *(from_file(verb) for verb in Verb)],
    ids=lambda act: f"{act.origin}-{act.verb}-{act.reason}",
)
def test_no_door_here_may_turn_a_no_into_a_yes(act: Act) -> None:
    assert not act.trusted
