"""Parsing of a mail into raw header fields and visible texts.

Invariant: any bytes give a Mail or raise Unreadable. Headers are parsed by hand, because libraries repair the faults
that the rules detect.
"""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.policy import compat32
from email.utils import parseaddr
from typing import Final

MOST_BYTES: Final = 32 * 1024 * 1024
"""No large mail service accepts more."""

MOST_TEXT: Final = 2_000_000
"""Characters of a part that are checked."""

_END_OF_HEADERS: Final = re.compile(rb"\r?\n\r?\n")
_NAME: Final = re.compile(rb"[!-9;-~]+\Z")
_ADDRESS: Final = re.compile(r"[^\s@<>,;]+@([A-Za-z0-9.-]+\.[A-Za-z0-9-]+)\Z")


class Unreadable(Exception):
    """Not a mail that can be checked. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Field:
    """A raw header field without its last line break."""

    name: str
    raw: bytes

    @property
    def value(self) -> str:
        """The unfolded value."""
        text = self.raw.partition(b":")[2].decode("latin-1")
        return re.sub(r"\r?\n(?=[ \t])", "", text).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail; `text` and `html` are None if missing."""

    raw: bytes
    fields: tuple[Field, ...]
    text: str | None
    html: str | None

    def named(self, name: str) -> list[Field]:
        return [field for field in self.fields if field.name == name.lower()]

    def value(self, name: str) -> str:
        """The first field of this name, unfolded; empty if missing."""
        return next((field.value for field in self.named(name)), "")

    @property
    def sender_domain(self) -> str:
        """The domain of From in lower case; empty if missing."""
        bare = _bare(self.value("From"))
        inside = re.findall(r"<([^<>]*)>", bare)
        found = _ADDRESS.match(inside[0].strip() if len(inside) == 1 else parseaddr(self.value("From"))[1])
        return found[1].lower() if found else ""

    @property
    def fault_of_sender(self) -> str:
        """The fault of From in a sentence; empty if valid (RFC 5322 §3.4, §3.6.2)."""
        if len(self.named("From")) > 1:
            return "There are two From fields: put one on the mail."
        bare = _bare(self.value("From"))
        if "," in re.sub(r"<[^<>]*>", "", bare):
            if bare.count("@") == 1:
                return 'The name in From has a comma that is not in quotes: write "Acme, Inc." <news@acme.example>.'
            return "There are several addresses in From: put one there."
        return "" if self.sender_domain else "From holds no address that can be read: write Acme <news@acme.example>."

    @property
    def recipients(self) -> list[str]:
        """The addresses of To in lower case."""
        values = ",".join(field.value for field in self.named("To"))
        return [found.lower() for found in re.findall(r"[^\s@<>,;\"]+@[^\s@<>,;\"]+", values)]


def _bare(value: str) -> str:
    """A field without quoted strings and comments, whose commas do not separate."""
    return re.sub(r'"(?:[^"\\]|\\.)*"|\((?:[^()\\]|\\.)*\)', "", value)


def read_mail(raw: bytes) -> Mail:
    """Raises Unreadable."""
    if not raw.strip():
        raise Unreadable("The file is empty: save the mail with its source, as .eml.")
    if len(raw) > MOST_BYTES:
        raise Unreadable("The mail is longer than 32 MB: no mail service would take it, so make it smaller.")
    if raw.startswith(b"From "):
        raw = raw.partition(b"\n")[2]
    fields = tuple(_fields(_END_OF_HEADERS.split(raw, maxsplit=1)[0]))
    if not any(field.name == "from" for field in fields):
        raise Unreadable("There is no From field: save the mail with all its header fields, as .eml.")
    texts = _texts(raw)
    return Mail(raw=raw, fields=fields, text=texts.get("plain"), html=texts.get("html"))


def _fields(head: bytes) -> Iterator[Field]:
    for chunk in re.split(rb"\r?\n(?![ \t])", head):
        name = chunk.partition(b":")[0].rstrip(b" \t")
        if not chunk:
            continue
        if b":" not in chunk or not _NAME.match(name):
            raise Unreadable("A line among the header fields is not one: save the mail again, as its raw source.")
        yield Field(name.decode("ascii").lower(), chunk)


def _texts(raw: bytes) -> dict[str, str]:
    """The text of each kind. Python's parser raises errors of many kinds on broken mails."""
    try:
        found: dict[str, str] = {}
        for part in email.message_from_bytes(raw, policy=compat32).walk():
            if part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment":
                kind = part.get_content_subtype()
                found[kind] = f"{found.get(kind, '')}\n{_decoded(part)}"[:MOST_TEXT]
    except Exception:  # noqa: BLE001 - includes RecursionError
        raise Unreadable("Its parts cannot be told apart: build it with fewer parts inside each other.") from None
    return found


def _decoded(part: Message) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    try:
        return data.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")
