"""A letter as an email, and the way to the mail server.

Owns the headers and the bytes on the wire. Invariants: no header that machines read is folded or encoded; an automatic
letter says that it is one; a password never travels in the clear; nothing here knows what a letter is about.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.headerregistry import Address as Mailbox
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, make_msgid
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from preferences.domain.errors import Rejected, TryLater

TIMEOUT: Final = 10.0
"""Seconds to wait for the mail server, each time it has to say something."""

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


class ServerAway(TryLater):
    """The mail server takes nothing from us just now, whoever it is for."""


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


class MailServer:
    """The mail server behind `SMTP_URL`: `smtp://user:password@host:587`, or `smtps://…`.

    `smtp://` switches to TLS where the server offers it; with a user's name, or with `?tls=required`, it refuses to go
    on without.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._implicit_tls = parts.scheme == "smtps"
        self._host = parts.hostname or ""
        self._port = parts.port or (465 if self._implicit_tls else 25)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._tls_required = bool(self._user) or parts.query == "tls=required"
        self._context = ssl.create_default_context()

    def send(self, message: EmailMessage) -> None:
        """Hand one message over.

        Raises Rejected when the server will never take this one, TryLater when it wants this one later, and ServerAway
        for whatever else goes wrong. None repeats what the server said: it quotes addresses.
        """
        try:
            with self._connected() as server:
                _hand_over(server, message)
        except (OSError, smtplib.SMTPException) as error:
            raise ServerAway(f"the mail server cannot be used ({type(error).__name__})") from None

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        server = self._open()
        try:
            if not self._implicit_tls:
                self._start_tls(server)
            if self._user:
                server.login(self._user, self._password)
            yield server
        finally:
            # The letter is with the server by now, or is not: how it says good-bye changes nothing.
            with suppress(OSError, smtplib.SMTPException):
                server.quit()
            server.close()

    def _open(self) -> smtplib.SMTP:
        if self._implicit_tls:
            return smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT, context=self._context)
        return smtplib.SMTP(self._host, self._port, timeout=TIMEOUT)

    def _start_tls(self, server: smtplib.SMTP) -> None:
        server.ehlo_or_helo_if_needed()
        if self._tls_required or server.has_extn("starttls"):
            server.starttls(context=self._context)


def _hand_over(server: smtplib.SMTP, message: EmailMessage) -> None:
    """What smtplib's own `send_message` does, but that it writes `>From` where a line begins with `From`."""
    sender, *recipients = [one.addr_spec for name in ("From", "To") for one in message[name].addresses]
    policy, options = POLICY, []
    if not all(one.isascii() for one in (sender, *recipients)):
        policy, options = POLICY.clone(utf8=True), ["SMTPUTF8", "BODY=8BITMIME"]
    try:
        server.sendmail(sender, recipients, message.as_bytes(policy=policy), options)
    except smtplib.SMTPNotSupportedError:
        raise Rejected("the mail server takes no address with such letters") from None
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as error:
        raise _refusal(error) from None


def _refusal(error: smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError) -> Rejected | TryLater:
    if isinstance(error, smtplib.SMTPDataError):
        codes = [error.smtp_code]
    else:
        codes = [code for code, _ in error.recipients.values()]
    if all(code >= 500 for code in codes):
        return Rejected(f"the mail server refused the letter ({codes[0]})")
    return TryLater(f"the mail server wants it later ({codes[0]})")
