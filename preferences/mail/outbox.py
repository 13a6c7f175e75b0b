"""The worker that sends outbox emails: batches, retries, giving up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from preferences.domain.backoff import wait_after
from preferences.domain.errors import Rejected, StoreBusy, TryLater
from preferences.domain.outbox import WAITS, QueuedEmail, is_expired
from preferences.mail.messages import compose
from preferences.mail.prepare import prepare
from preferences.mail.smtp import MailServer, ServerAway
from preferences.services import Services
from preferences.store import outbox

log = structlog.get_logger(__name__)

BATCH: Final = 20
"""Emails leased in a pass."""

LONGEST_PASS: Final = timedelta(seconds=5)
"""A pass starts no email after this: the lease must outlast a server that times out at every step (90 s)."""

LONGEST_AWAY: Final = timedelta(minutes=1)
"""The maximum pause after a server failure."""


def send(services: Services, server: MailServer, queued: QueuedEmail, now: datetime) -> None:
    """Send one email if its recipient may receive it. Raises TryLater and Rejected."""
    catalog = services.catalog.get()
    brand = catalog.brands.get(queued.brand, catalog.first_brand)
    context = prepare(services, brand, queued)
    if context is None:
        return
    server.send(compose(services, brand, queued, context, now))
    log.info("email sent", kind=queued.kind.value)


class OutboxWorker:
    """Sends due emails, pausing while the mail server is unavailable."""

    def __init__(self, services: Services) -> None:
        self._services = services
        url = services.settings.smtp_url
        self._server = MailServer(url) if url else None
        self._away_until = datetime.min.replace(tzinfo=UTC)
        self._times_away = 0

    def __call__(self) -> bool:
        """Returns whether anything was due."""
        began, database = datetime.now(UTC), self._services.database
        if self._server is None or began < self._away_until or not database.read(outbox.is_any_due, began):
            return False
        for queued in database.save(outbox.claim, began, BATCH):
            now = datetime.now(UTC)
            if now < self._away_until or now - began > LONGEST_PASS:
                database.save(outbox.postpone, queued, max(now, self._away_until))
            else:
                self._deliver(self._server, queued, now)
        return True

    def _deliver(self, server: MailServer, queued: QueuedEmail, now: datetime) -> None:
        if is_expired(queued, now):
            self._give_up(queued, "too late")
            return
        try:
            send(self._services, server, queued, now)
        except TryLater as failure:
            if isinstance(failure, ServerAway):
                self._times_away += 1
                self._away_until = datetime.now(UTC) + min(_wait_after(self._times_away), LONGEST_AWAY)
            self._postpone(queued, now, str(failure))
            return
        except Rejected as failure:
            log.warning("email refused", kind=queued.kind.value, why=str(failure))
        except StoreBusy:
            raise
        except Exception as error:  # noqa: BLE001 - an email that cannot be composed must not block others
            self._postpone(queued, now, type(error).__name__)
            return
        self._times_away = 0
        self._services.database.save(outbox.done, queued)

    def _postpone(self, queued: QueuedEmail, now: datetime, why: str) -> None:
        log.warning("email put off", kind=queued.kind.value, attempts=queued.attempts, why=why)
        self._services.database.save(outbox.postpone, queued, now + _wait_after(queued.attempts))

    def _give_up(self, queued: QueuedEmail, why: str) -> None:
        log.error("email given up", kind=queued.kind.value, attempts=queued.attempts, why=why)
        self._services.database.save(outbox.done, queued)


def _wait_after(failures: int) -> timedelta:
    return timedelta(seconds=wait_after(failures, WAITS))
