"""Sign-ins by code or link, single-use tokens, revoked access: `sign_in`, `used_token`, `contact.revoked_at`.

Invariants: a code allows three tries in ten minutes and one use; a try is counted before the comparison, so parallel
ones gain nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select, update

from preferences.domain.errors import NotAllowed
from preferences.domain.outbox import SIGN_IN_LIFE
from preferences.store.contacts import new_id
from preferences.store.dialect import insert_rows
from preferences.store.tables import address, contact, sign_in, used_token
from preferences.store.transactions import Read, Save, advisory_lock

MAX_TRIES: Final = 3
MAX_TRIES_PER_DAY: Final = 20
"""Per contact, over all codes. The emailed link still works."""

KEPT: Final = timedelta(days=1)
"""Longer than any single-use token is valid."""


class CodeOutcome(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    OVER = "over"
    """Request a new code."""


@dataclass(frozen=True, slots=True)
class Used:
    """The address's fingerprint, and when the code or link was requested."""

    fingerprint: str
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Try:
    """`used`: set for the right code. `left`: remaining tries after a wrong one."""

    outcome: CodeOutcome
    used: Used | None = None
    left: int = 0


def begin(save: Save, fingerprint: str, now: datetime) -> UUID:
    """Add a sign-in, whether or not a contact has the address."""
    sign_in_id = new_id(now)
    row = {"id": sign_in_id, "fingerprint": fingerprint, "code_digest": None, "created_at": now, "tries": 0}
    insert_rows(save, sign_in, [row | {"used_at": None}])
    return sign_in_id


def set_code(save: Save, sign_in_id: UUID, digest: str, fingerprint: str) -> None:
    """The fingerprint is replaced by the stored one, which may be of an older key."""
    known = update(sign_in).where(sign_in.c.id == sign_in_id)
    save.execute(known.values(code_digest=digest, fingerprint=fingerprint))


def try_code(save: Save, sign_in_id: UUID, digest: str, now: datetime) -> Try:
    open_ = (
        (sign_in.c.id == sign_in_id)
        & (sign_in.c.tries < MAX_TRIES)
        & sign_in.c.used_at.is_(None)
        & (sign_in.c.created_at > now - SIGN_IN_LIFE)
    )
    counted = update(sign_in).where(open_).values(tries=sign_in.c.tries + 1)
    row = save.execute(counted.returning(sign_in.c.code_digest, sign_in.c.fingerprint, sign_in.c.tries)).one_or_none()
    if row is None:
        return Try(CodeOutcome.OVER)
    if _tries_today(save, row.fingerprint, now) > MAX_TRIES_PER_DAY:
        return Try(CodeOutcome.OVER)
    if not hmac.compare_digest(row.code_digest or "", digest):
        left = MAX_TRIES - row.tries
        return Try(CodeOutcome.WRONG, left=left) if left else Try(CodeOutcome.OVER)
    return Try(CodeOutcome.RIGHT, used=_use(save, sign_in_id, now))


def _tries_today(save: Save, fingerprint: str, now: datetime) -> int:
    """For all addresses of this one's contact. Locks until the commit."""
    owner = select(address.c.contact_id).where(address.c.fingerprint == fingerprint)
    advisory_lock(save, f"tries {save.execute(owner).scalar() or fingerprint}")
    fingerprints = select(address.c.fingerprint).where(address.c.contact_id.in_(owner))
    of_theirs = (sign_in.c.fingerprint == fingerprint) | sign_in.c.fingerprint.in_(fingerprints)
    tried = select(func.coalesce(func.sum(sign_in.c.tries), 0)).where(
        of_theirs, sign_in.c.created_at > now - timedelta(days=1)
    )
    count: int = save.execute(tried).scalar_one()
    return count


def use_link(save: Save, sign_in_id: UUID, now: datetime) -> Used:
    """Raises NotAllowed if the link or its code was used."""
    used = _use(save, sign_in_id, now)
    if used is None:
        raise NotAllowed("used before")
    return used


def _use(save: Save, sign_in_id: UUID, now: datetime) -> Used | None:
    unused = (sign_in.c.id == sign_in_id) & sign_in.c.used_at.is_(None)
    used = update(sign_in).where(unused).values(used_at=now).returning(sign_in.c.fingerprint, sign_in.c.created_at)
    row = save.execute(used).one_or_none()
    return None if row is None else Used(row.fingerprint, row.created_at)


def use_once(save: Save, token: str, now: datetime) -> None:
    """Raises NotAllowed if the token was used."""
    row = {"digest": hashlib.sha256(token.encode()).hexdigest(), "at": now}
    advisory_lock(save, f"token {row['digest']}")
    known = select(used_token.c.at).where(used_token.c.digest == row["digest"])
    if save.execute(known).first() is not None:
        raise NotAllowed("used before")
    insert_rows(save, used_token, [row])


def revoke(save: Save, contact_id: UUID, now: datetime) -> None:
    """Void manage links, codes, sign-in links, hand-offs and sessions, but no unsubscribe link."""
    save.execute(update(contact).where(contact.c.id == contact_id).values(revoked_at=now))


def revoked_at(read: Read, contact_id: UUID) -> datetime | None:
    """Links, codes and sessions issued until then are void."""
    found: datetime | None = read.execute(
        select(contact.c.revoked_at).where(contact.c.id == contact_id)
    ).scalar_one_or_none()
    return found


def forget_old(save: Save, now: datetime) -> None:
    save.execute(delete(sign_in).where(sign_in.c.created_at < now - KEPT))
    save.execute(delete(used_token).where(used_token.c.at < now - KEPT))
