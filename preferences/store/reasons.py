"""The reasons that people give for leaving.

Owns the rows `stated_reason`. Not part of the ledger: a reason bears on nobody's permission.
"""

from __future__ import annotations

from datetime import datetime

from preferences.store.dialect import insert_rows
from preferences.store.tables import stated_reason
from preferences.store.transactions import Save


def state_reason(save: Save, seq: int, reason: str, now: datetime) -> None:
    """Store the reason given for entry `seq`, in place of an earlier one."""
    insert_rows(
        save,
        stated_reason,
        [{"seq": seq, "reason": reason, "stated_at": now}],
        on_conflict="replace",
    )
