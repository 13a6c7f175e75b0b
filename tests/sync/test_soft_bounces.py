"""Soft bounces: counted by day outside the ledger, a suppression after enough of them, and one that ends by itself."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select

from preferences.current import services_of
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.addresses import Fingerprints
from preferences.domain.permission import Reason, may_send
from preferences.domain.suppressions import SOFT_BOUNCE_DAYS, SOFT_BOUNCE_PERIOD, day_of, end_soft_bounces
from preferences.domain.vocabulary import Channel, MessageClass, SuppressionReason, Verb
from preferences.importing.export import write_csv
from preferences.ledger import record as ledger
from preferences.ledger.verify import verify
from preferences.sending.scrub.run import Files, scrub
from preferences.services import Services
from preferences.store import contact_state, feed
from preferences.store.decision_facts import facts_for
from preferences.store.soft_bounces import forget_old
from preferences.store.tables import soft_bounce
from preferences.sync.inbound import count_soft_bounces, end_suppressions
from preferences.sync.periodic import Periodic
from preferences.sync.plan import required
from preferences.sync.worker import HOUR
from tests.support import email, message_about

JANE = email("jane.doe@example.com")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def recovery_of(services: Services) -> Periodic:
    """The worker's hourly look for suppressions that have ended."""
    return Periodic(HOUR, lambda now: end_suppressions(services.database, services.fingerprints, now))


def bounce(services: Services, *at: datetime, kind: EventKind = EventKind.SOFT_BOUNCE) -> None:
    """What a provider reports, each on its day."""
    for moment in at:
        with time_machine.travel(moment, tick=False):
            event = ProviderEvent(kind=kind, address=JANE, event_id=secrets.token_hex(4), occurred_at=moment)
            count_soft_bounces(services, "shop", [event])


def enough(first: datetime = NOON) -> list[datetime]:
    return [first + number * DAY for number in range(SOFT_BOUNCE_DAYS)]


def reason(services: Services, message_class: MessageClass = MessageClass.MARKETING) -> Reason:
    topic = services.catalog.get().topics["product-news" if message_class is MessageClass.MARKETING else "receipts"]
    facts = services.database.read(
        facts_for, [JANE], channel=Channel.EMAIL, about=topic, fingerprints=services.fingerprints, now=NOON
    )
    return may_send(message_class, facts[JANE]).reason


def recover(services: Services, at: datetime) -> None:
    with time_machine.travel(at, tick=False):
        recovery = recovery_of(services)
        while recovery():
            pass


def entries(services: Services) -> list[tuple[Verb, SuppressionReason | None]]:
    return [(entry.verb, entry.reason) for entry in services.database.read(feed.entries_after, 0, 100)]


def test_enough_days_suppress_marketing_and_nothing_else(services: Services) -> None:
    *before, last = enough()
    bounce(services, *before)
    assert reason(services) == Reason.OK
    bounce(services, last)
    assert reason(services) == Reason.SOFT_BOUNCES
    assert reason(services, MessageClass.TRANSACTIONAL) == Reason.OK


def test_no_single_soft_bounce_enters_the_ledger(services: Services) -> None:
    bounce(services, *enough())
    assert entries(services) == [(Verb.SUPPRESS, SuppressionReason.SOFT_BOUNCES)]
    assert services.database.snapshot(verify, lambda _rows: None).problems == []


def test_many_on_one_day_count_once(services: Services) -> None:
    bounce(services, *[NOON + timedelta(minutes=number) for number in range(SOFT_BOUNCE_DAYS * 3)])
    assert reason(services) == Reason.OK


def test_days_that_lie_too_far_apart_do_not_add_up(services: Services) -> None:
    bounce(services, *[NOON + 9 * number * DAY for number in range(SOFT_BOUNCE_DAYS * 2)])
    assert reason(services) == Reason.OK


@pytest.mark.parametrize("kind", [EventKind.BLOCK, EventKind.DEFERRED, EventKind.SEND_SUPPRESSED])
def test_what_says_nothing_about_the_mailbox_is_not_counted(sqlite_app: Flask, kind: EventKind) -> None:
    bounce(services_of(sqlite_app), *enough(), kind=kind)
    assert reason(services_of(sqlite_app)) == Reason.OK


def test_it_ends_by_itself_when_nothing_has_come_back_for_long(services: Services) -> None:
    bounce(services, *enough())
    since = enough()[-1]
    recover(services, since + SOFT_BOUNCE_PERIOD - DAY)
    assert reason(services) == Reason.SOFT_BOUNCES
    recover(services, since + SOFT_BOUNCE_PERIOD + DAY)
    assert reason(services) == Reason.OK
    assert entries(services)[-1] == (Verb.LIFT, SuppressionReason.SOFT_BOUNCES)
    bounce(services, since + SOFT_BOUNCE_PERIOD + 2 * DAY)
    assert reason(services) == Reason.OK, "it begins anew"
    bounce(services, *enough(since + SOFT_BOUNCE_PERIOD + 2 * DAY))
    assert reason(services) == Reason.SOFT_BOUNCES


def test_it_lasts_while_mail_comes_back(services: Services) -> None:
    bounce(services, *enough(), enough()[-1] + 20 * DAY)
    recover(services, enough()[-1] + SOFT_BOUNCE_PERIOD + DAY)
    assert reason(services) == Reason.SOFT_BOUNCES
    recover(services, enough()[-1] + SOFT_BOUNCE_PERIOD + 22 * DAY)
    assert reason(services) == Reason.OK


def test_two_workers_end_it_once(services: Services) -> None:
    bounce(services, *enough())
    for _ in range(2):
        recover(services, enough()[-1] + SOFT_BOUNCE_PERIOD + DAY)
    assert len(entries(services)) == 2


def test_lifted_by_hand_it_needs_as_many_days_again(app: Flask, services: Services) -> None:
    bounce(services, *enough())
    with time_machine.travel(enough()[-1] + timedelta(hours=1), tick=False):
        arguments = ["unsuppress", JANE.value, "--reason", "soft_bounces", "--because", "She emptied it."]
        assert app.test_cli_runner().invoke(args=arguments).exit_code == 0
    assert reason(services) == Reason.OK
    bounce(services, *enough(enough()[-1] + DAY)[:-1])
    assert reason(services) == Reason.OK
    bounce(services, enough()[-1] + SOFT_BOUNCE_DAYS * DAY)
    assert reason(services) == Reason.SOFT_BOUNCES


def test_a_scrub_removes_it_and_an_export_tells_it(services: Services, tmp_path: Path) -> None:
    bounce(services, *enough())
    source = tmp_path / "list.csv"
    source.write_text(f"email\n{JANE.value}\n")
    files = Files(source=source, kept=tmp_path / "kept", removed=tmp_path / "removed")
    scrub(services, files, message_about(services, "product-news"), progress=lambda _: None)
    assert JANE.value not in (tmp_path / "kept").read_text()
    assert "soft_bounces" in (tmp_path / "removed").read_text()
    services.database.snapshot(write_csv, tmp_path / "export.csv", progress=lambda _: None)
    assert "soft_bounces" in (tmp_path / "export.csv").read_text()


def test_no_platform_is_told(services: Services) -> None:
    bounce(services, *enough())
    (contact_id,) = services.database.read(feed.opted_out_contacts, None, 10)
    (state,) = services.database.read(contact_state.address_states, [contact_id])
    assert required(state, {"*": "all", "product-news": "news"}, "default") == []


def test_the_days_are_forgotten_after_a_month(services: Services) -> None:
    bounce(services, *enough())
    services.database.save(forget_old, enough()[-1] + SOFT_BOUNCE_PERIOD + DAY)
    assert services.database.read(lambda read: read.execute(select(soft_bounce)).all()) == []


@pytest.mark.parametrize(
    ("occurred_at", "day"),
    [
        (None, "2026-06-01"),
        (NOON + DAY, "2026-06-01"),
        (NOON - DAY, "2026-05-31"),
        (NOON - SOFT_BOUNCE_PERIOD - DAY, None),
        (datetime(1, 1, 1, tzinfo=UTC), None),
    ],
)
def test_a_soft_bounce_counts_on_its_own_day(occurred_at: datetime | None, day: str | None) -> None:
    assert day_of(occurred_at, NOON) == day


def test_recovery_looks_once_an_hour(sqlite_app: Flask) -> None:
    recovery = recovery_of(services_of(sqlite_app))
    with time_machine.travel(NOON, tick=False):
        recovery()
    bounce(services_of(sqlite_app), *enough(NOON - 60 * DAY))
    with time_machine.travel(NOON + HOUR / 2, tick=False):
        assert recovery() is False
    assert reason(services_of(sqlite_app)) == Reason.SOFT_BOUNCES
    with time_machine.travel(NOON + HOUR, tick=False):
        assert recovery() is False
    assert reason(services_of(sqlite_app)) == Reason.OK


def test_recovery_goes_on_at_once_only_while_there_may_be_more(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preferences.store.soft_bounces.MAX_ENDED", 1)
    bounce(services, *enough())
    recovery = recovery_of(services)
    with time_machine.travel(enough()[-1] + SOFT_BOUNCE_PERIOD + DAY, tick=False):
        assert [recovery(), recovery()] == [True, False]


def test_what_does_not_end_is_not_tried_again_at_once(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preferences.store.soft_bounces.MAX_ENDED", 1)
    bounce(services, *enough())
    (suppressed,) = services.database.read(feed.entries_after, 0, 100)
    later = enough()[-1] + SOFT_BOUNCE_PERIOD + DAY
    # An entry that bears the reference of the end, so that it counts as told.
    other = end_soft_bounces(email("john@example.com"), suppressed.seq, now=NOON)
    services.database.write(ledger.record, [other], fingerprints=services.fingerprints, now=NOON)
    recovery = recovery_of(services)
    with time_machine.travel(later, tick=False):
        assert [recovery(), recovery()] == [False, False]


def test_after_a_change_of_keys_a_bounce_of_two_days_ago_still_counts(services: Services) -> None:
    bounce(services, *enough())
    end = enough()[-1] + SOFT_BOUNCE_PERIOD
    newer = Fingerprints([b"fingerprint-key-of-tests", b"fingerprint-key-of-tests-02"])
    assert newer.candidates(JANE)[-1] == services.fingerprints.of(JANE)
    rotated = replace(services, fingerprints=newer)
    bounce(rotated, end - DAY)
    recover(rotated, end + DAY)
    assert reason(rotated) == Reason.SOFT_BOUNCES
    recover(rotated, end + SOFT_BOUNCE_PERIOD + DAY)
    assert reason(rotated) == Reason.OK
