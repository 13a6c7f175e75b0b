"""The mailboxes of the made-up people: what arrived, and what a mail program makes of it.

Owns stored mails, reading them, and the one-click unsubscribe as Gmail does it. Invariant: a click tells the sender
nothing but the link itself: no cookie, no referrer, no address (RFC 8058 section 3.2).
"""

from __future__ import annotations

import html
import re
import sqlite3
import time
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from typing import Any, Final

import requests

from sandbox.clock import iso_now
from sandbox.store import Store

ONE_CLICK_BODY: Final = "List-Unsubscribe=One-Click"


class NoOneClick(Exception):
    """The mail offers none."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it arrived. `topic` is empty for a mail that the company did not send itself."""

    id: int
    topic: str
    address: str
    received_at: str
    raw: bytes
    message: EmailMessage

    @property
    def subject(self) -> str:
        return str(self.message["Subject"] or "(no subject)")

    @property
    def sender(self) -> tuple[str, str]:
        """The name and the address in From."""
        return parseaddr(str(self.message["From"]))

    @property
    def text(self) -> str:
        return self._part("plain")

    @property
    def html(self) -> str:
        return self._part("html")

    @property
    def source(self) -> str:
        return self.raw.decode("utf-8", "replace").replace("\r\n", "\n")

    @property
    def list_headers(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.message.items() if name.lower().startswith("list-")}

    @property
    def one_click_url(self) -> str | None:
        """Where a mailbox provider posts, if both headers ask for it.

        RFC 8058 wants https; http counts here as well, because a demo on one machine has no certificate.
        """
        if self.list_headers.get("List-Unsubscribe-Post") != ONE_CLICK_BODY:
            return None
        found = re.search(r"<(https?://[^>]+)>", self.list_headers.get("List-Unsubscribe", ""))
        return found[1] if found else None

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "topic": self.topic,
            "address": self.address,
            "received_at": self.received_at,
            "from": self.sender[1],
            "subject": self.subject,
            "headers": self.list_headers,
            "one_click_url": self.one_click_url,
            "links": re.findall(r"https?://[^\s>]+", self.text),
        }

    def _part(self, subtype: str) -> str:
        part = self.message.get_body((subtype,))
        return str(part.get_content()) if part else ""


class Mailbox:
    """All mails of all people."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def deliver(self, address: str, raw: bytes, *, topic: str = "") -> int:
        """Keep a mail; gives its number."""
        return self._store.write(
            "INSERT INTO mail (topic, address, received_at, raw) VALUES (?, ?, ?, ?)",
            *(topic, address, iso_now(), raw),
        )

    def find(self, mail_id: int) -> Mail | None:
        row = self._store.row("SELECT * FROM mail WHERE seq = ?", mail_id)
        return _mail(row) if row else None

    def mails(self, address: str | None = None, limit: int = 500) -> list[Mail]:
        """The last mails, the newest first: of everybody, or to one address."""
        if address is None:
            rows = self._store.rows("SELECT * FROM mail ORDER BY seq DESC LIMIT ?", limit)
        else:
            rows = self._store.rows("SELECT * FROM mail WHERE address = ? ORDER BY seq DESC LIMIT ?", address, limit)
        return [_mail(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many mails each address has, those that got the first one first."""
        rows = self._store.rows("SELECT address, count(*) AS mails FROM mail GROUP BY address ORDER BY min(seq)")
        return {row["address"]: row["mails"] for row in rows}


def _mail(row: sqlite3.Row) -> Mail:
    message = message_from_bytes(row["raw"], policy=SMTP)
    return Mail(row["seq"], row["topic"], row["address"], row["received_at"], raw=row["raw"], message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the sender answered to a one-click. `status` is None if nobody answered."""

    status: int | None
    text: str
    seconds: float = 0.0
    redirected: bool = False
    cookies: bool = False

    @property
    def is_right(self) -> bool:
        """Whether a mailbox provider would be content: 2xx, no redirect (RFC 8058 section 3.1), no cookie."""
        return self.status is not None and 200 <= self.status < 300 and not self.cookies

    def as_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "text": self.text,
            "milliseconds": round(self.seconds * 1000),
            "redirected": self.redirected,
            "cookies": self.cookies,
            "is_right": self.is_right,
        }


def one_click(mail: Mail) -> Answer:
    """Press "Unsubscribe" as Gmail does: its server posts to the link, not the reader's browser.

    Raises NoOneClick.
    """
    if mail.one_click_url is None:
        raise NoOneClick("this mail has no one-click unsubscribe")
    started = time.perf_counter()
    try:
        answer = requests.post(
            mail.one_click_url,
            data=ONE_CLICK_BODY,
            headers={"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "sandbox-mailbox"},
            timeout=15,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        return Answer(status=None, text=f"no answer ({type(error).__name__})")
    return Answer(
        status=answer.status_code,
        text=_readable(answer.text)[:300],
        seconds=time.perf_counter() - started,
        redirected=answer.is_redirect,
        cookies="Set-Cookie" in answer.headers,
    )


def _readable(page: str) -> str:
    """The words of a page, without its head and markup."""
    body = re.sub(r"(?is)<(head|style|script)\b.*?</\1>|<[^>]*>", " ", page)
    return " ".join(html.unescape(body).split())
