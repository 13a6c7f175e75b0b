"""Stated reasons for leaving: the rows `stated_reason`. They affect no permission."""

from __future__ import annotations

from datetime import datetime

from preferences.store.dialect import insert_rows
from preferences.store.tables import stated_reason
from preferences.store.transactions import Save


def state_reason(save: Save, seq: int, reason: str, now: datetime) -> None:
    """Replaces an earlier reason."""
    insert_rows(
        save,
        stated_reason,
        [{"seq": seq, "reason": reason, "stated_at": now}],
        on_conflict="replace",
    )
