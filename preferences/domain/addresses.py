"""Addresses: their normal form, the fingerprint that outlives them, and the mask that pages show.

Owns what makes two spellings the same address. Two libraries without input or output, `email-validator` and
`phonenumbers`, are the only ones the domain allows itself (docs/decisions/0004-addresses.md); both are loaded on the
first address that needs them. Invariant: equal addresses have equal fingerprints, whoever typed them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from preferences.domain.errors import BadAddress
from preferences.domain.terms import Address, Channel

LONGEST: Final = 254
"""Octets in an address: RFC 5321 §4.5.3.1.3 leaves 254 for it inside the path's angle brackets."""

_WORD: Final = "[a-z0-9!#$%&'*+/=?^_`{|}~-]++"
_LABEL: Final = "[a-z0-9]++(?:-[a-z0-9]++)*+"

SHORT: Final = 64
"""Octets in an address that is too short for any limit on its parts."""

PLAIN_EMAIL: Final = rf"{_WORD}(?:\.{_WORD})*+@(?:{_LABEL}\.)++(?![0-9]){_LABEL}"
"""A pattern for the addresses that nearly everybody has, in normal form. What does not match, or is not `SHORT`, goes
to the library. (`++` never tries a shorter match again: no text takes longer than its length.)"""

_is_plain: Final = re.compile(PLAIN_EMAIL).fullmatch

LONGEST_MAILBOX: Final = 10 * LONGEST
"""Characters in an address with a name and comments around it."""

_IS_MORE: Final = re.compile(r"[<(\s]")
"""What only a mailbox has that is more than an address."""
_PIECE: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|\[[^\[\]\\]*+\]|\\.|.', re.DOTALL)
_IN_COMMENT: Final = re.compile(r"[^()\\]++|\\.|.", re.DOTALL)


def read_address(channel: Channel, text: str) -> Address:
    """The address in normal form: without surrounding space, lower case, an international domain as A-labels.

    Dots and plus signs stay: they belong to the mailbox's owner. Raises BadAddress, whose message never holds the
    text.
    """
    if "\x00" in text or len(text) > 4 * LONGEST:
        raise BadAddress("not an address")
    if channel is Channel.EMAIL:
        return Address(channel, _email(text))
    if channel is Channel.POST:
        return Address(channel, _post(text))
    return Address(channel, _phone(text))


def read_mailbox(text: str) -> Address:
    """The e-mail address of a mailbox, as reports quote it from a message: `Jane Doe <jane@example.com>`, or alone.

    RFC 5322 §3.4: the display name, quoted or not, is left out, and so are comments and the white space around the
    parts. A comma that should have been quoted (`Doe, Jane <jane@example.com>`) is part of the name. A group, several
    mailboxes and a route are refused, since they name nobody in particular. Raises BadAddress, whose message never
    holds the text.
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
    """The pieces between the angle brackets, or all where there are none. Raises BadAddress."""
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
    """The characters outside comments; a quoted string, an escaped character and a domain literal are one piece each.
    Raises BadAddress for a quote or a comment that does not end."""
    at, depth = 0, 0
    while found := (_IN_COMMENT if depth else _PIECE).match(text, at):
        piece, at, was = found.group(), found.end(), depth
        depth += (piece == "(") - (piece == ")" and depth > 0)
        if piece == '"' and not was:
            raise BadAddress("a quote that does not end")
        if not was and not depth:
            yield piece
        elif not depth:
            yield " "  # comments count as white space (§3.2.2)
    if depth:
        raise BadAddress("a comment that does not end")


def _email(text: str) -> str:
    plain = text.strip().lower() if text.isascii() else ""
    if len(plain) <= SHORT and _is_plain(plain):
        return plain
    from email_validator import EmailNotValidError, validate_email

    try:
        parts = validate_email(
            text.strip().lower(), check_deliverability=False, test_environment=True, globally_deliverable=False
        )
    except EmailNotValidError:
        raise BadAddress("not an e-mail address") from None
    return f"{parts.local_part.lower()}@{(parts.ascii_domain or parts.domain).lower()}"


def _phone(text: str) -> str:
    import phonenumbers

    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        raise BadAddress("not a telephone number with its country code, such as +1 202 555 0123") from None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise BadAddress("not a possible telephone number")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _post(text: str) -> str:
    folded = " ".join(text.casefold().split())
    if not folded:
        raise BadAddress("an empty postal address")
    if re.search("[\ud800-\udfff]", folded):
        raise BadAddress("half a character, which no text can hold")  # JSON can write one, UTF-8 cannot
    return folded


class Fingerprints:
    """Keyed hashes of addresses: HMAC-SHA-256 over channel and normal form, in base64url (43 characters).

    Keys run from the oldest to the newest, as in `LINK_KEYS`. A new fingerprint uses the newest; looking one up tries
    every key, so a rotation forgets nobody.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("at least one fingerprint key")
        self._newest_first = tuple(_Keyed(key) for key in reversed(keys))

    def of(self, address: Address) -> str:
        """The fingerprint to store."""
        return self._newest_first[0].fingerprint(address)

    def candidates(self, address: Address) -> tuple[str, ...]:
        """Every fingerprint that may stand in the database for this address, the newest first."""
        return tuple(keyed.fingerprint(address) for keyed in self._newest_first)

    def digests(self, channel: Channel, values: Sequence[bytes]) -> Iterator[bytes]:
        """For each key, the newest first: the 32 octets behind the fingerprint of each of the addresses, joined."""
        for keyed in self._newest_first:
            yield keyed.digests(channel, values)

    def by_print(self, addresses: Iterable[Address]) -> dict[str, Address]:
        """The addresses by every fingerprint that may stand in the database for them."""
        return {keyed.fingerprint(one): one for one in addresses for keyed in self._newest_first}


_BLOCK: Final = 64
"""Octets in a block of SHA-256: what RFC 2104 §2 fills a key up to."""

_PREFIXES: Final = {channel: f"{channel.value}:".encode() for channel in Channel}


class _Keyed:
    """HMAC-SHA-256 (RFC 2104) under one key. The key's part is done once and copied for each address: with `hmac` it
    is done again each time, which takes three times as long."""

    def __init__(self, key: bytes) -> None:
        key = key if len(key) <= _BLOCK else hashlib.sha256(key).digest()
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(octet ^ 0x36 for octet in padded))
        self._outer = hashlib.sha256(bytes(octet ^ 0x5C for octet in padded))

    def fingerprint(self, address: Address) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(_PREFIXES[address.channel] + address.value.encode())
        outer.update(inner.digest())
        return base64.urlsafe_b64encode(outer.digest()).rstrip(b"=").decode("ascii")

    def digests(self, channel: Channel, values: Sequence[bytes]) -> bytes:
        """Written for millions of addresses: the channel, too, is hashed once and copied."""
        begun, copy_outer = self._inner.copy(), self._outer.copy
        begun.update(_PREFIXES[channel])
        copy_begun = begun.copy
        found = []
        for value in values:
            inner, outer = copy_begun(), copy_outer()
            inner.update(value)
            outer.update(inner.digest())
            found.append(outer.digest())
        return b"".join(found)


def mask(address: Address) -> str:
    """Enough of an address for its owner to know it, too little for anybody else: `j•••@example.com`."""
    if address.channel is Channel.EMAIL:
        local, _, domain = address.value.rpartition("@")
        return f"{local[0] if len(local) > 2 else ''}•••@{domain}"
    return f"•••{address.value[-2:]}"
