"""Signed links: sign them, read them.

Owns the tokens in every address that we hand out. Invariants: everything a view uses is inside the signature; a token
of one purpose is never read as another; a token is one string, so not one of its bits can be changed; the purposes'
formats only ever grow (tests/test_links.py pins one token of each version).

A token is `base64url(payload) "." base64url(signature)`. The signature is HMAC-SHA-256 cut to 144 bits: 128 are enough
to be unguessable, and a multiple of 24 leaves no spare bits in the last base64 character for anybody to change.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from itsdangerous import BadData, Signer
from itsdangerous.encoding import base64_decode, base64_encode
from itsdangerous.signer import SigningAlgorithm

from preferences.domain.errors import BadLink, StaleLink
from preferences.domain.terms import Channel

MANAGE_LIFE: Final = timedelta(days=30)
UNDO_LIFE: Final = timedelta(minutes=30)

LONGEST_TOKEN: Final = 512
LONGEST_REF: Final = 64
MESSAGE_REF: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""What a message reference may be. It travels inside a link, so it must not be an address."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{24}")
"""Exactly what we make. The decoder underneath skips what is not base64, so many strings would mean the same token."""

# Never reorder: the numbers are in people's inboxes.
_CHANNEL_CODES: Final = {Channel.EMAIL: 1, Channel.SMS: 2, Channel.VOICE: 3, Channel.POST: 4}
_CHANNELS: Final = {code: channel for channel, code in _CHANNEL_CODES.items()}
_BETWEEN: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class UnsubscribeLink:
    """May only reduce mail, and never expires. `topic` is a slug or `*`; `message_ref` the sender's own reference."""

    contact_id: UUID
    channel: Channel
    brand: str
    topic: str
    message_ref: str = ""


@dataclass(frozen=True, slots=True)
class ManageLink:
    """Shows and changes a contact's choices for 30 days from `issued_at`."""

    contact_id: UUID
    channel: Channel
    brand: str
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class UndoToken:
    """Stands on the done page only, for 30 minutes from `issued_at`: puts back what entry `seq` changed."""

    contact_id: UUID
    seq: int
    issued_at: datetime


class _Sha256Cut(SigningAlgorithm):
    def get_signature(self, key: bytes, value: bytes) -> bytes:
        return hmac.digest(key, value, "sha256")[:18]


class Links:
    """Signs with the newest key and reads with any. Keys run from the oldest to the newest (`LINK_KEYS`)."""

    def __init__(self, keys: Sequence[bytes], public_url: str) -> None:
        self._public_url = public_url.rstrip("/")
        self._unsubscribe = _signer(keys, "unsubscribe.1")
        self._manage = _signer(keys, "manage.1")
        self._undo = _signer(keys, "undo.1")

    def sign_unsubscribe(self, link: UnsubscribeLink) -> str:
        """The token of an unsubscribe link."""
        names = _BETWEEN.join((link.brand, link.topic, link.message_ref)).encode()
        return _sign(self._unsubscribe, _who(link.contact_id, link.channel) + names)

    def read_unsubscribe(self, token: str) -> UnsubscribeLink:
        """Raises BadLink for anything that `sign_unsubscribe` did not make."""
        contact_id, channel, rest = _read_who(_unsign(self._unsubscribe, token))
        brand, topic, message_ref = _names(rest, 3)
        return UnsubscribeLink(contact_id, channel, brand, topic, message_ref)

    def sign_manage(self, link: ManageLink) -> str:
        """The token of a manage link."""
        issued = int(link.issued_at.timestamp()).to_bytes(5, "big")
        return _sign(self._manage, _who(link.contact_id, link.channel) + issued + link.brand.encode())

    def read_manage(self, token: str, now: datetime) -> ManageLink:
        """Raises BadLink for a token that is not ours, StaleLink for one older than 30 days."""
        contact_id, channel, rest = _read_who(_unsign(self._manage, token))
        issued_at = _instant(rest[:5])
        _refuse_stale(issued_at, MANAGE_LIFE, now)
        (brand,) = _names(rest[5:], 1)
        return ManageLink(contact_id, channel, brand, issued_at)

    def sign_undo(self, undo: UndoToken) -> str:
        """The token in the done page's undo form."""
        issued = int(undo.issued_at.timestamp()).to_bytes(5, "big")
        return _sign(self._undo, undo.contact_id.bytes + undo.seq.to_bytes(8, "big") + issued)

    def read_undo(self, token: str, now: datetime) -> UndoToken:
        """Raises BadLink for a token that is not ours, StaleLink for one older than 30 minutes."""
        payload = _unsign(self._undo, token)
        undo = UndoToken(UUID(bytes=payload[:16]), int.from_bytes(payload[16:24], "big"), _instant(payload[24:]))
        _refuse_stale(undo.issued_at, UNDO_LIFE, now)
        return undo

    def unsubscribe_url(self, link: UnsubscribeLink) -> str:
        """The address for `List-Unsubscribe` and for the mail's own text."""
        return f"{self._public_url}/u/{self.sign_unsubscribe(link)}"

    def manage_url(self, link: ManageLink) -> str:
        """The address of the contact's choices."""
        return f"{self._public_url}/p/{self.sign_manage(link)}"


def _signer(keys: Sequence[bytes], purpose: str) -> Signer:
    # What itsdangerous calls the derivation "hmac", done once here and not for each token.
    salt = f"preferences.link.{purpose}".encode()
    return Signer(
        [hmac.digest(key, salt, "sha256") for key in keys],
        sep=".",
        key_derivation="none",
        algorithm=_Sha256Cut(),
    )


def _sign(signer: Signer, payload: bytes) -> str:
    return signer.sign(base64_encode(payload)).decode("ascii")


def _unsign(signer: Signer, token: str) -> bytes:
    if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise BadLink("not a link of ours")
    try:
        return base64_decode(signer.unsign(token))
    except BadData:
        raise BadLink("not a link of ours") from None


def _who(contact_id: UUID, channel: Channel) -> bytes:
    return contact_id.bytes + bytes([_CHANNEL_CODES[channel]])


def _read_who(payload: bytes) -> tuple[UUID, Channel, bytes]:
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
