"""The pretend platform, which sends email, text messages and post: its suppression list, and what it makes of a push.

Owns the meaning of pushes and of what happens at the platform itself. Sending webhooks is the outbox's work, HTTP is
`platform_api`'s. Invariant: the list is a set, so hearing something twice is the same as hearing it once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from sandbox.clock import iso, iso_now
from sandbox.faults import Faults
from sandbox.outbox import Outbox
from sandbox.store import Store

GLOBAL_LIST: Final = "global"
LISTS: Final = ("product-news", "offers", "workshop-evenings", GLOBAL_LIST)
"""Those that email is sent to."""

SUPPRESSING_KINDS: Final = ("unsubscribe", "bounce.hard", "complaint", "invalid")
"""Events after which the platform does not send. Others, such as `delivered`, are only reported."""

KIND_OF_REASON: Final = {"hard_bounce": "bounce.hard", "complaint": "complaint", "invalid": "invalid"}
"""What the preference center calls it -> what this platform calls it. Every other reason is an unsubscribe here."""


class BadSignature(Exception):
    """Not from the preference center, or not signed with the secret that we know."""


class BadPush(Exception):
    """Authentic, but not what was agreed; the message says where."""


@dataclass(frozen=True, slots=True)
class Change:
    """One item of a push: what now holds for one address on one list, and since when."""

    contact: str
    channel: str
    address: str
    list_name: str
    status: str
    reason: str | None
    since: str

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        return cls(
            contact=item["contact"],
            channel=item["channel"],
            address=item["address"],
            list_name=item["list"],
            status=item["status"],
            reason=item["reason"],
            since=iso(item["since"]),
        )

    def as_json(self) -> dict[str, str | None]:
        return {"address": self.address, "list": self.list_name, "status": self.status, "reason": self.reason}


class Platform:
    """The platform's own view of the world."""

    def __init__(self, store: Store, outbox: Outbox, signing_secret: str) -> None:
        self._store = store
        self._outbox = outbox
        self._verifier = Webhook(signing_secret)
        self._stopping = threading.Event()

    @property
    def faults(self) -> Faults:
        return self._outbox.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._outbox.faults = faults
        self._outbox.wake()
        self._store.touch()

    def dawdle(self) -> None:
        """Wait as long as the fault `slow` says, but not when the sandbox is about to stop."""
        self._stopping.wait(self.faults.slow_seconds)

    def stop(self) -> None:
        self._stopping.set()

    def read_push(self, body: bytes, headers: dict[str, str]) -> list[Change]:
        """Verify and parse a push. Raises BadSignature or BadPush, and nothing else for any bytes."""
        try:
            self._verifier.verify(body, headers, json_parse=False)
        except (WebhookVerificationError, ValueError) as error:
            # ValueError, because the library lets the errors of its decoders through.
            raise BadSignature("the signature does not fit") from error
        try:
            return [Change.from_json(item) for item in json.loads(body)["data"]["changes"]]
        except (KeyError, TypeError, ValueError) as error:
            raise BadPush(f"not as agreed: {type(error).__name__} {error}") from error

    def take(self, changes: Sequence[Change]) -> list[dict[str, str]]:
        """Make the changes, one after the other; gives those that the platform will not take, and why."""
        if self.faults.lossy:
            return []
        return [{"contact": change.contact, "why": why} for change in changes if (why := self._take_one(change))]

    def _take_one(self, change: Change) -> str | None:
        if change.address in self.faults.reject:
            return "this platform does not take that address"
        if change.status == "subscribed":
            self._remove(change)
        elif change.status in {"unsubscribed", "suppressed"}:
            kind = KIND_OF_REASON.get(change.reason or "", "unsubscribe")
            self._add(kind, change.channel, change.address, list_name=change.list_name, at=change.since, via="push")
        else:
            return f"unknown status {change.status}"
        return None

    def happened(self, kind: str, address: str, list_name: str, *, occurred_at: str | None = None) -> str:
        """Something happened at the platform itself: keep it, and report it. Gives the id of the webhook.

        Raises ValueError if `occurred_at` is not an instant.
        """
        at = iso(occurred_at) if occurred_at else iso_now()
        if kind in SUPPRESSING_KINDS:
            self._add(kind, "email", address, list_name=list_name, at=at, via="platform")
        data = {"channel": "email", "address": address, "list": list_name}
        return self._outbox.queue({"type": kind, "timestamp": at, "data": data})

    def _add(self, kind: str, channel: str, address: str, *, list_name: str, at: str, via: str) -> None:
        self._store.write(
            "INSERT INTO suppression (channel, address, list, kind, occurred_at, received_at, via)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (channel, address, list, kind)"
            " DO UPDATE SET occurred_at = max(occurred_at, excluded.occurred_at)",
            *(channel, address, list_name, kind, at, iso_now(), via),
        )

    def _remove(self, change: Change) -> None:
        """A return ends an unsubscribe that is no newer than it, and neither a bounce nor a complaint."""
        self._store.write(
            "DELETE FROM suppression WHERE channel = ? AND address = ? AND list = ?"
            " AND kind = 'unsubscribe' AND occurred_at <= ?",
            *(change.channel, change.address, change.list_name, change.since),
        )

    def list_suppressed(self, after: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """One page of the list, the oldest first, and where the next page begins (None after the last)."""
        rows = self._store.rows(
            "SELECT seq, channel, address, list, kind, occurred_at FROM suppression WHERE seq > ? ORDER BY seq LIMIT ?",
            *(after, limit + 1),
        )
        page = [{name: row[name] for name in row.keys() if name != "seq"} for row in rows[:limit]]  # noqa: SIM118 - a Row is no dict
        return page, rows[limit - 1]["seq"] if len(rows) > limit else None

    def search(self, wanted: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """The rows of these, each a channel and an address."""
        query = "SELECT channel, address, list, kind, occurred_at FROM suppression WHERE channel = ? AND address = ?"
        return [dict(row) for key in dict.fromkeys(wanted) for row in self._store.rows(query, *key)]

    def suppressions(self) -> list[dict[str, Any]]:
        """The whole list with the platform's own notes, the newest first."""
        columns = "channel, address, list, kind, occurred_at, received_at, via"
        return [dict(row) for row in self._store.rows(f"SELECT {columns} FROM suppression ORDER BY seq DESC")]  # noqa: S608

    def note_push(self, webhook_id: str, status: int, outcome: str, *, changes: Sequence[Change] = ()) -> None:
        """Remember a push for the page, whatever became of it."""
        self._store.write(
            "INSERT INTO push (received_at, webhook_id, status, outcome, changes) VALUES (?, ?, ?, ?, ?)",
            *(iso_now(), webhook_id, status, outcome, json.dumps([change.as_json() for change in changes])),
        )

    def pushes(self, limit: int = 30) -> list[dict[str, Any]]:
        """The last pushes, the newest first."""
        rows = self._store.rows("SELECT * FROM push ORDER BY seq DESC LIMIT ?", limit)
        return [{**dict(row), "changes": json.loads(row["changes"])} for row in rows]
