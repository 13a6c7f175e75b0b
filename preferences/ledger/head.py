"""The number and hash of the newest entry, in one row that every write locks first."""

from __future__ import annotations

from preferences.store.dialect import insert_rows
from preferences.store.tables import ledger_head
from preferences.store.transactions import Write


def set_head(write: Write, seq: int, newest: str) -> None:
    insert_rows(write, ledger_head, [{"id": 1, "seq": seq, "hash": newest}], on_conflict="replace")
    write.seq, write.hash = seq, newest
