"""A message as bytes with its envelope: headers, MIME parts, folding, encoding.

Invariants: no field for programs is folded or encoded; automatic messages are marked as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.headerregistry import Address as Mailbox
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from typing import Any, Final

CRLF: Final = "\r\n"

LONGEST_LINE: Final = 998
"""RFC 5321 §4.5.3.1.6, without CRLF."""

LONGEST_ENCODED_LINE: Final = 76
"""RFC 2047 §2, for a line with an encoded word."""


class _Policy(EmailPolicy):
    """Folds only the subject and names.

    At 78, Python's default, long URLs are encoded (python/cpython#85725); at 998, encoded words exceed RFC 2047.
    """

    def fold(self, name: str, value: Any) -> str:
        if hasattr(value, "addresses"):
            return f"{name}: {', '.join(map(_folded_mailbox, value.addresses))}{self.linesep}"
        narrow = self.clone(max_line_length=LONGEST_ENCODED_LINE) if name.lower() == "subject" else self
        folded: str = super(_Policy, narrow).fold(name, value)
        return folded

    def fold_binary(self, name: str, value: Any) -> bytes:
        return self.fold(name, value).encode("utf-8" if self.utf8 else "ascii")


def _folded_mailbox(mailbox: Mailbox) -> str:
    """Does not fold a quoted name, whose quotes Python would drop."""
    if mailbox.display_name.isascii():
        return str(mailbox)
    # `maxlinelen` excludes the characters around the words.
    name = Header(mailbox.display_name, "utf-8", maxlinelen=LONGEST_ENCODED_LINE - 4, header_name="From")
    return f"{name.encode(linesep=CRLF)}{CRLF} <{mailbox.addr_spec}>"


POLICY: Final = _Policy(linesep=CRLF, max_line_length=LONGEST_LINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    subject: str
    text: str
    html: str
    language: str


@dataclass(frozen=True, slots=True)
class Message:
    """`is_utf8`: an address needs SMTPUTF8 (RFC 6531)."""

    sender: str
    recipient: str
    content: bytes
    is_utf8: bool = False


def build(content: Content, *, sender: Mailbox, recipient: str, message_id: str, now: datetime) -> Message:
    """A transactional message. Raises ValueError for a line break in a name or address."""
    message = EmailMessage(policy=POLICY)
    message["From"] = sender
    message["To"] = _Recipient(recipient)
    message["Subject"] = " ".join(content.subject.split())
    message["Date"] = format_datetime(now)
    message["Message-ID"] = message_id
    # RFC 3834 §5: programs must not answer. Exchange uses the second field.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(content.text)
    message.add_alternative(content.html, subtype="html")
    message["Content-Language"] = content.language  # last: `set_content` removes `Content-` fields
    return serialise(message)


def serialise(message: EmailMessage) -> Message:
    sender, recipient = (address.addr_spec for name in ("From", "To") for address in message[name].addresses)
    is_utf8 = not (sender.isascii() and recipient.isascii())
    policy = POLICY.clone(utf8=True) if is_utf8 else POLICY
    return Message(sender, recipient, message.as_bytes(policy=policy), is_utf8)


class _Recipient(Mailbox):
    """An unparsed address, since a comma would start another. Quoted for misplaced dots (RFC 5321 §4.1.2), unlike in
    Python."""

    def __init__(self, address: str) -> None:
        self._address = address
        local, _, domain = address.rpartition("@")
        super().__init__(username=local, domain=domain)

    @property
    def addr_spec(self) -> str:
        quoted = self.username.startswith('"') or all(self.username.split("."))
        return self._address if quoted else f'"{self.username}"@{self.domain}'
