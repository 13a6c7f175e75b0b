"""Amazon SNS: verification of messages about allowed topics, with certificates and fetches.

Source: Amazon SNS Developer Guide, "Verifying the signatures of Amazon SNS messages", read 2026-11-23. Invariant:
nothing is fetched before all offline checks pass, nor from outside the topic's SNS host, nor faster than the rate
limit; a key that verified a message is kept.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from datetime import datetime
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

from preferences.connectors import http
from preferences.connectors.parsing import instant, read_json
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, TryLater

TOPIC: Final = re.compile(
    r"arn:(aws[a-z-]{0,20}):sns:([a-z]{2,8}(?:-[a-z]+)+-[0-9]{1,2}):[0-9]{12}:[A-Za-z0-9_.-]{1,256}"
)
DOMAINS: Final = {
    **dict.fromkeys(("aws", "aws-us-gov"), "amazonaws.com"),
    "aws-cn": "amazonaws.com.cn",
    "aws-eusc": "amazonaws.eu",
    "aws-iso": "c2s.ic.gov",
    "aws-iso-b": "sc2s.sgov.gov",
    "aws-iso-e": "cloud.adc-e.uk",
    "aws-iso-f": "csp.hci.ic.gov",
}
"""The domain of each Amazon partition (botocore, partitions.json, 2026-11-30)."""
CERTIFICATE: Final = re.compile(r"/[A-Za-z0-9_.-]{1,200}\.pem")
CONFIRMING: Final = re.compile(r"/\?Action=ConfirmSubscription&[!-~]{1,4000}")

_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
"""The signed fields, in byte order; Subject only if present."""

VERSIONS: Final = frozenset({"1", "2"})
"""SHA-1, the default of a topic, and SHA-256."""
KEY_SIZES: Final = frozenset({128, 256, 384, 512})
"""Bytes in an RSA signature; for other lengths no certificate is fetched."""

LONGEST: Final = 1024 * 1024
"""Bytes in a report. A message has at most 262,144 (`Publish`, Amazon SNS API, 2026-11-30); JSON escaping may double
it. Four times as much, because SNS takes a refusal for a delivery.
"""
MOST_FETCHED: Final = 64 * 1024
MOST_CERTIFICATES: Final = 16
"""Fetched certificates that have not verified a message yet."""
MOST_FETCHES: Final = 60
"""Per minute. Amazon changes its certificate every few months."""
MINUTE: Final = 60.0
REMEMBERED: Final = {BadSignature: MINUTE, TryLater: 10.0}
"""Seconds for which a failure is cached. TryLater must expire before SNS retries, after 20 seconds."""


def read_envelope(body: bytes) -> dict[str, Any]:
    """Raises BadSignature."""
    try:
        message = read_json(body)
    except BadPayload:
        raise BadSignature("not an SNS message") from None
    if not isinstance(message, dict):
        raise BadSignature("not an SNS message")
    return message


def signed_at(message: Mapping[str, Any]) -> datetime:
    """The time of publication. Raises BadSignature."""
    at = instant(message.get("Timestamp"))
    if at is None:
        raise BadSignature("without a time")
    return at


def host_of(topic_arn: object) -> str | None:
    """The SNS base URL of a topic's region, or None for an invalid ARN."""
    found = TOPIC.fullmatch(topic_arn) if isinstance(topic_arn, str) else None
    domain = DOMAINS.get(found[1]) if found else None
    return f"https://sns.{found[2]}.{domain}" if found and domain else None


class Certificates:
    """The public keys of SNS certificates, each fetched once, from `sns_url` if set."""

    def __init__(self, sns_url: str = "") -> None:
        self._sns_url = sns_url
        self._keys: dict[str, Any] = {}
        self._unproven: dict[str, Any] = {}
        self._failures: dict[str, tuple[float, type[BadSignature | TryLater]]] = {}
        self._fetches: list[float] = []
        self._lock = Lock()

    def verify(self, message: Mapping[str, Any]) -> None:
        """Raises BadSignature unless Amazon signed the message, TryLater if the certificate cannot be fetched (SNS
        would take a refusal for a delivery).
        """
        version = message.get("SignatureVersion")
        if not isinstance(version, str) or version not in VERSIONS:
            raise BadSignature("a version of signatures that we do not know")
        url = _at_host(message, "SigningCertURL", CERTIFICATE)
        text, signature = _canonical(message), _signature(message)
        key = self._key(url)
        _verify(key, signature, text, version=version)
        self._keep(url, key)

    def confirm(self, message: Mapping[str, Any]) -> None:
        """Confirm a subscription. Raises BadSignature, TryLater, Rejected or Misconfigured."""
        _fetch(self._reachable(_at_host(message, "SubscribeURL", CONFIRMING)))

    def _key(self, url: str) -> Any:
        for known in (self._keys, self._unproven):
            if (key := known.get(url)) is not None:
                return key
        return self._fetch_key(url)

    def _keep(self, url: str, key: Any) -> None:
        """Keep a key that verified a message, so that it is never evicted."""
        with self._lock:
            self._keys[url] = key
            self._unproven.pop(url, None)

    def _fetch_key(self, url: str) -> Any:
        """Raises BadSignature or TryLater, also for a cached failure."""
        self._begin(url, time.monotonic())
        try:
            key = _read_certificate(_fetch(self._reachable(url)))
        except (Rejected, Misconfigured):
            raise self._failed(url, BadSignature) from None
        except (BadSignature, TryLater) as failure:
            raise self._failed(url, type(failure)) from None
        with self._lock:
            if len(self._unproven) >= MOST_CERTIFICATES:
                self._unproven.clear()
            self._unproven[url] = key
        return key

    def _begin(self, url: str, now: float) -> None:
        with self._lock:
            self._failures = {
                other: (at, kind) for other, (at, kind) in self._failures.items() if now - at < REMEMBERED[kind]
            }
            self._fetches = [at for at in self._fetches if now - at < MINUTE]
            if url in self._failures:
                raise self._failures[url][1]("no certificate there a moment ago")
            if len(self._fetches) >= MOST_FETCHES:
                raise TryLater("too many certificates for one minute")
            self._fetches.append(now)

    def _failed(self, url: str, kind: type[BadSignature | TryLater]) -> BadSignature | TryLater:
        with self._lock:
            self._failures[url] = time.monotonic(), kind
        return kind("no certificate there")

    def _reachable(self, url: str) -> str:
        if not self._sns_url:
            return url
        parts = urlsplit(url)
        return url.replace(f"{parts.scheme}://{parts.netloc}", self._sns_url, 1)


def _at_host(message: Mapping[str, Any], name: str, path: re.Pattern[str]) -> str:
    """The URL in this field, at the SNS host of the message's topic. Raises BadSignature."""
    url, host = message.get(name), host_of(message.get("TopicArn"))
    if host is None or not isinstance(url, str) or not url.startswith(host) or not path.fullmatch(url, len(host)):
        raise BadSignature(f"a {name} at another place than the topic's")
    return url


def _canonical(message: Mapping[str, Any]) -> bytes:
    """The signed text: name and value of each field, a line each. Raises BadSignature."""
    kind = message.get("Type")
    names = SIGNED.get(kind) if isinstance(kind, str) else None
    if names is None:
        raise BadSignature("not a type of SNS")
    there = [name for name in names if name != "Subject" or message.get("Subject") is not None]
    values = [message.get(name) for name in there]
    if not all(isinstance(value, str) for value in values):
        raise BadSignature("a signed field is missing")
    try:
        return "".join(f"{name}\n{value}\n" for name, value in zip(there, values, strict=True)).encode()
    except UnicodeEncodeError:
        raise BadSignature("half a character") from None


def _signature(message: Mapping[str, Any]) -> bytes:
    try:
        signature = base64.b64decode(message["Signature"], validate=True)
    except (KeyError, ValueError, TypeError):
        raise BadSignature("no signature") from None
    if len(signature) not in KEY_SIZES:
        raise BadSignature("no signature")
    return signature


def _read_certificate(pem: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509 import load_pem_x509_certificate

    try:
        key = load_pem_x509_certificate(pem).public_key()
    except Exception:  # noqa: BLE001 - the library names no set of errors for a certificate that is none
        raise BadSignature("not a certificate") from None
    if not isinstance(key, RSAPublicKey):
        raise BadSignature("not an RSA key")
    return key


def _verify(key: Any, signature: bytes, text: bytes, *, version: str) -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256

    algorithm = {"1": SHA1, "2": SHA256}[version]
    try:
        key.verify(signature, text, PKCS1v15(), algorithm())
    except (InvalidSignature, UnsupportedAlgorithm):
        raise BadSignature("the signature does not fit") from None


def _fetch(url: str) -> bytes:
    """Raises TryLater, Rejected or Misconfigured."""
    import requests

    try:
        with requests.get(url, timeout=http.TIMEOUT, allow_redirects=False, stream=True) as answer:
            http.raise_for(answer.status_code, {name.lower(): value for name, value in answer.headers.items()})
            return bytes(next(answer.iter_content(MOST_FETCHED), b""))
    except requests.RequestException as error:
        raise TryLater(type(error).__name__) from None
