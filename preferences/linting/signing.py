"""The signature of a mail (DKIM).

Owns whether one is valid, whose it is, and what it covers. Invariant: a key that could not be looked up is never told
as a bad signature.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import dkim
import dns.exception
import dns.resolver

from preferences.linting.findings import KeyUnknown, Options, Result, Verdict
from preferences.linting.reading import Mail

SECONDS_FOR_DNS: Final = 5.0
MOST_SIGNATURES: Final = 8
"""More than this many are not looked at: each costs a look-up."""

COVERED: Final = ("list-unsubscribe", "list-unsubscribe-post")

_quiet = logging.getLogger(f"{__name__}.library")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False  # it quotes the mail


class BadKey(ValueError):
    """Not a public key. Says what one looks like."""


@dataclass(frozen=True, slots=True)
class _Signature:
    """What a signature says of itself."""

    index: int
    domain: str
    covers: tuple[str, ...]
    has_length: bool


def read_key(data: bytes) -> bytes:
    """The record of a key: from a file with the DNS record as text, quoted or not, or with the key as PEM.

    Raises BadKey for anything else.
    """
    text = data.decode("ascii", "replace").strip()
    pem = re.search(r"-----BEGIN PUBLIC KEY-----(.+?)-----END PUBLIC KEY-----", text, re.DOTALL)
    if pem:
        return b"v=DKIM1; k=rsa; p=" + "".join(pem[1].split()).encode("ascii", "replace")
    quoted = re.findall(r'"([^"]*)"', text)
    record = "".join(quoted) if quoted else " ".join(text.split())
    found = re.search(r"(?:^|;)\s*p=([A-Za-z0-9+/=\s]+)", record)
    try:
        if found and base64.b64decode("".join(found[1].split()), validate=True):
            return record.encode("ascii", "replace")
    except binascii.Error:
        pass
    raise BadKey("not a public key: give the DNS record (v=DKIM1; k=rsa; p=…) or a PEM file (BEGIN PUBLIC KEY)")


def look_up(name: str) -> bytes | None:
    """The record of a key in DNS, None where there is none. Raises KeyUnknown when DNS gives no answer."""
    try:
        answer = dns.resolver.resolve(name, "TXT", lifetime=SECONDS_FOR_DNS)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
    except (dns.exception.DNSException, OSError, ValueError):
        raise KeyUnknown from None
    return next((b"".join(record.strings) for record in answer), None)


def check_signature(mail: Mail, options: Options) -> Verdict:
    """M-05, of the best signature that the mail has."""
    count = min(len(mail.named("DKIM-Signature")), MOST_SIGNATURES)
    if not count:
        return Verdict(Result.FAIL, "There is no DKIM signature: switch on DKIM where the mail is sent.")
    verdicts = [_check_one(mail, options, index) for index in range(count)]
    order = (Result.PASS, Result.WARN, Result.UNCHECKED, Result.FAIL)
    return min(verdicts, key=lambda one: order.index(one.result))


def _check_one(mail: Mail, options: Options, index: int) -> Verdict:
    signature = _read(mail, index)
    if signature is None:
        return Verdict(Result.FAIL, "The DKIM signature cannot be read: sign the mail again with another signer.")
    missing = [name for name in COVERED if mail.named(name) and name not in signature.covers]
    if missing:
        return Verdict(Result.FAIL, f"Name {' and '.join(missing)} in h= of the DKIM signature, so that it covers it.")
    if signature.has_length:
        return Verdict(Result.FAIL, "Leave out l= of the DKIM signature: with it, anybody can add to the mail.")
    aligned = _alignment(signature.domain, mail.sender_domain)
    if aligned is Result.FAIL:
        return Verdict(Result.FAIL, "The DKIM signature is of another domain than From: sign with From's domain.")
    return _verified(mail, options, signature, aligned)


def _verified(mail: Mail, options: Options, signature: _Signature, aligned: Result) -> Verdict:
    try:
        valid = _verify(mail.raw, signature.index, _key_finder(options))
    except KeyUnknown:
        text = "The DKIM key could not be looked up, so the signature was not checked: try again, or give --dkim-key."
        return Verdict(Result.UNCHECKED, text)
    if not valid:
        text = "The DKIM signature does not hold: the mail was changed after signing, or its key is wrong or missing."
        return Verdict(Result.FAIL, text)
    if aligned is Result.WARN:
        text = "The signing domain and From's only share an ending: check that both belong to one organisation."
        return Verdict(Result.WARN, text)
    if any(signature.covers.count(name) <= len(mail.named(name)) for name in COVERED if mail.named(name)):
        text = "The signature holds. Name both list fields once more in h=, so that nobody can add a second one."
        return Verdict(Result.WARN, text)
    return Verdict(Result.PASS, "The DKIM signature holds, is From's, and covers both list fields.")


def _read(mail: Mail, index: int) -> _Signature | None:
    value = mail.named("DKIM-Signature")[index].value
    tags = {name.strip(): text.strip() for name, _, text in (one.partition("=") for one in value.split(";"))}
    if not {"d", "s", "h", "b", "bh"} <= tags.keys():
        return None
    covers = tuple(one.strip().lower() for one in tags["h"].split(":"))
    return _Signature(index, tags["d"].lower().rstrip("."), covers, "l" in tags)


def _alignment(signer: str, sender: str) -> Result:
    """Relaxed, as DMARC has it, without a list of public suffixes: two sisters below one domain are only likely."""
    if sender and (signer == sender or sender.endswith(f".{signer}") or signer.endswith(f".{sender}")):
        return Result.PASS if "." in signer else Result.FAIL
    shared = signer.split(".")[-2:]
    return Result.WARN if len(shared) > 1 and shared == sender.split(".")[-2:] else Result.FAIL


def _key_finder(options: Options) -> Callable[[str], bytes | None]:
    def find(name: str) -> bytes | None:
        known = options.keys.get(name)
        if known is not None:
            return known
        if options.look_up is None:
            raise KeyUnknown
        return options.look_up(name)

    return find


def _verify(raw: bytes, index: int, find: Callable[[str], bytes | None]) -> bool:
    def from_name(name: bytes | str, timeout: float = 0) -> bytes | None:  # noqa: ARG001 - the library's own call
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
        return find(text.rstrip(".").lower())

    try:
        return bool(dkim.DKIM(raw, logger=_quiet).verify(idx=index, dnsfunc=from_name))
    except KeyUnknown:
        raise
    except Exception:  # noqa: BLE001 - the library raises what Python raised on odd signatures and keys
        return False
