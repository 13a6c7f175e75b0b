"""Amazon SNS as tests see it: signed messages, and the host of its certificates."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from tests.connectors.contract import (
    Answer,
    Asked,
    Provider,
)

ARN: Final = "arn:aws:sns:eu-west-1:123456789012:mail-events"
HOST: Final = "https://sns.eu-west-1.amazonaws.com"
CERTIFICATE: Final = "/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
# The fields by the text of Amazon's "Verifying the signatures of Amazon SNS messages".
NOTIFICATION: Final = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
CONFIRMATION: Final = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]


@cache
def private_key(name: str = "amazon") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def certificate(name: str = "amazon", *, curve: bool = False) -> bytes:
    """A certificate that says it is Amazon's."""
    key: Any = ec.generate_private_key(ec.SECP256R1()) if curve else private_key(name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def seal(message: Mapping[str, Any], *, key: str = "amazon", age: float = 0, **changes: Any) -> bytes:
    """The message as SNS sends it now. A change of None takes a field out; one of `Signature` stays."""
    at = datetime.now(UTC) - timedelta(seconds=age)
    whole = {**message, "Timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"), **changes}
    whole = {name: value for name, value in whole.items() if value is not None}
    names = NOTIFICATION if whole.get("Type") == "Notification" else CONFIRMATION
    text = "".join(f"{name}\n{whole[name]}\n" for name in names if name in whole)
    algorithm = hashes.SHA256() if whole.get("SignatureVersion") == "2" else hashes.SHA1()
    if "Signature" not in changes:
        signed = private_key(key).sign(text.encode(), padding.PKCS1v15(), algorithm)
        whole["Signature"] = base64.b64encode(signed).decode()
    return json.dumps(whole).encode()


class Amazon(Provider):
    """What stands on the hosts of SNS: certificates, and addresses to confirm at."""

    def __init__(self) -> None:
        super().__init__()
        self.url = ""  # until it runs
        self.files = {CERTIFICATE: certificate(), "/other.pem": certificate("other")}
        self.files |= {"/junk.pem": b"not a certificate", "/curve.pem": certificate(curve=True)}
        self.files |= {"/": b"<ConfirmSubscriptionResponse/>"}

    def answer(self, asked: Asked) -> Answer:
        told = super().answer(asked)
        if told.status != 200:
            return told
        return Answer(200, self.files[asked.path]) if asked.path in self.files else Answer(404)


AMAZON: Final = Amazon()
