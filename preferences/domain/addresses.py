"""Addresses: the fingerprint that survives erasure, and the mask that pages show.

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
        forms = [address] if address.channel is not Channel.POST else [address, *_earlier_forms(address)]
        return tuple(keyed.fingerprint(form) for keyed in self._newest_first for form in forms)

    def digests(self, channel: Channel, values: Sequence[bytes]) -> Iterator[bytes]:
        """For each key, the newest first: the 32 bytes behind the fingerprint of each of the addresses, joined; and so
        again for earlier normal forms, where there are any."""
        forms = [values]
        if channel is Channel.POST:
            earlier = [_earlier_post(value.decode()).encode() for value in values]
            forms += [earlier] if earlier != values else []
        for keyed in self._newest_first:
            for form in forms:
                yield keyed.digests(channel, form)

    def by_print(self, addresses: Iterable[Address]) -> dict[str, Address]:
        """The addresses by every fingerprint that may stand in the database for them."""
        known = list(addresses)
        found = {keyed.fingerprint(address): address for address in known for keyed in self._newest_first}
        post = [address for address in known if address.channel is Channel.POST]
        earlier = [(form, address) for address in post for form in _earlier_forms(address)]
        return found | {keyed.fingerprint(form): address for form, address in earlier for keyed in self._newest_first}


def _earlier_forms(address: Address) -> Iterator[Address]:
    """The normal form that some spellings of a postal address once had, if it is another."""
    earlier = "" if address.value.isascii() else _earlier_post(address.value)
    if earlier not in {"", address.value}:
        yield Address(Channel.POST, earlier)


def _earlier_post(value: str) -> str:
    """What became of letters and accents that were written apart (NFD), before both spellings were one."""
    return " ".join(unicodedata.normalize("NFD", value).casefold().split())


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
        local = local.removeprefix('"')
        return f"{local[0] if len(local) > 2 else ''}•••@{domain}"
    return f"•••{address.value[-2:]}"


GMAIL: Final = frozenset({"gmail.com", "googlemail.com"})


def mailbox_of(address: Address) -> Address:
    """The mailbox that an email address leads to at most providers: without `+tag`, at Gmail without dots. For limits
    alone, never for whose it is: somebody else's name may have a plus sign."""
    if address.channel is not Channel.EMAIL:
        return address
    local, _, domain = address.value.rpartition("@")
    local = (local.partition("+")[0] or local).lower()
    if domain in GMAIL:
        local, domain = local.replace(".", ""), "gmail.com"
    return Address(Channel.EMAIL, f"{local}@{domain}")
