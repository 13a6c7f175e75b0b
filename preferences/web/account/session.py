"""Who somebody is to us for a while: the session after a sign-in, and how everything that proves them is ended.

Owns what the session cookie holds. Invariants: a session is short, names a contact and nothing else about them, and is
void once its owner has ended what was given out before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from flask import session

from preferences.domain.outbox import EmailKind
from preferences.domain.records import Brand
from preferences.i18n import Spoken
from preferences.people.emails import order_email
from preferences.services import Services
from preferences.store import sign_ins
from preferences.store.contact_state import ContactState, own_mailboxes

SESSION_LIFE: Final = timedelta(minutes=30)
"""How long one stays signed in. So short that whoever has the session has just proven who they are."""

A_MOMENT: Final = timedelta(seconds=2)
"""Links are dated to the second: a fresh one must be younger than the end of the old ones."""

_CONTACT, _SINCE, _WAY, _MAY_OPT_IN = "contact", "since", "way", "may_opt_in"


@dataclass(frozen=True, slots=True)
class Session:
    """Who is signed in, since when, and by which way (`code`, `link`, `hand_off`, or the name of a provider).

    `may_opt_in` is False for somebody whom a system has handed over that may not opt people in: what they ask for more
    of is confirmed from their own mailbox.
    """

    contact_id: UUID
    since: datetime
    way: str
    may_opt_in: bool


def sign_in(contact_id: UUID, way: str, *, may_opt_in: bool = True) -> None:
    """Begin a session."""
    session.clear()
    session[_CONTACT] = str(contact_id)
    session[_SINCE] = datetime.now(UTC).timestamp()
    session[_WAY] = way
    session[_MAY_OPT_IN] = may_opt_in


def sign_out() -> None:
    """End the session in this browser."""
    session.clear()


def current_session() -> Session | None:
    """The session of this request, or None when there is none or its time has passed.

    That its owner has not ended it is for `is_void` to say, which needs the contact.
    """
    if _CONTACT not in session:
        return None
    since = datetime.fromtimestamp(session[_SINCE], UTC)
    if datetime.now(UTC) - since > SESSION_LIFE:
        return None
    # Sessions from before this was noted live for half an hour at the most; nobody handed over has it by default.
    may_opt_in = session.get(_MAY_OPT_IN, session[_WAY] != "hand_off")
    return Session(UUID(session[_CONTACT]), since, session[_WAY], may_opt_in)


def is_void(current: Session, standing: ContactState) -> bool:
    """Whether the contact is no more, or has ended every session from before."""
    return not standing.exists or (standing.revoked_at is not None and current.since <= standing.revoked_at)


def end_links(services: Services, standing: ContactState, brand: Brand, spoken: Spoken) -> None:
    """Void every manage link and session of the contact, and mail them a fresh link."""
    services.database.save(sign_ins.revoke, standing.contact_id, datetime.now(UTC))
    for address in own_mailboxes(standing.addresses)[:1]:
        kind = EmailKind.MANAGE_LINK
        order_email(services, kind, to=address, brand=brand.slug, language=spoken.language, after=A_MOMENT)
