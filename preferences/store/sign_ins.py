"""Signing in without a password, and tokens that work once.

Owns the rows `sign_in` and `used_token`, and `contact.revoked_at`. Invariants: a code may be tried three times in ten
minutes and used once; every try is counted before it is looked at, so trying in parallel gains nothing.
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
"""With a contact's codes, however many were sent, of a million that there are. The letter's link still works."""

KEPT: Final = timedelta(days=1)
"""How long a used token is remembered: longer than any token that works once lives."""


class CodeOutcome(StrEnum):
    """What came of a try with a code."""

    RIGHT = "right"
    WRONG = "wrong"
    OVER = "over"
    """Too late, used already, or tried too often: only a new code helps."""


@dataclass(frozen=True, slots=True)
class Used:
    """A code or a link that was used: the fingerprint of the address it was sent to, and when it was asked for."""

    fingerprint: str
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Try:
    """The outcome, what was used when it was right, and how many tries are left when it was wrong."""

    outcome: CodeOutcome
    used: Used | None = None
    left: int = 0


def begin(save: Save, fingerprint: str, now: datetime) -> UUID:
    """Somebody wants to sign in with the address of this fingerprint, whether anybody has it or not."""
    sign_in_id = new_id(now)
    row = {"id": sign_in_id, "fingerprint": fingerprint, "code_digest": None, "created_at": now, "tries": 0}
    insert_rows(save, sign_in, [row | {"used_at": None}])
    return sign_in_id


def set_code(save: Save, sign_in_id: UUID, digest: str, fingerprint: str) -> None:
    """The letter with the code is about to be sent. Sent again, it holds another code, and the newest counts.

    `fingerprint` is the one that is stored with the address: it may be of an older key than the one we began with.
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
    """Tries with the codes of all addresses of the contact who has this one, counted one after the other."""
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
    """Use the link of a sign-in letter. Raises NotAllowed when it was used already."""
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
    """Note that a token was used. Raises NotAllowed when it was used already."""
    row = {"digest": hashlib.sha256(token.encode()).hexdigest(), "at": now}
    advisory_lock(save, f"token {row['digest']}")
    known = select(used_token.c.at).where(used_token.c.digest == row["digest"])
    if save.execute(known).first() is not None:
        raise NotAllowed("used already")
    insert_rows(save, used_token, [row])


def revoke(save: Save, contact_id: UUID, now: datetime) -> None:
    """Void every manage link, code, sign-in link, hand-off and session that the contact has. Links that stop mail go on
    working."""
    save.execute(update(contact).where(contact.c.id == contact_id).values(revoked_at=now))


def revoked_at(read: Read, contact_id: UUID) -> datetime | None:
    """Until when everything that signs the contact in is void; None if they never said so."""
    found: datetime | None = read.execute(
        select(contact.c.revoked_at).where(contact.c.id == contact_id)
    ).scalar_one_or_none()
    return found


def forget_old(save: Save, now: datetime) -> None:
    """Remove sign-ins that are over, and tokens that have run out by themselves."""
    save.execute(delete(sign_in).where(sign_in.c.created_at < now - KEPT))
    save.execute(delete(used_token).where(used_token.c.at < now - KEPT))
