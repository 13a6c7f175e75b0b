"""The decision from the names of a request to its answer, with and without the database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preferences.domain.errors import BadFields, StoreBusy
from preferences.domain.permission import Message, Reason, purpose_topic
from preferences.domain.vocabulary import Channel, MessageClass, Purpose, Verb
from preferences.sending.decide import DecisionRequest, decide, decide_request, message_about
from preferences.services import Services
from preferences.store.transactions import Database
from tests.sending.lists import act, tell
from tests.support import TOPICS, email

NEWS = DecisionRequest(channel=Channel.EMAIL, message_class=MessageClass.MARKETING, topic="product-news")
RECEIPT = DecisionRequest(channel=Channel.EMAIL, message_class=MessageClass.TRANSACTIONAL, topic="receipts")


def reasons(services: Services, request: DecisionRequest, *, away: bool = False) -> list[Reason]:
    decided = decide_request(services, request, [email(), None], database_away=away)
    assert (decided.seq is None) is away
    return [decision.reason for decision in decided.decisions]


def test_text_that_is_no_address_is_refused_in_its_place(services: Services) -> None:
    assert reasons(services, NEWS) == [Reason.OK, Reason.BAD_ADDRESS]
    assert reasons(services, RECEIPT) == [Reason.OK, Reason.BAD_ADDRESS]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(NEWS, topic="gone"), Reason.UNKNOWN_TOPIC),
        (replace(NEWS, topic=None), Reason.UNKNOWN_TOPIC),
        (replace(NEWS, message_class=None), Reason.UNKNOWN_CLASS),
        (replace(NEWS, topic="offers", channel=Channel.SMS), Reason.NO_CONSENT),
        (replace(NEWS, topic="@unknown", message_class=MessageClass.TRANSACTIONAL), Reason.UNKNOWN_TOPIC),
    ],
)
def test_unknown_words_are_answered_with_a_reason(
    services: Services, request_: DecisionRequest, reason: Reason
) -> None:
    (decision,) = decide_request(services, request_, [email()]).decisions
    assert (decision.allowed, decision.reason) == (False, reason)


def test_a_brand_that_is_not_the_topics_is_refused(services: Services) -> None:
    with pytest.raises(BadFields, match="brand"):
        decide_request(services, replace(NEWS, brand="acme"), [email()])


def test_without_the_database_marketing_is_refused_and_the_rest_degraded(services: Services) -> None:
    assert reasons(services, NEWS, away=True) == [Reason.UNAVAILABLE, Reason.BAD_ADDRESS]
    (refused,) = decide_request(services, NEWS, [email()], database_away=True).decisions
    (sent,) = decide_request(services, RECEIPT, [email()], database_away=True).decisions
    assert (refused.allowed, refused.degraded) == (False, True)
    assert (sent.allowed, sent.degraded) == (True, True)


def test_a_database_that_fails_meanwhile_is_one_that_is_away(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreBusy("away")

    services.catalog.get()
    monkeypatch.setattr(Database, "read", fail)
    decided = decide_request(services, NEWS, [email()])
    assert (decided.seq, decided.decisions[0].reason) == (None, Reason.UNAVAILABLE)


def test_a_reason_that_is_ignored_does_not_count(services: Services) -> None:
    tell(services, act(email(), Verb.UNSUBSCRIBE, "*"))
    message = Message(channel=Channel.EMAIL, message_class=MessageClass.MARKETING, topic=TOPICS[0])
    assert decide(services, message, [email()]).decisions[0].reason is Reason.UNSUBSCRIBED_ALL
    ignored = decide(services, message, [email()], ignore={Reason.UNSUBSCRIBED_ALL})
    assert ignored.decisions[0].reason is Reason.OK


def test_the_stricter_class_decides_and_a_purpose_is_marketing() -> None:
    transactional = MessageClass.TRANSACTIONAL
    assert message_about(TOPICS[0], Channel.EMAIL, message_class=transactional).message_class is MessageClass.MARKETING
    assert message_about(TOPICS[2], Channel.EMAIL).message_class is transactional
    purpose = purpose_topic(Purpose.LOCATION, "default")
    assert message_about(purpose, Channel.SMS, message_class=transactional).message_class is MessageClass.MARKETING
