"""The platform's outbox: webhooks to the preference center, repeated until they are accepted.

Owns signing, retrying and the faults of delivery. Invariant: a webhook keeps its id over all attempts, and each
attempt is signed afresh (Standard Webhooks, "Webhook headers").
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import requests
from standardwebhooks.webhooks import Webhook

from sandbox.clock import from_seconds, iso_now
from sandbox.faults import Faults
from sandbox.store import Store

log = logging.getLogger(__name__)

LONGEST_WAIT: Final = 60.0
"""Seconds between two attempts: a demo that waits for hours shows nothing."""

QUIET_SECONDS: Final = 1.5
"""How long nothing new may come in before `reordering` sends what has gathered, the newest first."""

COPIES_WHEN_REPEATING: Final = 3


class Outbox:
    """A queue in the store and one thread that empties it."""

    def __init__(self, store: Store, url: str, secret: str, *, first_retry_seconds: float) -> None:
        self.faults = Faults()
        self._store = store
        self._url = url
        self._signer = Webhook(secret)
        self._first_retry = first_retry_seconds
        self._session = requests.Session()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the attempt under way; what is still waiting is sent after the next start."""
        self._stopping.set()
        self.wake()
        if self._thread:
            self._thread.join()
        self._session.close()

    def wake(self) -> None:
        """Look at the queue now rather than later."""
        self._wake.set()

    def queue(self, event: Mapping[str, Any]) -> str:
        """Promise to deliver an event; gives its id."""
        webhook_id, now = f"msg_{secrets.token_hex(12)}", time.time()
        self._store.write(
            "INSERT INTO webhook (id, body, queued_at, next_at, copies, state) VALUES (?, ?, ?, ?, ?, ?)",
            *(webhook_id, json.dumps(event), now, now),
            *(COPIES_WHEN_REPEATING if self.faults.repeating else 1, "lost" if self.faults.lossy else "waiting"),
        )
        self.wake()
        return webhook_id

    def try_again(self, webhook_id: str) -> None:
        """Send one anew that was refused, lost or is waiting for its turn."""
        self._store.write(
            "UPDATE webhook SET state = 'waiting', next_at = ? WHERE id = ? AND state <> 'done'",
            *(time.time(), webhook_id),
        )
        self.wake()

    def webhooks(self, limit: int = 30) -> list[dict[str, Any]]:
        """The last webhooks with their answers, the newest first."""
        rows = self._store.rows("SELECT * FROM webhook ORDER BY seq DESC LIMIT ?", limit)
        return [_as_json(row) for row in rows]

    def _run(self) -> None:
        while True:
            # Cleared before looking, so that what comes in while looking is not slept over.
            self._wake.clear()
            if self._stopping.is_set():
                return
            webhook, wait = self._next()
            if webhook:
                self._attempt(webhook)
            else:
                self._wake.wait(wait)

    def _next(self) -> tuple[sqlite3.Row | None, float | None]:
        """The webhook to send now, or how long to wait for one (None: until woken)."""
        waiting = self._store.rows("SELECT * FROM webhook WHERE state = 'waiting' ORDER BY seq")
        if not waiting or self.faults.down:
            return None, None
        now = time.time()
        if self.faults.reordering:
            newest = waiting[-1]
            if (quiet_at := newest["queued_at"] + QUIET_SECONDS) > now:
                return None, quiet_at - now
            waiting.reverse()
        due = next((webhook for webhook in waiting if webhook["next_at"] <= now), None)
        return due, min(webhook["next_at"] for webhook in waiting) - now

    def _attempt(self, webhook: sqlite3.Row) -> None:
        """Send it once and note the answer."""
        now = datetime.now(UTC)
        headers = {
            "webhook-id": webhook["id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(webhook["id"], now, webhook["body"]),
            "content-type": "application/json",
        }
        try:
            answer = self._session.post(
                self._url, data=webhook["body"].encode(), headers=headers, timeout=15, allow_redirects=False
            )
        except requests.RequestException as error:
            self._note(webhook, None, type(error).__name__)
        else:
            self._note(webhook, answer, " ".join(answer.text.split())[:200])

    def _note(self, webhook: sqlite3.Row, answer: requests.Response | None, text: str) -> None:
        status = answer.status_code if answer is not None else None
        heard = status is not None and 200 <= status < 300
        answers = [*json.loads(webhook["answers"]), {"at": iso_now(), "status": status, "text": text}]
        delivered = webhook["delivered"] + heard
        state = _state(status, all_delivered=delivered >= webhook["copies"])
        wait = 0.0 if heard else self._wait_after(len(answers), answer)
        if not heard:
            log.info("webhook answered %s, %s", status or text, "given up" if state == "refused" else "will repeat")
        self._store.write(
            "UPDATE webhook SET answers = ?, delivered = ?, state = ?, next_at = ? WHERE id = ?",
            *(json.dumps(answers), delivered, state, time.time() + wait, webhook["id"]),
        )

    def _wait_after(self, attempts: int, answer: requests.Response | None) -> float:
        """Seconds until the next attempt: doubling, or what Retry-After asks if that is more."""
        backoff = min(LONGEST_WAIT, self._first_retry * 2.0 ** min(attempts - 1, 16))
        asked = answer.headers.get("Retry-After", "") if answer is not None else ""
        return max(backoff, float(asked)) if asked.isdigit() else backoff


def _state(status: int | None, *, all_delivered: bool) -> str:
    if status == 401:
        return "refused"  # a wrong secret does not get better with time
    return "done" if all_delivered else "waiting"


def _as_json(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "event": json.loads(row["body"]),
        "queued_at": from_seconds(row["queued_at"]),
        "copies": row["copies"],
        "delivered": row["delivered"],
        "state": row["state"],
        "answers": json.loads(row["answers"]),
    }
