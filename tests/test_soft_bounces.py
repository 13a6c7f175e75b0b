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

from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.addresses import Fingerprints
from preferences.domain.permission import Reason, may_send
from preferences.domain.suppressions import SOFT_BOUNCE_DAYS, SOFT_BOUNCE_PERIOD, day_of, end_soft_bounces
from preferences.domain.terms import Channel, MessageClass, SuppressionReason, Verb
from preferences.exporting import write_csv
from preferences.scrubbing import question
from preferences.scrubbing.run import Files, scrub
from preferences.site import Site, site_of
from preferences.soft_bounces import EVERY, Recovery, count
from preferences.store import ledger, queries
from preferences.store.facts import facts_for
from preferences.store.proof import verify
from preferences.store.soft_bounces import forget_old
from preferences.store.tables import soft_bounce
from preferences.sync.pushes import wanted
from tests.support import email

JANE = email("jane.doe@example.com")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def bounce(site: Site, *at: datetime, kind: EventKind = EventKind.SOFT_BOUNCE) -> None:
    """What a provider reports, each on its day."""
    for moment in at:
        with time_machine.travel(moment, tick=False):
            event = ProviderEvent(kind=kind, address=JANE, event_id=secrets.token_hex(4), occurred_at=moment)
            count(site, "shop", [event])


def enough(first: datetime = NOON) -> list[datetime]:
    return [first + number * DAY for number in range(SOFT_BOUNCE_DAYS)]


def reason(site: Site, message_class: MessageClass = MessageClass.MARKETING) -> Reason:
    topic = site.catalog.get().topics["product-news" if message_class is MessageClass.MARKETING else "receipts"]
    facts = site.database.read(
        facts_for, [JANE], channel=Channel.EMAIL, about=topic, fingerprints=site.fingerprints, now=NOON
    )
    return may_send(message_class, facts[JANE]).reason


def recover(site: Site, at: datetime) -> None:
    with time_machine.travel(at, tick=False):
        recovery = Recovery(site.database, site.fingerprints)
        while recovery():
            pass


def entries(site: Site) -> list[tuple[Verb, SuppressionReason | None]]:
    return [(entry.verb, entry.reason) for entry in site.database.read(queries.entries_after, 0, 100)]


def test_enough_days_suppress_marketing_and_nothing_else(site: Site) -> None:
    *before, last = enough()
    bounce(site, *before)
    assert reason(site) == Reason.OK
    bounce(site, last)
    assert reason(site) == Reason.SOFT_BOUNCES
    assert reason(site, MessageClass.TRANSACTIONAL) == Reason.OK


def test_no_single_soft_bounce_enters_the_ledger(site: Site) -> None:
    bounce(site, *enough())
    assert entries(site) == [(Verb.SUPPRESS, SuppressionReason.SOFT_BOUNCES)]
    assert site.database.snapshot(verify, lambda _rows: None).problems == []


def test_many_on_one_day_count_once(site: Site) -> None:
    bounce(site, *[NOON + timedelta(minutes=number) for number in range(SOFT_BOUNCE_DAYS * 3)])
    assert reason(site) == Reason.OK


def test_days_that_lie_too_far_apart_do_not_add_up(site: Site) -> None:
    bounce(site, *[NOON + 9 * number * DAY for number in range(SOFT_BOUNCE_DAYS * 2)])
    assert reason(site) == Reason.OK


@pytest.mark.parametrize("kind", [EventKind.BLOCK, EventKind.DEFERRED, EventKind.SEND_SUPPRESSED])
def test_what_says_nothing_about_the_mailbox_is_not_counted(sqlite_app: Flask, kind: EventKind) -> None:
    bounce(site_of(sqlite_app), *enough(), kind=kind)
    assert reason(site_of(sqlite_app)) == Reason.OK


def test_it_ends_by_itself_when_nothing_has_come_back_for_long(site: Site) -> None:
    bounce(site, *enough())
    since = enough()[-1]
    recover(site, since + SOFT_BOUNCE_PERIOD - DAY)
    assert reason(site) == Reason.SOFT_BOUNCES
    recover(site, since + SOFT_BOUNCE_PERIOD + DAY)
    assert reason(site) == Reason.OK
    assert entries(site)[-1] == (Verb.LIFT, SuppressionReason.SOFT_BOUNCES)
    bounce(site, since + SOFT_BOUNCE_PERIOD + 2 * DAY)
    assert reason(site) == Reason.OK, "it begins anew"
    bounce(site, *enough(since + SOFT_BOUNCE_PERIOD + 2 * DAY))
    assert reason(site) == Reason.SOFT_BOUNCES


def test_it_lasts_while_mail_comes_back(site: Site) -> None:
    bounce(site, *enough(), enough()[-1] + 20 * DAY)
    recover(site, enough()[-1] + SOFT_BOUNCE_PERIOD + DAY)
    assert reason(site) == Reason.SOFT_BOUNCES
    recover(site, enough()[-1] + SOFT_BOUNCE_PERIOD + 22 * DAY)
    assert reason(site) == Reason.OK


def test_two_workers_end_it_once(site: Site) -> None:
    bounce(site, *enough())
    for _ in range(2):
        recover(site, enough()[-1] + SOFT_BOUNCE_PERIOD + DAY)
    assert len(entries(site)) == 2


def test_lifted_by_hand_it_needs_as_many_days_again(app: Flask, site: Site) -> None:
    bounce(site, *enough())
    with time_machine.travel(enough()[-1] + timedelta(hours=1), tick=False):
        arguments = ["unsuppress", JANE.value, "--reason", "soft_bounces", "--because", "She emptied it."]
        assert app.test_cli_runner().invoke(args=arguments).exit_code == 0
    assert reason(site) == Reason.OK
    bounce(site, *enough(enough()[-1] + DAY)[:-1])
    assert reason(site) == Reason.OK
    bounce(site, enough()[-1] + SOFT_BOUNCE_DAYS * DAY)
    assert reason(site) == Reason.SOFT_BOUNCES


def test_a_scrub_removes_it_and_an_export_tells_it(site: Site, tmp_path: Path) -> None:
    bounce(site, *enough())
    source = tmp_path / "list.csv"
    source.write_text(f"email\n{JANE.value}\n")
    files = Files(source=source, kept=tmp_path / "kept", removed=tmp_path / "removed")
    about = question(site.catalog.get(), "product-news", Channel.EMAIL, now=NOON)
    scrub(files, about, database=site.database, fingerprints=site.fingerprints, progress=lambda _: None)
    assert JANE.value not in (tmp_path / "kept").read_text()
    assert "soft_bounces" in (tmp_path / "removed").read_text()
    site.database.snapshot(write_csv, tmp_path / "export.csv", progress=lambda _: None)
    assert "soft_bounces" in (tmp_path / "export.csv").read_text()


def test_no_platform_is_told(site: Site) -> None:
    bounce(site, *enough())
    (contact_id,) = site.database.read(queries.opted_out_contacts, None, 10)
    (state,) = site.database.read(queries.states_of, [contact_id])
    assert wanted(state, {"*": "all", "product-news": "news"}, "default") == []


def test_the_days_are_forgotten_after_a_month(site: Site) -> None:
    bounce(site, *enough())
    site.database.save(forget_old, enough()[-1] + SOFT_BOUNCE_PERIOD + DAY)
    assert site.database.read(lambda connection: connection.execute(select(soft_bounce)).all()) == []


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
    recovery = Recovery(site_of(sqlite_app).database, site_of(sqlite_app).fingerprints)
    with time_machine.travel(NOON, tick=False):
        recovery()
    bounce(site_of(sqlite_app), *enough(NOON - 60 * DAY))
    with time_machine.travel(NOON + EVERY / 2, tick=False):
        assert recovery() is False
    assert reason(site_of(sqlite_app)) == Reason.SOFT_BOUNCES
    with time_machine.travel(NOON + EVERY, tick=False):
        assert recovery() is False
    assert reason(site_of(sqlite_app)) == Reason.OK


def test_recovery_goes_on_at_once_only_while_there_may_be_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preferences.store.soft_bounces.MOST_ENDED", 1)
    bounce(site, *enough())
    recovery = Recovery(site.database, site.fingerprints)
    with time_machine.travel(enough()[-1] + SOFT_BOUNCE_PERIOD + DAY, tick=False):
        assert [recovery(), recovery()] == [True, False]


def test_what_does_not_end_is_not_tried_again_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preferences.store.soft_bounces.MOST_ENDED", 1)
    bounce(site, *enough())
    (suppressed,) = site.database.read(queries.entries_after, 0, 100)
    later = enough()[-1] + SOFT_BOUNCE_PERIOD + DAY
    # An entry that bears the reference of the end, so that it counts as told.
    other = end_soft_bounces(email("john@example.com"), suppressed.seq, now=NOON)
    site.database.write(ledger.record, [other], fingerprints=site.fingerprints, now=NOON)
    recovery = Recovery(site.database, site.fingerprints)
    with time_machine.travel(later, tick=False):
        assert [recovery(), recovery()] == [False, False]


def test_after_a_change_of_keys_a_bounce_of_two_days_ago_still_counts(site: Site) -> None:
    bounce(site, *enough())
    end = enough()[-1] + SOFT_BOUNCE_PERIOD
    newer = Fingerprints([b"fingerprint-key-of-tests", b"fingerprint-key-of-tests-02"])
    assert newer.candidates(JANE)[-1] == site.fingerprints.of(JANE)
    rotated = replace(site, fingerprints=newer)
    bounce(rotated, end - DAY)
    recover(rotated, end + DAY)
    assert reason(rotated) == Reason.SOFT_BOUNCES
    recover(rotated, end + SOFT_BOUNCE_PERIOD + DAY)
    assert reason(rotated) == Reason.OK
