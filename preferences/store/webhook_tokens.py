"""Signed tokens of webhooks whose signature does not cover the body, and the body that each came with first.

Owns the rows `webhook_token`, whose column `connector` holds a digest of the key that signed the token: connectors may
share one. Invariant: while a token is kept, it goes with one body and no other, however many requests bring it at the
same time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select

from preferences.store.dialect import insert_rows
from preferences.store.tables import webhook_token
from preferences.store.transactions import Save

KEPT_FOR: Final = timedelta(days=3)
"""Longer than any connector whose signature leaves the body out takes a signed time (`Connector.freshness`)."""


def bind(save: Save, key: str, token: str, *, digest: str, now: datetime) -> bool:
    """Note the body that a token of this key came with, unless it came before. Returns whether this is that body."""
    row = {"connector": key, "token": token, "digest": digest, "at": now}
    insert_rows(save, webhook_token, [row], on_conflict="ignore")
    known = select(webhook_token.c.digest).where(webhook_token.c.connector == key, webhook_token.c.token == token)
    return bool(save.execute(known).scalar_one() == digest)


def forget_old(save: Save, now: datetime) -> None:
    """Remove those that come too late to be taken, whatever they come with."""
    save.execute(delete(webhook_token).where(webhook_token.c.at < now - KEPT_FOR))
