"""When two spellings are one address, what is no address, and the fingerprint that outlives both."""

from __future__ import annotations

import base64
import hmac
import string

import email_validator
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preferences.domain.addresses import LONGEST, LONGEST_MAILBOX, Fingerprints, mask, read_address, read_mailbox
from preferences.domain.errors import BadAddress
from preferences.domain.terms import Address, Channel

patiently = settings(deadline=None)
REFUSALS = {
    "not an address",
    "not an e-mail address",
    "not a telephone number with its country code, such as +1 202 555 0123",
    "not a possible telephone number",
    "an empty postal address",
}


def email(text: str) -> str:
    return read_address(Channel.EMAIL, text).value


def read_or_refusal(channel: Channel, text: str) -> Address | str:
    try:
        return read_address(channel, text)
    except BadAddress as refusal:
        return str(refusal)


def read_or_none(channel: Channel, text: str) -> Address | None:
    found = read_or_refusal(channel, text)
    return found if isinstance(found, Address) else None


# E-mail.


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        ("jane.doe@example.com", "jane.doe@example.com"),
        ("Jane.Doe@Example.COM", "jane.doe@example.com"),
        ("  jane@example.com\r\n", "jane@example.com"),
        ("i@example.com", "i@example.com"),
        ("o'neil+x=y/z@sub.example.co.uk", "o'neil+x=y/z@sub.example.co.uk"),
        ("jane@bücher.example", "jane@xn--bcher-kva.example"),
        ("jane@BÜCHER.example", "jane@xn--bcher-kva.example"),
        ("jane@bu\u0308cher.example", "jane@xn--bcher-kva.example"),
        ("jane@xn--bcher-kva.example", "jane@xn--bcher-kva.example"),
        ("jane@XN--BCHER-KVA.example", "jane@xn--bcher-kva.example"),
        ("jane@www.xn--bcher-kva.example", "jane@www.xn--bcher-kva.example"),
        ("jane@пример.рф", "jane@xn--e1afmkfd.xn--p1ai"),
        ("jane@ｅｘａｍｐｌｅ.com", "jane@example.com"),
        ("jane@example。com", "jane@example.com"),
        ("JÖRG@example.com", "jörg@example.com"),
        ("jo\u0308rg@example.com", "jörg@example.com"),
        ("jane@a--b.example", "jane@a--b.example"),
    ],
)
def test_one_address_has_one_normal_form(typed: str, normal: str) -> None:
    assert email(typed) == normal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("jane+shop@example.com", "jane@example.com"),
        ("jane.doe@gmail.com", "janedoe@gmail.com"),
        ("ı@example.com", "i@example.com"),
        ("İ@example.com", "i@example.com"),
        ("jane@straße.example", "jane@strasse.example"),
        ("ｊａｎｅ@example.com", "jane@example.com"),
        ("jörg@example.com", "jorg@example.com"),
    ],
)
def test_mailboxes_that_may_belong_to_two_people_stay_two(one: str, other: str) -> None:
    assert email(one) != email(other)


def test_the_turkish_capital_i_is_read_the_same_twice() -> None:
    once = email("İ" * 20 + "@example.com")
    assert email(once) == once


@pytest.mark.parametrize(
    "junk",
    [
        "",
        " ",
        "@",
        "jane",
        "jane@",
        "@example.com",
        "jane doe@example.com",
        "jane@@example.com",
        "jane@example..com",
        ".jane@example.com",
        "jane.@example.com",
        "ja..ne@example.com",
        "jane@-example.com",
        "jane@example-.com",
        "jane@exa_mple.com",
        "jane@[192.0.2.1]",
        '"jane doe"@example.com',
        "Jane <jane@example.com>",
        "jane@example.com, john@example.com",
        "jane@example.com\nBcc: john@example.com",
        "jane＠example.com",
        "jane\u200b@example.com",
        "ja\x00ne@example.com",
        "jane@ab--cd.example",
        "jane@sub.xn--zzzzzz9999.example",
        "jane@" + "a" * 64 + ".com",
        "jane@" + "a.b" * 90 + ".com",
        "jane" * 1_000 + "@example.com",
    ],
)
def test_junk_is_refused_by_a_message_that_does_not_hold_it(junk: str) -> None:
    with pytest.raises(BadAddress) as refusal:
        email(junk)
    assert str(refusal.value) in REFUSALS
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_the_longest_address_is_taken_and_one_more_is_not() -> None:
    longest = "j" * 64 + "@" + "a" * 63 + "." + "b" * 63 + "." + "c" * 57 + ".com"
    assert len(longest) == LONGEST
    assert email(longest) == longest
    with pytest.raises(BadAddress):
        email(longest.replace("@", "@a", 1))


locals_ = st.text(string.ascii_letters + string.digits + "!#$%&'*+/=?^_`{|}~-.", min_size=1, max_size=68)
labels = st.one_of(
    st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=8),
    st.sampled_from(["xn--p1ai", "XN--BCHER-KVA", "xn--zzzzzz9999", "ab--cd", "a--b", "a" * 63, "a" * 64, "1"]),
)
plain_addresses = st.builds(
    lambda local, host, end: f"{local}@{'.'.join([*host, end])}",
    locals_,
    st.lists(labels, min_size=1, max_size=4),
    st.sampled_from(["com", "Org", "co", "c", "x1", "xn--p1ai", "1", "museum", "-a", ""]),
)


def by_the_library(text: str) -> str | None:
    try:
        parts = email_validator.validate_email(
            text.lower(), check_deliverability=False, test_environment=True, globally_deliverable=False
        )
    except email_validator.EmailNotValidError:
        return None
    return f"{parts.local_part}@{parts.ascii_domain}"


@settings(deadline=None, max_examples=400)
@given(plain_addresses)
@example("a@b.xn--zzzzzz9999.com")
@example("a@b.ab--cd.com")
@example("a@" + "b" * 63 + ".com")
@example("a" * 64 + "@b.com")
def test_the_short_way_for_plain_addresses_agrees_with_the_library(text: str) -> None:
    found = read_or_none(Channel.EMAIL, text)
    assert (found and found.value) == by_the_library(text)


def test_names_inside_a_company_are_addresses_too() -> None:
    assert email("jane@mail.corp.local") == "jane@mail.corp.local"


mixed = st.text(st.characters(categories=["L", "Mn", "Nd"]), min_size=1, max_size=20)


@settings(deadline=None, max_examples=400)
@given(mixed, mixed, st.sampled_from([".com", ".рф", "。jp", ""]))
@example("İ" * 120, "example", ".com")
@example("ΑΣ", "ΑΣ", ".com")
@example("\u212bngström", "STRAẞE", ".de")
def test_a_normal_form_is_its_own_normal_form(local: str, host: str, end: str) -> None:
    found = read_or_none(Channel.EMAIL, f"{local}@{host}{end}")
    assert found is None or read_address(Channel.EMAIL, found.value) == found


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(Channel), st.text())
def test_any_text_has_a_normal_form_or_is_refused_without_being_quoted(channel: Channel, text: str) -> None:
    found = read_or_refusal(channel, text)
    if isinstance(found, Address):
        assert read_address(channel, found.value) == found
    else:
        assert found in REFUSALS


# Telephone and post.


@pytest.mark.parametrize("channel", [Channel.SMS, Channel.VOICE])
@pytest.mark.parametrize(
    "typed",
    ["+12025550123", "+1 (202) 555-0123", " +1.202.555.0123 ", "tel:+1-202-555-0123", "＋１ ２０２ ５５５ ０１２３"],
)
def test_one_telephone_number_has_one_normal_form(channel: Channel, typed: str) -> None:
    assert read_address(channel, typed) == Address(channel, "+12025550123")


@pytest.mark.parametrize(
    ("typed", "normal"), [("+39 06 1234 5678", "+390612345678"), ("+44 20 7946 0000", "+442079460000")]
)
def test_numbers_of_other_countries_keep_their_zeros(typed: str, normal: str) -> None:
    assert read_address(Channel.SMS, typed).value == normal


@pytest.mark.parametrize(
    "junk", ["", "2025550123", "0049 30 123456", "+1", "+1 202", "+999 123456789", "+" + "1" * 40, "a" * 300]
)
def test_a_number_that_cannot_be_dialled_is_refused_without_being_quoted(junk: str) -> None:
    with pytest.raises(BadAddress) as refusal:
        read_address(Channel.SMS, junk)
    assert str(refusal.value) in REFUSALS


numbers = st.builds(
    lambda code, rest: f"+{code} {rest}", st.sampled_from([1, 39, 44, 49, 81]), st.integers(10**5, 10**11)
)


@patiently
@given(numbers)
def test_the_normal_form_of_a_number_is_its_own(typed: str) -> None:
    found = read_or_none(Channel.SMS, typed)
    assert found is None or read_address(Channel.SMS, found.value) == found


def test_a_postal_address_is_the_same_in_any_case_and_spacing() -> None:
    one = read_address(Channel.POST, "12 Harbour Lane\n  Portland, ME 04101")
    assert one == read_address(Channel.POST, " 12 harbour lane portland, me 04101 ")
    with pytest.raises(BadAddress):
        read_address(Channel.POST, " \n ")


# Fingerprints.

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
        (Channel.SMS, "+12025550123", "•••23"),
        (Channel.POST, "12 harbour lane portland", "•••nd"),
    ],
)
def test_a_mask_shows_enough_for_the_owner_alone(channel: Channel, value: str, shown: str) -> None:
    assert mask(Address(channel, value)) == shown


# Mailboxes: an address with a name, as reports quote it.


@pytest.mark.parametrize(
    "text",
    [
        "jane@example.com",
        "<jane@example.com>",
        "Jane Doe <jane@example.com>",
        "  Jane\r\n <jane@example.com>\t",
        '"Doe, Jane" <jane@example.com>',
        '"Doe (work) <other@example.org>" <jane@example.com>',
        '"Jane \\"J\\" Doe" <jane@example.com>',
        "Doe, Jane <jane@example.com>",
        "'jane@example.com' <jane@example.com>",
        "=?utf-8?q?J=C3=A4ne?= <jane@example.com>",
        "Jäne Doe <JANE@Example.com>",
        'Jane (at home (in the 5" box)) <jane@example.com> (she)',
        "Jane (<other@example.org>) <jane@example.com>",
        "jane@example.com (Jane Doe)",
        "(Jane) jane (x) @ (y) example.com",
    ],
)
def test_a_mailbox_is_its_address(text: str) -> None:
    assert read_mailbox(text) == read_address(Channel.EMAIL, "jane@example.com")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Jane",
        "Jane <>",
        "<jane>",
        "Jane <jane@example.com",
        "Jane jane@example.com>",
        "<<jane@example.com>>",
        "<jane@example.com> <joe@example.com>",
        "jane@example.com, joe@example.com",
        "joe@example.com, Jane <jane@example.com>",
        "Jane <jane@example.com>, Joe <joe@example.com>",
        "Friends: Jane <jane@example.com>;",
        "Friends: jane@example.com;",
        "undisclosed-recipients:;",
        "<@relay.example.org:jane@example.com>",
        'Jane "J <jane@example.com>',
        "Jane (at home <jane@example.com>",
        "Jane Doe jane@example.com",
        "jane doe@example.com",
        "(" * 900,
        "Jane " * LONGEST_MAILBOX + "<jane@example.com>",
    ],
)
def test_a_group_several_mailboxes_and_what_is_none_are_refused(text: str) -> None:
    with pytest.raises(BadAddress) as refusal:
        read_mailbox(text)
    assert "jane" not in str(refusal.value)


@given(st.text(st.sampled_from('aJ@.<>()[]",:;\\ \r\n\x00é\ud800')))
@example('"' + "\\" * 40)
def test_any_text_is_a_mailbox_or_none(text: str) -> None:
    try:
        found = read_mailbox(text)
    except BadAddress:
        return
    assert found == read_address(Channel.EMAIL, found.value)
