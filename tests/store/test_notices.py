"""The wording that was shown is kept once, and new words are a new version."""

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
    found = services.database.read(notices.find, {one.hash for one in shown})
    assert [found[one.hash].notice for one in shown] == list(shown)
    return [found[one.hash].version for one in shown]


def count(services: Services) -> int:
    return services.database.read(lambda read: read.execute(select(func.count(notice.c.hash))).scalar_one())


def test_the_same_words_are_kept_once(services: Services) -> None:
    one = Notice(SLUG, "en", "Yes, send me offers.")
    keep(services, one, one)
    keep(services, one)
    assert count(services) == 1
    assert versions(services, one) == [1]


def test_new_words_are_the_next_version_and_the_old_ones_stay(services: Services) -> None:
    first, second, third = (Notice(SLUG, "en", text) for text in ("Offers?", "Offers, weekly?", "Offers, daily?"))
    keep(services, first)
    keep(services, second, third)
    keep(services, first)
    assert versions(services, first, second, third) == [1, 2, 3]


def test_each_slug_and_each_language_counts_for_itself(services: Services) -> None:
    shown = [
        Notice(SLUG, "en", "Offers?"),
        Notice(SLUG, "en", "Offers, weekly?"),
        Notice(SLUG, "de", "Angebote?"),
        Notice("default/email/news", "en", "Offers?"),
    ]
    keep(services, *shown)
    assert versions(services, *shown) == [1, 2, 1, 1]


def test_words_come_back_to_the_letter(services: Services) -> None:
    one = Notice(SLUG, "ar", "نعم، أرسلوا إليّ العروض\n\u200f«١٪»\t é 🎈 'x' \"y\"")
    keep(services, one)
    assert versions(services, one) == [1]


def test_what_was_never_shown_is_not_found(services: Services) -> None:
    assert services.database.read(notices.find, set()) == {}
    assert services.database.read(notices.find, {"0" * 64}) == {}


def test_many_who_keep_words_at_the_same_time_get_one_row_for_the_same_and_numbers_without_gaps(
    services: Services,
) -> None:
    everybody = Barrier(10)
    shown = [Notice(SLUG, "en", f"Offers, wording {number // 2}?") for number in range(10)]

    def work(one: Notice) -> None:
        everybody.wait(60)
        keep(services, one)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, shown))
    assert count(services) == 5
    assert sorted(versions(services, *shown[::2])) == [1, 2, 3, 4, 5]
