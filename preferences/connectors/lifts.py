"""When an opt-out or a suppression may be lifted at a provider.

Invariant: only what is older than the contact's opt-in is lifted; what is equally old or has no time stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from preferences.connectors.base import MOST_AHEAD, Listed, Push
from preferences.domain.acts import EventKind
from preferences.domain.errors import Rejected

OPT_OUTS: Final = frozenset({EventKind.UNSUBSCRIBE, EventKind.SUPPRESSION_ADDED})
"""Rows that are opt-outs. Bounces and complaints are never lifted."""


def may_lift(lift: Push, held: Sequence[Listed]) -> bool:
    """Whether opt-outs are held here, all of which may be lifted. An undo leaves opt-outs older than the undone one."""
    here = [row for row in held if (row.address, row.list_ref) == (lift.address, lift.list_ref)]
    rows = [row for row in here if row.kind in OPT_OUTS]
    return bool(rows) and all(_is_older(row, lift.since) and not _is_before(row, lift.undoes) for row in rows)


def _is_before(row: Listed, undone: datetime | None) -> bool:
    """Whether the row precedes the undone opt-out by more than clocks may differ."""
    if undone is None or row.occurred_at is None:
        return False
    return _last_moment(row.occurred_at) < undone - MOST_AHEAD


def require_older(found: Sequence[datetime | None], decided_at: datetime) -> bool:
    """Whether anything is held. Raises Rejected unless all of it precedes the decision."""
    if not all(at is not None and _last_moment(at) < decided_at for at in found):
        raise Rejected("what stands there is newer than the lift, or does not say since when")
    return bool(found)


def _is_older(row: Listed, opted_in_at: datetime) -> bool:
    return row.occurred_at is not None and _last_moment(row.occurred_at) < opted_in_at


def _last_moment(at: datetime) -> datetime:
    """The end of the second or millisecond, by precision."""
    if at.microsecond == 0:
        return at + timedelta(microseconds=999_999)
    return at + timedelta(microseconds=999) if at.microsecond % 1_000 == 0 else at
