"""A message as an email: its headers and its bytes.

Invariants: no header that machines read is folded or encoded; an automatic message says that it is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.headerregistry import Address as Mailbox
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, make_msgid
from typing import Any, Final

CRLF: Final = "\r\n"

LONGEST_LINE: Final = 998
"""RFC 5321 §4.5.3.1.6, without the end of the line."""

LONGEST_LINE_OF_WORDS: Final = 76
"""RFC 2047 §2, for a line that holds an encoded word; the word itself, behind one space, has 75 then."""


class _Policy(EmailPolicy):
    """Folds the subject as people's programs are used to it, names of senders safely, and nothing else.

    With its usual 78 for all, Python encodes a longer URL in a header into something that no mail program reads
    (python/cpython#85725); with 998 for all, it would make encoded words that are longer than RFC 2047 allows.
    """

    def fold(self, name: str, value: Any) -> str:
        if hasattr(value, "addresses"):
            return f"{name}: {', '.join(map(_folded_mailbox, value.addresses))}{self.linesep}"
        narrow = self.clone(max_line_length=LONGEST_LINE_OF_WORDS) if name.lower() == "subject" else self
        folded: str = super(_Policy, narrow).fold(name, value)
        return folded

    def fold_binary(self, name: str, value: Any) -> bytes:
        return self.fold(name, value).encode("utf-8" if self.utf8 else "ascii")


def _folded_mailbox(one: Mailbox) -> str:
    """A name in quotes stays on one line: where Python folds it, it forgets the quotes, and a comma in the name begins
    another address. One in another script is encoded, in words as long as RFC 2047 allows."""
    if one.display_name.isascii():
        return str(one)
    # Its own count of a line leaves out what stands around the words, hence the lower number.
    name = Header(one.display_name, "utf-8", maxlinelen=LONGEST_LINE_OF_WORDS - 4, header_name="From")
    return f"{name.encode(linesep=CRLF)}{CRLF} <{one.addr_spec}>"


POLICY: Final = _Policy(linesep=CRLF, max_line_length=LONGEST_LINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What a letter says, in both its forms, and in which language."""

    subject: str
    text: str
    html: str
    language: str


def compose(writing: Writing, *, sender: Mailbox, recipient: str, host: str, now: datetime) -> EmailMessage:
    """The letter as a message. Transactional: it carries no list headers."""
    message = EmailMessage(policy=POLICY)
    message["From"] = sender
    message["To"] = _Recipient(recipient)
    message["Subject"] = " ".join(writing.subject.split())
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=host)
    # RFC 3834 §5: what a machine wrote must not be answered by a machine. The second header is what Exchange heeds.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(writing.text)
    message.add_alternative(writing.html, subtype="html")
    message["Content-Language"] = writing.language  # last: setting the content takes each `Content-…` away
    return message


class _Recipient(Mailbox):
    """An address as it stands: never read as a header, in which a comma would begin another one. In quotes where RFC
    5321 §4.1.2 wants them, which Python leaves out for dots in a row, at the beginning or at the end."""

    def __init__(self, address: str) -> None:
        self._as_it_stands = address
        local, _, domain = address.rpartition("@")
        super().__init__(username=local, domain=domain)

    @property
    def addr_spec(self) -> str:
        quoted = self.username.startswith('"') or all(self.username.split("."))
        return self._as_it_stands if quoted else f'"{self.username}"@{self.domain}'
