"""Which wish counts: the newest, a no at a tie, and the same whatever the order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferences.domain.consent import (
    answer_to_new,
    apply,
    apply_limit,
    apply_suppression,
    clamp,
    effective,
    fold,
    fold_by_topic,
    is_echo,
    weigh,
)
from preferences.domain.records import Entry, Preference, SendingLimit, Suppression
from preferences.domain.vocabulary import Actor, Basis, Channel, Status, SuppressionReason, Verb

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
YES, NO, NEVER = Status.SUBSCRIBED, Status.UNSUBSCRIBED, Status.NEVER_ASKED


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def entry(
    verb: Verb,
    *,
    at: int | None,
    received: int = 90,
    status: Status | None = None,
    reason: SuppressionReason | None = None,
    trusted: bool = False,
    basis: Basis | None = None,
    seq: int = 1,
) -> Entry:
    """An entry of one preference, or of one suppression; times are minutes after noon."""
    return Entry(
        seq=seq,
        recorded_at=minute(received),
        occurred_at=clamp(None if at is None else minute(at), minute(received)),
        verb=verb,
        channel=Channel.EMAIL,
        contact_id=None,
        fingerprint=None,
        brand="default",
        topic="offers",
        status=status,
        reason=reason,
        basis=basis,
        origin="page",
        origin_ref=None,
        actor=Actor.RECIPIENT,
        trusted=trusted,
        changed=True,
        undoes=None,
        hash="",
    )


def no(at: int | None, *, received: int = 90, seq: int = 1) -> Entry:
    return entry(Verb.UNSUBSCRIBE, at=at, received=received, status=NO, seq=seq)


def yes(at: int | None, *, trusted: bool = True, basis: Basis | None = None, seq: int = 1) -> Entry:
    return entry(Verb.SUBSCRIBE, at=at, status=YES, trusted=trusted, basis=basis, seq=seq)


def echo(at: int | None, *, received: int = 90, seq: int = 1, topic: str = "offers") -> Entry:
    told = replace(no(at, received=received, seq=seq), topic=topic)
    return replace(told, actor=Actor.SYSTEM, origin="connector.mailer")


def undo(target: int, *, at: int, seq: int = 99, status: Status = NEVER) -> Entry:
    """The undo of entry `target`. It says a status, as each has always done, which weighs nothing."""
    told = entry(Verb.UNDO, at=at, received=at, status=status, trusted=True, seq=seq)
    return replace(told, undoes=target)


def after_undo(*entries: Entry, topic: str = "offers") -> Preference | None:
    return fold_by_topic(entries).get(topic)


def suppress(at: int | None, *, received: int = 90, seq: int = 1) -> Entry:
    reason = SuppressionReason.COMPLAINT
    return entry(Verb.SUPPRESS, at=at, received=received, reason=reason, seq=seq)


def lift(at: int | None, *, trusted: bool = True, seq: int = 1) -> Entry:
    return entry(Verb.LIFT, at=at, reason=SuppressionReason.COMPLAINT, trusted=trusted, seq=seq)


def status_after(*entries: Entry) -> Status | None:
    choice = fold(entries)
    return None if choice is None else choice.status


def suppressed_after(*entries: Entry) -> Suppression | None:
    state: Suppression | None = None
    for one in entries:
        state = apply_suppression(state, one)
    return state


def is_suppressed(*entries: Entry) -> bool:
    state = suppressed_after(*entries)
    return state is not None and state.active


def counts(choice: Preference | None) -> object:
    """What of a choice weighs; who began it, and when, depends on what arrived first."""
    return choice and weigh(choice.status, choice.at, trusted=choice.trusted, basis=choice.basis)


# Wishes.


def test_a_contact_who_said_nothing_has_no_preference() -> None:
    assert fold([]) is None


def test_the_newest_preference_wins() -> None:
    assert status_after(yes(1), no(2)) is NO
    assert status_after(no(1), yes(2)) is YES
    assert status_after(yes(1), no(2), yes(3)) is YES


def test_an_old_opt_in_that_arrives_late_does_not_revive() -> None:
    assert status_after(no(2), yes(1)) is NO


def test_an_old_opt_out_that_arrives_late_does_not_end_a_newer_opt_in() -> None:
    assert status_after(yes(2), no(1)) is YES


def test_an_opt_out_wins_a_tie_whichever_comes_first() -> None:
    assert status_after(yes(1), no(1)) is NO
    assert status_after(no(1), yes(1)) is NO


def test_an_opt_in_of_unknown_time_is_ignored() -> None:
    assert fold([yes(None)]) is None
    assert status_after(no(1), yes(None)) is NO
    assert fold([no(1), yes(None)]) == fold([no(1)])


def test_an_opt_out_of_unknown_time_counts_from_receipt() -> None:
    choice = fold([no(None, received=5)])
    assert choice is not None
    assert choice.at == minute(5)
    assert status_after(yes(4), no(None, received=5)) is NO
    assert status_after(no(None, received=5), yes(6)) is YES


def test_an_untrusted_opt_in_can_start_a_subscription() -> None:
    assert status_after(yes(1, trusted=False)) is YES


def test_an_untrusted_opt_in_never_revives_however_new_it_is() -> None:
    assert status_after(no(1), yes(80, trusted=False)) is NO
    assert status_after(yes(80, trusted=False), no(1)) is NO
    assert status_after(no(None, received=1), yes(80, trusted=False)) is NO


def test_an_untrusted_opt_in_does_not_replace_a_trusted_one() -> None:
    choice = fold([yes(1, basis=Basis.CONSENT), yes(80, trusted=False, basis=Basis.SOFT_OPT_IN)])
    assert choice is not None
    assert (choice.at, choice.basis, choice.trusted) == (minute(1), Basis.CONSENT, True)


def test_nothing_has_happened_later_than_we_learned_of_it() -> None:
    assert clamp(minute(9), minute(5)) == minute(5)
    assert clamp(minute(5), minute(5)) == minute(5)
    assert clamp(minute(1), minute(5)) == minute(1)
    assert clamp(None, minute(5)) is None


def test_an_opt_in_dated_in_the_future_does_not_outlive_the_next_opt_out() -> None:
    future = entry(Verb.SUBSCRIBE, at=10_000, received=1, status=YES, trusted=True)
    assert status_after(future, no(2)) is NO


def test_the_beginning_and_its_entry_stay_while_the_status_stays() -> None:
    choice = fold([no(1, seq=7), no(5, seq=8)])
    assert choice is not None
    assert (choice.since, choice.seq, choice.at) == (minute(1), 7, minute(5))


def test_a_new_status_has_a_new_beginning_and_a_new_entry() -> None:
    choice = fold([no(1, seq=7), yes(5, seq=8), no(6, seq=9)])
    assert choice is not None
    assert (choice.since, choice.seq, choice.at) == (minute(6), 9, minute(6))


def test_an_older_entry_of_the_same_status_changes_nothing() -> None:
    assert fold([no(5, seq=7), no(1, seq=8)]) == fold([no(5, seq=7)])


def test_preferences_and_suppressions_are_folded_apart() -> None:
    with pytest.raises(ValueError, match="is no preference"):
        apply(None, suppress(1))
    with pytest.raises(ValueError, match="is no suppression"):
        apply_suppression(None, no(1))


# Times at which nothing of the kind can have happened.

IMPOSSIBLE = [datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), datetime(1989, 12, 31, tzinfo=UTC)]
impossible = pytest.mark.parametrize("at", IMPOSSIBLE, ids=["zero", "the year 1", "before there was such mail"])


@impossible
def test_an_opt_out_of_an_impossible_time_counts_from_receipt(at: datetime) -> None:
    told = replace(no(None, received=5), occurred_at=at)
    assert fold([told]) == fold([no(None, received=5)])
    assert status_after(yes(4), told) is NO
    assert status_after(told, yes(6)) is YES
    assert clamp(at, minute(5)) is None


@impossible
def test_an_opt_in_of_an_impossible_time_weighs_nothing(at: datetime) -> None:
    assert fold([replace(yes(None), occurred_at=at)]) is None


@impossible
def test_an_impossible_time_dates_no_suppression_and_no_pause(at: datetime) -> None:
    assert is_suppressed(lift(4), replace(suppress(None, received=5), occurred_at=at))
    assert is_suppressed(suppress(1), replace(lift(None), occurred_at=at))
    assert slows_to(pause(4, None), replace(pause(None, 7, received=5), occurred_at=at)) == slows_to(
        pause(None, 7, received=5)
    )
    assert slows_to(cap(4, 1), replace(cap(None, None), occurred_at=at)) == slows_to(cap(4, 1))


# Undo: the fold without its target, and nothing more.


def test_an_undo_keeps_time_trust_and_basis_of_what_held_before() -> None:
    before = yes(1, trusted=False, basis=Basis.SOFT_OPT_IN, seq=1)
    assert after_undo(before, no(2, seq=2), undo(2, at=3)) == fold([before])


def test_after_the_undo_of_the_first_word_nothing_was_ever_said() -> None:
    assert after_undo(no(1, seq=1), undo(1, at=3)) is None


def test_an_undo_is_no_opt_in_so_an_older_opt_out_learned_later_counts() -> None:
    late = no(1, received=9, seq=9)
    assert after_undo(no(2, seq=1), undo(1, at=3, status=YES), late) == fold([late])


def test_an_undo_takes_back_its_target_and_no_other_opt_out() -> None:
    mine, theirs = no(2, seq=2), no(3, seq=3)
    assert after_undo(mine, theirs, undo(2, at=5)) == fold([theirs])


def test_an_untrusted_opt_in_counts_again_after_an_undo() -> None:
    assert after_undo(no(1, seq=1), undo(1, at=3), yes(80, trusted=False, seq=4)) == fold(
        [yes(80, trusted=False, seq=4)]
    )


def test_the_echo_of_an_undone_opt_out_goes_with_it_whenever_it_is_told() -> None:
    stop = no(2, received=2, seq=1)
    before = echo(3, received=3, seq=2)
    after = echo(3, received=9, seq=4)
    assert after_undo(stop, before, undo(1, at=5, seq=3)) is None
    assert after_undo(stop, undo(1, at=5, seq=3), after) is None


def test_an_echo_from_before_the_opt_out_or_after_its_undo_counts() -> None:
    stop, back = no(4, received=4, seq=1), undo(1, at=6, seq=2)
    for told in (echo(3, received=9, seq=3), echo(7, received=9, seq=3), echo(None, received=9, seq=3)):
        assert after_undo(stop, back, told) == fold([told])
    earlier = echo(4, received=4, seq=1)
    assert after_undo(earlier, replace(stop, seq=2), undo(2, at=6, seq=3)) == fold([earlier])


def test_what_the_person_did_at_the_provider_is_no_echo() -> None:
    stop = no(2, received=2, seq=1)
    theirs = replace(echo(3, received=3, seq=2), actor=Actor.PROVIDER)
    assert after_undo(stop, theirs, undo(1, at=5, seq=3)) == fold([theirs])


def test_an_echo_that_gives_whole_seconds_is_one_all_the_same() -> None:
    stop = replace(no(2, received=2, seq=1), occurred_at=minute(2) + timedelta(milliseconds=700))
    assert after_undo(stop, echo(2, received=3, seq=2), undo(1, at=5, seq=3)) is None


def test_the_echoes_of_a_stop_of_everything_are_about_any_topic() -> None:
    stop = replace(no(2, received=2, seq=1), topic="*")
    told, back = echo(3, received=3, seq=2), replace(undo(1, at=5, seq=3), topic="*")
    assert fold_by_topic([stop, told, back]) == {}


def test_the_echo_about_everything_outlives_the_undo_of_one_topic() -> None:
    stop, told = no(2, received=2, seq=1), echo(3, received=3, seq=2, topic="*")
    assert fold_by_topic([stop, told, undo(1, at=5, seq=3)]).keys() == {"*"}


def test_an_undo_is_no_preference() -> None:
    with pytest.raises(ValueError, match="an undo is no preference"):
        apply(None, undo(1, at=1))


# A topic and the blanket over it.


@pytest.mark.parametrize(
    ("own", "blanket", "expected"),
    [
        ([], [], None),
        ([yes(1)], [], YES),
        ([], [no(1)], NO),
        ([yes(1)], [no(2)], NO),
        ([yes(2)], [no(1)], YES),
        ([yes(1)], [no(1)], NO),
        ([yes(80, trusted=False)], [no(1)], NO),
    ],
)
def test_a_topic_follows_its_own_preference_or_a_weightier_blanket(
    own: list[Entry], blanket: list[Entry], expected: Status | None
) -> None:
    choice = effective(fold(own), fold(blanket))
    assert (None if choice is None else choice.status) is expected


def test_the_blanket_is_named_when_it_is_what_counts() -> None:
    own, newer, same = fold([no(1, seq=7)]), fold([no(2, seq=8)]), fold([no(1, seq=9)])
    assert effective(own, newer) == newer
    assert effective(newer, own) == newer
    assert effective(own, same) == same


# Suppressions.


def test_the_newest_act_on_a_suppression_wins() -> None:
    assert is_suppressed(suppress(1))
    assert not is_suppressed(suppress(1), lift(2))
    assert is_suppressed(suppress(1), lift(2), suppress(3))
    assert is_suppressed(suppress(3), lift(2))


def test_suppressing_wins_a_tie() -> None:
    assert is_suppressed(suppress(1), lift(1))
    assert is_suppressed(lift(1), suppress(1))


def test_only_a_trusted_origin_lifts_a_suppression() -> None:
    assert is_suppressed(suppress(1), lift(80, trusted=False))


def test_a_lift_of_unknown_time_is_ignored() -> None:
    assert is_suppressed(suppress(1), lift(None))


def test_a_suppression_of_unknown_time_counts_from_receipt() -> None:
    assert is_suppressed(lift(4), suppress(None, received=5))
    assert not is_suppressed(suppress(None, received=5), lift(6))


def test_a_repeated_suppression_keeps_its_beginning_and_its_entry() -> None:
    state = suppressed_after(suppress(1, seq=7), suppress(5, seq=8))
    assert state is not None
    assert (state.since, state.seq, state.at) == (minute(1), 7, minute(5))


# Any history at all. Few instants, so that ties are common.

patiently = settings(deadline=None)
instants = st.integers(0, 4)
bases = st.sampled_from([None, Basis.CONSENT, Basis.SOFT_OPT_IN])
wishes = st.one_of(
    st.builds(no, st.none() | instants, received=st.integers(2, 6)),
    st.builds(yes, st.none() | instants, trusted=st.booleans(), basis=bases),
)
words = st.one_of(
    st.builds(suppress, st.none() | instants, received=st.integers(2, 6)),
    st.builds(lift, st.none() | instants, trusted=st.booleans()),
)


def told_at(one: Entry) -> datetime | None:
    return one.recorded_at if one.occurred_at is None and one.status is NO else one.occurred_at


def by_the_book(history: Sequence[Entry]) -> Status | None:
    """The rules once more, as they are written in the design, and not as a fold."""
    known = [(at, one) for one in history if (at := told_at(one)) is not None]
    firm = [(at, one) for at, one in known if one.status is NO or one.trusted]
    candidates = firm or known
    if not candidates:
        return None
    newest = max(at for at, _ in candidates)
    said = {one.status for at, one in candidates if at == newest}
    return NO if NO in said else YES


@patiently
@given(st.lists(wishes, max_size=7))
def test_the_fold_is_what_the_rules_say(history: list[Entry]) -> None:
    assert status_after(*history) is by_the_book(history)


@patiently
@given(st.lists(wishes, max_size=7), st.randoms())
def test_preferences_may_arrive_in_any_order(history: list[Entry], chance) -> None:
    shuffled = chance.sample(history, len(history))
    assert counts(fold(shuffled)) == counts(fold(history))


@patiently
@given(st.lists(wishes, min_size=1, max_size=7), st.data())
def test_a_preference_repeated_changes_nothing(history: list[Entry], data: st.DataObject) -> None:
    echo = data.draw(st.sampled_from(history))
    where = data.draw(st.integers(0, len(history)))
    assert counts(fold([*history[:where], echo, *history[where:]])) == counts(fold(history))
    assert fold([*history, echo]) == fold(history)


@patiently
@given(st.lists(wishes, max_size=7))
def test_a_newer_no_beats_any_history(history: list[Entry]) -> None:
    assert status_after(*history, no(5)) is NO
    assert status_after(no(5), *history) is NO


@patiently
@given(st.lists(wishes, max_size=7), st.integers(0, 80))
def test_no_untrusted_opt_in_ends_an_opt_out(history: list[Entry], at: int) -> None:
    if status_after(*history) is NO:
        assert fold([*history, yes(at, trusted=False)]) == fold(history)


@patiently
@given(st.lists(wishes, max_size=5), st.lists(wishes, max_size=5))
def test_a_topic_is_never_open_under_a_newer_blanket_opt_out(own: list[Entry], blanket: list[Entry]) -> None:
    choice = effective(fold(own), fold([*blanket, no(80)]))
    assert choice is not None
    assert choice.status is NO


@patiently
@given(st.lists(words, max_size=7), st.randoms())
def test_acts_on_a_suppression_may_arrive_in_any_order(history: list[Entry], chance) -> None:
    state = suppressed_after(*history)
    shuffled = suppressed_after(*chance.sample(history, len(history)))
    assert (shuffled and (shuffled.active, shuffled.at)) == (state and (state.active, state.at))


@patiently
@given(st.lists(words, min_size=1, max_size=7), st.data())
def test_an_act_on_a_suppression_repeated_changes_nothing(history: list[Entry], data: st.DataObject) -> None:
    echo = data.draw(st.sampled_from(history))
    assert suppressed_after(*history, echo) == suppressed_after(*history)


@st.composite
def histories_with_undos(draw: st.DrawFn) -> list[Entry]:
    """Entries about two topics and about everything, as they were recorded, some of them echoes, some undone."""
    wishes_or_echoes = st.lists(st.one_of(wishes, st.builds(echo, st.none() | instants)), max_size=8)
    history: list[Entry] = []
    for seq, one in enumerate(draw(wishes_or_echoes), start=1):
        recorded = minute(seq)
        topic = draw(st.sampled_from(["offers", "news", "*"])) if one.status is NO else "offers"
        at = clamp(one.occurred_at, recorded)
        history.append(replace(one, seq=seq, topic=topic, recorded_at=recorded, occurred_at=at))
    stops = [one for one in history if one.status is NO]
    undone = draw(st.lists(st.sampled_from(stops), unique_by=lambda one: one.seq)) if stops else []
    for seq, target in enumerate(undone, start=len(history) + 1):
        history.append(replace(undo(target.seq, at=seq, seq=seq), topic=target.topic))
    return history


def weights(history: Sequence[Entry]) -> dict[str, object]:
    return {topic: counts(choice) for topic, choice in fold_by_topic(history).items()}


@patiently
@given(histories_with_undos(), st.randoms())
def test_undos_may_stand_anywhere_in_the_fold(history: list[Entry], chance) -> None:
    assert weights(chance.sample(history, len(history))) == weights(history)


@patiently
@given(histories_with_undos())
def test_the_fold_is_the_greatest_of_what_no_undo_takes_back(history: list[Entry]) -> None:
    named = {one.undoes for one in history if one.undoes is not None}
    stays = [one for one in history if one.undoes is None and one.seq not in named]
    # By the book: an echo goes when it came after an undone opt-out that covers it, and happened before the undo.
    by_seq = {one.seq: one for one in history}
    undos = [(by_seq[one.undoes], one.recorded_at) for one in history if one.undoes is not None]
    kept = [
        one
        for one in stays
        if not is_echo(one)
        or not any(
            one.seq > target.seq
            and target.topic in {one.topic, "*"}
            and (target.occurred_at or target.recorded_at) <= (one.occurred_at or one.recorded_at) <= until
            for target, until in undos
        )
    ]
    for topic in ("offers", "news", "*"):
        expected = fold(one for one in kept if one.topic == topic)
        assert weights(history).get(topic) == counts(expected)


@patiently
@given(histories_with_undos())
def test_no_undo_removes_what_the_person_said_besides(history: list[Entry]) -> None:
    named = {one.undoes for one in history if one.undoes is not None}
    own = [one for one in history if one.undoes is None and one.seq not in named and not is_echo(one)]
    for topic, choice in fold_by_topic(own).items():
        if choice.status is NO:
            found = fold_by_topic(history).get(topic)
            assert found is not None
            assert found.status is NO


# Pauses and caps, which stand beside the wish.


def pause(at: int | None, days: int | None, *, received: int = 90, seq: int = 1) -> Entry:
    until = None if days is None else NOON + timedelta(days=days)
    return replace(entry(Verb.PAUSE, at=at, received=received, seq=seq), until=until)


def cap(at: int | None, per_week: int | None, *, received: int = 90, seq: int = 1) -> Entry:
    return replace(entry(Verb.CAP, at=at, received=received, seq=seq), per_week=per_week)


def pace_after(*entries: Entry) -> SendingLimit | None:
    pace: SendingLimit | None = None
    for one in entries:
        pace = apply_limit(pace, one)
    return pace


def slows_to(*entries: Entry) -> object:
    """What of a pause or a cap counts; which of two equal entries said it depends on what arrived first."""
    pace = pace_after(*entries)
    return pace and (pace.at, pace.until, pace.per_week)


def test_the_newest_pause_and_the_newest_cap_win() -> None:
    assert slows_to(pause(1, 7), pause(2, 3)) == (minute(2), NOON + timedelta(days=3), None)
    assert slows_to(cap(1, 2), cap(2, 5)) == (minute(2), None, 5)


def test_a_later_limit_replaces_an_earlier_one() -> None:
    assert slows_to(pause(1, 7), pause(2, None)) == (minute(2), None, None)
    assert slows_to(cap(1, 2), cap(2, None), cap(3, 1)) == (minute(3), None, 1)


def test_one_that_arrives_late_changes_nothing() -> None:
    assert slows_to(pause(2, 3), pause(1, 7)) == slows_to(pause(2, 3))
    assert slows_to(cap(2, None), cap(1, 1)) == slows_to(cap(2, None))


@pytest.mark.parametrize(
    ("slower", "faster"),
    [(pause(1, 7), pause(1, 3)), (pause(1, 3), pause(1, None)), (cap(1, 1), cap(1, 2)), (cap(1, 7), cap(1, None))],
)
def test_of_two_at_the_same_instant_the_one_that_lets_less_through_counts(slower: Entry, faster: Entry) -> None:
    assert slows_to(slower, faster) == slows_to(faster, slower) == slows_to(slower)


def test_a_limit_of_unknown_time_counts_from_receipt() -> None:
    assert slows_to(pause(4, 3), pause(None, 7, received=5)) == (minute(5), NOON + timedelta(days=7), None)
    assert slows_to(pause(4, 3), pause(None, None, received=5)) == slows_to(pause(4, 3))
    assert slows_to(cap(4, 1), cap(None, None, received=5)) == slows_to(cap(4, 1))
    assert pace_after(cap(None, None)) is None


def test_limits_and_preferences_are_folded_apart() -> None:
    with pytest.raises(ValueError, match="neither a pause"):
        apply_limit(None, no(1))
    for one in (pause(1, 7), cap(1, 2)):
        with pytest.raises(ValueError, match="is no preference"):
            apply(None, one)


pauses = st.builds(pause, st.none() | instants, st.none() | st.integers(1, 3), received=st.integers(2, 6))
caps = st.builds(cap, st.none() | instants, st.none() | st.integers(1, 3), received=st.integers(2, 6))
paces = st.lists(pauses, max_size=7) | st.lists(caps, max_size=7)


@patiently
@given(paces, st.randoms())
def test_pauses_and_caps_may_arrive_in_any_order(history: list[Entry], chance) -> None:
    assert slows_to(*chance.sample(history, len(history))) == slows_to(*history)


@patiently
@given(paces.filter(bool), st.data())
def test_a_pause_or_a_cap_repeated_changes_nothing(history: list[Entry], data: st.DataObject) -> None:
    echo = data.draw(st.sampled_from(history))
    where = data.draw(st.integers(0, len(history)))
    assert slows_to(*history[:where], echo, *history[where:]) == slows_to(*history)
    assert pace_after(*history, echo) == pace_after(*history)


@patiently
@given(paces.filter(bool))
def test_what_counts_was_said_at_the_newest_instant_of_all(history: list[Entry]) -> None:
    known = [
        at
        for one in history
        if (at := one.occurred_at or (one.recorded_at if one.until or one.per_week else None)) is not None
    ]
    pace = pace_after(*history)
    assert (pace and pace.at) == (max(known) if known else None)


# The answer to "new kinds of mail from us?".


@pytest.mark.parametrize(
    ("added", "own", "answer", "covered"),
    [
        (6, [], [no(5)], True),
        (5, [], [no(5)], False),
        (4, [], [no(5)], False),
        (None, [], [no(5)], False),
        (6, [], [], False),
        (6, [], [yes(5)], False),
        (6, [], [no(5), yes(7)], False),
        (6, [], [yes(4), no(5)], True),
        (6, [yes(7)], [no(5)], False),
        (6, [no(7)], [no(5)], False),
        # Said again: it covers what it covered before, and what was added since.
        (6, [], [no(5), no(8)], True),
    ],
)
def test_an_opt_out_of_new_kinds_covers_later_topics_without_preference(
    added: int | None, own: list[Entry], answer: list[Entry], covered: bool
) -> None:
    said = fold(answer)
    found = answer_to_new(None if added is None else minute(added), fold(own), said)
    assert found == (said if covered else None)
