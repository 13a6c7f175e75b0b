"""The SMTP client.

Invariants: passwords are never sent in the clear; no error quotes the server, whose replies hold addresses.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import unquote, urlsplit

from preferences.domain.errors import Rejected, TryLater
from preferences.mail.message import Message

TIMEOUT: Final = 10.0
"""Seconds to wait for each reply."""


class ServerAway(TryLater):
    """The mail server is unavailable for all recipients."""


class MailServer:
    """The server of `SMTP_URL`: `smtp://user:password@host:587` or `smtps://…`.

    `smtp://` uses STARTTLS if offered, and requires it with a user name or `?tls=required`.
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

    def send(self, message: Message) -> None:
        """Raises Rejected for a permanent refusal, TryLater for a temporary one, else ServerAway."""
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
            # The message was already accepted or not; QUIT may fail.
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


def _hand_over(server: smtplib.SMTP, message: Message) -> None:
    """smtplib's `send_message` would write `>From` for lines that begin with `From`."""
    options = ["SMTPUTF8", "BODY=8BITMIME"] if message.is_utf8 else []
    try:
        server.sendmail(message.sender, [message.recipient], message.content, options)
    except smtplib.SMTPNotSupportedError:
        raise Rejected("the mail server does not support SMTPUTF8") from None
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as error:
        raise _refusal(error) from None


def _refusal(error: smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError) -> Rejected | TryLater:
    if isinstance(error, smtplib.SMTPDataError):
        codes = [error.smtp_code]
    else:
        codes = [code for code, _ in error.recipients.values()]
    if all(code >= 500 for code in codes):
        return Rejected(f"the mail server refused the email ({codes[0]})")
    return TryLater(f"the mail server wants it later ({codes[0]})")
