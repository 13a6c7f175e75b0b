"""The worker that sends the emails waiting in the outbox: batches, retries and giving up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from preferences.domain.backoff import wait_after
from preferences.domain.errors import Rejected, StoreBusy, TryLater
from preferences.domain.outbox import EMAIL_LIFE, SIGN_IN_LIFE, WAITS, WARNINGS, EmailKind, QueuedEmail
from preferences.mail.messages import log, send
from preferences.mail.smtp import MailServer, ServerAway
from preferences.services import Services
from preferences.store import outbox

BATCH: Final = 20
"""Letters leased in one pass: what one worker takes, no other can send meanwhile."""

LONGEST_ROUND: Final = timedelta(seconds=5)
"""After so long no further letter of a pass is begun: the lease on a letter must outlast the slowest mail server, which
may use up its time-out at every step (about 90 seconds)."""

LONGEST_AWAY: Final = timedelta(minutes=1)
"""How long a mail server that took nothing is left alone at the most: each look at one that hangs takes ten seconds."""

LIVES: Final = {EmailKind.SIGN_IN: SIGN_IN_LIFE, **dict.fromkeys(WARNINGS, timedelta(days=7))}
"""Letters whose life is not the usual one: a code that is dead helps nobody, and whoever did not change their address
must hear of it, however late."""


class OutboxWorker:
    """Sends what is due, pass after pass. A mail server that is away is left alone for a while."""

    def __init__(self, services: Services) -> None:
        self._services = services
        url = services.settings.smtp_url
        self._server = MailServer(url) if url else None
        self._away_until = datetime.min.replace(tzinfo=UTC)
        self._times_away = 0

    def __call__(self) -> bool:
        """One pass. Returns whether there was anything to do."""
        began = datetime.now(UTC)
        if (
            self._server is None
            or began < self._away_until
            or not self._services.database.read(outbox.is_any_due, began)
        ):
            return False
        for letter in self._services.database.save(outbox.claim, began, BATCH):
            now = datetime.now(UTC)
            if now < self._away_until or now - began > LONGEST_ROUND:
                self._services.database.save(outbox.postpone, letter, max(now, self._away_until))
            else:
                self._deliver(self._server, letter, now)
        return True

    def _deliver(self, server: MailServer, letter: QueuedEmail, now: datetime) -> None:
        if _is_too_late(letter, now):
            self._give_up(letter, "too late")
            return
        try:
            send(self._services, server, letter, now)
        except TryLater as failure:
            if isinstance(failure, ServerAway):
                self._times_away += 1
                self._away_until = datetime.now(UTC) + min(_wait_after(self._times_away), LONGEST_AWAY)
            self._put_off(letter, now, str(failure))
            return
        except Rejected as failure:
            log.warning("email refused", kind=letter.kind.value, why=str(failure))
        except StoreBusy:
            raise
        except Exception as error:  # noqa: BLE001 - one that cannot be written must not hold up the others
            self._put_off(letter, now, type(error).__name__)
            return
        self._times_away = 0
        self._services.database.save(outbox.done, letter)

    def _put_off(self, letter: QueuedEmail, now: datetime, why: str) -> None:
        if _is_too_late(letter, now):
            self._give_up(letter, why)
            return
        log.warning("email put off", kind=letter.kind.value, attempts=letter.attempts, why=why)
        self._services.database.save(outbox.postpone, letter, now + _wait_after(letter.attempts))

    def _give_up(self, letter: QueuedEmail, why: str) -> None:
        log.error("email given up", kind=letter.kind.value, attempts=letter.attempts, why=why)
        self._services.database.save(outbox.done, letter)


def _is_too_late(letter: QueuedEmail, now: datetime) -> bool:
    return now - letter.created_at > LIVES.get(letter.kind, EMAIL_LIFE)


def _wait_after(attempts: int) -> timedelta:
    return timedelta(seconds=wait_after(attempts, WAITS))
