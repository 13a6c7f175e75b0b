"""Fingerprints and masks of addresses."""

from __future__ import annotations

import base64
import hmac
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferences.address_parsing import read_address
from preferences.domain.addresses import Fingerprints, mask
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel

patiently = settings(deadline=None)
OLD, NEW = b"the-old-key-of-this-test", b"the-new-key-of-this-test"
OLD, NEW = b"the-old-key-of-this-test", b"the-new-key-of-this-test"
JANE = Address(Channel.EMAIL, "jane.doe@example.com")


def test_a_fingerprint_never_changes() -> None:
    assert Fingerprints([OLD]).of(JANE) == "ksEmA34GfSV9Q7cVlnFmSC9mnd-a9s9FCGRPAmycn30"


def test_two_spellings_have_one_fingerprint() -> None:
    prints = Fingerprints([OLD])
    assert prints.of(read_address(Channel.EMAIL, " Jane.Doe@EXAMPLE.com")) == prints.of(JANE)


def test_a_fingerprint_depends_on_address_channel_and_key() -> None:
    number = "+12025550123"
    prints = {
        Fingerprints([key]).of(one)
        for key in (OLD, NEW)
        for one in (JANE, Address(Channel.SMS, number), Address(Channel.VOICE, number))
    }
    assert len(prints) == 6


def test_a_new_key_is_used_and_every_older_one_still_finds() -> None:
    rotated = Fingerprints([OLD, NEW])
    assert rotated.of(JANE) == Fingerprints([NEW]).of(JANE)
    assert rotated.candidates(JANE) == (Fingerprints([NEW]).of(JANE), Fingerprints([OLD]).of(JANE))


@patiently
@given(st.binary(min_size=1, max_size=200), st.text(max_size=30), st.sampled_from(Channel))
def test_a_fingerprint_is_the_standard_hmac(key: bytes, value: str, channel: Channel) -> None:
    digest = hmac.digest(key, f"{channel.value}:{value}".encode(), "sha256")
    expected = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert Fingerprints([key]).of(Address(channel, value)) == expected


def test_addresses_are_found_by_the_print_of_every_key() -> None:
    rotated = Fingerprints([OLD, NEW])
    assert rotated.by_print([JANE]) == dict.fromkeys(rotated.candidates(JANE), JANE)


def test_without_a_key_there_is_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Fingerprints([])


@patiently
@given(st.text(max_size=30).map(lambda text: f"{text}@example.com"))
def test_a_fingerprint_is_43_characters_that_tell_nothing(value: str) -> None:
    found = Fingerprints([OLD]).of(Address(Channel.EMAIL, value))
    assert len(found) == 43
    assert set(found) <= set(string.ascii_letters + string.digits + "-_")


# The mask.


@pytest.mark.parametrize(
    ("channel", "value", "shown"),
    [
        (Channel.EMAIL, "jane.doe@example.com", "j•••@example.com"),
        (Channel.EMAIL, "abc@example.com", "a•••@example.com"),
        (Channel.EMAIL, "ab@example.com", "•••@example.com"),
        (Channel.EMAIL, "a@example.com", "•••@example.com"),
        (Channel.EMAIL, '"jane doe"@example.com', "j•••@example.com"),
        (Channel.SMS, "+12025550123", "•••23"),
        (Channel.POST, "12 harbour lane portland", "•••nd"),
    ],
)
def test_a_mask_shows_enough_for_the_owner_alone(channel: Channel, value: str, shown: str) -> None:
    assert mask(Address(channel, value)) == shown
