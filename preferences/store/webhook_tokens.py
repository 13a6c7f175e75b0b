"""Tokens of webhooks whose signature does not cover the body: the rows `webhook_token`.

`connector` holds a digest of the signing key, which connectors may share. Invariant: a token is valid only for the body
it first came with.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select

from preferences.store.dialect import insert_rows
from preferences.store.tables import webhook_token
from preferences.store.transactions import Save

KEPT_FOR: Final = timedelta(days=3)
"""Longer than a signed time is accepted (`Connector.freshness`)."""


def bind(save: Save, key: str, token: str, *, digest: str, now: datetime) -> bool:
    """Returns whether this is the body that the token first came with."""
    row = {"connector": key, "token": token, "digest": digest, "at": now}
    insert_rows(save, webhook_token, [row], on_conflict="ignore")
    known = select(webhook_token.c.digest).where(webhook_token.c.connector == key, webhook_token.c.token == token)
    return bool(save.execute(known).scalar_one() == digest)


def forget_old(save: Save, now: datetime) -> None:
    save.execute(delete(webhook_token).where(webhook_token.c.at < now - KEPT_FOR))
