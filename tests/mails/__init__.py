"""Mails that are right, and mails that each break one rule, signed for real.

Owns the corpus. Invariant: a bad mail differs from the good one in the one thing that its name says; it is signed
after the change, unless the signature is what is wrong.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from preferences.checks.lint import Options
from preferences.domain.vocabulary import MessageClass

SELECTOR, DOMAIN = "s1", "shop.example"
KEY_NAME = f"{SELECTOR}._domainkey.{DOMAIN}"
ADDRESS = "12 Harbour Lane, Portland, ME 04101"
TOKEN = "q3Jk9sVx2LmTz8RbYw5NcEoPhUaGdFi7"
URL = f"https://mail.shop.example/u/{TOKEN}"
SIGNED = ("from", "to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post", "list-id")

UNSUBSCRIBE = f"List-Unsubscribe: <{URL}>, <mailto:out@shop.example?subject={TOKEN}>"
POST = "List-Unsubscribe-Post: List-Unsubscribe=One-Click"
LIST_ID = "List-Id: Product news <product-news.list-id.shop.example>"
TEXT = f"Hello,\n\nnew tables have come.\n\nUnsubscribe: {URL}\n\nMaple, {ADDRESS}\n"
HTML = f'<p>New tables have come.</p><p><a href="{URL}">Unsubscribe</a></p><p>Maple, {ADDRESS}</p>\n'


@cache
def key_pair() -> tuple[bytes, bytes]:
    """The private key as PEM, and the public one's DNS record."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def options(**changes: object) -> Options:
    """With the key at hand, and no DNS."""
    values = {"keys": {KEY_NAME: key_pair()[1]}} | changes
    return Options(**values)  # type: ignore[arg-type]


def sign(
    raw: bytes,
    *,
    covers: Sequence[str] = SIGNED,
    twice: bool = True,
    domain: str = DOMAIN,
    length: bool = False,
    algorithm: str = "rsa-sha256",
    fields: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """The mail with a signature at its beginning; both list fields are named once more than they stand there."""
    present = [line.partition(b":")[0].lower().decode() for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n")]
    names = [one.encode() for one in covers for name in present if name == one]
    if twice:
        names += [one.encode() for one in covers if one.startswith("list-unsubscribe") and one in present]
    signer = Signer(raw, signature_algorithm=algorithm.encode())
    signer.more = list(fields)
    key = ED25519_SEED if algorithm.startswith("ed25519") else key_pair()[0]
    return bytes(signer.sign(SELECTOR.encode(), domain.encode(), key, include_headers=names, length=length)) + raw


class Signer(dkim.DKIM):  # type: ignore[misc]  # the library has no types
    """dkimpy's own signer, with more fields; for Ed25519 with the primitive of another library."""

    more: Sequence[tuple[bytes, bytes]] = ()

    def gen_header(self, fields: list[tuple[bytes, bytes]], *arguments: object) -> bytes:
        given = {name for name, _ in self.more}
        kept = [field for field in fields if field[0] not in given]
        return bytes(super().gen_header([*kept[:-1], *self.more, kept[-1]], *arguments))


ED25519_SEED = b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
ED25519_RECORD = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
"""The keys of RFC 8463, appendix A.2."""


class _SigningKey:
    """What dkimpy takes for PyNaCl's key, which is not installed here."""

    def __init__(self, seed: bytes, encoder: object = None) -> None:
        del encoder
        self._key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed))

    def sign(self, digest: bytes) -> SimpleNamespace:
        return SimpleNamespace(signature=self._key.sign(digest))


if not hasattr(dkim, "nacl"):
    dkim.nacl = SimpleNamespace(
        signing=SimpleNamespace(SigningKey=_SigningKey),
        encoding=SimpleNamespace(Base64Encoder=None),
        exceptions=SimpleNamespace(ValueError=ValueError),
    )


def mail(
    *fields: str,
    text: str | None = TEXT,
    html: str | None = HTML,
    sender: str = "news@shop.example",
    author: str = "",
) -> bytes:
    """A mail with these fields besides the usual ones, unsigned."""
    head = [
        f"From: {author or f'Maple <{sender}>'}",
        "To: jane.doe@example.com",
        "Subject: New tables",
        "Date: Wed, 25 Nov 2026 07:00:00 +0000",
        "Message-ID: <1@shop.example>",
        *fields,
        "MIME-Version: 1.0",
        'Content-Type: multipart/alternative; boundary="b"',
    ]
    parts = [("plain", text), ("html", html)]
    body = "".join(
        f"--b\nContent-Type: text/{kind}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{content}\n"
        for kind, content in parts
        if content is not None
    )
    return ("\n".join(head) + "\n\n" + body + "--b--\n").replace("\r\n", "\n").replace("\n", "\r\n").encode()


def listed(uris: str, **changes: object) -> bytes:
    """The good mail with another List-Unsubscribe, signed."""
    return sign(mail(f"List-Unsubscribe: {uris}", POST, LIST_ID, **changes))  # type: ignore[arg-type]


def with_url(url: str) -> bytes:
    """The good mail with another link everywhere."""
    return listed(f"<{url}>, <mailto:out@shop.example>", text=TEXT.replace(URL, url), html=HTML.replace(URL, url))


def with_html(html: str) -> bytes:
    """The good mail with other HTML."""
    return sign(mail(UNSUBSCRIBE, POST, LIST_ID, html=html))


def with_post(field: str) -> bytes:
    """The good mail with another List-Unsubscribe-Post."""
    return sign(mail(UNSUBSCRIBE, field, LIST_ID))


def with_list_id(value: str) -> bytes:
    """The good mail with another List-Id."""
    return sign(mail(UNSUBSCRIBE, POST, f"List-Id: {value}"))


def good() -> bytes:
    """Nothing to find fault with."""
    return sign(mail(UNSUBSCRIBE, POST, LIST_ID))


@dataclass(frozen=True)
class Bad:
    """A mail that breaks one rule."""

    name: str
    rule: str
    raw: bytes
    message_class: MessageClass = MessageClass.MARKETING


def bad_mails() -> list[Bad]:
    """Each breaks the rule beside it and no other."""
    encoded_address = base64.urlsafe_b64encode(b"jane.doe@example.com").decode().rstrip("=")
    digest = hashlib.md5(b"jane.doe@example.com").hexdigest()
    encoded_word = base64.b64encode(f"<{URL}>".encode()).decode()
    tracked = HTML.replace(URL, "https://clicks.example/unsubscribe/1")
    image = f'<a href="{URL}"><img src="cid:x" alt="Unsubscribe"></a><p>{ADDRESS}</p>'
    unsigned = mail(UNSUBSCRIBE, POST, LIST_ID)
    return [
        Bad("no List-Unsubscribe", "M-01", sign(mail(POST, LIST_ID))),
        Bad("no List-Unsubscribe-Post", "M-01", sign(mail(UNSUBSCRIBE, LIST_ID))),
        Bad("two List-Unsubscribe", "M-01", sign(mail(UNSUBSCRIBE, UNSUBSCRIBE, POST, LIST_ID))),
        Bad("two List-Unsubscribe-Post", "M-01", sign(mail(UNSUBSCRIBE, POST, POST, LIST_ID))),
        Bad("only mailto", "M-02", listed("<mailto:out@shop.example>")),
        Bad("two https", "M-02", listed(f"<{URL}>, <{URL}2>, <mailto:out@shop.example>")),
        Bad("http beside https", "M-02", listed(f"<{URL}>, <http://mail.shop.example/u>, <mailto:a@shop.example>")),
        Bad("no angle brackets", "M-02", listed(URL)),
        Bad("words between", "M-02", listed(f"click here <{URL}>")),
        Bad("small letters in the value", "M-03", with_post("List-Unsubscribe-Post: list-unsubscribe=one-click")),
        Bad("two spaces before the value", "M-03", with_post("List-Unsubscribe-Post:  List-Unsubscribe=One-Click")),
        Bad("a folded value", "M-03", with_post("List-Unsubscribe-Post:\r\n List-Unsubscribe=One-Click")),
        Bad("a quoted value", "M-03", with_post('List-Unsubscribe-Post: "List-Unsubscribe=One-Click"')),
        Bad("an encoded word", "M-04", listed(f"=?utf-8?b?{encoded_word}?=")),
        Bad("not ASCII", "M-04", listed(f"<{URL}é>")),
        Bad("a line of 1100", "M-04", with_url(URL + "x" * 1000)),
        Bad("folded inside the URI", "M-04", listed(f"<{URL[:30]}\r\n {URL[30:]}>, <mailto:out@shop.example>")),
        Bad("no signature", "M-05", unsigned),
        Bad("changed after signing", "M-05", good().replace(b"New tables have", b"Old tables have")),
        Bad("another's signature", "M-05", sign(unsigned, domain="platform.example")),
        Bad("the post field is not covered", "M-05", sign(unsigned, covers=[*SIGNED[:6], "list-id"])),
        Bad("neither field is covered", "M-05", sign(unsigned, covers=SIGNED[:5])),
        Bad("a signature with l=", "M-05", sign(unsigned, length=True)),
        Bad("the address in the URI", "M-06", with_url(f"{URL}?e=jane.doe%40example.com")),
        Bad("base64 of the address", "M-06", with_url(f"https://mail.shop.example/u/{encoded_address}")),
        Bad("a digest of the address", "M-06", with_url(f"https://mail.shop.example/u/{digest}")),
        Bad("a number", "M-06", with_url("https://mail.shop.example/u/4711")),
        Bad(
            "list fields on transactional mail",
            "M-07",
            mail(UNSUBSCRIBE, POST, "Auto-Submitted: auto-generated"),
            MessageClass.TRANSACTIONAL,
        ),
        Bad("List-Id without brackets", "M-08", with_list_id("product-news.list-id.shop.example")),
        Bad("List-Id without domain", "M-08", with_list_id("<product-news>")),
        Bad("List-Id of 300", "M-08", with_list_id(f"<{'a' * 300}.shop.example>")),
        Bad("no link in the text", "M-09", sign(mail(UNSUBSCRIBE, POST, LIST_ID, text=f"Hello.\n\n{ADDRESS}\n"))),
        Bad("no text part", "M-09", sign(mail(UNSUBSCRIBE, POST, LIST_ID, text=None))),
        Bad("no link in the HTML", "M-09", with_html(f"<p>New tables</p><p>{ADDRESS}</p>")),
        Bad("only an image", "M-09", with_html(image)),
        Bad("hidden", "M-09", with_html(f'<div style="display: none"><a href="{URL}">Unsubscribe</a></div>{ADDRESS}')),
        Bad("another place in the HTML", "M-09", with_html(tracked)),
        Bad(
            "no postal address",
            "M-10",
            sign(mail(UNSUBSCRIBE, POST, LIST_ID, text=TEXT.replace(ADDRESS, ""), html=HTML.replace(ADDRESS, ""))),
        ),
        Bad("a postal address in one part", "M-10", with_html(HTML.replace(ADDRESS, ""))),
    ]
