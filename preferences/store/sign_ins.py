"""Sign-ins by code or link, tokens that work once, and revoked access.

Owns the rows `sign_in` and `used_token`, and `contact.revoked_at`. Invariants: a code can be tried three times in ten
minutes and used once; a try is counted before it is compared, so that parallel tries gain nothing.
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
"""Per contact, for all codes together. The link in the email still works after that."""

KEPT: Final = timedelta(days=1)
"""How long a used token is kept: longer than the life of any token that works once."""


class CodeOutcome(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    OVER = "over"
    """Too late, used, or tried too often: only a new code helps."""


@dataclass(frozen=True, slots=True)
class Used:
    """A code or a link that was used: the fingerprint of its address, and when it was requested."""

    fingerprint: str
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Try:
    """`used` is set for the right code, `left` (the number of tries that remain) for a wrong one."""

    outcome: CodeOutcome
    used: Used | None = None
    left: int = 0


def begin(save: Save, fingerprint: str, now: datetime) -> UUID:
    """Add a sign-in, whether a contact has the address of this fingerprint or not. Returns its id."""
    sign_in_id = new_id(now)
    row = {"id": sign_in_id, "fingerprint": fingerprint, "code_digest": None, "created_at": now, "tries": 0}
    insert_rows(save, sign_in, [row | {"used_at": None}])
    return sign_in_id


def set_code(save: Save, sign_in_id: UUID, digest: str, fingerprint: str) -> None:
    """Replace the code, and the fingerprint by that of the stored address, which may be of an older key."""
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
    """Tries with the codes of all addresses of the contact who has this one. Holds a lock until the commit."""
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
    """Raises NotAllowed when the link or its code was used before."""
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
    """Raises NotAllowed when the token was used before."""
    row = {"digest": hashlib.sha256(token.encode()).hexdigest(), "at": now}
    advisory_lock(save, f"token {row['digest']}")
    known = select(used_token.c.at).where(used_token.c.digest == row["digest"])
    if save.execute(known).first() is not None:
        raise NotAllowed("used before")
    insert_rows(save, used_token, [row])


def revoke(save: Save, contact_id: UUID, now: datetime) -> None:
    """Void every manage link, code, sign-in link, hand-off and session of the contact, but no unsubscribe link."""
    save.execute(update(contact).where(contact.c.id == contact_id).values(revoked_at=now))


def revoked_at(read: Read, contact_id: UUID) -> datetime | None:
    """What was issued up to then signs the contact in no more; None if nothing was revoked."""
    found: datetime | None = read.execute(
        select(contact.c.revoked_at).where(contact.c.id == contact_id)
    ).scalar_one_or_none()
    return found


def forget_old(save: Save, now: datetime) -> None:
    """Delete sign-ins that are over, and used tokens that have expired."""
    save.execute(delete(sign_in).where(sign_in.c.created_at < now - KEPT))
    save.execute(delete(used_token).where(used_token.c.at < now - KEPT))
