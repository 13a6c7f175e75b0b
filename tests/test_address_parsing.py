"""When two spellings are one address, what is no address, and the fingerprint that outlives both."""

from __future__ import annotations

import base64
import string
import unicodedata

import email_validator
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preferences.address_parsing import LONGEST, LONGEST_MAILBOX, read_address, read_mailbox
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import BadAddress
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel
from tests.profiles import scaled

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
        # Dots anywhere: old addresses of docomo and others, which get mail.
        ("a..b@example.com", "a..b@example.com"),
        ("c.@docomo.ne.jp", "c.@docomo.ne.jp"),
        (".D@example.com", ".d@example.com"),
        ("..@example.com", "..@example.com"),
        ("jö..rg.@example.com", "jö..rg.@example.com"),
        # RFC 5321 §4.1.2: in quotes or not, it is one mailbox; `\\` before a character is no part of it.
        ('"jane"@example.com', "jane@example.com"),
        ('"Jane.Doe"@Example.com', "jane.doe@example.com"),
        ('"a..b"@example.com', "a..b@example.com"),
        ('"c."@example.com', "c.@example.com"),
        ('"\\j\\a\\n\\e"@example.com', "jane@example.com"),
        ('"jörg"@example.com', "jörg@example.com"),
        ('"jane doe"@example.com', '"jane doe"@example.com'),
        ('"Jane\\ Doe"@example.com', '"jane doe"@example.com'),
        ('"a\\"b\\\\c"@example.com', '"a\\"b\\\\c"@example.com'),
        ('"jane@home"@example.com', '"jane@home"@example.com'),
        ('"jo\u0308rg (home)"@example.com', '"jörg (home)"@example.com'),
        # What comes along when an address is copied.
        ("\u200bjane@example.com\ufeff", "jane@example.com"),
        ("\u202ajane@example.com\u202c", "jane@example.com"),
        ("\xa0jane@example.com\u3000", "jane@example.com"),
        ("jane@example.com.", "jane@example.com"),
        ("jane@例え.jp。", "jane@xn--r8jz45g.jp"),
        ("\u212aate@example.com", "kate@example.com"),
        ("คำ@example.com", "คำ@example.com"),
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
        ("jane@straße.example", "jane@strasse.example"),
        ("strauß@example.com", "strauss@example.com"),
        ("jörg@example.com", "jorg@example.com"),
        ("а@example.com", "a@example.com"),
        ("a..b@example.com", "a.b@example.com"),
        ('"jane doe"@example.com', '"jane  doe"@example.com'),
        ('" jane"@example.com', "jane@example.com"),
    ],
)
def test_mailboxes_that_may_belong_to_two_people_stay_two(one: str, other: str) -> None:
    assert email(one) != email(other)


LOOK_ALIKES = {
    "full-width letters": "ｊａｎｅ@example.com",
    "one full-width letter": "ｊane@example.com",
    "full width throughout": "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ",
    "a half-width kana": "ｱ@example.com",
    "a ligature": "o\ufb03ce@example.com",
    "a long s": "je\u017fus@example.com",
    "a superscript": "jane²@example.com",
    "letters of mathematics": "\U0001d4bf\U0001d4b6\U0001d4c3\u212f@example.com",
    "a circled letter": "ⓙane@example.com",
    "a dot leader": "jane\u2024doe@example.com",
    "an ellipsis": "jane…doe@example.com",
    "a zero-width space": "ja\u200bne@example.com",
    "a zero-width joiner": "ja\u200dne@example.com",
    "a soft hyphen": "ja\xadne@example.com",
    "a mark of direction": "ja\u202ene@example.com",
    "a byte order mark": "ja\ufeffne@example.com",
    "a variation selector": "jane\ufe0f@example.com",
    "a grapheme joiner": "ja\u034fne@example.com",
    "a Hangul filler": "jane\u3164@example.com",
    "a blank of Braille": "jane\u2800@example.com",
    "a no-break space": "jane\xa0doe@example.com",
    "a no-break space in quotes": '"jane\xa0doe"@example.com',
    "a tag": "jane\U000e0061@example.com",
    "a Turkish capital I": "İrem@example.com",
    "what becomes of it": "i\u0307rem@example.com",
    "an accent on nothing": "\u0301jane@example.com",
    "a letter of private use": "jane\ue000@example.com",
    "half a character": "jane\ud800@example.com",
}


@pytest.mark.parametrize("text", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_what_looks_like_another_mailbox_is_refused(text: str) -> None:
    with pytest.raises(BadAddress):
        email(text)


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
        "jane@-example.com",
        "jane@example-.com",
        "jane@exa_mple.com",
        "jane@[192.0.2.1]",
        '""@example.com',
        '"jane"doe@example.com',
        '"jane@example.com',
        '"jane@example.com"',
        '"ja\nne"@example.com',
        'jane"doe@example.com',
        "ja\\\\ne@example.com",
        "jane@example.com..",
        "jane@.",
        "Jane <jane@example.com>",
        "jane@example.com, john@example.com",
        "jane@example.com\nBcc: john@example.com",
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
    """What RFC 5321 makes of it, with the local part in quotes, where dots may stand anywhere."""
    local, _, domain = text.lower().partition("@")
    try:
        parts = email_validator.validate_email(
            f'"{local}"@{domain.removesuffix(".")}',
            check_deliverability=False,
            test_environment=True,
            globally_deliverable=False,
            allow_quoted_local=True,
        )
    except email_validator.EmailNotValidError:
        return None
    return f"{(parts.local_part or '').strip(chr(34))}@{parts.ascii_domain}"


@settings(max_examples=scaled(400))
@given(plain_addresses)
@example("a@b.xn--zzzzzz9999.com")
@example("a@b.ab--cd.com")
@example("a@" + "b" * 63 + ".com")
@example("a" * 64 + "@b.com")
@example("..a@b.com")
def test_the_short_way_for_plain_addresses_agrees_with_the_library(text: str) -> None:
    found = read_or_none(Channel.EMAIL, text)
    assert (found and found.value) == by_the_library(text)


@settings(max_examples=scaled(400))
@given(plain_addresses)
def test_the_short_way_for_plain_addresses_agrees_with_the_long_one(text: str) -> None:
    """A mark without width at its end sends an address the long way."""
    longer = read_or_none(Channel.EMAIL, '"{}"@{}'.format(*text.split("@")) + "\u200b")
    assert read_or_none(Channel.EMAIL, text) == longer


def test_names_inside_a_company_are_addresses_too() -> None:
    assert email("jane@mail.corp.local") == "jane@mail.corp.local"


def as_it_was(text: str) -> str | None:
    """The normal form that was made before dots could stand anywhere: what is stored under it must be found."""
    try:
        parts = email_validator.validate_email(
            text.strip().lower(), check_deliverability=False, test_environment=True, globally_deliverable=False
        )
    except email_validator.EmailNotValidError:
        return None
    return f"{(parts.local_part or '').lower()}@{(parts.ascii_domain or parts.domain).lower()}"


def looks_plain(local: str) -> bool:
    """Whether it is another spelling of plainer letters, or holds what nobody sees."""
    folded = unicodedata.normalize("NFC", local.lower()).lower()
    ignorable = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164"
    return (
        any(unicodedata.normalize("NFKC", one) != one for one in folded)
        or any(one in ignorable or "\ufe00" <= one <= "\ufe0f" or one >= "\U000e0100" for one in folded)
        or "i\u0307" in folded
    )


mixed = st.text(st.characters(categories=["L", "Mn", "Nd"]), min_size=1, max_size=20)


@settings(max_examples=scaled(600))
@given(
    st.one_of(mixed, locals_, st.text(max_size=12)),
    st.one_of(mixed, st.just("example")),
    st.sampled_from([".com", ".рф", "。jp", ""]),
    st.sampled_from(["", " ", "\xa0\r\n"]),
)
@example("ΑΣ", "ΑΣ", ".com", "")
@example("straße", "STRAẞE", ".de", "")
@example("\u212bngström", "example", ".com", "")
def test_every_address_that_was_taken_before_keeps_its_normal_form(local: str, host: str, end: str, space: str) -> None:
    text = f"{space}{local}@{host}{end}{space}"
    was, now = as_it_was(text), read_or_none(Channel.EMAIL, text)
    if was is not None:
        assert now == Address(Channel.EMAIL, was) or (now is None and looks_plain(local))


@settings(max_examples=scaled(400))
@given(mixed, mixed, st.sampled_from([".com", ".рф", "。jp", ""]))
@example("İ" * 120, "example", ".com")
@example("ΑΣ", "ΑΣ", ".com")
@example("\u212bngström", "STRAẞE", ".de")
def test_a_normal_form_is_its_own_normal_form(local: str, host: str, end: str) -> None:
    found = read_or_none(Channel.EMAIL, f"{local}@{host}{end}")
    assert found is None or read_address(Channel.EMAIL, found.value) == found


@settings(max_examples=scaled(300))
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
    [
        *(
            "+12025550123",
            "+1 (202) 555-0123",
            " +1.202.555.0123 ",
            "tel:+1-202-555-0123",
            "＋１ ２０２ ５５５ ０１２３",
        ),
        *(
            "0012025550123",
            "00 1 202 555 0123",
            "(00) 1 202 555 0123",
            "００１２０２５５５０１２３",
            "+٠٠١٢٠٢٥٥٥٠١٢٣"[1:],
        ),
        *("+001 202 555 0123", "++1 202 555 0123", "+1\xa0202\u2011555\u20110123", "\u202a+1 202 555 0123\u202c"),
        *("+1 202 555 0123 ext. 5", "tel:+12025550123;ext=5", "+1 202 555 0123 x5"),
    ],
)
def test_one_telephone_number_has_one_normal_form(channel: Channel, typed: str) -> None:
    assert read_address(channel, typed) == Address(channel, "+12025550123")


@pytest.mark.parametrize(
    ("typed", "normal"), [("+39 06 1234 5678", "+390612345678"), ("+44 20 7946 0000", "+442079460000")]
)
def test_numbers_of_other_countries_keep_their_zeros(typed: str, normal: str) -> None:
    assert read_address(Channel.SMS, typed).value == normal


@pytest.mark.parametrize(
    "junk",
    [
        *["+12025550123 (home)", "+4930123456 or 123", "Call +1 202 555 0123"],
        "",
        "2025550123",
        "011 49 30 123456",
        "+1",
        "+1 202",
        "+999 123456789",
        "+" + "1" * 40,
        "a" * 300,
    ],
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


ACCENTS = "12 Rue de l'Élysée, Ἀθῆναι ΐ, Zürich ß"


def test_a_postal_address_is_the_same_with_its_accents_written_apart() -> None:
    together, apart = (unicodedata.normalize(form, ACCENTS) for form in ("NFC", "NFD"))
    assert together != apart
    assert read_address(Channel.POST, together) == read_address(Channel.POST, apart)
    assert read_address(Channel.POST, together).value == " ".join(together.casefold().split()), "as it was before"


def test_a_postal_address_that_was_stored_with_its_accents_apart_is_found() -> None:
    prints = Fingerprints([OLD, NEW])
    stored = Address(Channel.POST, " ".join(unicodedata.normalize("NFD", ACCENTS).casefold().split()))
    found = read_address(Channel.POST, ACCENTS)
    for keys in ([OLD], [NEW]):
        was = Fingerprints(keys).of(stored)
        assert was in prints.candidates(found)
        assert prints.by_print([found])[was] == found
        digest = base64.urlsafe_b64decode(was + "=")
        layers = prints.digests(Channel.POST, [b"x", found.value.encode()])
        assert any(digest == layer[32:] for layer in layers)


# Fingerprints.

OLD, NEW = b"the-old-key-of-this-test", b"the-new-key-of-this-test"
JANE = Address(Channel.EMAIL, "jane.doe@example.com")

# Made before the rules on spellings: opt-outs are stored under them.
STORED = {
    "jane.doe@example.com": "ksEmA34GfSV9Q7cVlnFmSC9mnd-a9s9FCGRPAmycn30",
    "  Jane.Doe+Shop@EXAMPLE.com ": "oP6P3uoep7V836ZqdcPjjip-YXsh7a5WIJ8FZIjazuU",
    "o'neil+x=y/z@sub.example.co.uk": "SFvabJEAx1CFaoc0kXjvzsyu3NgZ6OHCKfRNg7cZNzw",
    "JÖRG@BÜCHER.example": "sdlMzazbXB8GrN2uONt3kjoDrw9aNhxGcf0Cwms3H7o",
    "jörg@bücher.example": "sdlMzazbXB8GrN2uONt3kjoDrw9aNhxGcf0Cwms3H7o",
    "strauß@straße.example": "pT48HITeXqNYkceM4OOmm9i9MUK2l5qTQLJrz3rBO4A",
    "ΑΣ@example.com": "KX7dUH6y6rGtp-pGJcu7RgxJxf3KhOwegRhcwyoRe80",
    "ırem@example.com": "1WECKzPPIr4e8KquC6B5vUAEnw-O52ZrH23WU3sGo1o",
    "пример@пример.рф": "drEGIf3-Ulq4KWF16SNKqtm4w8ZqtQCoZNklH5droNQ",
    "Ångstrom@example.com": "9Qgffa-jEmFERdSKYzymfvDLpzJ2_oschv8_EN0bg4I",
    "jane@ｅｘａｍｐｌｅ。com": "ZPHBMmpGLkVyaltCsvDkaMkRRbf2eyBAaN31vBC24WQ",
    "कमल@example.com": "E9tjK6opXMwOZG5nSEfEZfEfxSdT7cYzGd3fYwYlp7Q",
    f"{'a' * 90}@example.com": "iTysNHjRTfFwbFffBLrfSCtDS_GFY5nCV_txozBJR6Y",
    "+1 (202) 555-0123": "H5es2RExL6T-wNSmE8-NEANTPaTwGN2uQP28s6npmnk",
    "＋４９ ３０ １２３４５６": "BBlSxFZ9sV72L_tkHSR7wkjV5JP459Fg_vSwwo2PJ9g",
    "12 Harbour Lane\n Portland, ME": "_3wKRuV13xR0-wDb6MHT2iImSS2FVyAII3w8E-uannQ",
    "Straße 1, ZÜRICH": "4Yot4Qcr8FN5XAASEfn2eFTD8k8IFhOVxaLbDly10M0",
    "３−１２ 港区\u3000東京": "C-AvUaqBXWV-brDOPpEbl8FAw2w-ZR8JQWHf9mB7kIc",
}


@pytest.mark.parametrize(("typed", "fingerprint"), STORED.items())
def test_what_was_stored_under_a_spelling_is_found_under_it(typed: str, fingerprint: str) -> None:
    channel = Channel.EMAIL if "@" in typed else Channel.SMS if typed[0] in "+＋" else Channel.POST
    assert fingerprint == Fingerprints([OLD]).of(read_address(channel, typed))


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
