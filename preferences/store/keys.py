"""API keys: made, recognised, withdrawn.

Owns the rows `api_key`. Invariant: a key itself is shown once and never stored; its SHA-256 is enough to recognise it,
since it is random and long.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from preferences.domain.errors import NotAllowed
from preferences.store.contacts import new_id
from preferences.store.db import insert_rows
from preferences.store.tables import api_key

PREFIX: Final = "pref_"


def create_key(connection: Connection, name: str, now: datetime) -> str:
    """Make a key and return it. Raises NotAllowed when the name is taken."""
    if connection.execute(select(api_key.c.id).where(api_key.c.name == name)).first() is not None:
        raise NotAllowed(f"there is a key named {name} already; choose another name")
    key = PREFIX + secrets.token_urlsafe(32)
    row = {"id": new_id(now), "name": name, "digest": digest_of(key), "created_at": now, "revoked_at": None}
    insert_rows(connection, api_key, [row])
    return key


def key_name(connection: Connection, digest: str) -> str | None:
    """The name of the valid key with this digest, or None."""
    statement = select(api_key.c.name).where(api_key.c.digest == digest, api_key.c.revoked_at.is_(None))
    return connection.execute(statement).scalar_one_or_none()


def digest_of(key: str) -> str:
    """What is stored of a key: SHA-256, in hex."""
    return hashlib.sha256(key.encode()).hexdigest()
