"""The sandbox's SMTP server: email of the preference center itself is delivered to the mailboxes too.

Invariant: a message is accepted (250) only after it is stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from aiosmtpd.controller import Controller

LARGEST_MESSAGE: Final = 10_000_000
"""Bytes."""

Deliver = Callable[[str, bytes], object]
"""Takes the address of one recipient, and the message."""


class _Handler:
    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        for recipient in envelope.rcpt_tos:
            self._deliver(recipient.lower(), envelope.content)
        return "250 in the mailbox"


class SmtpServer(Controller):
    """Listens on 127.0.0.1 and gives each message to `deliver`, once for each recipient."""

    def __init__(self, port: int, deliver: Deliver) -> None:
        logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd logs every command, with its addresses
        super().__init__(
            _Handler(deliver), hostname="127.0.0.1", port=port, data_size_limit=LARGEST_MESSAGE, enable_SMTPUTF8=True
        )
