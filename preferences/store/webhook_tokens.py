"""Signed tokens of webhooks whose signature does not cover the body.

Owns the rows `webhook_token`; its column `connector` holds a digest of the key that signed the token, since connectors
may share a key. Invariant: while a token is stored, it is valid for the body it came with first, and for no other.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select

from preferences.store.dialect import insert_rows
from preferences.store.tables import webhook_token
from preferences.store.transactions import Save

KEPT_FOR: Final = timedelta(days=3)
"""Longer than any connector without a signed body accepts a signed time (`Connector.freshness`)."""


def bind(save: Save, key: str, token: str, *, digest: str, now: datetime) -> bool:
    """Store the body that a token of this key came with first. Returns whether this is that body."""
    row = {"connector": key, "token": token, "digest": digest, "at": now}
    insert_rows(save, webhook_token, [row], on_conflict="ignore")
    known = select(webhook_token.c.digest).where(webhook_token.c.connector == key, webhook_token.c.token == token)
    return bool(save.execute(known).scalar_one() == digest)


def forget_old(save: Save, now: datetime) -> None:
    """Remove tokens that are too old to be accepted."""
    save.execute(delete(webhook_token).where(webhook_token.c.at < now - KEPT_FOR))
