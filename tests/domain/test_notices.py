"""The wording that was shown: one hash for the same words, another for any others."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from preferences.domain.notices import Notice

patiently = settings(deadline=None)
notices = st.builds(Notice, st.text(max_size=5), st.text(max_size=3), st.text(max_size=8))


def test_a_hash_is_pinned_since_entries_name_it_for_years() -> None:
    notice = Notice("default/email/offers", "en", "Yes, send me offers.")
    assert notice.hash == "86269bbe0bf28095d4ec6e47fa065348e12fc4e5e15f71f4c416d5e23dd5f763"


@patiently
@given(notices.filter(lambda one: "\x1f" not in one.slug + one.language), notices)
def test_two_notices_have_one_hash_only_if_they_are_the_same(one: Notice, other: Notice) -> None:
    same = (one.slug, one.language, one.text) == (other.slug, other.language, other.text)
    if "\x1f" not in other.slug + other.language:
        assert (one.hash == other.hash) is same


def test_what_belongs_to_the_slug_cannot_be_taken_for_the_words() -> None:
    assert Notice("a", "en", "b").hash != Notice("ae", "n", "b").hash
    assert Notice("a", "en", "b").hash != Notice("a", "enb", "").hash
