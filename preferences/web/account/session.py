"""The session cookie: kind and id of the subject, time and way of the sign-in.

Invariant: sessions are short, hold nothing else, and end when the subject revokes access.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from flask import session

from preferences.people.sign_in import SignedIn, Subject, SubjectKind, is_revoked
from preferences.store.contact_state import ContactState

SESSION_LIFE: Final = timedelta(minutes=30)
"""Short, because a session may opt in without confirmation."""

_SINCE, _WAY, _MAY_OPT_IN = "since", "way", "may_opt_in"


@dataclass(frozen=True, slots=True)
class Session:
    """`since` is the time of the sign-in; see `SignedIn`."""

    subject: Subject
    since: datetime
    way: str
    may_opt_in: bool


def begin(signed_in: SignedIn) -> None:
    """The id is stored under the subject's kind."""
    session.clear()
    session[signed_in.subject.kind.value] = str(signed_in.subject.id)
    session[_SINCE] = datetime.now(UTC).timestamp()
    session[_WAY] = signed_in.way
    session[_MAY_OPT_IN] = signed_in.may_opt_in


def end() -> None:
    session.clear()


def current_session() -> Session | None:
    """The session, unless it has expired. See also `is_void`."""
    subject = _subject()
    if subject is None:
        return None
    since = datetime.fromtimestamp(session[_SINCE], UTC)
    if datetime.now(UTC) - since > SESSION_LIFE:
        return None
    return Session(subject, since, session[_WAY], session.get(_MAY_OPT_IN, False))


def _subject() -> Subject | None:
    return next((Subject(kind, UUID(session[kind.value])) for kind in SubjectKind if kind.value in session), None)


def is_void(current: Session, contact: ContactState) -> bool:
    """Whether the contact is gone, or has revoked access since the sign-in."""
    return not contact.exists or is_revoked(current.since, contact.revoked_at)
