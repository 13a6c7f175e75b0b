"""The wording that was shown is kept once, and new words are a new version."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

from sqlalchemy import func, select

from preferences.domain.notices import Notice
from preferences.site import Site
from preferences.store import notices
from preferences.store.db import WriteTransaction
from preferences.store.tables import notice

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SLUG = "default/email/offers"


def keep(site: Site, *shown: Notice) -> None:
    def work(write: WriteTransaction) -> None:
        notices.keep(write.connection, shown, NOON)

    site.database.write(work)


def versions(site: Site, *shown: Notice) -> list[int]:
    found = site.database.read(notices.find, {one.hash for one in shown})
    assert [found[one.hash].notice for one in shown] == list(shown)
    return [found[one.hash].version for one in shown]


def count(site: Site) -> int:
    return site.database.read(lambda connection: connection.execute(select(func.count(notice.c.hash))).scalar_one())


def test_the_same_words_are_kept_once(site: Site) -> None:
    one = Notice(SLUG, "en", "Yes, send me offers.")
    keep(site, one, one)
    keep(site, one)
    assert count(site) == 1
    assert versions(site, one) == [1]


def test_new_words_are_the_next_version_and_the_old_ones_stay(site: Site) -> None:
    first, second, third = (Notice(SLUG, "en", text) for text in ("Offers?", "Offers, weekly?", "Offers, daily?"))
    keep(site, first)
    keep(site, second, third)
    keep(site, first)
    assert versions(site, first, second, third) == [1, 2, 3]


def test_each_slug_and_each_language_counts_for_itself(site: Site) -> None:
    shown = [
        Notice(SLUG, "en", "Offers?"),
        Notice(SLUG, "en", "Offers, weekly?"),
        Notice(SLUG, "de", "Angebote?"),
        Notice("default/email/news", "en", "Offers?"),
    ]
    keep(site, *shown)
    assert versions(site, *shown) == [1, 2, 1, 1]


def test_words_come_back_to_the_letter(site: Site) -> None:
    one = Notice(SLUG, "ar", "نعم، أرسلوا إليّ العروض\n\u200f«١٪»\t é 🎈 'x' \"y\"")
    keep(site, one)
    assert versions(site, one) == [1]


def test_what_was_never_shown_is_not_found(site: Site) -> None:
    assert site.database.read(notices.find, set()) == {}
    assert site.database.read(notices.find, {"0" * 64}) == {}


def test_many_who_keep_words_at_the_same_time_get_one_row_for_the_same_and_numbers_without_gaps(site: Site) -> None:
    everybody = Barrier(10)
    shown = [Notice(SLUG, "en", f"Offers, wording {number // 2}?") for number in range(10)]

    def work(one: Notice) -> None:
        everybody.wait(60)
        keep(site, one)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, shown))
    assert count(site) == 5
    assert sorted(versions(site, *shown[::2])) == [1, 2, 3, 4, 5]
