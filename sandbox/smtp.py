"""A small SMTP server: what the preference center sends by itself arrives in the mailboxes too.

Owns as much of RFC 5321 as a sender on the same machine needs, without TLS or sign-in. Invariant: a message is
accepted (250) only after it is stored.
"""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Callable
from typing import Final

LARGEST_MESSAGE: Final = 10_000_000
LONGEST_LINE: Final = 2_000  # octets; RFC 5321 section 4.5.3.1.6 allows 1,000
SECONDS_OF_SILENCE: Final = 60

Deliver = Callable[[str, bytes], object]
"""Takes the address of one recipient, and the message."""


class SmtpServer(socketserver.ThreadingTCPServer):
    """Listens on 127.0.0.1 and gives each message to `deliver`, once for each recipient."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, deliver: Deliver) -> None:
        super().__init__(("127.0.0.1", port), _Session)
        self.deliver = deliver

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.1,), name="smtp", daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Session(socketserver.StreamRequestHandler):
    """One conversation."""

    server: SmtpServer
    timeout = SECONDS_OF_SILENCE

    def handle(self) -> None:
        self._recipients: list[str] = []
        self._say("220 sandbox ready")
        try:
            while line := self.rfile.readline(LONGEST_LINE):
                command, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
                if command.upper() == "QUIT":
                    self._say("221 bye")
                    return
                self._obey(command.upper(), rest)
        except OSError:
            return  # the other side went away, or fell silent

    def _obey(self, command: str, rest: str) -> None:
        match command:
            case "EHLO":
                self._say("250-sandbox", "250-8BITMIME", "250 SMTPUTF8")
            case "HELO" | "NOOP":
                self._say("250 sandbox")
            case "MAIL" | "RSET":
                self._recipients.clear()
                self._say("250 go on")
            case "RCPT":
                self._add_recipient(rest)
            case "DATA" if self._recipients:
                self._take_message()
            case "DATA":
                self._say("503 for whom? (RCPT comes first)")
            case _:
                self._say("502 not spoken here")

    def _add_recipient(self, rest: str) -> None:
        found = re.match(r"(?i)TO:\s*<([^<>\s]+@[^<>\s]+)>", rest)
        if found is None:
            self._say("501 RCPT TO:<address>")
            return
        self._recipients.append(found[1].lower())
        self._say("250 known here")

    def _take_message(self) -> None:
        self._say("354 end with a dot")
        message = self._read_message()
        if message is None:
            self._say("552 too large")
            return
        for recipient in self._recipients:
            self.server.deliver(recipient, message)
        self._recipients.clear()
        self._say("250 in the mailbox")

    def _read_message(self) -> bytes | None:
        """The message up to the lone dot, with doubled dots undone (RFC 5321 section 4.5.2); None if too large."""
        lines: list[bytes] = []
        size = 0
        while (line := self.rfile.readline(LONGEST_LINE)) not in {b".\r\n", b".\n"}:
            if not line:
                raise ConnectionError
            size += len(line)
            if size <= LARGEST_MESSAGE:
                lines.append(line.removeprefix(b"."))
        return b"".join(lines) if size <= LARGEST_MESSAGE else None

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())
