"""DKIM: validity of a signature, its domain, and what it covers.

Invariants: a failed key lookup is never reported as a bad signature; times are judged as of receipt, so that old mail
is not reported as expired.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import dkim
import dkim.util
import dns.exception
import dns.resolver
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from preferences.checks.lint.findings import KeyUnknown, Options, Result, Verdict
from preferences.checks.lint.reading import Mail
from preferences.domain.instants import parse_instant

SECONDS_FOR_DNS: Final = 5.0
MOST_SIGNATURES: Final = 8
"""Further signatures are ignored: each costs a DNS query."""

COVERED: Final = ("list-unsubscribe", "list-unsubscribe-post")

ALGORITHMS: Final = ("rsa-sha256", "ed25519-sha256")
"""RFC 8301 §3.1 and RFC 8463 §3; rsa-sha1 must not be verified."""

_SLACK: Final = 36_000
"""Allowed clock difference in seconds."""

_quiet = logging.getLogger(f"{__name__}.library")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False  # it quotes the mail


class BadKey(ValueError):
    """The message shows the expected form."""


@dataclass(frozen=True, slots=True)
class _Signature:
    index: int
    algorithm: str
    domain: str
    identity: str
    covers: tuple[str, ...]
    has_length: bool
    signed_at: int | None
    expires_at: int | None


def read_key(data: bytes) -> bytes:
    """The key's record from a file: a DNS record, quoted or not, or PEM. Raises BadKey."""
    text = data.decode("ascii", "replace").strip()
    pem = re.search(r"-----BEGIN PUBLIC KEY-----(.+?)-----END PUBLIC KEY-----", text, re.DOTALL)
    if pem:
        return _ed25519_record(pem[0]) or b"v=DKIM1; k=rsa; p=" + "".join(pem[1].split()).encode("ascii", "replace")
    quoted = re.findall(r'"([^"]*)"', text)
    record = "".join(quoted) if quoted else " ".join(text.split())
    found = re.search(r"(?:^|;)\s*p=([A-Za-z0-9+/=\s]+)", record)
    try:
        if found and base64.b64decode("".join(found[1].split()), validate=True):
            return record.encode("ascii", "replace")
    except binascii.Error:
        pass
    raise BadKey("not a public key: give the DNS record (v=DKIM1; k=rsa; p=…) or a PEM file (BEGIN PUBLIC KEY)")


def _ed25519_record(pem: str) -> bytes | None:
    """The record of an Ed25519 key: its 32 bytes (RFC 8463 §4), without PEM's prefix."""
    try:
        key = load_pem_public_key(pem.encode("ascii", "replace"))
    except Exception:  # noqa: BLE001 - the library raises many kinds of errors
        return None
    if not isinstance(key, Ed25519PublicKey):
        return None
    return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def look_up(name: str) -> bytes | None:
    """The key's record in DNS, None if there is none. Raises KeyUnknown if DNS fails."""
    try:
        answer = dns.resolver.resolve(name, "TXT", lifetime=SECONDS_FOR_DNS)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
    except (dns.exception.DNSException, OSError, ValueError):
        raise KeyUnknown from None
    return next((b"".join(record.strings) for record in answer), None)


def check_signature(mail: Mail, options: Options) -> Verdict:
    """Rule M-05, for the best signature."""
    count = min(len(mail.named("DKIM-Signature")), MOST_SIGNATURES)
    if not count:
        return Verdict(Result.FAIL, "There is no DKIM signature: switch on DKIM where the mail is sent.")
    verdicts = [_check_one(mail, options, index) for index in range(count)]
    order = (Result.PASS, Result.WARN, Result.UNCHECKED, Result.FAIL)
    return min(verdicts, key=lambda verdict: order.index(verdict.result))


def _check_one(mail: Mail, options: Options, index: int) -> Verdict:
    signature = _read(mail, index)
    if signature is None:
        return Verdict(Result.FAIL, "The DKIM signature cannot be read: sign the mail again with another signer.")
    if fault := _out_of_use(mail, signature):
        return Verdict(Result.FAIL, fault)
    missing = [name for name in COVERED if mail.named(name) and name not in signature.covers]
    if missing:
        return Verdict(Result.FAIL, f"Name {' and '.join(missing)} in h= of the DKIM signature, so that it covers it.")
    if signature.has_length:
        return Verdict(Result.FAIL, "Leave out l= of the DKIM signature: with it, anybody can add to the mail.")
    aligned = _alignment(signature.domain, mail.sender_domain)
    if aligned is Result.FAIL:
        return Verdict(Result.FAIL, "The DKIM signature is of another domain than From: sign with From's domain.")
    return _verified(mail, options, signature, aligned)


def _out_of_use(mail: Mail, signature: _Signature) -> str:
    """Why receivers ignore the signature: algorithm or times."""
    if signature.algorithm == "rsa-sha1":
        return "The DKIM signature is made with rsa-sha1, which counts for nothing (RFC 8301): sign with rsa-sha256."
    if signature.algorithm not in ALGORITHMS:
        return "The DKIM signature is made in a way that receivers do not know: sign with rsa-sha256."
    begin, end = signature.signed_at, signature.expires_at
    received = _time_of(mail.value("Received").rpartition(";")[2])
    if begin is not None and end is not None and end <= begin:
        return "x= of the DKIM signature is not after t=: receivers take it for expired at once."
    if begin is not None and received is not None and begin > received + _SLACK:
        return "t= of the DKIM signature is later than when the mail was received: set the signer's clock."
    taken = received if received is not None else _time_of(mail.value("Date"))
    if end is not None and taken is not None and end < taken - _SLACK:
        return "The DKIM signature had expired (x=) when the mail was received: leave x= out, or sign for longer."
    return ""


def _time_of(text: str) -> float | None:
    """Unix time, or None if unreadable."""
    try:
        return parse_instant(text).latest.timestamp()
    except ValueError:
        return None


def _verified(mail: Mail, options: Options, signature: _Signature, aligned: Result) -> Verdict:
    try:
        record = _verify(mail.raw, signature.index, _key_finder(options))
    except KeyUnknown:
        text = "The DKIM key could not be looked up, so the signature was not checked: try again, or give --dkim-key."
        return Verdict(Result.UNCHECKED, text)
    if record is None:
        text = "The DKIM signature does not hold: the mail was changed after signing, or its key is wrong or missing."
        return Verdict(Result.FAIL, text)
    if fault := _key_fault(record, signature):
        return Verdict(Result.FAIL, fault)
    if aligned is Result.WARN:
        text = "The signing domain and From's only share an ending: check that both belong to one organisation."
        return Verdict(Result.WARN, text)
    if any(signature.covers.count(name) <= len(mail.named(name)) for name in COVERED if mail.named(name)):
        text = "The signature holds. Name both list fields once more in h=, so that nobody can add a second one."
        return Verdict(Result.WARN, text)
    if signature.algorithm != "rsa-sha256":
        text = (
            "The DKIM signature holds and covers both list fields. Sign with rsa-sha256 beside it: many know no other."
        )
        return Verdict(Result.PASS, text)
    return Verdict(Result.PASS, "The DKIM signature holds, is From's, and covers both list fields.")


def _key_fault(record: bytes, signature: _Signature) -> str:
    """Why receivers ignore the key of a valid signature (RFC 6376 §3.6.1, §6.1.2)."""
    tags = {name.decode(): text.decode("latin-1") for name, text in dkim.util.parse_tag_value(record).items()}
    if "v" in tags and next(iter(tags)) != "v":
        return "v= is not the first in the record of the DKIM key, so receivers discard it: put v=DKIM1 first."
    if "h" in tags and "sha256" not in _words(tags["h"]):
        return "h= in the record of the DKIM key does not name sha256, so it holds no such signature: leave h= out."
    if "s" in _words(tags.get("t", "")) and signature.identity != signature.domain:
        return "The DKIM key is for its own domain alone (t=s), and i= names one below it: leave out s, or i=."
    return ""


def _words(text: str) -> list[str]:
    return [word.strip().lower() for word in text.split(":")]


def _read(mail: Mail, index: int) -> _Signature | None:
    value = mail.named("DKIM-Signature")[index].value
    tags = {name.strip(): text.strip() for name, _, text in (tag.partition("=") for tag in value.split(";"))}
    if not {"a", "d", "s", "h", "b", "bh"} <= tags.keys():
        return None
    times = [tags.get(name, "") for name in ("t", "x")]
    if any(text and not re.fullmatch(r"[0-9]{1,12}", text) for text in times):
        return None
    signed_at, expires_at = (int(text) if text else None for text in times)
    covers = tuple(name.strip().lower() for name in tags["h"].split(":"))
    return _Signature(
        index=index,
        algorithm=tags["a"].lower(),
        domain=tags["d"].lower().rstrip("."),
        identity=tags.get("i", tags["d"]).rpartition("@")[2].lower().rstrip("."),
        covers=covers,
        has_length="l" in tags,
        signed_at=signed_at,
        expires_at=expires_at,
    )


def _alignment(signer: str, sender: str) -> Result:
    """DMARC's relaxed alignment without a public suffix list: siblings are only likely to be aligned."""
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


def _verify(raw: bytes, index: int, find: Callable[[str], bytes | None]) -> bytes | None:
    """The key's record, if the signature is valid."""
    record: bytes | None = None

    def from_name(name: bytes | str, timeout: float = 0) -> bytes | None:  # noqa: ARG001 - the library's interface
        nonlocal record
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else name
        record = find(text.rstrip(".").lower())
        return record

    try:
        holds = _Verifier(raw, logger=_quiet).verify(idx=index, dnsfunc=from_name)
    except KeyUnknown:
        raise
    except Exception:  # noqa: BLE001 - the library raises many kinds of errors
        return None
    return record if holds else None


class _Verifier(dkim.DKIM):  # type: ignore[misc]  # the library has no types
    """dkimpy's verifier without its clock, with Ed25519 from `cryptography` instead of PyNaCl."""

    def verify_headerprep(self, idx: int = 0) -> Any:
        found = [(name, value) for name, value in self.headers if name.lower() == b"dkim-signature"]
        fields = dkim.util.parse_tag_value(found[idx][1])
        # `_out_of_use` judges times, as of receipt.
        dkim.validate_signature_fields({name: value for name, value in fields.items() if name not in {b"t", b"x"}})
        self.signature_fields, self.domain, self.selector = fields, fields[b"d"], fields[b"s"]
        covers = [name.lower() for name in re.split(rb"\s*:\s*", fields[b"h"])]
        self.include_headers = tuple(covers)
        return fields, covers, found

    def verify_sig(self, sig: Any, include_headers: Any, sig_header: Any, dnsfunc: Callable[..., bytes | None]) -> bool:
        if sig[b"a"] != b"ed25519-sha256":
            # A key verifies only signatures of its own kind (RFC 6376 §3.6.1).
            holds = bool(super().verify_sig(sig, include_headers, sig_header, dnsfunc))
            return holds and bool(self.ktag == b"rsa")  # type: ignore[has-type]
        record = dnsfunc(sig[b"s"] + b"._domainkey." + sig[b"d"] + b".")
        tags = dkim.util.parse_tag_value(record or b"")
        if tags.get(b"k") != b"ed25519" or tags.get(b"v", b"DKIM1") != b"DKIM1":
            return False
        self.pk = _Ed25519(base64.b64decode(b"".join(tags[b"p"].split()), validate=True))
        self.keysize, self.ktag, self.seqtlsrpt = 256, b"ed25519", False
        return bool(self.verify_sig_process(sig, include_headers, sig_header, dnsfunc)) and self.pk.holds


class _Ed25519:
    """An Ed25519 key for dkimpy. `holds` is the result, since dkimpy expects PyNaCl's error."""

    def __init__(self, data: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(data)
        self.holds = False

    def verify(self, digest: bytes, signature: bytes) -> None:
        with suppress(InvalidSignature):
            self._key.verify(signature, digest)
            self.holds = True
