"""API keys: the rows `api_key`.

Invariant: a key is shown once, and only its SHA-256 is stored: keys are long and random.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, and_, bindparam, or_, select, update

from preferences.domain.errors import NotAllowed
from preferences.domain.vocabulary import DEFAULT_SCOPES, KeyScope
from preferences.store.contacts import new_id
from preferences.store.dialect import insert_rows
from preferences.store.tables import api_key
from preferences.store.transactions import Read, Save

PREFIX: Final = "pref_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The key that it replaced works until `old_until`."""

    name: str
    scopes: frozenset[KeyScope]
    created_at: datetime
    revoked_at: datetime | None
    old_until: datetime | None
    is_old: bool = False
    """Found by the replaced key."""


def create_key(save: Save, name: str, now: datetime, scopes: Collection[KeyScope] = DEFAULT_SCOPES) -> str:
    """Raises NotAllowed when the name is taken."""
    if find_named(save, name) is not None:
        raise NotAllowed(f"there is a key named {name} already; choose another name, or rotate it")
    key = _new_key()
    row = {"id": new_id(now), "name": name, "digest": digest_of(key), "created_at": now, "scopes": _as_text(scopes)}
    insert_rows(save, api_key, [row])
    return key


def rotate_key(save: Save, name: str, now: datetime, overlap: timedelta) -> str:
    """Replace a key. The old one works for `overlap`. Raises NotAllowed."""
    _require_valid(save, name)
    key = _new_key()
    save.execute(
        update(api_key)
        .where(api_key.c.name == name)
        .values(digest=digest_of(key), old_digest=api_key.c.digest, old_until=now + overlap)
    )
    return key


def revoke_key(save: Save, name: str, now: datetime) -> None:
    """Revoke a key, and the one it replaced. Raises NotAllowed."""
    _require_valid(save, name)
    save.execute(update(api_key).where(api_key.c.name == name).values(revoked_at=now))


def _require_valid(read: Read, name: str) -> None:
    found = find_named(read, name)
    if found is None or found.revoked_at is not None:
        raise NotAllowed(f"there is no valid key named {name}; `flask api-key list` shows those there are")


def find_named(read: Read, name: str) -> Key | None:
    """Valid or not."""
    row = read.execute(select(api_key).where(api_key.c.name == name)).one_or_none()
    return None if row is None else _key(row)


def list_keys(read: Read) -> list[Key]:
    """Including revoked ones, oldest first."""
    return [_key(row) for row in read.execute(select(api_key).order_by(api_key.c.created_at, api_key.c.name))]


_VALID: Final = select(api_key).where(
    api_key.c.revoked_at.is_(None),
    or_(
        api_key.c.digest == bindparam("digest"),
        and_(api_key.c.old_digest == bindparam("digest"), api_key.c.old_until > bindparam("now")),
    ),
)


def find_key(read: Read, digest: str, now: datetime) -> Key | None:
    row = read.execute(_VALID, {"digest": digest, "now": now}).one_or_none()
    return None if row is None else replace(_key(row), is_old=row.digest != digest)


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _as_text(scopes: Collection[KeyScope]) -> str:
    return " ".join(sorted(scopes))


def _key(row: Row[Any]) -> Key:
    return Key(
        name=row.name,
        scopes=frozenset(map(KeyScope, row.scopes.split())) if row.scopes else DEFAULT_SCOPES,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        old_until=row.old_until,
    )
