"""Parses addresses into their normal form (docs/decisions/0004-addresses.md).

No I/O. `email-validator` and `phonenumbers` are slow to import, so only the addresses that need them import them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from preferences.domain.errors import BadAddress
from preferences.domain.plain_text import is_one_line
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel

LONGEST: Final = 254
"""Bytes in an address: RFC 5321 §4.5.3.1.3 without the path's angle brackets."""

_LOCAL: Final = "[a-z0-9!#$%&'*+/=?^_`{|}~.-]++"
_LABEL: Final = "[a-z0-9]++(?:-[a-z0-9]++)*+"

SHORT: Final = 64
"""Bytes: a shorter address breaks no limit on its parts."""

PLAIN_EMAIL: Final = rf"{_LOCAL}@(?:{_LABEL}\.)++(?![0-9]){_LABEL}"
"""Ordinary addresses in normal form; others, and those over `SHORT`, are parsed in full. `++` keeps it linear."""

_is_plain: Final = re.compile(PLAIN_EMAIL).fullmatch

LONGEST_MAILBOX: Final = 10 * LONGEST
"""Characters in an address with its name and comments."""

_IS_MORE: Final = re.compile(r"[<(\s]")
"""Present only in a mailbox with a name or comments."""
_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|\[[^\[\]\\]*+\]|\\.|.', re.DOTALL)
_IN_COMMENT: Final = re.compile(r"[^()\\]++|\\.|.", re.DOTALL)


_WHITE_SPACE: Final = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_AROUND: Final = (
    _WHITE_SPACE + "\xad\u061c\u180e\ufeff" + "".join(map(chr, [*range(0x200B, 0x2010), *range(0x202A, 0x2070)]))
)
"""Stripped at both ends: white space, and zero-width marks from copied text."""

_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"@(.*)', re.DOTALL)
_UNQUOTED: Final = re.compile("[a-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\U0010ffff-]++")
_IN_QUOTES: Final = re.compile("[\x20-\x7e\u0080-\U0010ffff]++")

_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]|i\u0307"
)
"""Invisible characters (Default_Ignorable_Code_Point outside category Cf, and the blank Braille pattern), and the lower
case of the Turkish dotted I."""

_WHOLE_LETTERS: Final = frozenset("\u0e33\u0eb3\u0edc\u0edd")
"""Thai and Lao letters in general use, although NFKC decomposes them."""


_MEANS_MORE_IN_A_LINK: Final = frozenset("?&%#=<>\"'`\\;,:()[]{}|^ ")
"""Special in a `mailto:` URI (RFC 6068 §2), a header field or HTML."""


def read_address(channel: Channel, text: str) -> Address:
    """The address in normal form: stripped, in lower case, international domains as A-labels.

    Dots and plus signs stay, since they can distinguish mailboxes. For what is equal or refused see
    docs/decisions/0024-spellings.md. Raises BadAddress, which never contains the text.
    """
    if "\x00" in text or len(text) > 4 * LONGEST:
        raise BadAddress("not an address")
    if channel is Channel.EMAIL:
        return Address(channel, _email(text))
    if channel is Channel.POST:
        return Address(channel, _post(text))
    return Address(channel, _phone(text))


def read_mailbox(text: str) -> Address:
    """The email address in an RFC 5322 §3.4 mailbox such as `Jane Doe <jane@example.com>`.

    The name and comments are dropped; an unquoted comma (`Doe, Jane <jane@example.com>`) belongs to the name. Groups,
    several mailboxes and routes are refused as ambiguous. Raises BadAddress, which never contains the text.
    """
    if not _IS_MORE.search(text.strip()):
        return read_address(Channel.EMAIL, text)
    if len(text) > LONGEST_MAILBOX:
        raise BadAddress("not a mailbox")
    pieces = _angle(list(_without_comments(text)))
    if "@" not in pieces:
        raise BadAddress("not a mailbox")
    at = len(pieces) - 1 - pieces[::-1].index("@")
    local, domain = "".join(pieces[:at]).strip(), "".join(pieces[at + 1 :]).strip()
    return read_address(Channel.EMAIL, f"{local}@{domain}")


def _angle(pieces: list[str]) -> list[str]:
    """The pieces in angle brackets, or all if there are none. Raises BadAddress."""
    if "<" not in pieces:
        return pieces
    opened = pieces.index("<")
    name, rest = pieces[:opened], pieces[opened + 1 :]
    if ":" in name or {",", "@"} <= set(name):
        raise BadAddress("a group, or several mailboxes")
    if ">" not in rest or "".join(rest[rest.index(">") + 1 :]).strip():
        raise BadAddress("not a mailbox")
    return rest[: rest.index(">")]


def _without_comments(text: str) -> Iterator[str]:
    """Characters outside comments; quoted strings, escapes and domain literals are single pieces. Raises BadAddress for
    an unclosed quote or comment."""
    at, depth = 0, 0
    while found := (_IN_COMMENT if depth else _PIECE).match(text, at):
        piece, at, was = found.group(), found.end(), depth
        depth += (piece == "(") - (piece == ")" and depth > 0)
        if piece == '"' and not was:
            raise BadAddress("a quote that does not end")
        if not was and not depth:
            yield piece
        elif not depth:
            yield " "  # a comment is white space (§3.2.2)
    if depth:
        raise BadAddress("a comment that does not end")


def _email(text: str) -> str:
    plain = text.strip(_AROUND).lower()
    if len(plain) <= SHORT and _is_plain(plain):
        return plain
    quoted = _QUOTED.fullmatch(plain)
    if quoted:
        local, domain = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted[2]
    else:
        local, _, domain = plain.partition("@")
    value = f"{_local_part(local, is_quoted=quoted is not None)}@{_domain(domain)}"
    if len(value.encode()) > LONGEST:
        raise BadAddress("not an e-mail address")
    return value


def _local_part(text: str, *, is_quoted: bool) -> str:
    """Quoted only where RFC 5321 §4.1.2 requires it; dots may be anywhere. Raises BadAddress."""
    local = unicodedata.normalize("NFC", text).lower()
    if not local.isascii() and not _is_seen_as_written(local):
        raise BadAddress("not an e-mail address")
    if _UNQUOTED.fullmatch(local):
        return local
    if not is_quoted or not _IN_QUOTES.fullmatch(local):
        raise BadAddress("not an e-mail address")
    return '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'


def _is_seen_as_written(text: str) -> bool:
    """Whether no other text looks the same: excludes compatibility forms such as full-width letters (RFC 8264 §9.17)
    and invisible characters."""
    if _UNSEEN.search(text) or unicodedata.category(text[0])[0] == "M":
        return False
    beyond = {character for character in text if not character.isascii()}
    return all(
        unicodedata.category(character)[0] in "LMNPS"
        and (unicodedata.normalize("NFKC", character) == character or character in _WHOLE_LETTERS)
        for character in beyond
    )


def _domain(text: str) -> str:
    """As A-labels, without a final dot (the root, RFC 1034 §3.1, or a full stop). Raises BadAddress."""
    from email_validator import EmailNotValidError, validate_email

    domain = text[:-1] if text.endswith((".", "。", "．", "｡")) else text
    try:
        parts = validate_email(
            f"x@{domain}", check_deliverability=False, test_environment=True, globally_deliverable=False
        )
    except EmailNotValidError:
        raise BadAddress("not an e-mail address") from None
    return (parts.ascii_domain or parts.domain).lower()


_ABROAD: Final = re.compile(r"[(\s]*\+?\s*(?:00|００|٠٠|۰۰)")
"""`00` for `+`, the prefix that ITU-T E.164 recommends."""
_NO_DIGITS: Final = re.compile(r"^tel:|[\s;,]*(?:ext(?:ensio)?n?\.?|x)[\s=:]*[0-9]{1,8}$", re.IGNORECASE)
"""A `tel:` prefix or an extension."""
_OTHER_LETTER: Final = re.compile(r"[^\W\d_A-Z]")


def _phone(text: str) -> str:
    import phonenumbers

    trimmed = text.strip(_AROUND)
    if begins_abroad := _ABROAD.match(trimmed):
        trimmed = f"+{trimmed[begins_abroad.end() :]}"
    if _OTHER_LETTER.search(_NO_DIGITS.sub("", trimmed)):
        # The library reads letters as keypad digits: `(home)` would change the number.
        raise BadAddress("not a telephone number with its country code, such as +1 202 555 0123")
    try:
        number = phonenumbers.parse(trimmed, None)
    except phonenumbers.NumberParseException:
        raise BadAddress("not a telephone number with its country code, such as +1 202 555 0123") from None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise BadAddress("not a possible telephone number")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _post(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    if not folded:
        raise BadAddress("an empty postal address")
    if re.search("[\ud800-\udfff]", folded):
        raise BadAddress("half a character, which no text can hold")  # a lone surrogate from JSON
    return folded


def is_contact_address(text: str) -> bool:
    """Whether this email address needs no escaping in links and header fields."""
    if not is_one_line(text) or _MEANS_MORE_IN_A_LINK.intersection(text):
        return False
    try:
        read_address(Channel.EMAIL, text)
    except BadAddress:
        return False
    return True
