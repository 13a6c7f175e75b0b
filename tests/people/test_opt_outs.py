"""An opt-out counts, through whichever door it comes: what changes something says so, and none is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from preferences.domain.vocabulary import BLANKET
from preferences.ledger.verify import verify
from tests.doors import ADDRESS, DATED_DOORS, OPT_OUT_DOORS, Door, Doors, open_app
from tests.support import close

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


# `changed`: the effective state of something that an entry covers.


@every_door
def test_a_second_stop_of_everything_that_flips_a_decision_says_so(doors: Doors, door: Door) -> None:
    doors.one_click()
    doors.returns("product-news")
    assert not doors.is_stopped
    door(doors)
    assert doors.newest.changed
    assert doors.is_stopped


def test_a_second_stop_of_everything_that_flips_nothing_says_so(doors: Doors) -> None:
    doors.one_click()
    doors.one_click()
    assert not doors.newest.changed


def test_a_topic_that_is_stopped_while_everything_is_changes_nothing(doors: Doors) -> None:
    doors.one_click()
    assert doors.api("product-news")["changed"] is False


# Times.


@every_dated_door
@pytest.mark.parametrize("at", [datetime(1970, 1, 1, tzinfo=UTC), datetime(1980, 6, 1, tzinfo=UTC)])
def test_an_opt_out_of_an_impossible_time_counts_from_receipt(doors: Doors, door: Door, at: datetime) -> None:
    doors.returns("product-news", datetime.now(UTC) - timedelta(days=1))
    door(doors, "product-news", at)
    assert doors.newest.changed
    assert doors.is_stopped


@pytest.mark.parametrize("tell", ["an import", "the API"])
@pytest.mark.parametrize("topic", ["product-news", BLANKET])
def test_an_undated_opt_out_repeated_counts_when_it_does_not_hold(doors: Doors, tell: str, topic: str) -> None:
    def told() -> None:
        if tell == "the API":
            doors.api(topic, ref="unsubscribe-42")
        else:
            doors.command(topic)

    told()
    told()
    assert len(doors.entries) == 1, "it holds, so once is enough"
    doors.returns("product-news")
    told()
    assert doors.is_stopped
    told()
    assert len(doors.entries) == 3


def test_a_dated_opt_out_repeated_is_not_newer_than_it_was(doors: Doors) -> None:
    at = datetime.now(UTC) - timedelta(days=2)
    doors.command("product-news", at)
    doors.returns("product-news", at + timedelta(days=1))
    doors.command("product-news", at)
    assert len(doors.entries) == 2
    assert not doors.is_stopped


# References.


def test_a_newer_opt_out_under_a_used_reference_is_recorded(doors: Doors) -> None:
    old, new = (datetime.now(UTC) - timedelta(days=days) for days in (30, 1))
    first = doors.api("product-news", old, ref="customer-7")
    doors.returns("product-news", new - timedelta(days=1))
    second = doors.api("product-news", new, ref="customer-7")
    assert (first["repeated"], second["repeated"], second["changed"]) == (False, False, True)
    assert doors.is_stopped
    assert doors.api("product-news", new, ref="customer-7")["repeated"] is True
    assert doors.api("product-news", old, ref="customer-7")["repeated"] is True


def test_a_webhook_under_a_used_id_that_says_something_else_is_recorded(doors: Doors) -> None:
    doors.webhook("offers", message_id="msg_1")
    at = datetime.now(UTC)
    for _ in range(2):
        doors.webhook("product-news", at, message_id="msg_1")
    assert [entry.topic for entry in doors.entries] == ["offers", "product-news"]
    assert doors.is_stopped


def test_a_reference_made_for_an_opt_out_holds_no_address(doors: Doors) -> None:
    doors.api("product-news", datetime.now(UTC) - timedelta(days=2), ref="customer-7")
    doors.api("product-news", datetime.now(UTC) - timedelta(days=1), ref="customer-7")
    assert ADDRESS not in (doors.newest.origin_ref or "")
