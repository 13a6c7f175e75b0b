"""The one write path: numbers, chain, projection, undo, and what is never written down."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, event, func, select, text
from sqlalchemy.exc import StatementError

from preferences.domain.errors import NotAllowed
from preferences.domain.records import Act, Address, Edit, Entry, Preference, Suppression
from preferences.domain.vocabulary import BLANKET, Actor, Basis, Channel, Status, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.ledger import verify
from preferences.ledger.seal import GENESIS, chain_hash
from preferences.services import Services
from preferences.store import contact_state, contacts, feed, history
from preferences.store.codec import entry_of
from preferences.store.contact_state import ChannelKey
from preferences.store.tables import address, contact, evidence, ledger_entry, ledger_head, preference, suppression
from preferences.store.transactions import StoreFault, Write
from tests.support import add_contact, email

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
JANE = email("jane.doe@example.com")
JOHN = email("john.roe@example.com")


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def act(verb: Verb, who: UUID | Address, **more: Any) -> Act:
    known: dict[str, Any] = {
        "channel": Channel.EMAIL,
        "origin": "page",
        "actor": Actor.RECIPIENT,
        "occurred_at": NOON,
        "brand": "default",
        "topic": "offers",
    }
    return Act(verb=verb, who=who, **(known | more))


def no(who: UUID | Address, **more: Any) -> Act:
    return act(Verb.UNSUBSCRIBE, who, **more)


def yes(who: UUID | Address, **more: Any) -> Act:
    return act(Verb.SUBSCRIBE, who, **({"trusted": True} | more))


def suppress(who: Address, reason: SuppressionReason = SuppressionReason.COMPLAINT, **more: Any) -> Act:
    return act(Verb.SUPPRESS, who, reason=reason, **({"brand": "", "topic": ""} | more))


def record(services: Services, *acts: Act, now: datetime = NOON) -> list[Entry]:
    return services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=now)


def undo(services: Services, seq: int, contact_id: UUID, *, at: int = 5) -> Entry:
    return services.database.write(ledger.undo, seq, contact_id=contact_id, now=minute(at), details={})


def choices(services: Services, contact_id: UUID) -> dict[str, Preference]:
    (found,) = services.database.read(
        contact_state.channel_preferences, [ChannelKey(contact_id, Channel.EMAIL, "default")]
    )
    return dict(found.preferences)


def status(services: Services, contact_id: UUID, topic: str = "offers") -> Status | None:
    choice = choices(services, contact_id).get(topic)
    return None if choice is None else choice.status


def suppressions(services: Services, one: Address) -> Sequence[Suppression]:
    return services.database.read(history.timeline, one, services.fingerprints).suppressions


def count(services: Services, table: Any) -> int:
    return services.database.read(lambda read: read.execute(select(func.count()).select_from(table)).scalar_one())


def everything(services: Services) -> dict[str, list[dict[str, Any]]]:
    """All rows of the ledger and its projection, as the database holds them."""

    def rows(connection: Any) -> dict[str, list[dict[str, Any]]]:
        names = [table.name for table in (ledger_entry, ledger_head, preference, suppression)]
        return {
            name: [dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {name}"))] for name in names
        }

    return services.database.read(rows)


# Numbers and chain.


def test_numbers_begin_at_one_and_have_no_gaps(services: Services) -> None:
    first = record(services, no(JANE), no(JOHN))
    second = record(services, no(JANE), yes(JOHN))
    assert [entry.seq for entry in first + second] == [1, 2, 3, 4]
    assert services.database.read(feed.head_seq) == 4


def test_nothing_is_numbered_when_nothing_is_recorded(services: Services) -> None:
    assert record(services) == []
    assert services.database.read(feed.head_seq) == 0


def test_a_transaction_that_fails_leaves_no_gap(services: Services) -> None:
    with pytest.raises(ValueError, match="a suppression needs an address"):
        record(services, no(JANE), act(Verb.SUPPRESS, uuid4(), reason=SuppressionReason.COMPLAINT))
    assert count(services, ledger_entry) == count(services, contact) == 0
    (entry,) = record(services, no(JANE))
    assert entry.seq == 1


def test_two_calls_in_one_transaction_go_on_from_each_other(services: Services) -> None:
    def work(write: Write) -> list[int]:
        known: dict[str, Any] = {"fingerprints": services.fingerprints, "now": NOON}
        return [ledger.record(write, [no(one)], **known)[0].seq for one in (JANE, JOHN)]

    assert services.database.write(work) == [1, 2]
    assert services.database.snapshot(verify.verify, lambda _entries: None).problems == []


def test_each_entry_is_chained_to_the_one_before(services: Services) -> None:
    entries = record(services, no(JANE), no(JOHN)) + record(services, yes(JANE))
    stored = services.database.read(lambda read: read.execute(select(ledger_entry).order_by(ledger_entry.c.seq)).all())
    previous = GENESIS
    for row, entry in zip(stored, entries, strict=True):
        assert row.hash == chain_hash(previous, entry_of(row)) == entry.hash
        previous = row.hash
    assert everything(services)["ledger_head"] == [{"id": 1, "seq": 3, "hash": previous}]


def test_what_is_returned_is_what_is_stored(services: Services) -> None:
    entries = record(
        services,
        yes(JANE, basis=Basis.CONSENT, origin="import", origin_ref="line-1", occurred_at=minute(-60)),
        no(JOHN, occurred_at=None, topic=BLANKET),
        suppress(JOHN, actor=Actor.PROVIDER),
    )
    assert services.database.read(feed.entries_after, 0, 10) == entries


def test_the_database_itself_refuses_to_change_an_entry(services: Services) -> None:
    record(services, no(JANE))
    before = everything(services)
    statements = ["UPDATE ledger_entry SET topic = 'x'", "DELETE FROM ledger_entry"]
    if not services.database.is_sqlite:
        statements.append("TRUNCATE ledger_entry CASCADE")
    for statement in statements:
        with pytest.raises(StoreFault, match=r"IntegrityError|RestrictViolation"):
            services.database.save(lambda connection, wanted: connection.execute(text(wanted)), statement)
    assert everything(services) == before


# What an entry changes.


def test_an_entry_says_whether_it_changed_anything(services: Services) -> None:
    first, again, older, back = record(
        services,
        no(JANE),
        no(JANE, occurred_at=minute(-1)),
        yes(JANE, occurred_at=minute(-2)),
        yes(JANE, occurred_at=minute(1)),
        now=minute(10),
    )
    assert [entry.changed for entry in (first, again, older, back)] == [True, False, False, True]


def test_a_newer_no_after_a_no_changes_nothing_and_still_weighs(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, no(contact_id), now=NOON)
    (again,) = record(services, no(contact_id, occurred_at=minute(5)), now=minute(5))
    record(services, yes(contact_id, occurred_at=minute(3)), now=minute(6))
    assert not again.changed
    choice = choices(services, contact_id)["offers"]
    assert (choice.status, choice.at, choice.since, choice.seq) == (Status.UNSUBSCRIBED, minute(5), NOON, 1)


def test_an_opt_out_of_everything_is_one_entry_of_its_own(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, yes(contact_id), no(contact_id, topic=BLANKET, occurred_at=minute(1)), now=minute(1))
    assert {topic: choice.status for topic, choice in choices(services, contact_id).items()} == {
        "offers": Status.SUBSCRIBED,
        BLANKET: Status.UNSUBSCRIBED,
    }


def test_topics_channels_and_brands_do_not_touch_each_other(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(
        services,
        no(contact_id),
        yes(contact_id, topic="product-news"),
        yes(contact_id, channel=Channel.SMS),
        yes(contact_id, brand="other"),
    )
    assert count(services, preference) == 4
    assert status(services, contact_id) is Status.UNSUBSCRIBED
    assert status(services, contact_id, "product-news") is Status.SUBSCRIBED


def test_lifting_a_bounce_lifts_no_complaint(services: Services) -> None:
    record(services, suppress(JANE), suppress(JANE, SuppressionReason.HARD_BOUNCE))
    lift = act(Verb.LIFT, JANE, reason=SuppressionReason.HARD_BOUNCE, trusted=True, occurred_at=minute(1))
    (entry,) = record(services, lift, now=minute(1))
    assert entry.changed
    assert [one.reason for one in suppressions(services, JANE)] == [SuppressionReason.COMPLAINT]


def test_a_sign_up_lifts_no_suppression(services: Services) -> None:
    record(services, suppress(JANE))
    record(services, yes(JANE, occurred_at=minute(1)), now=minute(1))
    assert [one.reason for one in suppressions(services, JANE)] == [SuppressionReason.COMPLAINT]


def test_an_act_is_never_newer_than_its_receipt(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    (entry,) = record(services, yes(contact_id, occurred_at=minute(10_000)), now=minute(1))
    assert entry.occurred_at == minute(1)
    record(services, no(contact_id, occurred_at=minute(2)), now=minute(2))
    assert status(services, contact_id) is Status.UNSUBSCRIBED


def test_acts_of_one_call_see_each_other(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, yes(contact_id), no(contact_id, occurred_at=minute(1)), yes(JANE), now=minute(1))
    assert status(services, contact_id) is Status.UNSUBSCRIBED


# The same act told twice.


def test_an_act_with_a_known_reference_is_not_recorded_again(services: Services) -> None:
    (first,) = record(services, suppress(JANE, origin="connector.mailer", origin_ref="evt-1"))
    (again,) = record(services, suppress(JANE, origin="connector.mailer", origin_ref="evt-1"), now=minute(1))
    assert again == first
    assert count(services, ledger_entry) == count(services, contact) == 1


def test_an_act_told_twice_in_one_call_is_recorded_once(services: Services) -> None:
    told = no(JANE, origin="connector.mailer", origin_ref="evt-1")
    entries = record(services, told, no(JOHN), told)
    assert [entry.seq for entry in entries] == [1, 2, 1]
    assert count(services, ledger_entry) == 2


def test_the_same_reference_from_another_origin_is_another_act(services: Services) -> None:
    record(services, no(JANE, origin="connector.mailer", origin_ref="evt-1"))
    entries = record(
        services,
        no(JANE, origin="connector.other", origin_ref="evt-1"),
        no(JANE, origin="connector.mailer", origin_ref="evt-2"),
    )
    assert [entry.seq for entry in entries] == [2, 3]


def test_acts_without_a_reference_are_each_recorded(services: Services) -> None:
    assert [entry.seq for entry in record(services, no(JANE), no(JANE))] == [1, 2]


# Contacts.


def test_a_contact_is_made_once_and_found_again(services: Services) -> None:
    first, same = record(services, no(JANE), no(JANE))
    (later,) = record(services, yes(JANE))
    assert first.contact_id == same.contact_id == later.contact_id == add_contact(services, JANE)
    assert count(services, contact) == count(services, address) == 1


def test_a_contact_is_found_by_a_fingerprint_of_an_older_key(services: Services) -> None:
    known = add_contact(services, JANE)
    rotated = type(services.fingerprints)([b"fingerprint-key-of-tests", b"fingerprint-key-of-tests-02"])
    (entry,) = services.database.write(ledger.record, [no(JANE)], fingerprints=rotated, now=NOON)
    assert entry.contact_id == known
    assert count(services, contact) == 1


def test_the_opt_out_of_a_contact_that_a_restore_lost_is_recorded(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    services.database.save(lambda save: save.execute(delete(contact)))
    assert count(services, address) == 0
    (entry,) = record(services, no(contact_id))
    assert entry.changed
    assert status(services, contact_id) is Status.UNSUBSCRIBED


@pytest.mark.parametrize("reason", [SuppressionReason.ERASED, SuppressionReason.CHILD])
def test_an_erased_address_and_a_childs_are_never_stored_again(services: Services, reason: SuppressionReason) -> None:
    record(services, suppress(JANE, reason))
    services.database.save(lambda save: save.execute(delete(contact)))
    (entry,) = record(services, yes(JANE, origin="import"), now=minute(1))
    found = services.database.write(contacts.find_or_create, [JANE, JOHN], services.fingerprints, minute(2))
    assert (entry.contact_id, entry.fingerprint, entry.changed) == (None, services.fingerprints.of(JANE), False)
    assert found[JANE].contact_id is None
    assert found[JOHN].contact_id is not None
    assert count(services, address) == 1
    assert [one.reason for one in suppressions(services, JANE)] == [reason]


def test_an_erased_address_is_known_by_a_fingerprint_of_an_older_key(services: Services) -> None:
    record(services, suppress(JANE, SuppressionReason.ERASED))
    services.database.save(lambda save: save.execute(delete(contact)))
    rotated = type(services.fingerprints)([b"fingerprint-key-of-tests", b"fingerprint-key-of-tests-02"])
    (entry,) = services.database.write(ledger.record, [yes(JANE)], fingerprints=rotated, now=NOON)
    assert entry.contact_id is None
    assert count(services, address) == 0


def test_another_suppression_does_not_keep_an_address_from_being_stored(services: Services) -> None:
    record(services, suppress(JANE, SuppressionReason.HARD_BOUNCE))
    services.database.save(lambda save: save.execute(delete(contact)))
    (entry,) = record(services, no(JANE))
    assert entry.contact_id is not None


def test_the_ledger_and_its_projection_hold_no_address(services: Services) -> None:
    details = {"user_agent": "Mail", "note": "jane.doe@example.com called"}
    record(services, no(JANE, evidence=details), suppress(JANE, evidence=details), yes(JANE, topic="product-news"))
    written = repr(everything(services))
    assert "@" not in written
    assert "jane" not in written
    assert "called" not in written
    assert count(services, evidence) == 2


# Undo.


def test_an_undo_puts_back_what_its_entry_changed(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    (opt_out,) = record(services, no(contact_id))
    entry = undo(services, opt_out.seq, contact_id)
    assert (entry.seq, entry.undoes, entry.status, entry.changed) == (2, 1, Status.NEVER_ASKED, True)
    assert status(services, contact_id) is None
    assert count(services, preference) == 0


def test_an_undo_restores_a_subscription_with_its_ground(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, yes(contact_id, basis=Basis.CONSENT))
    (opt_out,) = record(services, no(contact_id, occurred_at=minute(1)), now=minute(1))
    undo(services, opt_out.seq, contact_id)
    choice = choices(services, contact_id)["offers"]
    assert (choice.status, choice.basis, choice.since) == (Status.SUBSCRIBED, Basis.CONSENT, NOON)


def test_an_undo_touches_that_topic_and_no_other(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    everything_, _ = record(services, no(contact_id, topic=BLANKET), no(contact_id, topic="product-news"))
    undo(services, everything_.seq, contact_id)
    assert status(services, contact_id, BLANKET) is None
    assert status(services, contact_id, "product-news") is Status.UNSUBSCRIBED


def echo(who: Address, at: int, **more: Any) -> Act:
    """A connector's report that somebody other than the person has opted them out."""
    told = {"origin": "connector.mailer", "actor": Actor.SYSTEM, "occurred_at": minute(at)}
    return no(who, **(told | more))


def test_an_undo_takes_back_the_echo_that_a_provider_sent_meanwhile(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    (opt_out,) = record(services, no(contact_id))
    record(services, echo(JANE, 1), now=minute(1))
    assert undo(services, opt_out.seq, contact_id).changed
    assert status(services, contact_id) is None


def test_an_echo_that_arrives_after_the_undo_stops_nothing(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, yes(contact_id, occurred_at=minute(-1)))
    (opt_out,) = record(services, no(contact_id))
    undo(services, opt_out.seq, contact_id)
    (late,) = record(services, echo(JANE, 1, origin_ref="row:1"), now=minute(9))
    assert not late.changed
    assert status(services, contact_id) is Status.SUBSCRIBED
    (newer,) = record(services, echo(JANE, 8, origin_ref="row:2"), now=minute(9))
    assert newer.changed
    assert status(services, contact_id) is Status.UNSUBSCRIBED


def test_the_undo_of_everything_takes_back_its_echoes_on_each_list(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    (opt_out,) = record(services, no(contact_id, topic=BLANKET))
    record(services, echo(JANE, 1), echo(JANE, 1, topic="product-news"), now=minute(1))
    undo(services, opt_out.seq, contact_id)
    assert choices(services, contact_id) == {}


def test_what_the_person_did_at_the_provider_refuses_the_undo(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    (opt_out,) = record(services, no(contact_id))
    record(services, echo(JANE, 1, actor=Actor.PROVIDER), now=minute(1))
    with pytest.raises(NotAllowed, match="newer opt-out"):
        undo(services, opt_out.seq, contact_id)
    assert status(services, contact_id) is Status.UNSUBSCRIBED


@pytest.mark.parametrize("topic", ["offers", BLANKET])
def test_an_opt_out_that_changed_nothing_refuses_the_undo_of_the_first(services: Services, topic: str) -> None:
    contact_id = add_contact(services, JANE)
    (opt_out,) = record(services, no(contact_id))
    (later,) = record(services, no(JANE, topic=topic, occurred_at=minute(1)), now=minute(1))
    assert later.changed is (topic == BLANKET)
    with pytest.raises(NotAllowed, match="newer opt-out"):
        undo(services, opt_out.seq, contact_id)
    assert status(services, contact_id) is Status.UNSUBSCRIBED


def test_an_undo_gives_no_newer_yes_to_hold_against_an_older_no(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    (opt_out,) = record(services, no(contact_id))
    undo(services, opt_out.seq, contact_id)
    (late,) = record(services, no(JANE, origin="import", origin_ref="row-1", occurred_at=minute(-900)), now=minute(9))
    assert late.changed
    assert status(services, contact_id) is Status.UNSUBSCRIBED


def test_after_an_undo_an_untrusted_yes_is_as_weak_as_before(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, yes(contact_id, trusted=False, occurred_at=minute(-2)))
    (opt_out,) = record(services, no(contact_id))
    undo(services, opt_out.seq, contact_id)
    choice = choices(services, contact_id)["offers"]
    assert (choice.status, choice.trusted, choice.at) == (Status.SUBSCRIBED, False, minute(-2))


def test_the_undo_of_a_second_stop_brings_back_what_held_between_the_two(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, no(contact_id, topic=BLANKET))
    record(services, yes(contact_id, occurred_at=minute(1)), now=minute(1))
    (again,) = record(services, no(contact_id, topic=BLANKET, occurred_at=minute(2)), now=minute(2))
    undo(services, again.seq, contact_id)
    blanket, topic = choices(services, contact_id)[BLANKET], choices(services, contact_id)["offers"]
    assert (blanket.status, blanket.at) == (Status.UNSUBSCRIBED, NOON)
    assert (topic.status, topic.at) == (Status.SUBSCRIBED, minute(1))


def test_an_undo_works_once(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    (opt_out,) = record(services, no(contact_id))
    undo(services, opt_out.seq, contact_id)
    with pytest.raises(NotAllowed):
        undo(services, opt_out.seq, contact_id, at=6)
    record(services, no(contact_id, occurred_at=minute(7)), now=minute(7))
    with pytest.raises(NotAllowed):
        undo(services, opt_out.seq, contact_id, at=8)
    assert status(services, contact_id) is Status.UNSUBSCRIBED
    assert count(services, ledger_entry) == 3


def test_an_undo_does_nothing_when_something_newer_counts(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    (opt_out,) = record(services, no(contact_id))
    record(services, yes(contact_id, occurred_at=minute(1)), now=minute(1))
    with pytest.raises(NotAllowed):
        undo(services, opt_out.seq, contact_id)
    record(services, no(contact_id, occurred_at=minute(2)), now=minute(2))
    with pytest.raises(NotAllowed):
        undo(services, opt_out.seq, contact_id)
    assert status(services, contact_id) is Status.UNSUBSCRIBED


def test_the_undo_of_one_topic_does_not_end_an_opt_out_of_everything(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, yes(contact_id, occurred_at=minute(-1)))
    (opt_out,) = record(services, no(contact_id))
    (everything_,) = record(services, no(contact_id, topic=BLANKET, occurred_at=minute(1)), now=minute(1))
    with pytest.raises(NotAllowed):
        undo(services, opt_out.seq, contact_id)
    undo(services, everything_.seq, contact_id)
    undo(services, opt_out.seq, contact_id, at=6)
    assert status(services, contact_id) is Status.SUBSCRIBED


def test_nobody_undoes_somebody_elses_opt_out(services: Services) -> None:
    jane, john = add_contact(services, JANE), add_contact(services, JOHN)
    (opt_out,) = record(services, no(jane))
    with pytest.raises(NotAllowed):
        undo(services, opt_out.seq, john)
    assert status(services, jane) is Status.UNSUBSCRIBED


def test_only_an_opt_out_that_there_is_can_be_undone(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    wish, complaint, repeated = record(
        services, yes(contact_id), suppress(JANE), no(contact_id, occurred_at=minute(-5))
    )
    for seq in (wish.seq, complaint.seq, repeated.seq, 0, 99):
        with pytest.raises(NotAllowed):
            undo(services, seq, contact_id)
    assert count(services, ledger_entry) == 3
    assert suppressions(services, JANE)


# One round trip for each table, whatever the number of acts.


def test_a_thousand_acts_take_as_many_statements_as_three(services: Services) -> None:
    statements: list[str] = []
    listened = services.database.engine

    @event.listens_for(listened, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        statements.append(statement)

    def statements_for(people: range) -> int:
        everybody = [email(f"person-{number}@example.com") for number in people]
        acts = [
            make(one, origin_ref=f"{make.__name__}-{one.value}", evidence={"source": "test"})
            for one in everybody
            for make in (yes, no, suppress)
        ]
        statements.clear()
        assert len(record(services, *acts)) == 3 * len(people)
        return len(statements)

    few = statements_for(range(1))
    assert statements_for(range(1, 335)) == few
    assert statements_for(range(335)) < few
    event.remove(listened, "before_cursor_execute", note)


# Times without a zone.


def test_an_act_at_a_time_without_a_zone_is_refused(services: Services) -> None:
    with pytest.raises(TypeError):
        record(services, no(JANE, occurred_at=NOON.replace(tzinfo=None)))
    assert count(services, ledger_entry) == count(services, contact) == 0


def test_a_receipt_at_a_time_without_a_zone_is_refused_without_showing_values(services: Services) -> None:
    with pytest.raises(StatementError, match="a time without a zone") as refusal:
        record(services, no(JANE, occurred_at=None), now=NOON.replace(tzinfo=None))
    assert "2026" not in str(refusal.value)
    assert count(services, ledger_entry) == count(services, contact) == 0


def test_times_come_back_as_the_same_instant_in_utc(services: Services) -> None:
    from_afar = datetime.fromisoformat("2026-06-01T14:30:00.123456+05:30")
    record(services, no(JANE, occurred_at=from_afar))
    (entry,) = services.database.read(feed.entries_after, 0, 1)
    assert entry.occurred_at == from_afar
    assert entry.occurred_at.tzinfo is UTC


# Pauses and caps: entries like any other, beside the wish.


def pause(who: UUID | Address, until: datetime | None, **more: Any) -> Act:
    return act(Verb.PAUSE, who, until=until, **({"trusted": True} | more))


def cap(who: UUID | Address, per_week: int | None, **more: Any) -> Act:
    return act(Verb.CAP, who, per_week=per_week, **({"trusted": True} | more))


def paces(services: Services, contact_id: UUID) -> dict[Verb, tuple[datetime | None, int | None, int]]:
    found = services.database.read(contact_state.state_of, contact_id).limits
    return {verb: (one.until, one.per_week, one.seq) for (_, _, _, verb), one in found.items()}


def problems(services: Services) -> list[str]:
    return services.database.snapshot(verify.verify, lambda _entries: None).problems


def test_a_pause_and_a_cap_are_chained_and_proven_like_any_entry(services: Services) -> None:
    entries = record(services, no(JANE), pause(JANE, minute(60)), cap(JANE, 2), yes(JOHN))
    assert services.database.read(feed.entries_after, 0, 10) == entries
    report = services.database.snapshot(verify.verify, lambda _entries: None)
    assert report.problems == []
    assert (report.entries, report.preferences, report.limits) == (4, 2, 2)


def test_a_pause_and_a_cap_stand_beside_each_other_and_leave_the_wish_alone(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, no(contact_id))
    entries = record(
        services, pause(contact_id, minute(60)), cap(contact_id, 2), cap(contact_id, 3, topic="product-news")
    )
    assert [(entry.status, entry.changed) for entry in entries] == [(None, True)] * 3
    found = services.database.read(contact_state.state_of, contact_id).limits
    assert {(topic, verb): one.seq for (_, _, topic, verb), one in found.items()} == {
        ("offers", Verb.PAUSE): 2,
        ("offers", Verb.CAP): 3,
        ("product-news", Verb.CAP): 4,
    }
    assert status(services, contact_id) is Status.UNSUBSCRIBED
    assert choices(services, contact_id)["offers"].seq == 1


def test_a_pause_says_whether_it_changed_anything(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    acts = [
        pause(contact_id, None),
        pause(contact_id, minute(60), occurred_at=minute(1)),
        pause(contact_id, minute(60), occurred_at=minute(2)),
        pause(contact_id, minute(90), occurred_at=minute(1)),
        pause(contact_id, None, occurred_at=minute(3)),
    ]
    assert [entry.changed for entry in record(services, *acts, now=minute(9))] == [False, True, False, False, True]


def test_a_pause_of_an_address_that_must_not_be_stored_is_kept_and_changes_nothing(services: Services) -> None:
    record(services, suppress(JANE, SuppressionReason.ERASED))
    services.database.save(lambda save: save.execute(delete(contact)))
    (entry,) = record(services, pause(JANE, minute(60)))
    assert (entry.contact_id, entry.changed) == (None, False)
    assert problems(services) == []


def test_an_undo_neither_heeds_nor_touches_a_pause_or_a_cap(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, yes(contact_id, occurred_at=minute(-1)), cap(contact_id, 2))
    (opt_out,) = record(services, no(contact_id))
    slowed, _ = record(
        services,
        pause(contact_id, minute(60), occurred_at=minute(1)),
        cap(contact_id, 1, occurred_at=minute(1)),
        now=minute(1),
    )
    undo(services, opt_out.seq, contact_id)
    assert status(services, contact_id) is Status.SUBSCRIBED
    assert paces(services, contact_id) == {Verb.PAUSE: (minute(60), None, 4), Verb.CAP: (None, 1, 5)}
    with pytest.raises(NotAllowed):
        undo(services, slowed.seq, contact_id, at=6)
    assert problems(services) == []


def test_a_pace_that_was_altered_is_found(services: Services) -> None:
    record(services, cap(JANE, 2))
    services.database.save(lambda save: save.execute(text("UPDATE pace SET per_week = 7")))
    assert problems(services) == ["pause or cap begun by entry 1 differs from what the ledger adds up to"]


def test_the_end_of_a_pause_a_cap_and_a_notice_are_inside_the_hash(services: Services) -> None:
    record(services, pause(JANE, minute(60)), cap(JANE, 2), yes(JANE, notice="0" * 64))
    rows = services.database.read(lambda read: read.execute(select(ledger_entry).order_by(ledger_entry.c.seq)).all())
    for row, name in zip(rows, ("until", "per_week", "notice"), strict=True):
        entry = entry_of(row)
        without: dict[str, Any] = {name: None}
        assert getattr(entry, name) is not None
        assert chain_hash("0", entry) != chain_hash("0", replace(entry, **without))


# Edits of a page: what was left open for a day never overwrites a newer choice.


def edits(services: Services, *many: Edit, at: int = 10) -> tuple[list[Entry], list[Edit]]:
    return services.database.write(ledger.record_edits, many, fingerprints=services.fingerprints, now=minute(at))


def recorded(services: Services, one: Act, *, seen: int | None = None, asked: int | None = None, at: int = 10) -> bool:
    """Whether this single edit was recorded."""
    asked_at = None if asked is None else minute(asked)
    entries, stale = edits(
        services, Edit(act=replace(one, occurred_at=minute(at)), seen=seen, asked_at=asked_at), at=at
    )
    assert len(entries) + len(stale) == 1
    return not stale


def test_a_yes_from_a_page_that_knew_of_everything_is_recorded(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    (entry,) = record(services, no(contact_id))
    assert recorded(services, yes(contact_id), seen=entry.seq)
    assert status(services, contact_id) is Status.SUBSCRIBED


@pytest.mark.parametrize("topic", ["offers", BLANKET])
def test_a_yes_from_a_page_that_did_not_know_of_a_newer_no_is_not_recorded(services: Services, topic: str) -> None:
    contact_id = add_contact(services, JANE)
    record(services, no(contact_id, topic=topic))
    assert not recorded(services, yes(contact_id), seen=0)
    assert status(services, contact_id) is not Status.SUBSCRIBED
    assert count(services, ledger_entry) == 1


def test_what_was_chosen_about_another_topic_makes_no_page_stale(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(
        services, no(contact_id, topic="product-news"), no(contact_id, channel=Channel.SMS), no(contact_id, brand="b")
    )
    assert recorded(services, yes(contact_id), seen=0)


def test_a_no_is_always_recorded_however_old_its_page_is(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, no(contact_id), yes(contact_id, occurred_at=minute(1)), now=minute(1))
    assert recorded(services, no(contact_id))
    assert status(services, contact_id) is Status.UNSUBSCRIBED


def test_a_confirmed_yes_counts_unless_a_no_came_after_it_was_asked_for(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, no(contact_id))
    assert recorded(services, yes(contact_id), asked=1, at=2)
    record(services, no(contact_id, occurred_at=minute(4)), now=minute(4))
    assert not recorded(services, yes(contact_id), asked=3, at=5)
    assert recorded(services, yes(contact_id), asked=6, at=7)


def test_a_no_said_again_after_a_yes_was_asked_for_is_a_newer_no(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, no(contact_id))
    record(services, no(contact_id, occurred_at=minute(4)), now=minute(4))
    assert not recorded(services, yes(contact_id), asked=3, at=5)
    assert status(services, contact_id) is Status.UNSUBSCRIBED


def test_a_blanket_no_makes_a_yes_that_was_asked_for_before_it_stale(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, no(contact_id, topic=BLANKET, occurred_at=minute(4)), now=minute(4))
    assert not recorded(services, yes(contact_id), asked=3, at=5)
    assert recorded(services, yes(contact_id), asked=6, at=7)


def test_a_newer_yes_does_not_make_a_confirmation_stale(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, yes(contact_id, occurred_at=minute(4)), now=minute(4))
    assert recorded(services, yes(contact_id), asked=3, at=5)


def test_a_pause_and_a_cap_are_stale_by_what_was_said_of_them_and_by_nothing_else(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, cap(contact_id, 2), pause(contact_id, minute(60)), no(contact_id), no(contact_id, topic=BLANKET))
    assert not recorded(services, cap(contact_id, None), seen=0), "it did not know of the cap"
    assert recorded(services, cap(contact_id, None), seen=1), "it knew of the cap, and the rest is not about it"
    assert not recorded(services, pause(contact_id, None), seen=1)
    assert recorded(services, pause(contact_id, None), seen=2)
    assert paces(services, contact_id) == {Verb.CAP: (None, None, 5), Verb.PAUSE: (None, None, 6)}


def test_a_pause_that_was_begun_after_its_end_was_asked_for_goes_on(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, pause(contact_id, minute(60), occurred_at=minute(4)), now=minute(4))
    assert not recorded(services, pause(contact_id, None), asked=3, at=5)
    assert recorded(services, pause(contact_id, None), asked=6, at=7)
    assert recorded(services, pause(contact_id, minute(90)), asked=3, at=8), "what was taken away bars nothing"


def test_of_many_edits_only_the_stale_ones_are_left_out(services: Services) -> None:
    contact_id = add_contact(services, JANE)
    record(services, no(contact_id))
    stale = Edit(act=yes(contact_id, occurred_at=minute(9)), seen=0)
    fine = [
        Edit(act=yes(contact_id, topic="product-news", occurred_at=minute(9)), seen=0),
        Edit(act=cap(contact_id, 1, occurred_at=minute(9))),
        Edit(act=no(contact_id, topic="podcast", occurred_at=minute(9))),
    ]
    entries, left_out = edits(services, fine[0], stale, *fine[1:])
    assert left_out == [stale]
    assert [(entry.verb, entry.topic) for entry in entries] == [(one.act.verb, one.act.topic) for one in fine]
    assert problems(services) == []


def test_an_edit_names_its_contact(services: Services) -> None:
    with pytest.raises(ValueError, match="an edit is of a contact"):
        edits(services, Edit(act=yes(JANE), seen=0))


def test_of_a_no_and_many_yeses_from_older_pages_at_the_same_time_the_no_wins(services: Services) -> None:
    """Each round: a page is read, and while it is saved five times over, a no comes in."""
    contact_id = add_contact(services, JANE)
    for number in range(0, 16, 2):
        record(services, yes(contact_id, occurred_at=minute(number)), now=minute(number))
        at, seen, everybody = minute(number + 1), choices(services, contact_id)["offers"].seq, Barrier(6)
        come_back = Edit(act=yes(contact_id, occurred_at=at), seen=seen)

        def work(edit: Edit, at: datetime = at, everybody: Barrier = everybody) -> None:
            everybody.wait(30)
            services.database.write(ledger.record_edits, [edit], fingerprints=services.fingerprints, now=at)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, [*[come_back] * 3, Edit(act=no(contact_id, occurred_at=at)), *[come_back] * 2]))
        verbs = [entry.verb for entry in services.database.read(feed.entries_after, seen, 10)]
        assert verbs[-1] is Verb.UNSUBSCRIBE, "a yes that did not know of the no was recorded after it"
        assert status(services, contact_id) is Status.UNSUBSCRIBED
    assert problems(services) == []
