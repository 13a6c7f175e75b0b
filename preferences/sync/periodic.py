"""Tasks that a worker runs at intervals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Periodic:
    """Runs `work` at once, then each `interval`, and immediately again while it returns True."""

    def __init__(self, interval: timedelta, work: Callable[[datetime], bool]) -> None:
        self._interval = interval
        self._work = work
        self._due_at = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> bool:
        now = datetime.now(UTC)
        if now < self._due_at:
            return False
        is_more = self._work(now)
        if not is_more:
            self._due_at = now + self._interval
        return is_more
