"""Wordings: each stored once, and new versions of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

from sqlalchemy import func, select

from preferences.domain.notices import Notice
from preferences.services import Services
from preferences.store import notices
from preferences.store.tables import notice
from preferences.store.transactions import Write

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SLUG = "default/email/offers"


def keep(services: Services, *shown: Notice) -> None:
    def work(write: Write) -> None:
        notices.keep(write, shown, NOON)

    services.database.write(work)


def versions(services: Services, *shown: Notice) -> list[int]:
    found = services.database.read(notices.find, {wording.hash for wording in shown})
    assert [found[wording.hash].notice for wording in shown] == list(shown)
    return [found[wording.hash].version for wording in shown]


def count(services: Services) -> int:
    return services.database.read(lambda read: read.execute(select(func.count(notice.c.hash))).scalar_one())


def test_the_same_wording_is_stored_once(services: Services) -> None:
    wording = Notice(SLUG, "en", "Yes, send me offers.")
    keep(services, wording, wording)
    keep(services, wording)
    assert count(services) == 1
    assert versions(services, wording) == [1]


def test_a_new_wording_is_the_next_version_and_the_old_one_stays(services: Services) -> None:
    first, second, third = (Notice(SLUG, "en", text) for text in ("Offers?", "Offers, weekly?", "Offers, daily?"))
    keep(services, first)
    keep(services, second, third)
    keep(services, first)
    assert versions(services, first, second, third) == [1, 2, 3]


def test_versions_are_counted_by_slug_and_language(services: Services) -> None:
    shown = [
        Notice(SLUG, "en", "Offers?"),
        Notice(SLUG, "en", "Offers, weekly?"),
        Notice(SLUG, "de", "Angebote?"),
        Notice("default/email/news", "en", "Offers?"),
    ]
    keep(services, *shown)
    assert versions(services, *shown) == [1, 2, 1, 1]


def test_a_wording_is_read_as_it_was_stored(services: Services) -> None:
    wording = Notice(SLUG, "ar", "نعم، أرسلوا إليّ العروض\n\u200f«١٪»\t é 🎈 'x' \"y\"")
    keep(services, wording)
    assert versions(services, wording) == [1]


def test_an_unknown_hash_finds_no_wording(services: Services) -> None:
    assert services.database.read(notices.find, set()) == {}
    assert services.database.read(notices.find, {"0" * 64}) == {}


def test_parallel_writers_store_a_wording_once_without_version_gaps(
    services: Services,
) -> None:
    everybody = Barrier(10)
    shown = [Notice(SLUG, "en", f"Offers, wording {number // 2}?") for number in range(10)]

    def work(wording: Notice) -> None:
        everybody.wait(60)
        keep(services, wording)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, shown))
    assert count(services) == 5
    assert sorted(versions(services, *shown[::2])) == [1, 2, 3, 4, 5]
