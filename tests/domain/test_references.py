"""The reference that a person reads out on the telephone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferences.domain.references import hash_prefix, reference_of

hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
patiently = settings(deadline=None)


@pytest.mark.parametrize(
    ("entry_hash", "reference"),
    [
        ("0" * 64, "0000-0000"),
        ("f" * 64, "ZZZZ-ZZZZ"),
        ("0123456789" + "a" * 54, "04HM-ASW9"),
    ],
)
def test_a_reference_never_changes(entry_hash: str, reference: str) -> None:
    assert reference_of(entry_hash) == reference


@patiently
@given(hashes)
def test_a_reference_has_two_groups_of_four_that_nobody_misreads(entry_hash: str) -> None:
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", reference_of(entry_hash))


@patiently
@given(hashes)
def test_the_entry_is_found_from_its_reference(entry_hash: str) -> None:
    assert hash_prefix(reference_of(entry_hash)) == entry_hash[:10]


@pytest.mark.parametrize("typed", ["04HM-ASW9", "04hm asw9", "O4HMASW9", " o4hm - asw9 ", "0-4-H-M-A-S-W-9"])
def test_it_may_be_typed_as_people_type(typed: str) -> None:
    assert hash_prefix(typed) == "0123456789"


def test_letters_that_look_like_digits_are_digits() -> None:
    assert hash_prefix("OIL0-0000") == hash_prefix("0110-0000")


@pytest.mark.parametrize("typed", ["", "K7QF", "K7QF-2M9D-1", "K7QF-2M9U", "K7QF_2M9D", "K7QF-2M9é", "%" * 8])
def test_what_cannot_be_a_reference_finds_nothing(typed: str) -> None:
    assert hash_prefix(typed) is None


@patiently
@given(st.text(max_size=20))
def test_any_text_at_all_is_a_reference_or_nothing(typed: str) -> None:
    found = hash_prefix(typed)
    assert found is None or re.fullmatch(r"[0-9a-f]{10}", found)
