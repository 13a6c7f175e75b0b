"""Keyed fingerprints of addresses, and the masked form that pages show.

Invariant: equal addresses have equal fingerprints. `preferences.address_parsing` makes the normal form.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel


class Fingerprints:
    """HMAC-SHA-256 over channel and normal form, in base64url (43 characters). Keys run from oldest to newest. The
    newest makes new fingerprints; lookups try all."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("at least one fingerprint key")
        self._newest_first = tuple(_Keyed(key) for key in reversed(keys))

    def of(self, address: Address) -> str:
        return self._newest_first[0].fingerprint(address)

    def candidates(self, address: Address) -> tuple[str, ...]:
        """Every fingerprint that the database may hold for the address, newest key first."""
        forms = [address] if address.channel is not Channel.POST else [address, *_earlier_forms(address)]
        return tuple(keyed.fingerprint(form) for keyed in self._newest_first for form in forms)

    def digests(self, channel: Channel, values: Sequence[bytes]) -> Iterator[bytes]:
        """For each key, newest first: the addresses' raw fingerprints (32 bytes each), joined; then the same for
        earlier normal forms, if any."""
        forms = [values]
        if channel is Channel.POST:
            earlier = [_earlier_post(value.decode()).encode() for value in values]
            forms += [earlier] if earlier != values else []
        for keyed in self._newest_first:
            for form in forms:
                yield keyed.digests(channel, form)

    def by_print(self, addresses: Iterable[Address]) -> dict[str, Address]:
        """Each address by every fingerprint that the database may hold for it."""
        known = list(addresses)
        found = {keyed.fingerprint(address): address for address in known for keyed in self._newest_first}
        post = [address for address in known if address.channel is Channel.POST]
        earlier = [(form, address) for address in post for form in _earlier_forms(address)]
        return found | {keyed.fingerprint(form): address for form, address in earlier for keyed in self._newest_first}


def _earlier_forms(address: Address) -> Iterator[Address]:
    """An earlier version normalised some postal addresses differently."""
    earlier = "" if address.value.isascii() else _earlier_post(address.value)
    if earlier not in {"", address.value}:
        yield Address(Channel.POST, earlier)


def _earlier_post(value: str) -> str:
    """That normal form: NFD, where NFC is used now."""
    return " ".join(unicodedata.normalize("NFD", value).casefold().split())


_BLOCK: Final = 64
"""Bytes in a SHA-256 block; keys are padded to it (RFC 2104 §2)."""

_PREFIXES: Final = {channel: f"{channel.value}:".encode() for channel in Channel}


class _Keyed:
    """HMAC-SHA-256 (RFC 2104). Hashes the key once and copies the state for each address: three times as fast as
    `hmac`."""

    def __init__(self, key: bytes) -> None:
        key = key if len(key) <= _BLOCK else hashlib.sha256(key).digest()
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def fingerprint(self, address: Address) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(_PREFIXES[address.channel] + address.value.encode())
        outer.update(inner.digest())
        return base64.urlsafe_b64encode(outer.digest()).rstrip(b"=").decode("ascii")

    def digests(self, channel: Channel, values: Sequence[bytes]) -> bytes:
        """For millions of addresses: the channel is hashed once, too."""
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
    """Recognisable to the owner alone, such as `j•••@example.com`."""
    if address.channel is Channel.EMAIL:
        local, _, domain = address.value.rpartition("@")
        local = local.removeprefix('"')
        return f"{local[0] if len(local) > 2 else ''}•••@{domain}"
    return f"•••{address.value[-2:]}"


GMAIL: Final = frozenset({"gmail.com", "googlemail.com"})


def mailbox_of(address: Address) -> Address:
    """Without `+tag`, and at Gmail without dots. Only for limits, never to identify a contact."""
    if address.channel is not Channel.EMAIL:
        return address
    local, _, domain = address.value.rpartition("@")
    local = (local.partition("+")[0] or local).lower()
    if domain in GMAIL:
        local, domain = local.replace(".", ""), "gmail.com"
    return Address(Channel.EMAIL, f"{local}@{domain}")
