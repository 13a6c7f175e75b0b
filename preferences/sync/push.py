"""One pass of one connector: push changes since its position, then move it.

Invariants: a push is repeatable; the position moves after the push; an opt-out is lifted only if the contact's opt-in
is newer than what the provider holds at that moment; a failed lift delays no opt-out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from preferences.connectors.base import Connector, Listed, Push, Refusal
from preferences.connectors.http import batches
from preferences.connectors.lifts import may_lift
from preferences.domain.acts import SUPPRESSING
from preferences.domain.backoff import Bounds, wait_after
from preferences.domain.errors import Misconfigured, Rejected, TryLater
from preferences.domain.records import Address
from preferences.store import cursors, feed
from preferences.store.transactions import Database, Read, Save
from preferences.sync import plan

BLOCK: Final = 500
"""Ledger entries or contacts read at a time."""

MAX_FAILURES: Final = 8
"""After so many consecutive failures lifts wait for the next comparison, and a backfill stops."""

WAITS: Final = Bounds(first=1.0, longest=300.0)

RECONCILE_AGAIN: Final = timedelta(minutes=1)
"""Until the next comparison after a failure or an unknown row at the provider."""


class Outcome(StrEnum):
    IDLE = "idle"
    DONE = "done"
    POSTPONED = "postponed"
    PAUSED = "paused"


def run_once(database: Database, connector: Connector, *, owner: str, now: datetime) -> Outcome:
    if not database.read(_is_behind, connector.name):
        return Outcome.IDLE
    cursor = database.save(cursors.claim, connector.name, owner, now)
    if cursor is None:
        return Outcome.IDLE
    entries = database.read(feed.entries_after, cursor.position, BLOCK)
    if not entries:
        return Outcome.IDLE
    pushes, lifts = database.read(plan.changes, connector, entries)
    unsuppressed = database.read(plan.unsuppressed, connector, entries) if connector.taken_off else []
    is_patient = cursor.failures < MAX_FAILURES

    def push() -> None:
        _push_and_lift(database, connector, owner, pushes=pushes, lifts=lifts, is_patient=is_patient)
        take_off_all(database, connector, owner, unsuppressed, pushes=pushes, is_patient=is_patient)

    outcome = guarded(database, connector.name, owner, now=now, work=push)
    if outcome is Outcome.DONE:
        last, pushed = entries[-1].seq, len(pushes) + len(lifts)
        database.save(cursors.advance, connector.name, owner, last, datetime.now(UTC), pushed=pushed)
    return outcome


def _is_behind(read: Read, connector: str) -> bool:
    cursor = cursors.find_cursor(read, connector)
    return cursor is not None and cursor.position < feed.head_seq(read)


def guarded(database: Database, name: str, owner: str, *, now: datetime, work: Callable[[], None]) -> Outcome:
    """Run `work` under the claim on a cursor: TryLater postpones the cursor, Misconfigured pauses it."""
    try:
        work()
    except TryLater as failure:
        database.save(_postpone, name, owner, now, failure)
        return Outcome.POSTPONED
    except Misconfigured as failure:
        database.save(cursors.pause, name, owner, str(failure))
        return Outcome.PAUSED
    return Outcome.DONE


def _postpone(save: Save, connector: str, owner: str, now: datetime, failure: TryLater) -> None:
    cursor = cursors.find_cursor(save, connector)
    seconds = spread_wait(cursor.failures + 1 if cursor else 1, failure.after)
    cursors.postpone(save, connector, owner, now + timedelta(seconds=seconds), str(failure))


def spread_wait(failures: int, asked_for: float | None) -> float:
    """Seconds to wait after consecutive failures."""
    return wait_after(failures, WAITS, asked_for=asked_for, chance=random.random())  # noqa: S311 - not a secret


def _push_and_lift(
    database: Database,
    connector: Connector,
    owner: str,
    *,
    pushes: Sequence[Push],
    lifts: Sequence[Push],
    is_patient: bool,
) -> None:
    """Push opt-outs first, so that a failed lift delays none.

    Exception: one date for the whole record would make it look newer than a concurrent opt-in. Then lifts come first,
    and opt-outs follow even if a lift fails.
    """
    lifted = {lift.address for lift in lifts} if connector.dates_change_together else set()
    push_all(database, connector, owner, [push for push in pushes if push.address not in lifted])
    rest = [push for push in pushes if push.address in lifted]
    try:
        lift_all(database, connector, owner, lifts, is_patient=is_patient)
    except TryLater:
        push_all(database, connector, owner, rest)
        raise
    push_all(database, connector, owner, rest)


def push_all(database: Database, connector: Connector, owner: str, pushes: Sequence[Push]) -> int:
    """Push in batches, renewing the claim before each. Returns the number of refused contacts."""
    refused = 0
    for batch in batches(pushes, connector.batch_size):
        _renew(database, connector, owner)
        refused += _push_batch(database, connector, batch)
    return refused


def _renew(database: Database, connector: Connector, owner: str) -> None:
    if database.save(cursors.claim, connector.name, owner, datetime.now(UTC)) is None:
        raise TryLater("another worker has taken over")


def _push_batch(database: Database, connector: Connector, batch: Sequence[Push]) -> int:
    refusals = _push_or_halve(connector, batch)
    if refusals:
        entries = {push.contact_id: push.entry for push in batch}
        rows = [(refusal.contact_id, entries[refusal.contact_id], refusal.why) for refusal in refusals]
        database.save(cursors.park, connector.name, rows, datetime.now(UTC))
    return len({refusal.contact_id for refusal in refusals})


def _push_or_halve(connector: Connector, batch: Sequence[Push]) -> Sequence[Refusal]:
    """Halve a rejected batch until the contact at fault is found."""
    try:
        return connector.push(batch)
    except Rejected as failure:
        if len(batch) == 1:
            return [Refusal(batch[0].contact_id, str(failure))]
    half = len(batch) // 2
    return [*_push_or_halve(connector, batch[:half]), *_push_or_halve(connector, batch[half:])]


def lift_all(database: Database, connector: Connector, owner: str, lifts: Sequence[Push], *, is_patient: bool) -> None:
    """Lift opt-outs older than the opt-in, by what the provider holds just before.

    A newer opt-out found there is not in the ledger yet and brings the next comparison forward.
    """
    by_address: dict[Address, list[Push]] = {}
    for lift in lifts:
        by_address.setdefault(lift.address, []).append(lift)
    for group in batches(list(by_address.values()), connector.lift_size):
        _renew(database, connector, owner)
        valid = database.read(plan.still_valid, connector, [lift for of_address in group for lift in of_address])
        with _parking(database, connector, valid, is_patient=is_patient):
            _lift_older(database, connector, valid)


def _lift_older(database: Database, connector: Connector, lifts: Sequence[Push]) -> None:
    held = list(connector.held(lifts)) if lifts else []
    # Two opt-ins may lift the same opt-out.
    older = list({(lift.address, lift.list_ref): lift for lift in lifts if may_lift(lift, held)}.values())
    for batch in batches(older, connector.batch_size):
        _push_batch(database, connector, batch)
    if _has_news(lifts, older, held):
        soon = datetime.now(UTC) + RECONCILE_AGAIN
        database.save(cursors.reconcile_by, connector.name, soon)


def _has_news(lifts: Sequence[Push], lifted: Sequence[Push], held: Sequence[Listed]) -> bool:
    left = {(lift.address, lift.list_ref) for lift in lifts} - {(lift.address, lift.list_ref) for lift in lifted}
    return any((row.address, row.list_ref) in left or row.kind in SUPPRESSING for row in held)


def take_off_all(
    database: Database,
    connector: Connector,
    owner: str,
    unsuppressed: Sequence[Push],
    *,
    pushes: Sequence[Push],
    is_patient: bool,
) -> None:
    """Remove the provider's suppressions of unsuppressed addresses. `pushes` are this pass's opt-outs."""
    for push in unsuppressed:
        _renew(database, connector, owner)
        try:
            with _parking(database, connector, [push], is_patient=is_patient):
                connector.take_off(push)
        finally:
            # The suppression may also have stood for an opt-out.
            push_all(database, connector, owner, [opt_out for opt_out in pushes if opt_out.address == push.address])


@contextmanager
def _parking(database: Database, connector: Connector, lifts: Sequence[Push], *, is_patient: bool) -> Iterator[None]:
    """Park contacts whose lifts fail until the next comparison.

    Misconfigured does not pause here, since the key may work for opt-outs. With `is_patient`, TryLater propagates.
    """
    try:
        yield
    except (TryLater, Rejected, Misconfigured) as failure:
        if is_patient and isinstance(failure, TryLater):
            raise
        rows = [(push.contact_id, push.entry, str(failure)) for push in lifts]
        database.save(cursors.park, connector.name, rows, datetime.now(UTC))
