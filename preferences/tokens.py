"""Signs and reads the tokens in links.

Invariants: all that a view uses is signed; tokens of one purpose are never accepted for another; formats only grow
(tests/test_tokens.py pins a token of each version). A token is `base64url(payload) "." signature`: HMAC-SHA-256 cut to
144 bits, a multiple of 24, so that no bit of the base64 is spare. For its end see docs/decisions/0008-tokens.md.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from itsdangerous import Signer
from itsdangerous.encoding import base64_decode, base64_encode
from itsdangerous.signer import SigningAlgorithm

from preferences.domain.errors import BadLink, StaleLink
from preferences.domain.outbox import ADDRESS_LIFE, SIGN_IN_LIFE
from preferences.domain.vocabulary import Channel

MANAGE_LIFE: Final = timedelta(days=30)
CONFIRM_LIFE: Final = timedelta(days=7)
HAND_OFF_LIFE: Final = timedelta(minutes=2)
UNDO_LIFE: Final = timedelta(minutes=30)

LONGEST_TOKEN: Final = 4096
MESSAGE_REF: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""It stands in links, so it cannot be an address."""

_NEEDED: Final = 22
"""Characters of the signature that must be present and correct: 132 bits."""

TOKEN_START: Final = rf"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{{{_NEEDED},24}}"
"""Pattern of a token without what follows it."""

_find_token: Final = re.compile(TOKEN_START).match

_LAST: Final = {"-": "A", "_": "B"}
"""Replacements for a token's last character: some mail programs leave these out of links in plain text."""

_ANYTHING: Final = re.compile(r"[-_]*(?:[^A-Za-z0-9_-].*)?", re.DOTALL)
"""What may follow a token that only reduces mail: anything that cannot belong to it."""

_CLOSING: Final = re.compile(r"(?:%[0-9A-Fa-f]{2}|&(?:gt|lt|quot|amp|#[0-9]+);?|[^A-Za-z0-9]){0,8}")
"""What may follow other tokens: closing punctuation, brackets or quotes."""

_NOTHING: Final = re.compile("")

# Never renumber: links in mailboxes contain these.
_CHANNEL_CODES: Final = {Channel.EMAIL: 1, Channel.SMS: 2, Channel.VOICE: 3, Channel.POST: 4}
_CHANNELS: Final = {code: channel for channel, code in _CHANNEL_CODES.items()}
_BETWEEN: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class UnsubscribeLink:
    """Only reduces mail; never expires. `topic` is a slug or `*`, `message_ref` the sender's reference."""

    contact_id: UUID
    channel: Channel
    brand: str
    topic: str
    message_ref: str = ""


@dataclass(frozen=True, slots=True)
class ManageLink:
    """Shows and changes preferences for 30 days."""

    contact_id: UUID
    channel: Channel
    brand: str
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class ConfirmLink:
    """Confirms opt-ins for 7 days. `items` are `Change.item` of `domain.preference_form`."""

    contact_id: UUID
    brand: str
    items: tuple[str, ...]
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class Ticket:
    """Names a row or a contact. The signing method determines the purpose and the lifetime."""

    id: UUID
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class HandOff(Ticket):
    """Signs a contact in, for 2 minutes. `may_opt_in` allows opt-ins without a confirmation email."""

    may_opt_in: bool = False


@dataclass(frozen=True, slots=True)
class UndoToken:
    """Reverses entry `seq`, for 30 minutes; only on the done page."""

    contact_id: UUID
    seq: int
    issued_at: datetime


class _Sha256Cut(SigningAlgorithm):
    """HMAC-SHA-256, cut to 144 bits."""

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        return hmac.digest(key, value, "sha256")[:18]


class _Purpose:
    """Tokens of one purpose. `ending` matches what may follow a token."""

    def __init__(self, keys: Sequence[bytes], name: str, ending: re.Pattern[str]) -> None:
        # The "hmac" key derivation of itsdangerous, done once and not for each token.
        self._newest_first = tuple(
            Signer(_derived(key, name), key_derivation="none", algorithm=_Sha256Cut()) for key in reversed(keys)
        )
        self._ending = ending

    def sign(self, payload: bytes) -> str:
        text = base64_encode(payload).decode("ascii")
        return f"{text}.{_spellings(_signature(self._newest_first[0], text))[0]}"

    def read(self, token: str) -> bytes:
        """Raises BadLink."""
        return base64_decode(self.in_full(token).partition(".")[0])

    def in_full(self, token: str) -> str:
        """The token with its whole signature in canonical form. Raises BadLink."""
        if len(token) > LONGEST_TOKEN or not _find_token(token):
            raise BadLink("not a link of ours")
        text, _, rest = token.partition(".")
        for signer in self._newest_first:
            signature = _signature(signer, text)
            if hmac.compare_digest(rest[:_NEEDED], signature[:_NEEDED]) and self._ends_well(rest, signature):
                return f"{text}.{signature}"
        raise BadLink("not a link of ours")

    def _ends_well(self, rest: str, signature: str) -> bool:
        if self._ending is _NOTHING:
            return rest == _spellings(signature)[0]
        return any(
            rest.startswith(spelling) and self._ending.fullmatch(rest, len(spelling)) is not None
            for spelling in _spellings(signature)
        )


def _spellings(signature: str) -> tuple[str, ...]:
    """Accepted forms of a signature: current, former, and former with its end cut off."""
    if signature[-1] not in _LAST:
        return (signature,)
    cut = signature[:_NEEDED] + signature[_NEEDED:].rstrip("-_")
    return (signature[:-1] + _LAST[signature[-1]], signature, cut)


class Links:
    """Signs with the newest key, reads with any. Keys run from oldest to newest."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._unsubscribe = _Purpose(keys, "unsubscribe.1", _ANYTHING)
        self._manage = _Purpose(keys, "manage.1", _CLOSING)
        self._confirm = _Purpose(keys, "confirm.1", _CLOSING)
        self._address = _Purpose(keys, "address.1", _CLOSING)
        self._sign_in = _Purpose(keys, "sign-in.1", _CLOSING)
        self._hand_off = _Purpose(keys, "hand-off.1", _NOTHING)
        self._undo = _Purpose(keys, "undo.1", _CLOSING)
        self._code_key = _derived(keys[-1], "sign-in-code.1")

    def sign_unsubscribe(self, link: UnsubscribeLink) -> str:
        names = _BETWEEN.join((link.brand, link.topic, link.message_ref)).encode()
        return self._unsubscribe.sign(_contact_bytes(link.contact_id, link.channel) + names)

    def read_unsubscribe(self, token: str) -> UnsubscribeLink:
        """Raises BadLink."""
        contact_id, channel, rest = _read_contact(self._unsubscribe.read(token))
        brand, topic, message_ref = _names(rest, 3)
        return UnsubscribeLink(contact_id, channel, brand, topic, message_ref)

    def sign_manage(self, link: ManageLink) -> str:
        contact = _contact_bytes(link.contact_id, link.channel)
        return self._manage.sign(contact + _seconds(link.issued_at) + link.brand.encode())

    def read_manage(self, token: str, now: datetime) -> ManageLink:
        """Raises BadLink, or StaleLink after 30 days."""
        contact_id, channel, rest = _read_contact(self._manage.read(token))
        issued_at = _instant(rest[:5])
        _refuse_stale(issued_at, MANAGE_LIFE, now)
        (brand,) = _names(rest[5:], 1)
        return ManageLink(contact_id, channel, brand, issued_at)

    def sign_undo(self, undo: UndoToken) -> str:
        return self._undo.sign(undo.contact_id.bytes + undo.seq.to_bytes(8, "big") + _seconds(undo.issued_at))

    def read_undo(self, token: str, now: datetime) -> UndoToken:
        """Raises BadLink, or StaleLink after 30 minutes."""
        payload = self._undo.read(token)
        undo = UndoToken(UUID(bytes=payload[:16]), int.from_bytes(payload[16:24], "big"), _instant(payload[24:]))
        _refuse_stale(undo.issued_at, UNDO_LIFE, now)
        return undo

    def sign_confirm(self, link: ConfirmLink) -> str:
        names = _BETWEEN.join((link.brand, *link.items)).encode()
        return self._confirm.sign(link.contact_id.bytes + _seconds(link.issued_at) + names)

    def read_confirm(self, token: str, now: datetime) -> ConfirmLink:
        """Raises BadLink, or StaleLink after 7 days."""
        payload = self._confirm.read(token)
        issued_at = _instant(payload[16:21])
        _refuse_stale(issued_at, CONFIRM_LIFE, now)
        brand, *items = payload[21:].decode().split(_BETWEEN)
        return ConfirmLink(UUID(bytes=payload[:16]), brand, tuple(items), issued_at)

    def confirm_ref(self, token: str) -> str:
        """A stable id of a confirm link. Raises BadLink."""
        return hashlib.sha256(self._confirm.in_full(token).encode()).hexdigest()

    def sign_address(self, ticket: Ticket) -> str:
        """To confirm a new address: names a row of `address_request`."""
        return _sign_ticket(self._address, ticket)

    def read_address(self, token: str, now: datetime) -> Ticket:
        """Raises BadLink, or StaleLink after a day."""
        return _read_ticket(self._address, token, ADDRESS_LIFE, now)

    def sign_sign_in(self, ticket: Ticket) -> str:
        """For sign-in emails: names a row of `sign_in`."""
        return _sign_ticket(self._sign_in, ticket)

    def read_sign_in(self, token: str, now: datetime) -> Ticket:
        """Raises BadLink, or StaleLink after 10 minutes."""
        return _read_ticket(self._sign_in, token, SIGN_IN_LIFE, now)

    def sign_hand_off(self, ticket: Ticket, *, may_opt_in: bool = False) -> str:
        """For a company's logged-in customers: names a contact."""
        return self._hand_off.sign(_ticket_bytes(ticket) + bytes([may_opt_in]))

    def read_hand_off(self, token: str, now: datetime) -> HandOff:
        """Raises BadLink, or StaleLink after 2 minutes."""
        ticket = _read_ticket(self._hand_off, token, HAND_OFF_LIFE, now)
        # Old tokens lack the last byte.
        return HandOff(ticket.id, ticket.issued_at, may_opt_in=self._hand_off.read(token)[25:] == b"\x01")

    def code_digest(self, sign_in_id: UUID, code: str) -> str:
        """What is stored of a sign-in code. Keyed, since six digits are too few for a plain hash."""
        return hmac.digest(self._code_key, sign_in_id.bytes + code.encode(), "sha256").hex()


def trim(token: str) -> str:
    """The token without what follows it, for display. Does not verify it."""
    found = _find_token(token)
    return found[0] if found else token


def stem(token: str) -> str:
    """The payload, which has only one spelling: the key for rate limits."""
    return token.partition(".")[0]


def _derived(key: bytes, purpose: str) -> bytes:
    return hmac.digest(key, f"preferences.link.{purpose}".encode(), "sha256")


def _sign_ticket(purpose: _Purpose, ticket: Ticket) -> str:
    return purpose.sign(_ticket_bytes(ticket))


def _ticket_bytes(ticket: Ticket) -> bytes:
    # Random bytes distinguish tickets of the same second: each can be used once.
    return ticket.id.bytes + _seconds(ticket.issued_at) + os.urandom(4)


def _read_ticket(purpose: _Purpose, token: str, life: timedelta, now: datetime) -> Ticket:
    payload = purpose.read(token)
    issued_at = _instant(payload[16:21])
    _refuse_stale(issued_at, life, now)
    return Ticket(UUID(bytes=payload[:16]), issued_at)


def _seconds(at: datetime) -> bytes:
    return int(at.timestamp()).to_bytes(5, "big")


def _signature(signer: Signer, text: str) -> str:
    return signer.get_signature(text).decode("ascii")


def _contact_bytes(contact_id: UUID, channel: Channel) -> bytes:
    return contact_id.bytes + bytes([_CHANNEL_CODES[channel]])


def _read_contact(payload: bytes) -> tuple[UUID, Channel, bytes]:
    return UUID(bytes=payload[:16]), _CHANNELS[payload[16]], payload[17:]


def _names(data: bytes, count: int) -> list[str]:
    names = data.decode().split(_BETWEEN)
    if len(names) != count:
        raise BadLink("not a link of ours")
    return names


def _instant(data: bytes) -> datetime:
    return datetime.fromtimestamp(int.from_bytes(data, "big"), UTC)


def _refuse_stale(issued_at: datetime, life: timedelta, now: datetime) -> None:
    if now >= issued_at + life:
        raise StaleLink("this link's time has passed")
