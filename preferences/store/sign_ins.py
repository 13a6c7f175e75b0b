"""Signing in without a password, and tokens that work once.

Owns the rows `sign_in` and `used_token`, and `contact.revoked_at`. Invariants: a code may be tried three times in ten
minutes and used once; a try is counted before it is compared, so parallel tries gain nothing.
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
"""Tries of a contact's codes in a day, of a million possible codes. The link in the email works nevertheless."""

KEPT: Final = timedelta(days=1)
"""How long a used token is kept: longer than any token that works once is valid."""


class CodeOutcome(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    OVER = "over"
    """Expired, used, or tried too often: only a new code helps."""


@dataclass(frozen=True, slots=True)
class Used:
    """A used code or link: the fingerprint of its address, and when it was requested."""

    fingerprint: str
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Try:
    """`used` is set when the code was right, `left` is the number of tries that remain when it was wrong."""

    outcome: CodeOutcome
    used: Used | None = None
    left: int = 0


def begin(save: Save, fingerprint: str, now: datetime) -> UUID:
    """Begin a sign-in with the address of this fingerprint, whether or not a contact has it."""
    sign_in_id = new_id(now)
    row = {"id": sign_in_id, "fingerprint": fingerprint, "code_digest": None, "created_at": now, "tries": 0}
    insert_rows(save, sign_in, [row | {"used_at": None}])
    return sign_in_id


def set_code(save: Save, sign_in_id: UUID, digest: str, fingerprint: str) -> None:
    """Store the code that is about to be sent. A repeated email has a new code, which replaces the old one.

    `fingerprint` is the one stored with the address, which may have been made with an older key than that of `begin`.
    """
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
    """Tries with the codes of all addresses of the contact; parallel tries wait for each other."""
    owner = select(address.c.contact_id).where(address.c.fingerprint == fingerprint)
    advisory_lock(save, f"tries {save.execute(owner).scalar() or fingerprint}")
    prints = select(address.c.fingerprint).where(address.c.contact_id.in_(owner))
    of_theirs = (sign_in.c.fingerprint == fingerprint) | sign_in.c.fingerprint.in_(prints)
    tried = select(func.coalesce(func.sum(sign_in.c.tries), 0)).where(
        of_theirs, sign_in.c.created_at > now - timedelta(days=1)
    )
    count: int = save.execute(tried).scalar_one()
    return count


def use_link(save: Save, sign_in_id: UUID, now: datetime) -> Used:
    """Use the link of a sign-in email. Raises NotAllowed when it was used already."""
    used = _use(save, sign_in_id, now)
    if used is None:
        raise NotAllowed("used already")
    return used


def _use(save: Save, sign_in_id: UUID, now: datetime) -> Used | None:
    unused = (sign_in.c.id == sign_in_id) & sign_in.c.used_at.is_(None)
    used = update(sign_in).where(unused).values(used_at=now).returning(sign_in.c.fingerprint, sign_in.c.created_at)
    row = save.execute(used).one_or_none()
    return None if row is None else Used(row.fingerprint, row.created_at)


def use_once(save: Save, token: str, now: datetime) -> None:
    """Store that a token was used. Raises NotAllowed when it was used already."""
    row = {"digest": hashlib.sha256(token.encode()).hexdigest(), "at": now}
    advisory_lock(save, f"token {row['digest']}")
    known = select(used_token.c.at).where(used_token.c.digest == row["digest"])
    if save.execute(known).first() is not None:
        raise NotAllowed("used already")
    insert_rows(save, used_token, [row])


def revoke(save: Save, contact_id: UUID, now: datetime) -> None:
    """End every manage link, code, sign-in link, hand-off and session of a contact. Links that stop mail stay valid."""
    save.execute(update(contact).where(contact.c.id == contact_id).values(revoked_at=now))


def revoked_at(read: Read, contact_id: UUID) -> datetime | None:
    """When the contact last revoked everything that signs them in, or None."""
    found: datetime | None = read.execute(
        select(contact.c.revoked_at).where(contact.c.id == contact_id)
    ).scalar_one_or_none()
    return found


def forget_old(save: Save, now: datetime) -> None:
    """Remove expired sign-ins and used tokens."""
    save.execute(delete(sign_in).where(sign_in.c.created_at < now - KEPT))
    save.execute(delete(used_token).where(used_token.c.at < now - KEPT))
