"""Signed links: what we sign is what we read, and nothing else is ever read as a link of ours."""

from __future__ import annotations

import string
from base64 import urlsafe_b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preferences.domain.errors import BadLink, StaleLink
from preferences.domain.terms import BLANKET, Channel
from preferences.links import LONGEST_TOKEN, MESSAGE_REF, Links, ManageLink, UndoToken, UnsubscribeLink

KEY, NEW_KEY = b"link-key-of-these-tests-01", b"link-key-of-these-tests-02"
LINKS = Links([KEY])
CONTACT = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

UNSUBSCRIBE = UnsubscribeLink(CONTACT, Channel.EMAIL, "default", "product-news", "m-1")
MANAGE = ManageLink(CONTACT, Channel.EMAIL, "default", NOON)
UNDO = UndoToken(CONTACT, 7, NOON)

# One token of each kind and version. They are in people's inboxes: never change one, only add.
PINNED = {
    "unsubscribe.1": "AYkKXayWd0u8zrMCCZqAVwFkZWZhdWx0H3Byb2R1Y3QtbmV3cx9tLTE.tvih_spYnaP6zfm3VSIiIBWy",
    "manage.1": "AYkKXayWd0u8zrMCCZqAVwEAah10QGRlZmF1bHQ.wT0ijL7J6OjN9wfngC2I0Qms",
    "undo.1": "AYkKXayWd0u8zrMCCZqAVwAAAAAAAAAHAGoddEA.VfHijRN-f7l2aWC-KbBqdlaW",
}

Read = Callable[[str], object]
READERS: dict[str, Read] = {
    "unsubscribe.1": LINKS.read_unsubscribe,
    "manage.1": lambda token: LINKS.read_manage(token, NOON),
    "undo.1": lambda token: LINKS.read_undo(token, NOON),
}
MEANINGS = {"unsubscribe.1": UNSUBSCRIBE, "manage.1": MANAGE, "undo.1": UNDO}
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


@EACH_KIND
def test_a_token_of_every_version_still_reads(kind: str) -> None:
    assert READERS[kind](PINNED[kind]) == MEANINGS[kind]


def test_we_still_sign_the_newest_version() -> None:
    signed = (LINKS.sign_unsubscribe(UNSUBSCRIBE), LINKS.sign_manage(MANAGE), LINKS.sign_undo(UNDO))
    assert signed == (PINNED["unsubscribe.1"], PINNED["manage.1"], PINNED["undo.1"])


# Nothing else is.


@EACH_KIND
def test_no_single_character_can_be_changed(kind: str) -> None:
    token, read = PINNED[kind], READERS[kind]
    for place, was in enumerate(token):
        for other in sorted(set(string.printable + "é\u212a\x00") - {was}):
            assert is_refused(read, token[:place] + other + token[place + 1 :]), (place, other)


@EACH_KIND
def test_no_character_can_be_added(kind: str) -> None:
    token, read = PINNED[kind], READERS[kind]
    for place in range(len(token) + 1):
        for more in "A.-_=+/ \n!%é":
            assert is_refused(read, token[:place] + more + token[place:]), (place, more)


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
        signature.replace("-", "+").replace("_", "/"),
        signature + "=",
        signature + "==",
        *(signature[:-1] + last for last in string.ascii_letters + string.digits + "-_"),
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
@given(unsubscribe_links, manage_links, undos)
def test_no_purpose_passes_for_another_whatever_it_holds(
    unsubscribe: UnsubscribeLink, manage: ManageLink, undo: UndoToken
) -> None:
    tokens = {
        "unsubscribe.1": LINKS.sign_unsubscribe(unsubscribe),
        "manage.1": LINKS.sign_manage(manage),
        "undo.1": LINKS.sign_undo(undo),
    }
    for kind, token in tokens.items():
        assert [name for name, read in READERS.items() if name != kind and not is_refused(read, token)] == []


def test_a_refusal_does_not_hold_the_token() -> None:
    with pytest.raises(BadLink) as refusal:
        LINKS.read_unsubscribe(PINNED["manage.1"])
    assert str(refusal.value) == "not a link of ours"
    assert refusal.value.__cause__ is None


# Keys.


@EACH_KIND
def test_old_links_work_after_a_new_key_is_added(kind: str) -> None:
    rotated = Links([KEY, NEW_KEY])
    read = {
        "unsubscribe.1": rotated.read_unsubscribe,
        "manage.1": lambda token: rotated.read_manage(token, NOON),
        "undo.1": lambda token: rotated.read_undo(token, NOON),
    }[kind]
    assert read(PINNED[kind]) == MEANINGS[kind]


def test_the_newest_key_signs() -> None:
    token = Links([KEY, NEW_KEY]).sign_unsubscribe(UNSUBSCRIBE)
    assert Links([NEW_KEY]).read_unsubscribe(token) == UNSUBSCRIBE
    assert is_refused(LINKS.read_unsubscribe, token)


def test_removing_a_key_kills_its_links() -> None:
    without = Links([NEW_KEY])
    assert is_refused(without.read_unsubscribe, PINNED["unsubscribe.1"])


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
