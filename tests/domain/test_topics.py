"""Where topics are offered and how they stand on a page: nothing that is set of one lets more through."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferences.domain.errors import NotAllowed
from preferences.domain.permission import facts_of, may_send
from preferences.domain.preference_form import settings_of, slugs_had
from preferences.domain.records import Preference, Topic, TopicText
from preferences.domain.topics import arranged, checked, default_of, faults_of, is_public, is_shown, sections_of
from preferences.domain.vocabulary import BLANKET, Basis, Channel, Default, MessageClass, Status

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
EMAIL = Channel.EMAIL
patiently = settings(deadline=None)


def topic(
    slug: str = "news", basis: Basis = Basis.SOFT_OPT_IN, kind: MessageClass = MessageClass.MARKETING, **more: Any
) -> Topic:
    words: dict[str, Any] = {"name": slug, "description": "", "frequency": ""}
    return Topic(slug=slug, brand="default", message_class=kind, basis=basis, channels=(EMAIL,), **words, **more)


def choice(status: Status) -> Preference:
    return Preference(status=status, at=NOON, since=NOON, seq=1, trusted=True, basis=None)


STATUSES = [None, *map(choice, Status)]
BASES = st.sampled_from(Basis)
GIVEN = st.fixed_dictionaries(
    {},
    optional={
        "section": st.sampled_from(["", "A", "B"]),
        "hidden": st.booleans(),
        "visible_to": st.sampled_from(["", "wholesale"]),
        "position": st.integers(0, 3),
        "default": st.sampled_from(Default),
    },
)
TOPICS = st.builds(
    topic,
    basis=BASES,
    kind=st.sampled_from(MessageClass),
    hidden=st.booleans(),
    opt_in=st.booleans(),
    retired_at=st.sampled_from([None, NOON]),
)


# What may be sent.


@given(TOPICS, GIVEN, st.sampled_from(STATUSES), st.booleans())
@patiently
def test_nothing_that_is_set_of_a_topic_lets_more_through(
    before: Topic, given: dict[str, Any], said: Preference | None, retire: bool
) -> None:
    after = arranged(before, given)
    if list(faults_of(after, given.get("default"))):
        return
    if retire:
        after = replace(after, retired_at=NOON)
    for asked in MessageClass:
        was, now = (may_send(asked, facts_of(one, said, {}, blanket=False, now=NOON)) for one in (before, after))
        assert was.allowed or not now.allowed


@given(TOPICS, st.sampled_from(STATUSES))
@patiently
def test_a_retired_topic_refuses_marketing_until_it_is_restored(live: Topic, said: Preference | None) -> None:
    retired = replace(live, retired_at=NOON)
    assert not may_send(MessageClass.MARKETING, facts_of(retired, said, {}, blanket=False, now=NOON)).allowed
    assert may_send(MessageClass.TRANSACTIONAL, facts_of(retired, said, {}, blanket=False, now=NOON)).allowed
    restored = replace(retired, retired_at=live.retired_at)
    assert facts_of(restored, said, {}, blanket=False, now=NOON) == facts_of(live, said, {}, blanket=False, now=NOON)


@pytest.mark.parametrize(
    ("said", "allowed"),
    [(None, False), (Status.NEVER_ASKED, False), (Status.UNSUBSCRIBED, False), (Status.SUBSCRIBED, True)],
)
def test_a_topic_that_is_off_by_default_needs_a_yes_on_any_basis(said: Status | None, allowed: bool) -> None:
    off = topic(opt_in=True)
    answer = may_send(
        MessageClass.MARKETING, facts_of(off, choice(said) if said else None, {}, blanket=False, now=NOON)
    )
    assert answer.allowed is allowed
    if said is None:
        assert answer.rule == "marketing.no_consent"


# Defaults.


@pytest.mark.parametrize(
    ("basis", "kind", "asked", "why"),
    [
        (Basis.CONSENT, MessageClass.MARKETING, Default.ON, "consent"),
        (Basis.SOFT_OPT_IN, MessageClass.MARKETING, Default.REQUIRED, "marketing can never be required"),
        (Basis.CONTRACT, MessageClass.MARKETING, Default.REQUIRED, "marketing can never be required"),
        (Basis.CONTRACT, MessageClass.TRANSACTIONAL, Default.ON, "always sent"),
        (Basis.CONTRACT, MessageClass.TRANSACTIONAL, Default.OFF, "always sent"),
        (Basis.LEGAL_OBLIGATION, MessageClass.NOTICE, Default.OFF, "always sent"),
    ],
)
def test_a_default_that_cannot_be_is_refused_and_says_why(
    basis: Basis, kind: MessageClass, asked: Default, why: str
) -> None:
    with pytest.raises(NotAllowed, match=why):
        checked(arranged(topic(basis=basis, kind=kind), {"default": asked}), asked)


@pytest.mark.parametrize(
    ("basis", "kind", "asked"),
    [
        (Basis.CONSENT, MessageClass.MARKETING, Default.OFF),
        (Basis.SOFT_OPT_IN, MessageClass.MARKETING, Default.ON),
        (Basis.LEGITIMATE_INTEREST, MessageClass.MARKETING, Default.OFF),
        (Basis.CONTRACT, MessageClass.TRANSACTIONAL, Default.REQUIRED),
        (Basis.LEGAL_OBLIGATION, MessageClass.NOTICE, Default.REQUIRED),
    ],
)
def test_a_default_that_the_class_and_the_basis_allow_is_taken(
    basis: Basis, kind: MessageClass, asked: Default
) -> None:
    assert default_of(checked(arranged(topic(basis=basis, kind=kind), {"default": asked}), asked)) is asked


def test_what_was_off_by_default_never_becomes_on() -> None:
    with pytest.raises(NotAllowed, match="under another slug"):
        checked(arranged(topic(opt_in=True), {"default": Default.ON}), Default.ON)


def test_what_is_on_for_everybody_is_not_shown_to_some_alone() -> None:
    with pytest.raises(NotAllowed, match="make its default off"):
        checked(arranged(topic(), {"visible_to": "wholesale"}), None)
    off = checked(arranged(topic(), {"visible_to": "wholesale", "default": Default.OFF}), Default.OFF)
    assert (off.visible_to, default_of(off)) == ("wholesale", Default.OFF)


# Where a topic stands.


@pytest.mark.parametrize(("hidden", "visible_to", "flagged", "has_it"), list(product([False, True], repeat=4)))
def test_a_topic_is_shown_to_those_it_is_offered_to_and_those_who_have_it(
    hidden: bool, visible_to: bool, flagged: bool, has_it: bool
) -> None:
    one = topic(hidden=hidden, visible_to="wholesale" if visible_to else "")
    offered = not hidden and (flagged or not visible_to)
    assert is_shown(one, flags={"wholesale"} if flagged else set(), has_it=has_it) is (has_it or offered)
    assert is_public(one) is not (hidden or visible_to)
    retired = replace(one, retired_at=NOON)
    assert not is_public(retired)
    assert not is_shown(retired, flags={"wholesale"}, has_it=True)


@given(TOPICS, st.sampled_from(STATUSES), st.sampled_from(STATUSES))
@patiently
def test_whatever_may_be_sent_stands_on_the_page(
    one: Topic, own: Preference | None, blanket: Preference | None
) -> None:
    live = replace(one, retired_at=None, message_class=MessageClass.MARKETING)
    said = {(EMAIL, "default", slug): held for slug, held in (("news", own), (BLANKET, blanket)) if held}
    having = slugs_had(settings_of("default", [live], said, {}, NOON), "default", said)
    shown = is_shown(live, flags=(), has_it=live.slug in having)
    chosen = own is not None and own.status is not Status.NEVER_ASKED
    if chosen:
        assert shown
    if blanket is None and may_send(MessageClass.MARKETING, facts_of(live, own, {}, blanket=False, now=NOON)).allowed:
        assert shown


# Sections.


def test_topics_stand_by_section_and_those_without_one_come_first() -> None:
    names = [("a", "X"), ("b", ""), ("c", "Y"), ("d", "X"), ("e", "")]
    found = sections_of(topic(slug, section=section) for slug, section in names)
    assert [[one.slug for one in section.topics] for section in found] == [["b", "e"], ["a", "d"], ["c"]]
    assert [section.heading("en") for section in found] == ["", "X", "Y"]
    assert [section.has_heading for section in found] == [False, True, True]
    assert sections_of([]) == []


def test_one_topic_says_the_heading_of_its_section_in_a_language() -> None:
    spanish = TopicText(name="b", description="", frequency="", section="Del taller")
    (section,) = sections_of([topic("a", section="Workshop"), topic("b", section="Workshop", texts=(("es", spanish),))])
    assert (section.heading("es"), section.language("es")) == ("Del taller", "es")
    assert (section.heading("fr"), section.language("fr")) == ("Workshop", "en")
