"""Removes expired rows.

Invariant: nothing that bears on permission is touched. Each store module defines its expiry.
"""

from __future__ import annotations

from datetime import datetime

from preferences.store import address_requests, frequency, outbox, sign_ins, soft_bounces, webhook_tokens, workers
from preferences.store.transactions import Save


def forget_old(save: Save, now: datetime) -> bool:
    """Remove expired rows; workers may run this concurrently. Returns False: no more to do."""
    for rows in (address_requests, outbox, frequency, sign_ins, soft_bounces, webhook_tokens, workers):
        rows.forget_old(save, now)
    return False
