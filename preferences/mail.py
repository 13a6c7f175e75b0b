"""A letter as an e-mail, and the way to the mail server.

Owns the headers and the bytes on the wire. Invariants: no header is folded or encoded that must not be; an automatic
letter says that it is one; nothing here knows what a letter is about.
"""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address as Mailbox
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Final
from urllib.parse import unquote, urlsplit

from preferences.domain.errors import Rejected, TryLater

TIMEOUT: Final = 10.0
"""Seconds to wait for the mail server, each time it has to say something."""

# The longest line that SMTP allows (RFC 5321 §4.5.3.1.6). With its usual 78, Python encodes a longer URL in a header
# into something that no mail program reads (python/cpython#85725).
POLICY: Final = SMTP.clone(max_line_length=998)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What a letter says, in both its forms."""

    subject: str
    text: str
    html: str


def compose(writing: Writing, *, sender: Mailbox, recipient: str, host: str, now: datetime) -> EmailMessage:
    """The letter as a message. Transactional: it carries no list headers."""
    message = EmailMessage(policy=POLICY)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = " ".join(writing.subject.split())
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=host)
    # RFC 3834 §5: what a machine wrote must not be answered by a machine. The second header is what Exchange heeds.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(writing.text)
    message.add_alternative(writing.html, subtype="html")
    return message


class MailServer:
    """The mail server behind `SMTP_URL`: `smtp://user:password@host:587`, or `smtps://…`.

    `smtp://` switches to TLS where the server offers it; `?tls=required` refuses to go on without.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._implicit_tls = parts.scheme == "smtps"
        self._tls_required = parts.query == "tls=required"
        self._host = parts.hostname or ""
        self._port = parts.port or (465 if self._implicit_tls else 25)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")

    def send(self, message: EmailMessage) -> None:
        """Hand one message over.

        Raises Rejected when the server will never take this one, and TryLater for whatever else goes wrong. Neither
        repeats what the server said: it quotes addresses.
        """
        try:
            with self._connect() as server:
                server.send_message(message)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as error:
            raise _refusal(error) from None
        except (OSError, smtplib.SMTPException) as error:
            raise TryLater(f"the mail server cannot be used ({type(error).__name__})") from None

    def _connect(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self._implicit_tls:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT)
            server.ehlo_or_helo_if_needed()
            if server.has_extn("starttls") or self._tls_required:
                server.starttls(context=context)
        if self._user:
            server.login(self._user, self._password)
        return server


def _refusal(error: smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError) -> Rejected | TryLater:
    if isinstance(error, smtplib.SMTPDataError):
        codes = [error.smtp_code]
    else:
        codes = [code for code, _ in error.recipients.values()]
    if all(code >= 500 for code in codes):
        return Rejected(f"the mail server refused the letter ({codes[0]})")
    return TryLater(f"the mail server wants it later ({codes[0]})")
