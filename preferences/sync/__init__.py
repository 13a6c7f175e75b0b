"""One pass of one connector, and the comparison that repairs what passes missed.

Owns the order of calls and the position. Invariants: what is pushed is the current state and never a step, so a
repeated pass changes nothing; a position moves only after the push; an opt-out is taken away at a provider only when
the person's own opt-in is newer than what the provider holds at that moment; whatever is taken away there, and fails,
holds no opt-out back.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from preferences.connectors.base import Connector, Listed, Push, Refusal, may_lift
from preferences.connectors.calls import in_parts
from preferences.domain.acts import SUPPRESSING, EventKind, ProviderEvent, provider_event
from preferences.domain.addresses import Fingerprints
from preferences.domain.backoff import Bounds, wait_after
from preferences.domain.errors import Misconfigured, Rejected, TryLater
from preferences.domain.records import Address, Entry
from preferences.domain.vocabulary import BLANKET, SuppressionReason
from preferences.ledger.group_commit import Writer
from preferences.store import contact_state, contacts, cursors, feed
from preferences.store.contact_state import AddressState
from preferences.store.transactions import Database, Read, Save
from preferences.sync.pushes import changes, reached, returns_of, still_returned, suppressions_lifted, wanted

BLOCK: Final = 500
RECONCILE_EVERY: Final = timedelta(days=1)
RECONCILE_AGAIN: Final = timedelta(minutes=1)
PATIENCE: Final = 8
"""How often in a row a provider is waited for before a backfill gives up, or a pass goes on without its returns."""
WAITS: Final = Bounds(first=1.0, longest=300.0)


class Outcome(StrEnum):
    """How a pass ended."""

    IDLE = "idle"
    DONE = "done"
    POSTPONED = "postponed"
    PAUSED = "paused"


def run_once(database: Database, connector: Connector, *, owner: str, now: datetime) -> Outcome:
    """Tell the provider what changed since its position: claim, read, push, advance."""
    if not database.read(_is_behind, connector.name):
        return Outcome.IDLE
    cursor = database.save(cursors.claim, connector.name, owner, now)
    if cursor is None:
        return Outcome.IDLE
    entries = database.read(feed.entries_after, cursor.position, BLOCK)
    if not entries:
        return Outcome.IDLE
    pushes, lifts = database.read(changes, connector, entries)
    lifted = database.read(suppressions_lifted, connector, entries) if connector.taken_off else []

    is_patient = cursor.failures < PATIENCE

    def tell() -> None:
        _tell(database, connector, owner, pushes=pushes, lifts=lifts, is_patient=is_patient)
        _take_off_all(database, connector, owner, lifted, pushes=pushes, is_patient=is_patient)

    outcome = guarded(database, connector.name, owner, now=now, work=tell)
    if outcome is Outcome.DONE:
        last, told = entries[-1].seq, len(pushes) + len(lifts)
        database.save(cursors.advance, connector.name, owner, last, datetime.now(UTC), pushed=told)
    return outcome


def _is_behind(read: Read, connector: str) -> bool:
    cursor = cursors.find_cursor(read, connector)
    return cursor is not None and cursor.position < feed.head_seq(read)


def guarded(database: Database, name: str, owner: str, *, now: datetime, work: Callable[[], None]) -> Outcome:
    """Do the work of whoever has this cursor; put each class of failure where it belongs."""
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
    seconds = _spread_wait(cursor.failures + 1 if cursor else 1, failure.after)
    cursors.postpone(save, connector, owner, now + timedelta(seconds=seconds), str(failure))


def _spread_wait(failures: int, asked_for: float | None) -> float:
    return wait_after(failures, WAITS, asked_for=asked_for, chance=random.random())  # noqa: S311 - not a secret


def _tell(
    database: Database,
    connector: Connector,
    owner: str,
    *,
    pushes: Sequence[Push],
    lifts: Sequence[Push],
    is_patient: bool,
) -> None:
    """Every no before any return, so that one that fails keeps no no back.

    Where one time stands for all that a provider knows of an address, our own no would make its record look newer than
    the return of the same moment: there these few returns go first, and their noes follow whatever becomes of them.
    """
    returning = {lift.address for lift in lifts} if connector.dates_change_together else set()
    push_all(database, connector, owner, [push for push in pushes if push.address not in returning])
    left = [push for push in pushes if push.address in returning]
    try:
        _lift_all(database, connector, owner, lifts, is_patient=is_patient)
    except TryLater:
        push_all(database, connector, owner, left)
        raise
    push_all(database, connector, owner, left)


def push_all(database: Database, connector: Connector, owner: str, pushes: Sequence[Push]) -> int:
    """Push in the provider's batches, with the lease renewed before each. Returns how many contacts were refused."""
    refused = 0
    for batch in in_parts(pushes, connector.batch_size):
        _renew(database, connector, owner)
        refused += _push_and_note(database, connector, batch)
    return refused


def _renew(database: Database, connector: Connector, owner: str) -> None:
    if database.save(cursors.claim, connector.name, owner, datetime.now(UTC)) is None:
        raise TryLater("another worker has taken over")


def _push_and_note(database: Database, connector: Connector, batch: Sequence[Push]) -> int:
    refusals = _push_or_park(connector, batch)
    if refusals:
        entries = {push.contact_id: push.entry for push in batch}
        rows = [(refusal.contact_id, entries[refusal.contact_id], refusal.why) for refusal in refusals]
        database.save(cursors.park, connector.name, rows, datetime.now(UTC))
    return len({refusal.contact_id for refusal in refusals})


def _lift_all(database: Database, connector: Connector, owner: str, lifts: Sequence[Push], *, is_patient: bool) -> None:
    """Take opt-outs away, each only if it is older than the return: what the provider holds is read directly before.

    What is newer there is a no that we have not heard of, so that the next comparison is brought forward.
    """
    by_address: dict[Address, list[Push]] = {}
    for lift in lifts:
        by_address.setdefault(lift.address, []).append(lift)
    for group in in_parts(list(by_address.values()), connector.lift_size):
        _renew(database, connector, owner)
        still = database.read(still_returned, connector, [lift for of_address in group for lift in of_address])
        with _parking(database, connector, still, is_patient=is_patient):
            _lift_older(database, connector, still)


def _lift_older(database: Database, connector: Connector, lifts: Sequence[Push]) -> None:
    held = list(connector.held(lifts)) if lifts else []
    # Of two returns that may both take the same away, one is told.
    older = list({(lift.address, lift.list_ref): lift for lift in lifts if may_lift(lift, held)}.values())
    for batch in in_parts(older, connector.batch_size):
        _push_and_note(database, connector, batch)
    if _has_news(lifts, older, held):
        soon = datetime.now(UTC) + RECONCILE_AGAIN
        database.save(cursors.reconcile_by, connector.name, soon)


def _take_off_all(
    database: Database,
    connector: Connector,
    owner: str,
    lifted: Sequence[Push],
    *,
    pushes: Sequence[Push],
    is_patient: bool,
) -> None:
    """Take suppressions off that somebody has lifted. `pushes` are the opt-outs of this pass, which have been told."""
    for push in lifted:
        _renew(database, connector, owner)
        try:
            with _parking(database, connector, [push], is_patient=is_patient):
                connector.take_off(push)
        finally:
            # What was taken off may have stood for an opt-out of the same address as well.
            push_all(database, connector, owner, [told for told in pushes if told.address == push.address])


@contextmanager
def _parking(database: Database, connector: Connector, returns: Sequence[Push], *, is_patient: bool) -> Iterator[None]:
    """Note returns that fail as contacts that were refused, for the next comparison to tell again.

    The key may serve for opt-outs all the same, so that what somebody must mend pauses nothing here. Whoever is patient
    lets TryLater out, to be told again by the next pass.
    """
    try:
        yield
    except (TryLater, Rejected, Misconfigured) as failure:
        if is_patient and isinstance(failure, TryLater):
            raise
        rows = [(push.contact_id, push.entry, str(failure)) for push in returns]
        database.save(cursors.park, connector.name, rows, datetime.now(UTC))


def _return_again(database: Database, connector: Connector, owner: str) -> None:
    """Tell the returns of everybody who was refused once more, as far as they still hold."""
    refused = list(database.read(cursors.parked, connector.name))
    for ids in in_parts(refused, BLOCK):
        lifts, lifted, noes = database.read(returns_of, connector, ids)
        _lift_all(database, connector, owner, lifts, is_patient=False)
        _take_off_all(database, connector, owner, lifted, pushes=noes, is_patient=False)


def _has_news(lifts: Sequence[Push], lifted: Sequence[Push], held: Sequence[Listed]) -> bool:
    left = {(lift.address, lift.list_ref) for lift in lifts} - {(lift.address, lift.list_ref) for lift in lifted}
    return any((row.address, row.list_ref) in left or row.kind in SUPPRESSING for row in held)


def _push_or_park(connector: Connector, batch: Sequence[Push]) -> Sequence[Refusal]:
    """Push a batch. One that is refused whole is halved until the contact it is about is found."""
    try:
        return connector.push(batch)
    except Rejected as failure:
        if len(batch) == 1:
            return [Refusal(batch[0].contact_id, str(failure))]
    half = len(batch) // 2
    return [*_push_or_park(connector, batch[:half]), *_push_or_park(connector, batch[half:])]


@dataclass(slots=True)
class Drift:
    """How far a provider's list and ours are apart. `unmapped` counts its rows on lists that map to no topic.

    `left` is what a repair could not mend: contacts that the provider refuses, and rows that a newer opt-in outweighs
    here and that stand there all the same.
    """

    missing_there: list[Push] = field(default_factory=list)
    missing_here: list[Listed] = field(default_factory=list)
    unmapped: int = 0
    left: int = 0

    @property
    def count(self) -> int:
        """Rows that one side lacks."""
        return len(self.missing_there) + len(self.missing_here)


def compare(database: Database, connector: Connector, progress: Callable[[int], None]) -> Drift:
    """List the provider's suppressions and hold them against ours. Writes nothing."""
    ours: dict[tuple[Address, str], Push] = {}
    suppressed: set[tuple[Address, SuppressionReason]] = set()
    _require_list(connector)
    for state in reached(connector, _opted_out(database)):
        suppressed |= {(state.address, one.reason) for one in state.suppressions}
        for push in wanted(state, connector.settings.topics, connector.settings.brand):
            ours[push.address, push.list_ref] = push
    # Who was refused is missing for sure, also on a list that shows nothing.
    parked = database.read(cursors.parked, connector.name)
    missing_there = {
        key: push for key, push in ours.items() if connector.can_compare(push) or push.contact_id in parked
    }
    drift = Drift()
    for row in connector.list_suppressed():
        progress(1)
        key, reason = (row.address, row.list_ref), SUPPRESSING.get(row.kind)
        missing_there.pop(key, None)
        # A bounce or a complaint is about the address, whichever list it stands on; a wish is about its list.
        if reason is None and connector.topic_of(row.list_ref) is None:
            drift.unmapped += 1
        elif key not in ours if reason is None else (row.address, reason) not in suppressed:
            drift.missing_here.append(row)
    drift.missing_there = list(missing_there.values())
    return drift


def _require_list(connector: Connector) -> None:
    if not connector.can_list:
        raise Misconfigured(f"{connector.name} cannot list what it suppresses, so there is nothing to compare")


def _opted_out(database: Database) -> Iterator[AddressState]:
    for states in _blocks_of_opted_out(database):
        yield from states


def _blocks_of_opted_out(database: Database) -> Iterator[list[AddressState]]:
    after: UUID | None = None
    while ids := database.read(feed.opted_out_contacts, after, BLOCK):
        yield database.read(contact_state.address_states, ids)
        after = ids[-1]


def repair(
    database: Database,
    connector: Connector,
    drift: Drift,
    *,
    owner: str,
    fingerprints: Fingerprints,
) -> int:
    """Mend both sides in the safe direction: a no found there becomes an entry, a no missing there is pushed.

    Notes what is left, and returns how many were pushed.
    """
    pushes = list(drift.missing_there)
    listed = {(row.address, row.list_ref) for row in drift.missing_here}
    held: set[tuple[Address, str]] = set()
    for block in in_parts(drift.missing_here, BLOCK):
        unheard = database.read(_unheard, connector, block, fingerprints)
        acts = [provider_event(event, connector.name) for event in _events(connector, unheard, fingerprints)]
        entries = Writer(database, fingerprints).record_many(acts)
        states = database.read(_states_after, connector, entries)
        held |= {(state.address, one.reason) for state in states for one in state.suppressions}
        told = [push for state in states for push in wanted(state, connector.settings.topics, connector.settings.brand)]
        held |= {(push.address, push.list_ref) for push in told}
        pushes += [push for push in told if push.reason and (push.address, push.list_ref) not in listed]
    refused = push_all(database, connector, owner, pushes)
    drift.left = refused + sum((row.address, _held_as(row)) not in held for row in drift.missing_here)
    return len(pushes)


def _held_as(row: Listed) -> str:
    """As what a row stands here: a bounce or a complaint as its reason, a wish on its list."""
    return SUPPRESSING.get(row.kind, row.list_ref)


def _unheard(read: Read, connector: Connector, rows: Sequence[Listed], fingerprints: Fingerprints) -> list[Listed]:
    """The rows that say something new.

    A provider that does not say since when a row stands is never told of a return. Its row outlives the return of
    whoever had left before, and would otherwise end that return at each comparison.
    """
    silent = [row.address for row in rows if row.occurred_at is None and not connector.lifts_from(row.list_ref)]
    if not silent:
        return list(rows)
    whose = contacts.find_addresses(read, silent, fingerprints)
    stops = contact_state.first_opt_outs(read, [found.contact_id for found in whose.values() if found.contact_id])

    def was_heard(row: Listed) -> bool:
        if row.occurred_at is not None or row.kind in SUPPRESSING or connector.lifts_from(row.list_ref):
            return False
        found = whose.get(row.address)
        if found is None:
            return False
        key = (found.contact_id, row.address.channel, connector.settings.brand)
        return any((*key, topic) in stops for topic in (connector.topic_of(row.list_ref), BLANKET) if topic)

    return [row for row in rows if not was_heard(row)]


def _states_after(read: Read, connector: Connector, entries: Sequence[Entry]) -> list[AddressState]:
    ids = list({entry.contact_id for entry in entries if entry.contact_id})
    return reached(connector, contact_state.address_states(read, ids))


def _events(connector: Connector, rows: Iterable[Listed], fingerprints: Fingerprints) -> Iterator[ProviderEvent]:
    for row in rows:
        # A list shows that somebody stands on it, and not who put them there: often it was a push of ours.
        kind = EventKind.SUPPRESSION_ADDED if row.kind is EventKind.UNSUBSCRIBE else row.kind
        yield ProviderEvent(
            kind=kind,
            address=row.address,
            event_id=_row_id(row, fingerprints),
            occurred_at=row.occurred_at,
            brand=connector.settings.brand,
            topic=connector.topic_of(row.list_ref) or BLANKET,
        )


def _row_id(row: Listed, fingerprints: Fingerprints) -> str | None:
    """One name for the same row at each comparison: an old no that a newer yes outweighs is recorded once, not daily.

    Made from the keyed fingerprint, since it stands in the ledger. None for a row that does not say when: each time it
    is found it counts from then.
    """
    if row.occurred_at is None:
        return None
    parts = (fingerprints.of(row.address), row.list_ref, row.kind, row.occurred_at.isoformat())
    return f"row:{hashlib.sha256('|'.join(parts).encode()).hexdigest()}"


def reconcile(
    database: Database,
    connector: Connector,
    *,
    owner: str,
    fingerprints: Fingerprints,
    now: datetime,
    progress: Callable[[int], None],
) -> Drift:
    """Catch up, compare, repair, and note the drift. Raises TryLater, Misconfigured or Rejected as pushes do."""
    _require_list(connector)
    try:
        while (outcome := run_once(database, connector, owner=owner, now=datetime.now(UTC))) is Outcome.DONE:
            pass
        started = datetime.now(UTC)
        if outcome is Outcome.IDLE:
            _return_again(database, connector, owner)
        drift = compare(database, connector, progress)
        pushed = repair(database, connector, drift, owner=owner, fingerprints=fingerprints)
        database.save(cursors.unpark, connector.name, started)
        database.save(cursors.compared, connector.name, drift.left, now)
        database.save(cursors.reconciled, connector.name, now + RECONCILE_EVERY, pushed=pushed)
    finally:
        # Whoever asked for it may be gone the next moment, and the worker would wait for the lease's end.
        database.save(cursors.release, connector.name, owner)
    return drift


def backfill(
    database: Database,
    connector: Connector,
    *,
    owner: str,
    progress: Callable[[int], None],
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Tell a provider every no that stands, from the projection, and never a yes. Returns how many it was told.

    The connector's position is not touched: what changes meanwhile is told by its passes. A provider that is busy is
    waited for. Raises TryLater when it stays busy, and Misconfigured.
    """
    database.save(cursors.start, connector.name)
    told, started = 0, datetime.now(UTC)
    try:
        for states in _blocks_of_opted_out(database):
            there = reached(connector, states)
            topics, brand = connector.settings.topics, connector.settings.brand
            pushes = [push for state in there for push in wanted(state, topics, brand)]
            _patiently(lambda pushes=pushes: push_all(database, connector, owner, pushes), sleep)  # type: ignore[misc]
            told += len(pushes)
            progress(len(states))
        database.save(cursors.unpark, connector.name, started)
        database.save(cursors.count_pushed, connector.name, told)
    finally:
        database.save(cursors.release, connector.name, owner)
    return told


def _patiently(work: Callable[[], int], sleep: Callable[[float], None]) -> int:
    for failures in range(1, PATIENCE + 1):
        try:
            return work()
        except TryLater as failure:
            sleep(_spread_wait(failures, failure.after))
    return work()
