"""The table of reasons and message classes, cell by cell, and the loop over it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferences.domain.permission import (
    TABLE,
    Answer,
    Decision,
    Facts,
    Reason,
    facts_of,
    may_send,
    purpose_topic,
    stricter_class,
)
from preferences.domain.records import Preference, SendingLimit, Topic
from preferences.domain.vocabulary import Basis, Channel, MessageClass, Purpose, Status, SuppressionReason, Verb

MARKETING, TRANSACTIONAL, NOTICE = MessageClass.MARKETING, MessageClass.TRANSACTIONAL, MessageClass.NOTICE
YES, DEGRADED, NO = Answer.YES, Answer.DEGRADED, Answer.NO
PASSING = [reason for reason in Reason if reason is not Reason.OK]

# As the design has it: marketing, transactional, notice.
DESIGN = {
    Reason.INVALID: (NO, NO, NO),
    Reason.HARD_BOUNCE: (NO, NO, NO),
    Reason.COMPLAINT: (NO, YES, YES),
    # The mailbox may take the next message, and what somebody has bought is worth the try.
    Reason.SOFT_BOUNCES: (NO, YES, YES),
    Reason.REPLACED: (NO, YES, YES),
    Reason.PAUSED: (NO, YES, YES),
    Reason.OVER_CAP: (NO, YES, YES),
    Reason.UNSUBSCRIBED: (NO, YES, YES),
    Reason.UNSUBSCRIBED_ALL: (NO, YES, YES),
    Reason.NO_CONSENT: (NO, YES, YES),
    # Nothing is sent about it any more; a receipt that still names it goes out.
    Reason.RETIRED: (NO, DEGRADED, DEGRADED),
    Reason.CHILD: (NO, NO, YES),
    Reason.ERASED: (NO, YES, YES),
    Reason.UNKNOWN_TOPIC: (NO, DEGRADED, DEGRADED),
    Reason.WRONG_CHANNEL: (NO, DEGRADED, DEGRADED),
    Reason.UNAVAILABLE: (NO, DEGRADED, DEGRADED),
    # Beyond its table: a legal stop is like a child's, and nothing can be sent to what is no address. A message of
    # a class that nobody knows could be marketing.
    Reason.LEGAL: (NO, NO, YES),
    Reason.BAD_ADDRESS: (NO, NO, NO),
    Reason.UNKNOWN_CLASS: (NO, NO, NO),
    Reason.OK: (YES, YES, YES),
}
CELLS = [
    pytest.param(reason, message_class, answer, id=f"{message_class}-{reason}")
    for reason, row in DESIGN.items()
    for message_class, answer in zip((MARKETING, TRANSACTIONAL, NOTICE), row, strict=True)
]


def decide(message_class: MessageClass, *reasons: Reason) -> Decision:
    return may_send(message_class, Facts(reasons=dict.fromkeys(reasons)))


def test_the_table_has_every_reason_and_every_message_class() -> None:
    assert set(TABLE) == set(Reason) == set(DESIGN)
    assert all(set(row) == set(MessageClass) for row in TABLE.values())


def test_reasons_are_named_in_one_order_everywhere() -> None:
    assert list(TABLE) == list(Reason)


@pytest.mark.parametrize(("reason", "message_class", "answer"), CELLS)
def test_each_cell_answers_as_the_design_says(reason: Reason, message_class: MessageClass, answer: Answer) -> None:
    assert decide(message_class, reason).allowed is (answer is not NO)


@pytest.mark.parametrize(("reason", "message_class", "answer"), CELLS)
def test_an_answer_is_degraded_where_something_needed_is_unknown(
    reason: Reason, message_class: MessageClass, answer: Answer
) -> None:
    assert decide(message_class, reason).degraded is (answer is DEGRADED or reason is Reason.UNAVAILABLE)


@pytest.mark.parametrize("reason", PASSING)
def test_marketing_fails_closed(reason: Reason) -> None:
    assert not decide(MARKETING, reason).allowed


def test_marketing_goes_out_when_nothing_speaks_against_it() -> None:
    assert decide(MARKETING) == Decision(allowed=True, reason=Reason.OK, rule="marketing.ok")


def test_transactional_fails_open_and_says_so() -> None:
    decision = decide(TRANSACTIONAL, Reason.UNAVAILABLE)
    expected = Decision(allowed=True, reason=Reason.UNAVAILABLE, rule="transactional.unavailable", degraded=True)
    assert decision == expected


def test_only_unusable_addresses_stop_transactional_mail() -> None:
    stopped = {reason for reason in PASSING if not decide(TRANSACTIONAL, reason).allowed}
    assert stopped == {
        Reason.INVALID,
        Reason.HARD_BOUNCE,
        Reason.BAD_ADDRESS,
        Reason.CHILD,
        Reason.LEGAL,
        Reason.UNKNOWN_CLASS,
    }


@pytest.mark.parametrize("message_class", [TRANSACTIONAL, NOTICE])
@pytest.mark.parametrize(
    "reason",
    [
        Reason.UNSUBSCRIBED,
        Reason.UNSUBSCRIBED_ALL,
        Reason.NO_CONSENT,
        Reason.COMPLAINT,
        Reason.ERASED,
        Reason.REPLACED,
        Reason.PAUSED,
        Reason.OVER_CAP,
    ],
)
def test_other_mail_neither_heeds_nor_reveals_who_left_the_marketing(
    reason: Reason, message_class: MessageClass
) -> None:
    assert decide(message_class, reason) == decide(message_class)


def test_the_weightiest_reason_is_named_with_its_entry() -> None:
    facts = Facts(reasons={Reason.UNSUBSCRIBED: 5, Reason.HARD_BOUNCE: 3, Reason.NO_CONSENT: None})
    expected = Decision(allowed=False, reason=Reason.HARD_BOUNCE, rule="marketing.hard_bounce", entry=3)
    assert may_send(MARKETING, facts) == expected


def test_a_no_behind_a_degraded_yes_still_counts() -> None:
    decision = decide(TRANSACTIONAL, Reason.UNKNOWN_TOPIC, Reason.BAD_ADDRESS)
    assert (decision.allowed, decision.reason) == (False, Reason.BAD_ADDRESS)


def test_the_first_of_two_degraded_answers_is_named() -> None:
    assert decide(TRANSACTIONAL, Reason.UNAVAILABLE, Reason.UNKNOWN_TOPIC).reason is Reason.UNKNOWN_TOPIC


@given(st.sets(st.sampled_from(PASSING)), st.sampled_from(MessageClass))
def test_many_reasons_are_as_strict_as_the_strictest(reasons: set[Reason], message_class: MessageClass) -> None:
    answers = {TABLE[reason][message_class] for reason in reasons}
    decision = decide(message_class, *reasons)
    assert decision.allowed is (NO not in answers)
    assert decision.degraded is (decision.reason is Reason.UNAVAILABLE or (decision.allowed and DEGRADED in answers))
    assert decision.reason in reasons | {Reason.OK}


# From what is known to reasons.


def a_topic(message_class: MessageClass = MARKETING, basis: Basis = Basis.CONSENT) -> Topic:
    return Topic(
        slug="offers",
        brand="default",
        name="Offers",
        description="",
        frequency="",
        message_class=message_class,
        basis=basis,
        channels=(Channel.EMAIL,),
    )


def a_choice(status: Status) -> Preference:
    at = datetime(2026, 6, 1, tzinfo=UTC)
    return Preference(status=status, at=at, since=at, seq=7, trusted=True, basis=None)


def reasons_for(
    topic: Topic | None,
    choice: Preference | None = None,
    suppressions: dict[SuppressionReason, int] | None = None,
    *,
    blanket: bool = False,
) -> Mapping[Reason, int | None]:
    return facts_of(topic, choice, suppressions or {}, blanket=blanket, now=datetime.now(UTC)).reasons


def test_an_opt_out_is_a_reason_with_its_entry() -> None:
    assert reasons_for(a_topic(), a_choice(Status.UNSUBSCRIBED)) == {Reason.UNSUBSCRIBED: 7}


def test_a_blanket_opt_out_is_called_by_its_name() -> None:
    assert reasons_for(a_topic(), a_choice(Status.UNSUBSCRIBED), blanket=True) == {Reason.UNSUBSCRIBED_ALL: 7}


@pytest.mark.parametrize("choice", [None, a_choice(Status.NEVER_ASKED)])
def test_a_topic_that_needs_consent_needs_a_yes(choice: Preference | None) -> None:
    assert reasons_for(a_topic(), choice) == {Reason.NO_CONSENT: None}
    assert reasons_for(a_topic(), a_choice(Status.SUBSCRIBED)) == {}


@pytest.mark.parametrize("basis", [basis for basis in Basis if basis is not Basis.CONSENT])
def test_a_topic_on_another_ground_needs_none(basis: Basis) -> None:
    assert reasons_for(a_topic(basis=basis)) == {}


@pytest.mark.parametrize("reason", SuppressionReason)
def test_every_suppression_is_a_reason_of_the_same_name(reason: SuppressionReason) -> None:
    found = reasons_for(a_topic(), a_choice(Status.SUBSCRIBED), {reason: 3})
    assert found == {Reason(reason.value): 3}


def test_a_suppression_holds_for_a_topic_that_nobody_knows() -> None:
    assert reasons_for(None, None, {SuppressionReason.COMPLAINT: 3}) == {Reason.COMPLAINT: 3}


# Pauses, caps and purposes.


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def a_pause(until: datetime | None, seq: int = 5) -> SendingLimit:
    return SendingLimit(verb=Verb.PAUSE, until=until, per_week=None, at=NOON, seq=seq)


def a_cap(per_week: int | None, seq: int = 6) -> SendingLimit:
    return SendingLimit(verb=Verb.CAP, until=None, per_week=per_week, at=NOON, seq=seq)


def facts_with(*paces: SendingLimit) -> Facts:
    return facts_of(a_topic(), a_choice(Status.SUBSCRIBED), {}, blanket=False, now=NOON, paces=paces)


def test_a_pause_is_a_reason_until_its_day_and_not_on_it() -> None:
    assert facts_with(a_pause(NOON + timedelta(seconds=1))).reasons == {Reason.PAUSED: 5}
    assert facts_with(a_pause(NOON)).reasons == {}
    assert facts_with(a_pause(None)).reasons == {}


def test_a_cap_is_no_reason_by_itself_and_the_smallest_one_counts() -> None:
    assert facts_with(a_cap(2)).limit == a_cap(2)
    assert facts_with(a_cap(2)).reasons == {}
    assert facts_with(a_cap(3, seq=7), a_cap(1, seq=8), a_cap(2, seq=9)).limit == a_cap(1, seq=8)
    assert facts_with(a_cap(None), a_pause(NOON)).limit is None


@pytest.mark.parametrize("purpose", Purpose)
def test_a_purpose_is_decided_as_strictly_as_marketing(purpose: Purpose) -> None:
    topic = purpose_topic(purpose, "default")
    assert (topic.message_class, topic.channels, topic.brand) == (MARKETING, tuple(Channel), "default")
    assert reasons_for(topic, a_choice(Status.UNSUBSCRIBED)) == {Reason.UNSUBSCRIBED: 7}
    assert reasons_for(topic, a_choice(Status.SUBSCRIBED)) == {}


def test_where_somebody_is_needs_a_yes_and_nothing_else_does() -> None:
    unanswered = {purpose: reasons_for(purpose_topic(purpose, "default")) for purpose in Purpose}
    assert [purpose for purpose, reasons in unanswered.items() if reasons] == [Purpose.LOCATION]
    assert unanswered[Purpose.LOCATION] == {Reason.NO_CONSENT: None}


@pytest.mark.parametrize(
    ("asked", "of_topic", "decides"),
    [
        (MARKETING, None, MARKETING),
        (TRANSACTIONAL, None, TRANSACTIONAL),
        (NOTICE, None, NOTICE),
        (MARKETING, MARKETING, MARKETING),
        (MARKETING, TRANSACTIONAL, MARKETING),
        (MARKETING, NOTICE, MARKETING),
        (TRANSACTIONAL, MARKETING, MARKETING),
        (NOTICE, MARKETING, MARKETING),
        (TRANSACTIONAL, TRANSACTIONAL, TRANSACTIONAL),
        (TRANSACTIONAL, NOTICE, TRANSACTIONAL),
        (NOTICE, TRANSACTIONAL, NOTICE),
        (NOTICE, NOTICE, NOTICE),
    ],
)
def test_a_message_is_marketing_if_the_caller_or_the_topic_says_so(
    asked: MessageClass, of_topic: MessageClass | None, decides: MessageClass
) -> None:
    assert stricter_class(asked, a_topic(of_topic) if of_topic else None) is decides
