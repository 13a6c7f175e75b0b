"""The controls of a page: what each stands at, what it takes, and what it means when somebody moves one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preferences.domain.preference_form import (
    LIMIT_VERB,
    LONGEST_PAUSE,
    OFF,
    ON,
    UNANSWERED,
    WEEKLY_LIMITS,
    Aspect,
    BadValue,
    Change,
    Control,
    Provenance,
    Setting,
    channels_of,
    check_value,
    controls_of,
    edit_for,
    lets_more_through,
    read_item,
    settings_of,
)
from preferences.domain.records import Preference, SendingLimit, Topic
from preferences.domain.vocabulary import BLANKET, Actor, Basis, Channel, MessageClass, Origin, Purpose, Status, Verb

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
JANE = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
YES, NO, NEVER = Status.SUBSCRIBED, Status.UNSUBSCRIBED, Status.NEVER_ASKED
patiently = settings(deadline=None)


def topic(slug: str, basis: Basis, *channels: Channel, added: int = -100) -> Topic:
    return Topic(
        slug=slug,
        brand="default",
        name=slug,
        description="",
        frequency="",
        message_class=MessageClass.MARKETING,
        basis=basis,
        channels=channels or (Channel.EMAIL,),
        added_at=NOON + timedelta(minutes=added),
    )


NEWS = topic("product-news", Basis.LEGITIMATE_INTEREST, Channel.EMAIL, Channel.SMS)
OFFERS = topic("offers", Basis.CONSENT)
TOPICS = (NEWS, OFFERS)


def said(status: Status, at: int = 0, seq: int = 1) -> Preference:
    instant = NOON + timedelta(minutes=at)
    return Preference(status=status, at=instant, since=instant, seq=seq, trusted=True, basis=None)


def pause_until(until: datetime | None, seq: int = 5) -> SendingLimit:
    return SendingLimit(verb=Verb.PAUSE, until=until, per_week=None, at=NOON, seq=seq)


def cap_of(per_week: int | None, seq: int = 6) -> SendingLimit:
    return SendingLimit(verb=Verb.CAP, until=None, per_week=per_week, at=NOON, seq=seq)


def settings_by_name(
    choices: dict[str, Preference] | None = None, *, paces: dict[str, SendingLimit] | None = None, topics: Any = TOPICS
) -> dict[str, Setting]:
    """What each control stands at; choices and paces by topic, all about e-mail."""
    by_choice = {(Channel.EMAIL, "default", slug): one for slug, one in (choices or {}).items()}
    by_pace = {(Channel.EMAIL, "default", slug, one.verb): one for slug, one in (paces or {}).items()}
    found = settings_of("default", topics, by_choice, by_pace, NOON)
    return {one.control.name: one for one in found}


def value(name: str, choices: dict[str, Preference] | None = None, **more: Any) -> str:
    return settings_by_name(choices, **more)[name].value


# Which controls there are, and what they are called.


def test_a_page_has_three_controls_a_topic_and_channel_and_one_a_purpose() -> None:
    names = [one.name for one in controls_of(TOPICS)]
    assert names == [
        *(f"email.product-news.{aspect}" for aspect in ("status", "pause", "cap")),
        *(f"sms.product-news.{aspect}" for aspect in ("status", "pause", "cap")),
        *(f"email.offers.{aspect}" for aspect in ("status", "pause", "cap")),
        *(f"email.{purpose}.status" for purpose in ("@tracking", "@profiling", "@location", "@new-topics")),
    ]
    assert len(set(names)) == len(names)


def test_channels_are_named_in_the_order_of_the_vocabulary_and_each_once() -> None:
    by_post = topic("catalogue", Basis.CONSENT, Channel.POST, Channel.EMAIL)
    assert channels_of([by_post, NEWS]) == [Channel.EMAIL, Channel.SMS, Channel.POST]
    assert channels_of([]) == []


# What they stand at.


@pytest.mark.parametrize(
    ("slug", "own", "blanket", "expected"),
    [
        ("product-news", None, None, ON),
        ("offers", None, None, OFF),
        ("product-news", said(NEVER), None, ON),
        ("offers", said(NEVER), None, OFF),
        ("product-news", said(NO), None, OFF),
        ("offers", said(NO), None, OFF),
        ("product-news", said(YES), None, ON),
        ("offers", said(YES), None, ON),
        ("product-news", None, said(NO), OFF),
        ("product-news", said(YES, at=1), said(NO), ON),
        ("product-news", said(YES), said(NO, at=1), OFF),
        ("product-news", said(YES), said(NO), OFF),
        ("product-news", None, said(NEVER), ON),
        ("@tracking", None, None, ON),
        ("@profiling", None, None, ON),
        ("@location", None, None, OFF),
        ("@location", said(YES), None, ON),
        ("@profiling", said(NO), None, OFF),
        ("@profiling", None, said(NO), OFF),
        ("@location", said(YES), said(NO, at=1), OFF),
        ("@new-topics", None, None, UNANSWERED),
        ("@new-topics", said(NEVER), None, UNANSWERED),
        ("@new-topics", said(YES), None, ON),
        ("@new-topics", said(NO), None, OFF),
        ("@new-topics", None, said(NO), UNANSWERED),
    ],
)
def test_a_switch_stands_where_the_decision_does(
    slug: str, own: Preference | None, blanket: Preference | None, expected: str
) -> None:
    choices = {name: one for name, one in ((slug, own), (BLANKET, blanket)) if one is not None}
    assert value(f"email.{slug}.status", choices) == expected


def test_a_topic_added_after_an_opt_out_of_new_ones_is_off() -> None:
    later = topic("podcast", Basis.LEGITIMATE_INTEREST, Channel.EMAIL, Channel.SMS, added=5)
    known = {"topics": (NEWS, later)}
    answer = {Purpose.NEW_TOPICS.value: said(NO)}
    assert value("email.podcast.status", answer, **known) == OFF
    assert value("sms.podcast.status", answer, **known) == OFF
    assert value("email.product-news.status", answer, **known) == ON
    assert value("email.podcast.status", answer | {"podcast": said(YES, at=9)}, **known) == ON
    assert value("email.podcast.status", {Purpose.NEW_TOPICS.value: said(YES)}, **known) == ON


def test_what_is_said_on_one_channel_or_of_one_brand_moves_no_other_switch() -> None:
    elsewhere = {
        (Channel.SMS, "default", "product-news"): said(NO),
        (Channel.EMAIL, "other", "product-news"): said(NO),
        (Channel.EMAIL, "other", BLANKET): said(NO),
        (Channel.SMS, "default", "@profiling"): said(NO),
    }
    found = {one.control.name: one.value for one in settings_of("default", TOPICS, elsewhere, {}, NOON)}
    assert found["sms.product-news.status"] == OFF
    assert found["email.product-news.status"] == found["email.@profiling.status"] == ON


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (pause_until(datetime(2026, 6, 8, tzinfo=UTC)), "2026-06-08"),
        (pause_until(NOON + timedelta(seconds=1)), "2026-06-02"),
        (pause_until(datetime.max.replace(tzinfo=UTC)), "9999-12-31"),
        (pause_until(NOON), UNANSWERED),
        (pause_until(NOON - timedelta(days=3)), UNANSWERED),
        (pause_until(None), UNANSWERED),
    ],
)
def test_a_pause_is_shown_until_it_is_over(pace: SendingLimit, expected: str) -> None:
    assert value("email.product-news.pause", paces={"product-news": pace}) == expected
    assert value("email.product-news.cap", paces={"product-news": pace}) == UNANSWERED
    assert value("sms.product-news.pause", paces={"product-news": pace}) == UNANSWERED


@pytest.mark.parametrize(("pace", "expected"), [(cap_of(3), "3"), (cap_of(None), UNANSWERED)])
def test_a_cap_is_shown_until_it_is_taken_away(pace: SendingLimit, expected: str) -> None:
    assert value("email.product-news.cap", paces={"product-news": pace}) == expected
    assert value("email.product-news.status", paces={"product-news": pace}) == ON


def test_a_control_knows_the_newest_entry_that_bears_on_it() -> None:
    choices = {"product-news": said(NO, seq=3), BLANKET: said(NO, seq=9)}
    found = settings_by_name(choices, paces={"product-news": cap_of(3, seq=12)})
    assert found["email.product-news.status"].seen == 9
    assert found["email.offers.status"].seen == 9
    assert found["email.product-news.cap"].seen == 12
    assert found["email.product-news.pause"].seen == 0
    assert found["sms.product-news.status"].seen == 0


# What they take.


STATUS = Control(Channel.EMAIL, "offers")
PAUSE = Control(Channel.EMAIL, "offers", Aspect.PAUSE)
CAP = Control(Channel.EMAIL, "offers", Aspect.LIMIT)


@pytest.mark.parametrize(
    ("control", "value"),
    [
        (STATUS, ON),
        (STATUS, OFF),
        (PAUSE, UNANSWERED),
        (PAUSE, "2026-06-02"),
        (PAUSE, (NOON + LONGEST_PAUSE).date().isoformat()),
        (CAP, UNANSWERED),
        *((CAP, str(cap)) for cap in WEEKLY_LIMITS),
    ],
)
def test_what_a_page_offers_is_taken(control: Control, value: str) -> None:
    check_value(control, value, NOON)


@pytest.mark.parametrize(
    ("control", "value"),
    [
        *((STATUS, value) for value in (UNANSWERED, "ON", "yes", "on ", "1", "paused")),
        *((PAUSE, value) for value in ("2026-06-01", "2026-05-31", "2027-06-03", "9999-12-31", "0001-01-01")),
        *((PAUSE, value) for value in ("2026-02-30", "2026-13-01", "tomorrow", "2026-06-02T00:00", " 2026-06-02")),
        *((PAUSE, value) for value in ("20260602", "2026-W23-2")),
        *((PAUSE, value) for value in ("on", "7", "2026-06-02\x00", "٢٠٢٦-٠٦-٠٢")),
        *((CAP, value) for value in ("0", "8", "-1", "1.5", "01", " 1", "٣", "many", "on", "9" * 5_000)),
    ],
)
def test_other_values_are_refused_by_control_and_not_repeated(control: Control, value: str) -> None:
    with pytest.raises(BadValue) as refusal:
        check_value(control, value, NOON)
    assert refusal.value.control == control
    assert str(refusal.value) == "a value that this control cannot have"


@patiently
@given(st.sampled_from([STATUS, PAUSE, CAP]), st.text())
@example(PAUSE, "20260602")
@example(PAUSE, "2026-W23-2")
@example(PAUSE, "2026W232")
def test_any_text_is_taken_as_we_would_write_it_or_refused(control: Control, value: str) -> None:
    try:
        check_value(control, value, NOON)
    except BadValue:
        return
    known = {STATUS: {ON, OFF}, CAP: {UNANSWERED, *map(str, WEEKLY_LIMITS)}}
    if control in known:
        assert value in known[control]
    elif value:
        act = edit_for(Change(control, value), ASKER, more=False, notice=None, now=NOON, ref=None).act
        assert act.until is not None
        assert NOON < act.until <= NOON + LONGEST_PAUSE
        assert act.until.date().isoformat() == value


# What lets more through.


@pytest.mark.parametrize(
    ("control", "was", "value", "more"),
    [
        (STATUS, OFF, ON, True),
        (STATUS, ON, OFF, False),
        (STATUS, UNANSWERED, ON, True),
        (STATUS, UNANSWERED, OFF, False),
        (PAUSE, "2026-06-08", UNANSWERED, True),
        (PAUSE, "2026-06-08", "2026-06-07", True),
        (PAUSE, "2026-12-31", "2027-01-01", False),
        (PAUSE, "2026-06-08", "2026-06-08", False),
        (PAUSE, UNANSWERED, "2026-06-08", False),
        (CAP, "3", UNANSWERED, True),
        (CAP, "3", "4", True),
        (CAP, "3", "2", False),
        (CAP, "3", "3", False),
        (CAP, UNANSWERED, "7", False),
    ],
)
def test_what_lets_more_through_is_told_from_what_does_not(control: Control, was: str, value: str, more: bool) -> None:
    assert lets_more_through(Change(control, value), was) is more


# From a change to a link and back.


slugs = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True) | st.sampled_from([one.value for one in Purpose])
changes = st.builds(
    Change, st.builds(Control, st.sampled_from(Channel), slugs, st.sampled_from(Aspect)), st.text(max_size=12)
)


@patiently
@given(changes)
def test_a_change_reads_as_it_was_written(change: Change) -> None:
    assert read_item(change.item) == change


def test_a_change_is_written_so_that_it_can_be_pinned() -> None:
    assert Change(STATUS, ON, seen=7).item == "email.offers.status=on"
    assert read_item("email.offers.status=on") == Change(STATUS, ON)
    assert read_item("sms.product-news.cap=3") == Change(Control(Channel.SMS, "product-news", Aspect.LIMIT), "3")
    assert read_item("email.@location.status=on") == Change(Control(Channel.EMAIL, "@location"), ON)


@pytest.mark.parametrize(
    "item", ["", "=", "on", "email=on", "email.offers=on", "pigeon.offers.status=on", "email.offers.colour=red", "..="]
)
def test_what_is_no_change_is_a_value_error(item: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever part is wrong
        read_item(item)


@patiently
@given(st.text())
@example("email.a.b.status=on")
@example("email.offers.status")
def test_any_text_is_a_change_or_a_value_error(item: str) -> None:
    try:
        change = read_item(item)
    except ValueError:
        return
    assert read_item(change.item) == change


# From a change to what the ledger takes.


ASKER = Provenance(contact_id=JANE, brand="default", origin=Origin.ACCOUNT, evidence={"page": "account"})


def edit(change: Change, asker: Provenance = ASKER, *, more: bool = False, notice: str | None = None) -> Any:
    return edit_for(change, asker, more=more, notice=notice, now=NOON, ref="ref-1")


def test_an_opt_in_is_an_act_with_its_ground_its_notice_and_its_proof() -> None:
    act = edit(Change(STATUS, ON, seen=4), more=True, notice="hash").act
    assert (act.verb, act.channel, act.who, act.brand, act.topic) == (
        Verb.SUBSCRIBE,
        Channel.EMAIL,
        JANE,
        "default",
        "offers",
    )
    assert (act.basis, act.notice, act.trusted, act.actor) == (Basis.CONSENT, "hash", True, Actor.RECIPIENT)
    assert (act.origin, act.origin_ref, act.occurred_at, act.evidence) == (
        Origin.ACCOUNT,
        "ref-1",
        NOON,
        {"page": "account"},
    )
    assert (act.until, act.per_week) == (None, None)


def test_an_opt_out_is_an_act_without_a_ground() -> None:
    act = edit(Change(STATUS, OFF)).act
    assert (act.verb, act.basis, act.until, act.per_week) == (Verb.UNSUBSCRIBE, None, None, None)


@pytest.mark.parametrize(
    ("change", "verb", "until", "per_week"),
    [
        (Change(PAUSE, "2026-06-08"), Verb.PAUSE, datetime(2026, 6, 8, tzinfo=UTC), None),
        (Change(PAUSE, UNANSWERED), Verb.PAUSE, None, None),
        (Change(CAP, "3"), Verb.CAP, None, 3),
        (Change(CAP, UNANSWERED), Verb.CAP, None, None),
    ],
)
def test_a_pause_and_a_cap_are_acts_of_their_own(
    change: Change, verb: Verb, until: datetime | None, per_week: int | None
) -> None:
    act = edit(change).act
    assert (act.verb, act.until, act.per_week, act.basis) == (verb, until, per_week, None)
    assert act.verb is LIMIT_VERB[change.control.aspect]


def test_only_what_lets_more_through_can_turn_out_to_be_stale() -> None:
    by_link = replace(ASKER, origin=Origin.CONFIRMATION, asked_at=NOON - timedelta(days=1))
    no, yes = Change(STATUS, OFF, seen=4), Change(STATUS, ON, seen=4)
    assert [(one.seen, one.asked_at) for one in (edit(no), edit(no, by_link))] == [(None, None)] * 2
    assert (edit(yes, more=True).seen, edit(yes, more=True).asked_at) == (4, None)
    confirmed = edit(yes, by_link, more=True)
    assert (confirmed.seen, confirmed.asked_at) == (None, NOON - timedelta(days=1))
