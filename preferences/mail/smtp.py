"""The connection to the mail server.

Invariants: a password never travels in the clear; nothing here knows what a message is about.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from typing import Final
from urllib.parse import unquote, urlsplit

from preferences.domain.errors import Rejected, TryLater
from preferences.mail.message import POLICY

TIMEOUT: Final = 10.0
"""Seconds to wait for the mail server, each time it has to say something."""


class ServerAway(TryLater):
    """The mail server takes nothing from us just now, whoever it is for."""


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
