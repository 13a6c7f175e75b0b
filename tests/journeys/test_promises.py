"""The promises between a click and the platform's list, kept by the real programs over the real network."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.journeys.world import World, wait_for
from tests.support import new_postgresql, new_sqlite

PEOPLE: Final = [f"person.{number}@example.com" for number in range(80)]
SECONDS_TO_THE_PLATFORM: Final = 5.0
"""A second is the aim, and half of it the rule; this much is left to machines that have other things to do."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything runs, once for all the tests of an engine."""
    folder = tmp_path_factory.mktemp(request.param)
    is_sqlite = request.param == "sqlite"
    url = new_sqlite(folder) if is_sqlite else new_postgresql(request.getfixturevalue("postgres"))
    with World(folder, url, PEOPLE) as world:
        # Its first comparison is the worker's own business, and over before the tests change anything.
        wait_for("the worker has compared", lambda: "compared" in world.installation.worker.output())
        yield world


@pytest.fixture(scope="module")
def names(world: World) -> Iterator[str]:
    """People whom no other test has written to."""
    return iter(PEOPLE)


@pytest.fixture
def jane(names: Iterator[str]) -> str:
    return next(names)


@pytest.fixture
def rosa(names: Iterator[str]) -> str:
    return next(names)


def test_one_click_in_a_mail_reaches_the_platform_s_list(world: World, jane: str) -> None:
    assert world.sandbox.company.send("product-news", [jane]).sent == [jane]
    answer = world.press_unsubscribe(jane)
    assert answer.is_right
    assert not answer.redirected
    wait_for("on the list", lambda: (jane, "global") in world.platform_list(), SECONDS_TO_THE_PLATFORM)

    sending = world.sandbox.company.send("product-news", [jane])
    assert (sending.sent, [row["reason"] for row in sending.skipped]) == ([], ["unsubscribed_all"])
    assert world.mails(jane, "product-news") == 1


def test_the_receipt_still_arrives(world: World, jane: str) -> None:
    world.click(jane)
    wait_for("on the list", lambda: (jane, "global") in world.platform_list(), SECONDS_TO_THE_PLATFORM)
    assert world.sandbox.company.send("receipts", [jane]).sent == [jane]
    assert world.mails(jane, "receipts") == 1


def test_a_stopped_topic_is_never_told_as_more_than_that(world: World, jane: str, rosa: str) -> None:
    status, _ = world.post(world.link(jane), "intent=topic", "text/html")
    assert status == 200
    wait_for("on the list", lambda: (jane, "product-news") in world.platform_list(), SECONDS_TO_THE_PLATFORM)
    world.click(rosa)
    wait_for("later news has come", lambda: (rosa, "global") in world.platform_list(), SECONDS_TO_THE_PLATFORM)
    assert {list_name for address, list_name in world.platform_list() if address == jane} == {"product-news"}


def undo_in(page: str) -> str:
    """The token in the done page's undo form."""
    (token,) = re.findall(r'name="undo" value="([^"]+)"', page)
    return str(token)


def test_an_undo_on_the_page_takes_it_off_the_list_again(world: World, jane: str) -> None:
    link = world.link(jane)
    _, page = world.post(link, "intent=all", "text/html")
    wait_for("on the list", lambda: (jane, "global") in world.platform_list(), SECONDS_TO_THE_PLATFORM)
    assert world.post(f"{link}/undo", f"undo={undo_in(page)}", "text/html")[0] == 200
    wait_for("off the list", lambda: (jane, "global") not in world.platform_list(), SECONDS_TO_THE_PLATFORM)
    assert world.decisions(jane)["marketing"]


def test_an_undo_ends_no_complaint_that_we_have_not_heard_of_yet(world: World, jane: str) -> None:
    def kinds() -> set[str]:
        return {row["kind"] for row in world.sandbox.platform.suppressions() if row["address"] == jane}

    link = world.link(jane)
    _, page = world.post(link, "intent=all", "text/html")
    wait_for("on the list", lambda: kinds() == {"unsubscribe"}, SECONDS_TO_THE_PLATFORM)
    world.set_faults(lossy=True)
    world.happens("complaint", jane)
    world.set_faults(lossy=False)

    assert world.post(f"{link}/undo", f"undo={undo_in(page)}", "text/html")[0] == 200
    wait_for("off the list", lambda: kinds() == {"complaint"}, SECONDS_TO_THE_PLATFORM)

    world.reconcile()
    assert kinds() == {"complaint"}
    assert not world.decisions(jane)["marketing"]


@pytest.mark.parametrize(
    ("kind", "list_name", "reason", "receipt_is_sent"),
    [
        ("unsubscribe", "global", "unsubscribed_all", True),
        ("unsubscribe", "product-news", "unsubscribed", True),
        ("complaint", "global", "complaint", True),
        ("bounce.hard", "global", "hard_bounce", False),  # it would not arrive
        ("invalid", "global", "invalid", False),
    ],
)
def test_an_event_at_the_platform_stops_marketing_and_no_receipt(
    world: World, jane: str, kind: str, list_name: str, reason: str, receipt_is_sent: bool
) -> None:
    webhook = world.happens(kind, jane, list_name)
    wait_for("reported", lambda: world.webhooks()[webhook]["state"] == "done")

    company = world.sandbox.company
    assert company.send("product-news", [jane]).skipped == [{"address": jane, "reason": reason}]
    assert company.send("receipts", [jane]).sent == ([jane] if receipt_is_sent else [])
    assert world.decisions(jane) == {
        "marketing": False,
        "transactional": receipt_is_sent,
        "notice": receipt_is_sent,
    }


def test_an_unsubscribe_from_a_list_of_theirs_stops_nothing_else(world: World, jane: str) -> None:
    webhook = world.happens("unsubscribe", jane, "a list of theirs")
    wait_for("reported", lambda: world.webhooks()[webhook]["state"] == "done")
    assert world.decisions(jane)["marketing"]
    assert world.reconcile().unmapped == 1
    assert world.decisions(jane)["marketing"]


def test_an_operator_s_comparison_mends_both_sides_and_holds_nobody_up(world: World, jane: str, rosa: str) -> None:
    world.set_faults(lossy=True)
    world.click(jane)
    world.happens("unsubscribe", rosa)
    wait_for("the push is lost", lambda: any("lost" in push["outcome"] for push in world.sandbox.platform.pushes()))
    world.set_faults(lossy=False)
    assert (jane, "global") not in world.platform_list()
    assert world.decisions(rosa)["marketing"]

    process = world.installation.flask("reconcile", "sandbox")

    assert (process.returncode, process.stderr) == (0, "")
    assert "Drift: 2. Both sides were mended." in process.stdout
    assert "@" not in process.stdout
    assert (jane, "global") in world.platform_list()
    assert not world.decisions(rosa)["marketing"]

    world.click(rosa, "offers")
    world.click(jane, "offers")
    wait_for("the worker goes on", lambda: world.is_told, SECONDS_TO_THE_PLATFORM)


FAULTS: Final[dict[str, dict[str, Any]]] = {
    "down": {"down": True},
    "slow": {"slow_seconds": 1.0},
    "too many requests": {"busy_seconds": 1.0},
    "lossy": {"lossy": True},
    "repeating": {"repeating": True},
    "reordering": {"reordering": True},
    "all at once": {"slow_seconds": 0.3, "lossy": True, "repeating": True, "reordering": True},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_after_quiet_and_one_comparison_both_sides_say_the_same(world: World, names: Iterator[str], fault: str) -> None:
    first, second, third, fourth = itertools.islice(names, 4)
    pushes = len(world.sandbox.platform.pushes(1_000))
    world.set_faults(**FAULTS[fault])
    world.click(first)
    world.happens("unsubscribe", second)
    world.happens("complaint", third)
    world.happens("unsubscribe", third, "offers")
    assert world.post(world.link(fourth), "intent=topic", "text/html")[0] == 200
    wait_for("the platform was told, and did as it does", lambda: len(world.sandbox.platform.pushes(1_000)) > pushes)

    world.quiet()
    world.reconcile()

    world.assert_same_on_both_sides()
    mine = {row for row in world.platform_list() if row[0] in {first, second, third, fourth}}
    assert mine == {
        (first, "global"),
        (second, "global"),
        (third, "global"),
        (third, "offers"),
        (fourth, "product-news"),
    }


def test_nobody_is_named_in_any_log(world: World) -> None:
    """Runs last, over all that the tests above have done."""
    for process in (world.installation.web, world.installation.worker):
        assert "@" not in process.output()


def test_the_ledger_verifies(world: World) -> None:
    process = world.installation.flask("ledger", "verify")
    assert process.returncode == 0, process.stderr
