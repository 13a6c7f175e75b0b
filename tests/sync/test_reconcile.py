"""The comparison of a provider's suppressions with ours, and its repair."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from preferences.domain.acts import (
    EventKind,
)
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import TryLater
from preferences.domain.vocabulary import (
    BLANKET,
    Actor,
    Status,
    SuppressionReason,
    Verb,
)
from preferences.store import cursors
from preferences.sync.reconcile import Drift, repair
from tests.connectors.fake import FakeProvider, Fault
from tests.processes import contents
from tests.support import add_contact, email
from tests.sync.desk import (
    BEN,
    EVERYTHING,
    JANE,
    MAILER,
    NEWS,
    NOW,
    OFFERS,
    ROSA,
    STOPPED,
    WITHOUT_BLANKET,
    Desk,
    a_row,
    in_blocks,
    stop_of,
)


class TestReconcile:
    @pytest.mark.parametrize(("list_ref", "topic"), [(NEWS, "product-news"), (OFFERS, "offers"), (EVERYTHING, BLANKET)])
    def test_a_no_that_is_found_there_becomes_an_entry_here(self, desk: Desk, list_ref: str, topic: str) -> None:
        desk.provider.add(a_row(JANE, list_ref))
        assert desk.reconcile().count == 1
        (entry,) = desk.entries()
        assert (entry.topic, entry.status, entry.origin) == (topic, Status.UNSUBSCRIBED, "connector.mailer")
        assert (entry.occurred_at, entry.trusted, entry.actor) == (NOW, False, Actor.SYSTEM)
        assert desk.status(JANE, topic) is Status.UNSUBSCRIBED

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            (EventKind.HARD_BOUNCE, SuppressionReason.HARD_BOUNCE),
            (EventKind.COMPLAINT, SuppressionReason.COMPLAINT),
            (EventKind.INVALID, SuppressionReason.INVALID),
        ],
    )
    @pytest.mark.parametrize("list_ref", [EVERYTHING, OFFERS, "a list of theirs"])
    def test_a_listed_bounce_or_complaint_is_about_the_address_on_any_list(
        self, desk: Desk, list_ref: str, kind: EventKind, reason: SuppressionReason
    ) -> None:
        desk.provider.add(a_row(JANE, list_ref, kind))
        desk.reconcile()
        assert desk.reasons(JANE) == {reason}
        assert desk.status(JANE) is None
        assert ("jane@example.com", EVERYTHING) in desk.provider.holds
        assert desk.reconcile().count == 0
        assert len(desk.entries()) == 1

    def test_a_bounce_on_one_list_counts_on_each_without_a_blanket_list(self, desk: Desk) -> None:
        narrow = desk.connect(FakeProvider(), WITHOUT_BLANKET, name="narrow")
        narrow.provider.add(a_row(JANE, OFFERS, EventKind.HARD_BOUNCE))
        assert [desk.reconcile(narrow).count, desk.reconcile(narrow).count] == [1, 0]
        assert narrow.provider.said == [("jane@example.com", NEWS, STOPPED)]

    def test_a_no_that_is_missing_there_is_told(self, desk: Desk) -> None:
        desk.stop(JANE)
        desk.stop(ROSA, "offers")
        desk.passes()
        desk.provider.rows.clear()
        assert desk.reconcile().count == 2
        assert desk.provider.holds == {("jane@example.com", EVERYTHING), ("rosa@example.com", OFFERS)}

    def test_a_no_on_a_list_that_maps_to_nothing_is_counted_and_left_alone(self, desk: Desk) -> None:
        desk.provider.add(a_row(JANE, "a list of theirs"))
        desk.provider.add(a_row(ROSA, "another"))
        drift = desk.reconcile()
        assert (drift.unmapped, drift.count) == (2, 0)
        assert desk.entries() == []

    def test_looking_changes_nothing_on_either_side(self, desk: Desk, database_url: str) -> None:
        desk.stop(JANE)
        desk.provider.add(a_row(ROSA, OFFERS))
        desk.provider.add(a_row(BEN, "a list of theirs"))
        here, there = contents(database_url), dict(desk.provider.rows)
        drift = desk.compare()
        assert [push.address for push in drift.missing_there] == [JANE]
        assert [row.address for row in drift.missing_here] == [ROSA]
        assert (drift.count, drift.unmapped) == (2, 1)
        assert (contents(database_url), desk.provider.rows, desk.provider.batches) == (here, there, [])

    def test_after_two_both_sides_agree_and_nothing_goes_round_in_circles(self, desk: Desk) -> None:
        crm = desk.connect(FakeProvider(), name="crm")
        desk.provider.add(a_row(JANE, OFFERS))
        desk.provider.add(a_row(BEN, EVERYTHING, EventKind.COMPLAINT))
        crm.provider.add(a_row(JANE, OFFERS, at=NOW - timedelta(days=1)))
        desk.stop(ROSA)
        for connector in (desk.connector, crm) * 2:
            desk.reconcile(connector)
            desk.passes()
            desk.passes(crm)
        everything = {("jane@example.com", OFFERS), ("ben@example.com", EVERYTHING), ("rosa@example.com", EVERYTHING)}
        assert desk.provider.holds == crm.provider.holds == everything
        entries, told = len(desk.entries()), (len(desk.provider.told), len(crm.provider.told))

        assert [desk.reconcile(connector).count for connector in (desk.connector, crm)] == [0, 0]

        assert (len(desk.entries()), (len(desk.provider.told), len(crm.provider.told))) == (entries, told)
        assert [push.address for push in desk.provider.told] == [ROSA]

    def test_the_number_is_kept_and_the_next_one_is_a_day_away(self, desk: Desk) -> None:
        assert desk.cursor().drift is None
        desk.stop(JANE)
        desk.passes()
        desk.provider.rows.clear()
        desk.provider.add(a_row(ROSA, OFFERS))
        now = datetime.now(UTC)
        desk.reconcile()
        cursor = desk.cursor()
        assert cursor.drift == 0, "what is left after the repair"
        assert cursor.compared_at is not None
        assert cursor.reconcile_due_at is not None
        assert timedelta(hours=23) < cursor.reconcile_due_at - now < timedelta(hours=25)

    def test_an_old_no_there_does_not_undo_a_newer_yes_and_is_recorded_once(self, desk: Desk) -> None:
        desk.choose(Verb.SUBSCRIBE, add_contact(desk.services, JANE), "offers")
        desk.passes()
        desk.provider.add(a_row(JANE, OFFERS, at=datetime.now(UTC) - timedelta(days=1)))
        for _ in range(3):
            assert desk.reconcile().count == 1
            assert desk.cursor().drift == 1, "it still stands there"
        assert desk.status(JANE, "offers") is Status.SUBSCRIBED
        assert [entry.changed for entry in desk.entries()] == [True, False]

    def test_an_old_no_there_counts_where_an_undo_has_taken_a_newer_one_back(self, desk: Desk) -> None:
        desk.undo(desk.stop(JANE, "offers"))
        desk.passes()
        desk.provider.add(a_row(JANE, OFFERS, at=datetime.now(UTC) - timedelta(days=1)))
        desk.reconcile()
        assert desk.status(JANE, "offers") is Status.UNSUBSCRIBED

    def test_our_own_push_that_is_found_there_after_the_undo_stops_nothing(self, desk: Desk) -> None:
        stop = desk.stop(JANE, "offers")
        desk.passes()
        desk.connector.can_lift = False
        desk.undo(stop)
        assert [desk.reconcile().count for _ in range(2)] == [1, 1]
        assert desk.status(JANE, "offers") is None
        assert [entry.changed for entry in desk.entries()] == [True, True, False]

    def test_a_newer_no_there_undoes_an_older_yes(self, desk: Desk) -> None:
        desk.undo(desk.stop(JANE, "offers"))
        desk.passes()
        desk.provider.add(a_row(JANE, OFFERS, at=datetime.now(UTC)))
        desk.reconcile()
        assert desk.status(JANE, "offers") is Status.UNSUBSCRIBED

    def test_a_no_there_that_does_not_say_when_counts_from_now(self, desk: Desk) -> None:
        desk.provider.add(a_row(JANE, OFFERS, at=None))
        assert [desk.reconcile().count, desk.reconcile().count] == [1, 0]
        (entry,) = desk.entries()
        assert entry.occurred_at is None
        assert desk.status(JANE, "offers") is Status.UNSUBSCRIBED

    def test_our_own_opt_out_on_a_list_without_lifts_ends_no_opt_in(self, desk: Desk) -> None:
        """It does not say since when it holds one, so what was told before the return looks as if it were new."""
        deaf = desk.connect(FakeProvider(), name="deaf", can_lift=False)
        entry = desk.stop(JANE, "offers")
        desk.passes(deaf)
        deaf.provider.add(a_row(JANE, OFFERS, at=None))
        desk.undo(entry)
        deaf.provider.add(a_row(ROSA, OFFERS, at=None))
        for _ in range(2):
            desk.passes(deaf)
            desk.reconcile(deaf)
        assert desk.status(JANE, "offers") is not Status.UNSUBSCRIBED
        assert desk.status(ROSA, "offers") is Status.UNSUBSCRIBED
        assert deaf.provider.returns == []

    def test_what_names_a_row_in_the_ledger_tells_nothing_without_our_keys(self, desk: Desk) -> None:
        drift = Drift(missing_here=[a_row(JANE, OFFERS)])
        for fingerprints in (desk.services.fingerprints, Fingerprints([b"somebody else's key"])):
            repair(
                desk.database,
                desk.connector,
                drift,
                owner="reconcile",
                fingerprints=fingerprints,
            )
        ours, theirs = (entry.origin_ref for entry in desk.entries())
        assert ours != theirs

    def test_catches_up_first_so_that_what_is_on_its_way_is_no_drift(self, desk: Desk) -> None:
        desk.stop(JANE)
        assert desk.reconcile().count == 0
        assert desk.provider.holds == {("jane@example.com", EVERYTHING)}

    @pytest.mark.parametrize("fault", [Fault.DOWN, Fault.HALF, Fault.BUSY])
    def test_a_list_that_cannot_be_read_to_its_end_mends_nothing(self, desk: Desk, fault: Fault) -> None:
        desk.stop(JANE)
        desk.passes()
        desk.provider.add(a_row(ROSA, OFFERS))
        desk.provider.list_faults.append(fault)
        told, entries = len(desk.provider.told), len(desk.entries())
        with pytest.raises(TryLater):
            desk.reconcile()
        assert (len(desk.provider.told), len(desk.entries())) == (told, entries)
        assert desk.cursor().drift is None

    @pytest.mark.parametrize("fault", [None, Fault.DOWN])
    def test_leaves_nobody_waiting_for_its_lease(self, desk: Desk, fault: Fault | None) -> None:
        desk.stop(JANE)
        desk.passes()
        desk.provider.rows.clear()
        desk.provider.faults.extend([fault] if fault else [])
        with suppress(TryLater):
            desk.reconcile()
        assert desk.database.save(cursors.claim, MAILER, "worker-2", datetime.now(UTC)) is not None

    def test_does_not_push_while_another_worker_does(self, desk: Desk) -> None:
        desk.stop(JANE)
        desk.passes()
        desk.provider.rows.clear()
        assert desk.database.save(cursors.claim, MAILER, "worker-2", datetime.now(UTC)) is not None
        with pytest.raises(TryLater, match="another worker"):
            desk.reconcile()
        assert len(desk.provider.batches) == 1

    def test_everybody_of_a_large_list_is_found_on_both_sides(self, desk: Desk) -> None:
        people = [email(f"person{number}@example.com") for number in range(1_203)]
        for block in in_blocks(people[:602], 301):
            desk.record(*(stop_of(address) for address in block))
        for address in people[602:]:
            desk.provider.add(a_row(address, EVERYTHING))
        drift = desk.compare()
        assert (len(drift.missing_there), len(drift.missing_here)) == (602, 601)
        desk.reconcile()
        assert desk.provider.holds == {(address.value, EVERYTHING) for address in people}
        assert desk.reconcile().count == 0
