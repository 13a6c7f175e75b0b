"""Cleanup: rows that have run out are removed.

Invariant: nothing that bears on permission is touched. Each store module knows which of its rows have run out.
"""

from __future__ import annotations

from datetime import datetime

from preferences.store import address_requests, frequency, outbox, sign_ins, soft_bounces, webhook_tokens, workers
from preferences.store.transactions import Save


def forget_old(save: Save, now: datetime) -> bool:
    """Remove what has run out. Workers may do so at the same time. Returns False: there is no more to do."""
    for rows in (address_requests, outbox, frequency, sign_ins, soft_bounces, webhook_tokens, workers):
        rows.forget_old(save, now)
    return False
