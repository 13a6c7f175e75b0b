"""Why people left, for those who say.

Owns the rows `stated_reason`. Invariant: never part of the ledger, since it bears on nobody's permission.
"""

from __future__ import annotations

from datetime import datetime

from preferences.store.dialect import insert_rows
from preferences.store.tables import stated_reason
from preferences.store.transactions import Save


def state_reason(save: Save, seq: int, reason: str, now: datetime) -> None:
    """Note the reason stated for entry `seq`; a later word replaces an earlier one."""
    insert_rows(
        save,
        stated_reason,
        [{"seq": seq, "reason": reason, "stated_at": now}],
        on_conflict="replace",
    )
