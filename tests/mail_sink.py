"""A real SMTP server that keeps every message, byte for byte, for tests to read.

Knows nothing of pytest. Invariant: what is kept is what was on the wire, before any library has understood it.
"""

from __future__ import annotations

import email
import email.policy
import re
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller

from tests.servers import free_port


@dataclass(frozen=True)
class Received:
    """A message: its envelope and its bytes."""

    sender: str
    recipients: list[str]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        """The message as a mail program reads it."""
        return email.message_from_bytes(self.raw, policy=email.policy.default)

    @property
    def text(self) -> str:
        """Its plain text."""
        part = self.message.get_body(("plain",))
        assert part is not None
        return str(part.get_content())

    @property
    def html(self) -> str:
        """Its HTML."""
        part = self.message.get_body(("html",))
        assert part is not None
        return str(part.get_content())

    @property
    def url(self) -> str:
        """The one link in its text."""
        (found,) = set(re.findall(r"https?://\S+", self.text))
        return found

    @property
    def code(self) -> str:
        """The six digits to type."""
        (found,) = re.findall(r"^ +(\d{3} \d{3})\r?$", self.text, re.MULTILINE)
        return found.replace(" ", "")


@dataclass
class MailSink:
    """`with MailSink() as sink:` – its address is `sink.url`; `refusals` names recipients that it answers with 550."""

    messages: list[Received] = field(default_factory=list)
    refusals: set[str] = field(default_factory=set)
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """For `SMTP_URL`."""
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        if address in self.refusals:
            return "550 nobody here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.messages.append(Received(envelope.mail_from, list(envelope.rcpt_tos), envelope.original_content))
        return "250 kept"

    def to(self, address: str) -> list[Received]:
        """Every message to this address, the oldest first."""
        return [message for message in self.messages if address in message.recipients]

    def wait_for(self, address: str, count: int = 1, seconds: float = 15) -> Received:
        """The message that is number `count` for this address, once it has arrived."""
        deadline = time.monotonic() + seconds
        while len(self.to(address)) < count:
            assert time.monotonic() < deadline, f"email {count} did not arrive within {seconds} s"
            time.sleep(0.02)
        return self.to(address)[count - 1]

    def __enter__(self) -> Self:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()
