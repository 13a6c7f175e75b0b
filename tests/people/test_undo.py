"""An undo takes back its own press, and nothing that anybody else did."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from werkzeug.test import TestResponse

from preferences.domain.acts import EventKind, ProviderEvent, provider_event
from preferences.domain.vocabulary import BLANKET, Status, Verb
from preferences.ledger.verify import verify
from preferences.tokens import UndoToken
from tests.doors import ADDRESS, DATED_DOORS, OPT_OUT_DOORS, Door, Doors, open_app
from tests.support import close, email, link_for

every_door = pytest.mark.parametrize("door", OPT_OUT_DOORS.values(), ids=OPT_OUT_DOORS)
every_dated_door = pytest.mark.parametrize("door", DATED_DOORS.values(), ids=DATED_DOORS)


@pytest.fixture
def doors(database_url: str, tmp_path: Path) -> Iterator[Doors]:
    """Every door, on both engines."""
    app = open_app(database_url, tmp_path)
    doors = Doors(app, tmp_path)
    yield doors
    problems = doors.services.database.snapshot(verify, lambda _rows: None).problems
    close(app)
    assert problems == []


def undo_in(page: TestResponse) -> str | None:
    found = re.search(r'name="undo" value="([^"]+)"', page.text)
    return found[1] if found else None


def press_in(page: TestResponse) -> str:
    """The random field of a page's form, as a browser sends it back."""
    found = re.search(r'name="press" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


def opened(doors: Doors) -> TestResponse:
    return doors.client.get(link_for(doors.services, doors.contact_id))


# Whose press it was.


@every_door
def test_a_link_offers_no_undo_of_another_opt_out(doors: Doors, door: Door) -> None:
    press = press_in(opened(doors))
    door(doors)
    answer = doors.page(press=press)
    assert undo_in(answer) is None
    assert doors.is_stopped


@every_door
def test_an_undo_is_refused_once_anybody_has_opted_out_again(doors: Doors, door: Door) -> None:
    token = undo_in(doors.page())
    assert token is not None
    door(doors)
    assert doors.undo(token) == 409
    assert doors.is_stopped


@every_door
def test_the_undo_of_a_topic_is_refused_once_everything_was_stopped(doors: Doors, door: Door) -> None:
    token = undo_in(doors.page("product-news"))
    assert token is not None
    door(doors)
    assert doors.undo(token) == 409
    assert doors.is_stopped


def test_a_doubled_submission_finds_its_own_entry_and_its_undo(doors: Doors) -> None:
    press = press_in(opened(doors))
    doors.page(press=press)
    second = doors.page(press=press)
    assert len(doors.entries) == 1
    token = undo_in(second)
    assert token is not None
    assert doors.undo(token) == 200
    assert not doors.is_stopped


@pytest.mark.parametrize("press", ["", "short", "x" * 3_000, "<script>alert(1)</script>", "\x00" * 20, "é" * 30])
def test_junk_in_the_submission_field_stops_the_mail_all_the_same(doors: Doors, press: str) -> None:
    first, second = doors.page(press=press), doors.page(press=press)
    assert [entry.origin_ref for entry in doors.entries] == [None, None]
    assert undo_in(first) is not None
    assert undo_in(second) is None, "nothing says that it was the same press"
    assert doors.is_stopped


def test_every_page_has_a_submission_of_its_own(doors: Doors) -> None:
    pages = [opened(doors), opened(doors)]
    pages.append(doors.page("product-news", press=press_in(pages[0])))
    assert len({press_in(page) for page in pages}) == 3


def test_one_submission_stops_one_thing_of_one_person_and_no_other(doors: Doors) -> None:
    press = press_in(opened(doors))
    doors.page("product-news", press=press)
    doors.page(press=press)
    assert [entry.topic for entry in doors.entries] == ["product-news", BLANKET]
    assert len({entry.origin_ref for entry in doors.entries}) == 2


def test_a_page_that_is_gone_back_to_after_an_undo_stops_the_mail_again(doors: Doors) -> None:
    press = press_in(opened(doors))
    for _ in range(3):
        token = undo_in(doors.page(press=press))
        assert doors.is_stopped
        assert token is not None
        assert doors.undo(token) == 200
        assert not doors.is_stopped


def test_an_old_submission_sent_again_undoes_nothing_newer(doors: Doors) -> None:
    press = press_in(opened(doors))
    token = undo_in(doors.page(press=press))
    assert token is not None
    assert doors.undo(token) == 200
    doors.one_click()
    again = doors.page(press=press)
    assert undo_in(again) is None
    assert doors.undo(token) == 409
    assert doors.is_stopped


def test_a_submission_of_yesterday_sent_again_offers_no_undo(doors: Doors) -> None:
    now = datetime.now(UTC)
    press = press_in(opened(doors))
    with time_machine.travel(now - timedelta(days=1)):
        doors.page(press=press)
    assert undo_in(doors.page(press=press)) is None


def test_a_forged_seq_in_a_signed_undo_of_ones_own_takes_nothing_back(doors: Doors) -> None:
    doors.one_click()
    for seq in (0, 2, 2**40):
        token = doors.services.links.sign_undo(UndoToken(doors.contact_id, seq, datetime.now(UTC)))
        assert doors.undo(token) == 409
    assert doors.is_stopped


# Echoes.


def test_the_echo_of_our_own_push_does_not_stand_in_the_way_of_the_undo(doors: Doors) -> None:
    token = undo_in(doors.page("product-news"))
    assert token is not None
    echo = ProviderEvent(
        kind=EventKind.SUPPRESSION_ADDED,
        address=email(ADDRESS),
        event_id="echo-1",
        occurred_at=datetime.now(UTC),
        brand="default",
        topic="product-news",
    )
    (entry,) = doors.services.writer.record([provider_event(echo, "mailer")])
    assert not entry.changed
    assert doors.undo(token) == 200
    assert not doors.is_stopped


def test_a_comparison_that_finds_our_own_push_does_not_end_an_undo(doors: Doors) -> None:
    token = undo_in(doors.page("product-news"))
    pushed_at = doors.newest.recorded_at
    assert token is not None
    assert doors.undo(token) == 200
    doors.reconcile("product-news", pushed_at)
    assert not doors.newest.changed
    assert not doors.is_stopped


# An undo makes no yes.


@every_dated_door
def test_an_older_opt_out_learned_after_an_undo_counts(doors: Doors, door: Door) -> None:
    token = undo_in(doors.page("product-news"))
    assert token is not None
    assert doors.undo(token) == 200
    door(doors, "product-news", datetime.now(UTC) - timedelta(days=30))
    assert doors.newest.changed
    assert doors.is_stopped


def test_after_an_undo_nothing_is_on_record_that_was_not_before(doors: Doors) -> None:
    token = undo_in(doors.page())
    assert token is not None
    assert doors.undo(token) == 200
    assert doors.choices == {}
    assert (doors.newest.verb, doors.newest.status) == (Verb.UNDO, Status.NEVER_ASKED)
    assert doors.decision("offers").rule == "marketing.no_consent"


def test_after_an_undo_an_opt_in_of_a_file_is_as_weak_as_it_was(doors: Doors) -> None:
    doors.returns("offers", datetime.now(UTC) - timedelta(days=2), trusted=False)
    token = undo_in(doors.page())
    assert token is not None
    assert doors.undo(token) == 200
    assert doors.decision("offers").allowed
    doors.api("offers", datetime.now(UTC) - timedelta(days=9))
    assert not doors.decision("offers").allowed
