"""The sending company: asks first, then sends to whom it may.

Owns one sending from the question to the mailbox. Invariant: without an answer marketing mail stays and a receipt
goes, because a missed newsletter harms nobody and a missed receipt may.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sandbox.client import Center, Links, NoAnswer
from sandbox.clock import iso_now
from sandbox.config import Person
from sandbox.mailbox import Mailbox
from sandbox.mailer import LETTERS, Letter, compose, sign
from sandbox.store import Store

BATCH: Final = 100
"""So few at a time that no decision is more than a moment old when its mail leaves."""


class UnknownTopic(ValueError):
    """The company writes no letters about that."""


@dataclass(slots=True)
class Sending:
    """What became of one sending: to whom it went, and whom it left out for which reason."""

    topic: str
    sent: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def skip(self, address: str, reason: str) -> None:
        self.skipped.append({"address": address, "reason": reason})

    def as_json(self) -> dict[str, Any]:
        return {"topic": self.topic, "sent": self.sent, "skipped": self.skipped}


class Company:
    """Maple & Finch, its customers and its letters."""

    def __init__(
        self,
        store: Store,
        center: Center,
        mailbox: Mailbox,
        people: Sequence[Person],
        *,
        dkim_key: bytes | None = None,
    ) -> None:
        self.people = tuple(people)
        self._dkim_key = dkim_key
        self._store = store
        self._center = center
        self._mailbox = mailbox

    def send(self, topic: str, addresses: Sequence[str] | None = None) -> Sending:
        """Write to all customers, or to some, where the preference center allows it. Raises UnknownTopic."""
        if topic not in LETTERS:
            raise UnknownTopic(f"no letters about this; there are {', '.join(LETTERS)}")
        people = [person for person in self.people if addresses is None or person.address in addresses]
        number = self._count(topic) + 1
        sending = Sending(topic)
        for batch in _batches(people):
            self._send_batch(LETTERS[topic], batch, sending, number=number)
        self._store.write(
            "INSERT INTO sending (sent_at, topic, sent, skipped) VALUES (?, ?, ?, ?)",
            *(iso_now(), topic, json.dumps(sending.sent), json.dumps(sending.skipped)),
        )
        return sending

    def sendings(self, limit: int = 5) -> list[dict[str, Any]]:
        """The last sendings, the newest first."""
        return [
            {**dict(row), "sent": json.loads(row["sent"]), "skipped": json.loads(row["skipped"])}
            for row in self._store.rows("SELECT * FROM sending ORDER BY seq DESC LIMIT ?", limit)
        ]

    def _count(self, topic: str) -> int:
        row = self._store.row("SELECT count(*) AS sendings FROM sending WHERE topic = ?", topic)
        return int(row["sendings"]) if row else 0

    def _send_batch(self, letter: Letter, people: Sequence[Person], sending: Sending, *, number: int) -> None:
        allowed = self._ask(letter, people, sending)
        links = self._links(letter, allowed, f"{letter.topic}-{number}")
        for person in allowed:
            if letter.is_marketing and person.address not in links:
                sending.skip(person.address, "no unsubscribe link to be had")
                continue
            now = datetime.now(UTC)
            raw = compose(letter, person, links.get(person.address), number=number, now=now)
            raw = sign(raw, self._dkim_key) if self._dkim_key else raw
            self._mailbox.deliver(person.address, raw, topic=letter.topic)
            sending.sent.append(person.address)

    def _ask(self, letter: Letter, people: Sequence[Person], sending: Sending) -> list[Person]:
        """Those who may be written to now. The others are noted with the reason."""
        try:
            decisions = self._center.decide(letter.message_class, letter.topic, [person.address for person in people])
        except NoAnswer as error:
            if not letter.is_marketing:
                return list(people)
            for person in people:
                sending.skip(person.address, f"no answer from the preference center ({error})")
            return []
        for person in people:
            if not decisions[person.address].allowed:
                sending.skip(person.address, decisions[person.address].reason)
        return [person for person in people if decisions[person.address].allowed]

    def _links(self, letter: Letter, people: Sequence[Person], message_ref: str) -> dict[str, Links]:
        if not people:
            return {}
        try:
            return self._center.link(letter.topic, [person.address for person in people], message_ref)
        except NoAnswer:
            return {}


def _batches(people: Sequence[Person]) -> Iterator[Sequence[Person]]:
    for start in range(0, len(people), BATCH):
        yield people[start : start + BATCH]
