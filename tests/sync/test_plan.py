"""What a provider must hold."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferences.domain.records import Preference, Suppression
from preferences.domain.vocabulary import (
    BLANKET,
    Status,
    SuppressionReason,
)
from preferences.store.contact_state import AddressState
from preferences.store.contacts import new_id
from preferences.sync.plan import required
from tests.sync.desk import (
    EVERYTHING,
    JANE,
    MAPPED,
    NEWS,
    NOW,
    OFFERS,
    WITHOUT_BLANKET,
)


def choice(status: Status = Status.UNSUBSCRIBED, at: datetime = NOW, seq: int = 1) -> Preference:
    return Preference(status=status, at=at, since=at, seq=seq, trusted=True, basis=None)


def suppressed(reason: SuppressionReason) -> Suppression:
    return Suppression(reason=reason, active=True, at=NOW, since=NOW, seq=9)


def state(*suppressions: SuppressionReason, brand: str = "default", **choices: Preference) -> AddressState:
    """One address. Topics are named as arguments: `product_news`, `offers`, `everything`."""
    names = {"everything": BLANKET}
    return AddressState(
        contact_id=new_id(NOW),
        address=JANE,
        added_at=NOW,
        fingerprint="of Jane",
        preferences={(brand, names.get(name, name.replace("_", "-"))): one for name, one in choices.items()},
        suppressions=[suppressed(reason) for reason in suppressions],
    )


def lists(one: AddressState, topics: dict[str, str] | None = None, brand: str = "default") -> set[str]:
    pushes = required(one, MAPPED if topics is None else topics, brand)
    assert all(push.status is Status.UNSUBSCRIBED for push in pushes)
    assert len({push.list_ref for push in pushes}) == len(pushes)
    return {push.list_ref for push in pushes}


class TestWanted:
    def test_a_stopped_topic_is_on_its_own_list_and_on_no_other(self) -> None:
        assert lists(state(product_news=choice())) == {NEWS}
        assert lists(state(product_news=choice()), WITHOUT_BLANKET) == {NEWS}

    @pytest.mark.parametrize("topics", [{BLANKET: EVERYTHING}, {"offers": OFFERS}, {}])
    def test_a_stopped_topic_without_a_list_of_its_own_is_on_none(self, topics: dict[str, str]) -> None:
        assert lists(state(product_news=choice()), topics) == set()

    def test_a_blanket_no_is_on_the_list_for_everything_alone(self) -> None:
        assert lists(state(everything=choice())) == {EVERYTHING}

    def test_a_blanket_no_is_on_each_list_where_there_is_none_for_everything(self) -> None:
        assert lists(state(everything=choice()), WITHOUT_BLANKET) == {NEWS, OFFERS}

    def test_a_newer_opt_in_to_a_topic_is_left_out_without_a_blanket_list(self) -> None:
        back = choice(Status.SUBSCRIBED, NOW + timedelta(minutes=1))
        assert lists(state(everything=choice(), offers=back), WITHOUT_BLANKET) == {NEWS}
        assert lists(state(everything=choice(), offers=back)) == {EVERYTHING}

    def test_an_older_yes_does_not_hold_against_a_blanket_no(self) -> None:
        earlier = choice(Status.SUBSCRIBED, NOW - timedelta(minutes=1))
        assert lists(state(everything=choice(), offers=earlier), WITHOUT_BLANKET) == {NEWS, OFFERS}

    def test_a_blanket_no_and_a_stopped_topic_are_two_things(self) -> None:
        assert lists(state(everything=choice(), offers=choice())) == {EVERYTHING, OFFERS}

    @pytest.mark.parametrize("status", [Status.SUBSCRIBED, Status.NEVER_ASKED])
    def test_whoever_did_not_say_no_is_on_no_list(self, status: Status) -> None:
        assert lists(state(product_news=choice(status), everything=choice(status))) == set()

    @pytest.mark.parametrize("reason", [one for one in SuppressionReason if one is not SuppressionReason.SOFT_BOUNCES])
    def test_a_suppressed_address_is_on_the_list_for_everything_with_its_reason(
        self, reason: SuppressionReason
    ) -> None:
        (push,) = required(state(reason), MAPPED, "default")
        assert (push.list_ref, push.reason, push.entry) == (EVERYTHING, reason, 9)

    def test_soft_bounces_are_told_to_nobody(self) -> None:
        assert lists(state(SuppressionReason.SOFT_BOUNCES)) == set()

    def test_a_suppressed_address_is_on_each_list_without_a_blanket_list(self) -> None:
        assert lists(state(SuppressionReason.HARD_BOUNCE), WITHOUT_BLANKET) == {NEWS, OFFERS}

    def test_what_another_brand_was_told_is_its_own(self) -> None:
        elsewhere = state(brand="other", product_news=choice(), everything=choice())
        assert lists(elsewhere) == set()
        assert lists(elsewhere, WITHOUT_BLANKET) == set()
        assert lists(elsewhere, brand="other") == {NEWS, EVERYTHING}

    def test_a_suppressed_address_is_one_for_every_brand(self) -> None:
        assert lists(state(SuppressionReason.COMPLAINT), brand="other") == {EVERYTHING}

    @given(
        topics=st.dictionaries(
            st.sampled_from(["product-news", "offers", "events", BLANKET]), st.sampled_from("abcdef"), max_size=4
        ),
        stopped=st.dictionaries(
            st.sampled_from(["product-news", "offers", "events", BLANKET]), st.sampled_from(Status), max_size=4
        ),
        reasons=st.sets(st.sampled_from(SuppressionReason), max_size=2),
    )
    def test_no_list_is_told_of_anything_but_its_own_topic(
        self, topics: dict[str, str], stopped: dict[str, Status], reasons: set[SuppressionReason]
    ) -> None:
        topics = {topic: f"{list_ref} of {topic}" for topic, list_ref in topics.items()}
        one = AddressState(
            contact_id=new_id(NOW),
            address=JANE,
            added_at=NOW,
            fingerprint="of Jane",
            preferences={("default", topic): choice(status) for topic, status in stopped.items()},
            suppressions=[suppressed(reason) for reason in reasons],
        )
        blanket = stopped.get(BLANKET) is Status.UNSUBSCRIBED
        suppresses = bool(reasons - {SuppressionReason.SOFT_BOUNCES})
        told = {push.list_ref for push in required(one, topics, "default")}
        reasons = reasons - {SuppressionReason.SOFT_BOUNCES}  # the provider reported them, and they end by themselves
        for topic, list_ref in topics.items():
            own = stopped.get(topic) is Status.UNSUBSCRIBED
            here = topic == BLANKET or BLANKET not in topics
            assert (list_ref in told) == (own or (here and (blanket or suppresses))), topic
        assert told <= set(topics.values())
