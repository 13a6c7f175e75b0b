"""Signed links: what we sign is what we read, and nothing else is ever read as a link of ours."""

from __future__ import annotations

import re
import string
from base64 import urlsafe_b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preferences.domain.errors import BadLink, StaleLink
from preferences.domain.outbox import ADDRESS_LIFE, SIGN_IN_LIFE
from preferences.domain.vocabulary import BLANKET, Channel
from preferences.tokens import (
    HAND_OFF_LIFE,
    LONGEST_TOKEN,
    MESSAGE_REF,
    ConfirmLink,
    HandOff,
    Links,
    ManageLink,
    Ticket,
    UndoToken,
    UnsubscribeLink,
    stem,
    trim,
)
from tests.profiles import scaled

KEY, NEW_KEY = b"link-key-of-these-tests-01", b"link-key-of-these-tests-02"
LINKS = Links([KEY])
CONTACT = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

UNSUBSCRIBE = UnsubscribeLink(CONTACT, Channel.EMAIL, "default", "product-news", "m-1")
MANAGE = ManageLink(CONTACT, Channel.EMAIL, "default", NOON)
UNDO = UndoToken(CONTACT, 7, NOON)
CONFIRM = ConfirmLink(CONTACT, "default", ("email.offers.status=on", "sms.product-news.cap=3"), NOON)
TICKET = Ticket(CONTACT, NOON)

# One token of each kind and version. They are in people's inboxes: never change one, only add.
PINNED = {
    "unsubscribe.1": "AYkKXayWd0u8zrMCCZqAVwFkZWZhdWx0H3Byb2R1Y3QtbmV3cx9tLTE.tvih_spYnaP6zfm3VSIiIBWy",
    "manage.1": "AYkKXayWd0u8zrMCCZqAVwEAah10QGRlZmF1bHQ.wT0ijL7J6OjN9wfngC2I0Qms",
    "undo.1": "AYkKXayWd0u8zrMCCZqAVwAAAAAAAAAHAGoddEA.VfHijRN-f7l2aWC-KbBqdlaW",
    "confirm.1": (
        "AYkKXayWd0u8zrMCCZqAVwBqHXRAZGVmYXVsdB9lbWFpbC5vZmZlcnMuc3RhdHVzPW9uH3Ntcy5wcm9kdWN0LW5ld3MuY2FwPTM"
        ".MaQJ5SA2dT0fBUHHINJ__jmg"
    ),
    "address.1": "AYkKXayWd0u8zrMCCZqAVwBqHXRAAQIDBA.kedzStErjN_A4MEn7GJZau9k",
    "sign-in.1": "AYkKXayWd0u8zrMCCZqAVwBqHXRAAQIDBA.NISj0YKzczWaQSJ_P2qrfw7X",
    "hand-off.1": "AYkKXayWd0u8zrMCCZqAVwBqHXRAAQIDBA.Zxesu37pLGI2S83mubKY_Sxg",
}

# Tokens of the same versions that end in what some mail programs leave out of a link. No new one does.
OLD_ENDS = {
    "AAAAAAAAAAAAAAAAAAAAOwFkZWZhdWx0H3Byb2R1Y3QtbmV3cx8.IgAnSAYN74233GgfYLJhtJv_": 59,
    "AAAAAAAAAAAAAAAAAAAAbwFkZWZhdWx0H3Byb2R1Y3QtbmV3cx8.x9D6BRoybz6YBlVzpNMb487-": 111,
    "AAAAAAAAAAAAAAAAAAAD-QFkZWZhdWx0H3Byb2R1Y3QtbmV3cx8.99Y4jIp6Wao7yg8D4IIMyr--": 1017,
    "AAAAAAAAAAAAAAAAAAAO2AFkZWZhdWx0H3Byb2R1Y3QtbmV3cx8.mMI9cr7Hy_lh0z1uTIWzAq-_": 3800,
    "AAAAAAAAAAAAAAAAAAAX2AFkZWZhdWx0H3Byb2R1Y3QtbmV3cx8.xuvb5RlLwqhsqjhvj6_c65_-": 6104,
    "AAAAAAAAAAAAAAAAAAAlwwFkZWZhdWx0H3Byb2R1Y3QtbmV3cx8.yNAA1fKTxAGowP_76i8Tab__": 9667,
}
OLD_MANAGE_ENDS = {
    "AAAAAAAAAAAAAAAAAAAAcQEAah10QGRlZmF1bHQ.yF4gqOo9IrkE4tsWQ7PI8jo-": 113,
    "AAAAAAAAAAAAAAAAAAAA-gEAah10QGRlZmF1bHQ.ZH9CJb2zfn6ONan-FQbpR2j_": 250,
}

# What mail programs, people and quoted-printable put behind a link in plain text.
CLOSINGS = (
    *(".", ",", ";", ":", "!", ")", "]", "}", ">", "'", '"', "=", "*", "_", "-", "~", "|", "`", " ", "\r\n"),
    *(").", ">.", '">', "'>)", "...", "%3E", "%3e%2E", "&gt;", "&gt", "&quot;)", "\u201d", "\u00bb.", "\u3002", "**"),
)
BEHIND_UNSUBSCRIBE = (
    *CLOSINGS,
    "&utm_source=mail&utm_medium=email",
    "] Unsubscribe here",
    "\u3053\u3061\u3089",
    "=\nnext",
)

Read = Callable[[str], object]


def readers(links: Links) -> dict[str, Read]:
    """How each kind is read, at noon."""
    return {
        "unsubscribe.1": links.read_unsubscribe,
        "manage.1": lambda token: links.read_manage(token, NOON),
        "undo.1": lambda token: links.read_undo(token, NOON),
        "confirm.1": lambda token: links.read_confirm(token, NOON),
        "address.1": lambda token: links.read_address(token, NOON),
        "sign-in.1": lambda token: links.read_sign_in(token, NOON),
        "hand-off.1": lambda token: links.read_hand_off(token, NOON),
    }


READERS = readers(LINKS)
TICKETS = {
    "address.1": LINKS.sign_address,
    "sign-in.1": LINKS.sign_sign_in,
    "hand-off.1": LINKS.sign_hand_off,
}
MEANINGS = {
    "unsubscribe.1": UNSUBSCRIBE,
    "manage.1": MANAGE,
    "undo.1": UNDO,
    "confirm.1": CONFIRM,
    **dict.fromkeys(TICKETS, TICKET),
    # Signed before a hand-off said whether it may opt in.
    "hand-off.1": HandOff(TICKET.id, TICKET.issued_at, may_opt_in=False),
}
EACH_KIND = pytest.mark.parametrize("kind", PINNED)

patiently = settings(deadline=None)
slugs = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
unsubscribe_links = st.builds(
    UnsubscribeLink,
    st.uuids(),
    st.sampled_from(Channel),
    slugs,
    slugs | st.just(BLANKET),
    st.just("") | st.from_regex(MESSAGE_REF, fullmatch=True),
)
instants = st.integers(0, 2**35).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
manage_links = st.builds(ManageLink, st.uuids(), st.sampled_from(Channel), slugs, instants)
items = st.lists(st.text(st.characters(exclude_characters="\x1f", codec="utf-8"), max_size=20), max_size=5).map(tuple)
confirm_links = st.builds(ConfirmLink, st.uuids(), slugs, items, instants)
tickets = st.builds(Ticket, st.uuids(), instants)
undos = st.builds(UndoToken, st.uuids(), st.integers(0, 2**63 - 1), instants)


def is_refused(read: Read, token: str) -> bool:
    """Whether it is refused, and by nothing but BadLink."""
    try:
        read(token)
    except BadLink:
        return True
    return False


def payload_of(token: str) -> bytes:
    text = token.rpartition(".")[0]
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


# What is signed is what is read.


@patiently
@given(unsubscribe_links)
@example(UnsubscribeLink(CONTACT, Channel.POST, "b" * 64, "t" * 64, "m" * 64))
def test_an_unsubscribe_link_reads_as_it_was_signed(link: UnsubscribeLink) -> None:
    assert LINKS.read_unsubscribe(LINKS.sign_unsubscribe(link)) == link


@patiently
@given(manage_links)
def test_a_manage_link_reads_as_it_was_signed(link: ManageLink) -> None:
    assert LINKS.read_manage(LINKS.sign_manage(link), link.issued_at) == link


@patiently
@given(undos)
def test_an_undo_reads_as_it_was_signed(undo: UndoToken) -> None:
    assert LINKS.read_undo(LINKS.sign_undo(undo), undo.issued_at) == undo


@patiently
@given(confirm_links)
def test_a_confirm_link_reads_as_it_was_signed(link: ConfirmLink) -> None:
    assert LINKS.read_confirm(LINKS.sign_confirm(link), link.issued_at) == link


@patiently
@given(tickets)
def test_a_ticket_reads_as_it_was_signed(ticket: Ticket) -> None:
    assert LINKS.read_address(LINKS.sign_address(ticket), ticket.issued_at) == ticket
    assert LINKS.read_sign_in(LINKS.sign_sign_in(ticket), ticket.issued_at) == ticket


@patiently
@given(tickets, st.booleans())
def test_a_hand_off_reads_as_it_was_signed(ticket: Ticket, may_opt_in: bool) -> None:
    token = LINKS.sign_hand_off(ticket, may_opt_in=may_opt_in)
    read = LINKS.read_hand_off(token, ticket.issued_at)
    assert read == HandOff(ticket.id, ticket.issued_at, may_opt_in=may_opt_in)


@pytest.mark.parametrize("sign", TICKETS.values(), ids=TICKETS)
def test_two_tickets_of_the_same_second_differ_so_that_each_can_be_used_once(sign: Callable[[Ticket], str]) -> None:
    assert len({sign(TICKET) for _ in range(20)}) == 20


@EACH_KIND
def test_a_token_of_every_version_still_reads(kind: str) -> None:
    assert READERS[kind](PINNED[kind]) == MEANINGS[kind]


def test_we_still_sign_the_newest_version() -> None:
    assert LINKS.sign_unsubscribe(UNSUBSCRIBE) == PINNED["unsubscribe.1"]
    assert LINKS.sign_manage(MANAGE) == PINNED["manage.1"]
    assert LINKS.sign_undo(UNDO) == PINNED["undo.1"]
    assert LINKS.sign_confirm(CONFIRM) == PINNED["confirm.1"]
    for kind, sign in TICKETS.items():
        payload, _, _ = PINNED[kind].partition(".")
        assert payload_of(sign(TICKET))[:21] == payload_of(f"{payload}.")[:21], "the rest is random"


# Nothing else is.


@EACH_KIND
def test_no_single_character_can_be_changed(kind: str) -> None:
    token, read = PINNED[kind], READERS[kind]
    for place, was in enumerate(token):
        for other in sorted(set(string.printable + "é\u212a\x00") - {was}):
            assert is_refused(read, token[:place] + other + token[place + 1 :]), (place, other)


@EACH_KIND
def test_no_character_can_be_added_before_the_end(kind: str) -> None:
    token, read = PINNED[kind], READERS[kind]
    for place in range(len(token)):
        for more in "A.-_=+/ \n!%é":
            assert is_refused(read, token[:place] + more + token[place:]), (place, more)


@EACH_KIND
def test_no_letter_or_digit_can_be_added_at_the_end(kind: str) -> None:
    for more in string.ascii_letters + string.digits:
        assert is_refused(READERS[kind], PINNED[kind] + more)


@EACH_KIND
def test_no_end_and_no_beginning_can_be_cut_off(kind: str) -> None:
    token, read = PINNED[kind], READERS[kind]
    for place in range(1, len(token)):
        assert is_refused(read, token[:place]), place
        assert is_refused(read, token[place:]), place


@patiently
@given(unsubscribe_links)
def test_a_signature_has_one_spelling(link: UnsubscribeLink) -> None:
    token = LINKS.sign_unsubscribe(link)
    payload, _, signature = token.rpartition(".")
    for spelling in (
        signature[:22].replace("-", "+").replace("_", "/") + signature[22:],
        *(signature[:-1] + last for last in string.ascii_letters + string.digits),
    ):
        assert spelling == signature or is_refused(LINKS.read_unsubscribe, f"{payload}.{spelling}")


def test_a_signature_fills_its_characters_to_the_last_bit() -> None:
    signature = PINNED["unsubscribe.1"].rpartition(".")[2]
    assert len(signature) == 24
    assert len(urlsafe_b64decode(signature)) == 18


@EACH_KIND
@patiently
@given(text=st.text())
@example(text="")
@example(text=".")
@example(text="." * LONGEST_TOKEN)
@example(text="A" * 10_000)
@example(text="A" * 16 + "." + "A" * 24)
@example(text="\ud800")
def test_any_text_is_refused_by_bad_link_alone(kind: str, text: str) -> None:
    assert is_refused(READERS[kind], text)


@EACH_KIND
@patiently
@given(data=st.binary(max_size=120), signature=st.from_regex(r"[A-Za-z0-9_-]{24}", fullmatch=True))
def test_any_bytes_are_refused_by_bad_link_alone(kind: str, data: bytes, signature: str) -> None:
    assert is_refused(READERS[kind], data.decode("latin-1"))
    assert is_refused(READERS[kind], f"{data.hex()}.{signature}")


@pytest.mark.parametrize(("kind", "other"), [(kind, other) for kind in PINNED for other in PINNED if kind != other])
def test_a_token_of_one_purpose_is_not_read_as_another(kind: str, other: str) -> None:
    with pytest.raises(BadLink) as refusal:
        READERS[other](PINNED[kind])
    assert refusal.type is BadLink


@patiently
@given(unsubscribe_links, manage_links, undos, confirm_links, tickets)
def test_no_purpose_passes_for_another_whatever_it_holds(
    unsubscribe: UnsubscribeLink, manage: ManageLink, undo: UndoToken, confirm: ConfirmLink, ticket: Ticket
) -> None:
    tokens = {
        "unsubscribe.1": LINKS.sign_unsubscribe(unsubscribe),
        "manage.1": LINKS.sign_manage(manage),
        "undo.1": LINKS.sign_undo(undo),
        "confirm.1": LINKS.sign_confirm(confirm),
        **{name: sign(ticket) for name, sign in TICKETS.items()},
    }
    assert set(tokens) == set(READERS)
    for kind, token in tokens.items():
        assert [name for name, read in READERS.items() if name != kind and not is_refused(read, token)] == []


def test_a_refusal_does_not_hold_the_token() -> None:
    with pytest.raises(BadLink) as refusal:
        LINKS.read_unsubscribe(PINNED["manage.1"])
    assert str(refusal.value) == "not a link of ours"
    assert refusal.value.__cause__ is None


# The end of a token.


@patiently
@given(unsubscribe_links, manage_links, undos, confirm_links, tickets)
def test_a_new_token_ends_in_a_letter_or_digit(
    unsubscribe: UnsubscribeLink, manage: ManageLink, undo: UndoToken, confirm: ConfirmLink, ticket: Ticket
) -> None:
    tokens = [LINKS.sign_unsubscribe(unsubscribe), LINKS.sign_manage(manage), LINKS.sign_undo(undo)]
    tokens += [LINKS.sign_confirm(confirm), *(sign(ticket) for sign in TICKETS.values())]
    assert all(token.isascii() and token[-1].isalnum() for token in tokens)


def test_a_thousand_new_tokens_end_in_a_letter_or_digit() -> None:
    links = (UnsubscribeLink(UUID(int=number), Channel.EMAIL, "default", BLANKET) for number in range(1_000))
    assert all(LINKS.sign_unsubscribe(link)[-1].isalnum() for link in links)


@pytest.mark.parametrize(("token", "number"), OLD_ENDS.items())
def test_an_old_token_is_read_with_and_without_what_was_cut_off(token: str, number: int) -> None:
    link = UnsubscribeLink(UUID(int=number), Channel.EMAIL, "default", "product-news")
    shortest = token.rstrip("-_")
    for cut in [token[:place] for place in range(len(shortest), len(token) + 1)]:
        for behind in ("", *BEHIND_UNSUBSCRIBE):
            assert LINKS.read_unsubscribe(cut + behind) == link
    assert is_refused(LINKS.read_unsubscribe, shortest[:-1])
    assert is_refused(LINKS.read_unsubscribe, shortest + "C")


@pytest.mark.parametrize(("token", "number"), OLD_MANAGE_ENDS.items())
def test_an_old_manage_link_is_read_without_what_was_cut_off(token: str, number: int) -> None:
    link = ManageLink(UUID(int=number), Channel.EMAIL, "default", NOON)
    for behind in ("", *CLOSINGS):
        assert LINKS.read_manage(token + behind, NOON) == LINKS.read_manage(token[:-1] + behind, NOON) == link


@pytest.mark.parametrize("behind", BEHIND_UNSUBSCRIBE)
@pytest.mark.parametrize("links", [LINKS, Links([KEY, NEW_KEY])], ids=["one key", "a rotated key"])
def test_an_unsubscribe_link_is_read_whatever_is_behind_it(links: Links, behind: str) -> None:
    assert links.read_unsubscribe(PINNED["unsubscribe.1"] + behind) == UNSUBSCRIBE


@pytest.mark.parametrize("kind", [kind for kind in PINNED if kind != "hand-off.1"])
@pytest.mark.parametrize("closing", CLOSINGS)
def test_every_link_in_a_mail_is_read_with_a_closing_mark(kind: str, closing: str) -> None:
    assert READERS[kind](PINNED[kind] + closing) == MEANINGS[kind]


@pytest.mark.parametrize("kind", [kind for kind in PINNED if kind != "unsubscribe.1"])
def test_what_grants_more_than_stopping_is_read_with_marks_alone(kind: str) -> None:
    for behind in ("&utm_source=mail", "] Unsubscribe", "." * 9, ".A"):
        assert is_refused(READERS[kind], PINNED[kind] + behind)


@pytest.mark.parametrize("closing", CLOSINGS)
def test_a_hand_off_which_works_once_has_one_spelling(closing: str) -> None:
    assert is_refused(READERS["hand-off.1"], PINNED["hand-off.1"] + closing)


def ends_of(token: str) -> st.SearchStrategy[str]:
    """What may become of the end of a new token: nothing is lost, and anything may be put behind it."""
    more = re.compile("[-_]*[A-Za-z0-9]").match
    return st.text(max_size=30).map(lambda text: token + (f".{text}" if more(text) else text))


@settings(max_examples=scaled(300))
@given(st.data(), unsubscribe_links)
def test_whatever_is_put_behind_it_a_token_means_the_same(data: st.DataObject, link: UnsubscribeLink) -> None:
    token = LINKS.sign_unsubscribe(link)
    found = data.draw(ends_of(token))
    assert LINKS.read_unsubscribe(found) == link
    assert trim(found).startswith(token)
    assert LINKS.read_unsubscribe(trim(found)) == link
    assert stem(found) == stem(token)


@pytest.mark.parametrize("token", [*OLD_ENDS, *PINNED.values()])
def test_a_token_that_is_shown_again_has_lost_what_was_behind_it(token: str) -> None:
    for behind in ("?a=1", "#", "\\", "/../", ">", "%3E", '"onclick="'):
        assert trim(token + behind) == token
        assert trim(token[:-1] + behind) == token[:-1]
    assert trim("nothing of ours") == "nothing of ours"


def test_a_confirm_link_is_known_by_one_reference_however_it_ends() -> None:
    token = PINNED["confirm.1"]
    assert {LINKS.confirm_ref(token + closing) for closing in ("", *CLOSINGS)} == {sha256(token.encode()).hexdigest()}
    with pytest.raises(BadLink):
        LINKS.confirm_ref(PINNED["manage.1"])


def test_guessing_the_last_characters_is_no_use_without_the_others() -> None:
    for token in [*OLD_ENDS, PINNED["unsubscribe.1"]]:
        payload, _, signature = token.partition(".")
        for place in range(22):
            other = "A" if signature[place] != "A" else "B"
            assert is_refused(LINKS.read_unsubscribe, f"{payload}.{signature[:place]}{other}{signature[place + 1 :]}")
            assert is_refused(LINKS.read_unsubscribe, f"{payload}.{signature[:place]}")


# Keys.


@EACH_KIND
def test_old_links_work_after_a_new_key_is_added(kind: str) -> None:
    assert readers(Links([KEY, NEW_KEY]))[kind](PINNED[kind]) == MEANINGS[kind]


def test_the_newest_key_signs() -> None:
    token = Links([KEY, NEW_KEY]).sign_unsubscribe(UNSUBSCRIBE)
    assert Links([NEW_KEY]).read_unsubscribe(token) == UNSUBSCRIBE
    assert is_refused(LINKS.read_unsubscribe, token)


@EACH_KIND
def test_removing_a_key_kills_its_links(kind: str) -> None:
    assert is_refused(readers(Links([NEW_KEY]))[kind], PINNED[kind])


def test_a_code_is_kept_as_a_digest_that_needs_the_key_and_the_sign_in_it_is_for() -> None:
    other = UUID(int=1)
    digests = {
        LINKS.code_digest(CONTACT, "123456"),
        LINKS.code_digest(CONTACT, "123457"),
        LINKS.code_digest(other, "123456"),
        Links([NEW_KEY]).code_digest(CONTACT, "123456"),
    }
    assert len(digests) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


# Time.


def test_a_manage_link_lives_thirty_days() -> None:
    token, end = PINNED["manage.1"], NOON + timedelta(days=30)
    assert LINKS.read_manage(token, end - timedelta(seconds=1)) == MANAGE
    with pytest.raises(StaleLink):
        LINKS.read_manage(token, end)


def test_an_undo_lives_thirty_minutes() -> None:
    token, end = PINNED["undo.1"], NOON + timedelta(minutes=30)
    assert LINKS.read_undo(token, end - timedelta(seconds=1)) == UNDO
    with pytest.raises(StaleLink):
        LINKS.read_undo(token, end)


@pytest.mark.parametrize(
    ("kind", "read", "life"),
    [
        ("confirm.1", LINKS.read_confirm, timedelta(days=7)),
        ("address.1", LINKS.read_address, ADDRESS_LIFE),
        ("sign-in.1", LINKS.read_sign_in, SIGN_IN_LIFE),
        ("hand-off.1", LINKS.read_hand_off, HAND_OFF_LIFE),
    ],
)
def test_what_proves_something_lives_as_long_as_is_said_and_no_longer(
    kind: str, read: Callable[[str, datetime], object], life: timedelta
) -> None:
    assert read(PINNED[kind], NOON + life - timedelta(seconds=1)) == MEANINGS[kind]
    with pytest.raises(StaleLink):
        read(PINNED[kind], NOON + life)


def test_what_proves_something_is_short_lived() -> None:
    assert (
        timedelta(minutes=10),
        timedelta(minutes=2),
        timedelta(days=1),
    ) == (SIGN_IN_LIFE, HAND_OFF_LIFE, ADDRESS_LIFE)


def test_a_forged_link_is_never_called_stale() -> None:
    token = PINNED["manage.1"]
    forged = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
    with pytest.raises(BadLink) as refusal:
        LINKS.read_manage(forged, NOON + timedelta(days=365))
    assert refusal.type is BadLink


def test_an_unsubscribe_link_holds_no_time() -> None:
    assert payload_of(PINNED["unsubscribe.1"]) == CONTACT.bytes + b"\x01default\x1fproduct-news\x1fm-1"


# What a link tells to whoever finds it.


def test_a_manage_link_holds_a_random_id_and_the_day_and_nothing_more() -> None:
    seconds = int(NOON.timestamp()).to_bytes(5, "big")
    assert payload_of(PINNED["manage.1"]) == CONTACT.bytes + b"\x01" + seconds + b"default"


@pytest.mark.parametrize("ref", ["jane@example.com", "jane%40example.com", "a b", "", "x" * 65, "é", "a\n"])
def test_a_message_reference_cannot_be_an_address(ref: str) -> None:
    assert MESSAGE_REF.fullmatch(ref) is None


def test_a_usual_token_has_76_characters() -> None:
    assert len(LINKS.sign_unsubscribe(UnsubscribeLink(CONTACT, Channel.EMAIL, "default", "product-news"))) == 76
