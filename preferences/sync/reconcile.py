"""Comparison of a provider's suppressions with ours, repair, and backfill of a new provider.

Invariant: repairs only reduce mail. An opt-out found there becomes an entry, a missing one is pushed, and nothing is
lifted that a pass would not lift.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from preferences.connectors.base import Connector, Listed, Push
from preferences.connectors.http import batches
from preferences.domain.acts import SUPPRESSING, EventKind, ProviderEvent, provider_event
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import Misconfigured, TryLater
from preferences.domain.records import Address, Entry
from preferences.domain.vocabulary import BLANKET, SuppressionReason
from preferences.ledger.group_commit import Writer
from preferences.store import contact_state, contacts, cursors, feed
from preferences.store.contact_state import AddressState
from preferences.store.transactions import Database, Read
from preferences.sync import plan, push

RECONCILE_EVERY: Final = timedelta(days=1)


@dataclass(slots=True)
class Drift:
    """The difference between a provider's list and ours.

    `unmapped` counts rows on unmapped lists; `left` counts refused contacts and rows outweighed by a newer opt-in.
    """

    missing_there: list[Push] = field(default_factory=list)
    missing_here: list[Listed] = field(default_factory=list)
    unmapped: int = 0
    left: int = 0

    @property
    def count(self) -> int:
        return len(self.missing_there) + len(self.missing_here)


def reconcile(
    database: Database,
    connector: Connector,
    *,
    owner: str,
    fingerprints: Fingerprints,
    now: datetime,
    progress: Callable[[int], None],
) -> Drift:
    """Catch up, compare, repair and store the drift. Raises TryLater, Misconfigured or Rejected."""
    _require_list(connector)
    try:
        while (outcome := push.run_once(database, connector, owner=owner, now=datetime.now(UTC))) is push.Outcome.DONE:
            pass
        started = datetime.now(UTC)
        if outcome is push.Outcome.IDLE:
            _lift_parked(database, connector, owner)
        drift = compare(database, connector, progress)
        pushed = repair(database, connector, drift, owner=owner, fingerprints=fingerprints)
        database.save(cursors.unpark, connector.name, started)
        database.save(cursors.compared, connector.name, drift.left, now)
        database.save(cursors.reconciled, connector.name, now + RECONCILE_EVERY, pushed=pushed)
    finally:
        # Otherwise the worker would wait until a command's claim expires.
        database.save(cursors.release, connector.name, owner)
    return drift


def _lift_parked(database: Database, connector: Connector, owner: str) -> None:
    """Retry lifts of parked contacts whose opt-ins still hold."""
    refused = list(database.read(cursors.parked, connector.name))
    for ids in batches(refused, push.BLOCK):
        lifts, unsuppressed, pushes = database.read(plan.lifts_of, connector, ids)
        push.lift_all(database, connector, owner, lifts, is_patient=False)
        push.take_off_all(database, connector, owner, unsuppressed, pushes=pushes, is_patient=False)


def compare(database: Database, connector: Connector, progress: Callable[[int], None]) -> Drift:
    """Writes nothing."""
    _require_list(connector)
    ours, suppressed = _ours(database, connector)
    # Refused contacts are missing there, whatever the list shows.
    parked = database.read(cursors.parked, connector.name)
    missing_there = {
        key: item for key, item in ours.items() if connector.can_compare(item) or item.contact_id in parked
    }
    drift = Drift()
    for row in connector.list_suppressed():
        progress(1)
        key, reason = (row.address, row.list_ref), SUPPRESSING.get(row.kind)
        missing_there.pop(key, None)
        # A bounce or complaint is about the address, an opt-out about its list.
        if reason is None and connector.topic_of(row.list_ref) is None:
            drift.unmapped += 1
        elif key not in ours if reason is None else (row.address, reason) not in suppressed:
            drift.missing_here.append(row)
    drift.missing_there = list(missing_there.values())
    return drift


def _ours(
    database: Database, connector: Connector
) -> tuple[dict[tuple[Address, str], Push], set[tuple[Address, SuppressionReason]]]:
    """Required pushes by address and list, and the suppression reasons of each address."""
    ours: dict[tuple[Address, str], Push] = {}
    suppressed: set[tuple[Address, SuppressionReason]] = set()
    for states in _opted_out(database):
        ours |= {(item.address, item.list_ref): item for item in plan.required_pushes(connector, states)}
        for state in plan.reachable(connector, states):
            suppressed |= {(state.address, suppression.reason) for suppression in state.suppressions}
    return ours, suppressed


def _require_list(connector: Connector) -> None:
    if not connector.can_list:
        raise Misconfigured(f"{connector.name} cannot list what it suppresses, so there is nothing to compare")


def _opted_out(database: Database) -> Iterator[list[AddressState]]:
    after: UUID | None = None
    while ids := database.read(feed.opted_out_contacts, after, push.BLOCK):
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
    """Record what is missing here, push what is missing there, set `drift.left`. Returns the number of pushes."""
    pushes = list(drift.missing_there)
    listed = {(row.address, row.list_ref) for row in drift.missing_here}
    held: set[tuple[Address, str]] = set()
    for block in batches(drift.missing_here, push.BLOCK):
        news = database.read(_news, connector, block, fingerprints)
        acts = [provider_event(event, connector.name) for event in _events(connector, news, fingerprints)]
        entries = Writer(database, fingerprints).record_many(acts)
        states = database.read(_states_after, connector, entries)
        held |= {(state.address, suppression.reason) for state in states for suppression in state.suppressions}
        required = plan.required_pushes(connector, states)
        held |= {(item.address, item.list_ref) for item in required}
        pushes += [item for item in required if item.reason and (item.address, item.list_ref) not in listed]
    refused = push.push_all(database, connector, owner, pushes)
    drift.left = refused + sum((row.address, _held_as(row)) not in held for row in drift.missing_here)
    return len(pushes)


def _held_as(row: Listed) -> str:
    """The reason of a bounce or complaint, the list of an opt-out."""
    return SUPPRESSING.get(row.kind, row.list_ref)


def _news(read: Read, connector: Connector, rows: Sequence[Listed], fingerprints: Fingerprints) -> list[Listed]:
    """The unknown rows. A timeless row on a list without lifts would end a later opt-in at each comparison."""
    timeless = [row.address for row in rows if row.occurred_at is None and not connector.lifts_from(row.list_ref)]
    if not timeless:
        return list(rows)
    found = contacts.find_addresses(read, timeless, fingerprints)
    opt_outs = contact_state.first_opt_outs(read, [match.contact_id for match in found.values() if match.contact_id])

    def is_known(row: Listed) -> bool:
        if row.occurred_at is not None or row.kind in SUPPRESSING or connector.lifts_from(row.list_ref):
            return False
        match = found.get(row.address)
        if match is None:
            return False
        key = (match.contact_id, row.address.channel, connector.settings.brand)
        return any((*key, topic) in opt_outs for topic in (connector.topic_of(row.list_ref), BLANKET) if topic)

    return [row for row in rows if not is_known(row)]


def _states_after(read: Read, connector: Connector, entries: Sequence[Entry]) -> list[AddressState]:
    ids = list({entry.contact_id for entry in entries if entry.contact_id})
    return plan.reachable(connector, contact_state.address_states(read, ids))


def _events(connector: Connector, rows: Iterable[Listed], fingerprints: Fingerprints) -> Iterator[ProviderEvent]:
    for row in rows:
        # A list does not show who added an address: often it was our push.
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
    """A stable id, so that a row is recorded once. A digest, since the ledger stores it. None without a time."""
    if row.occurred_at is None:
        return None
    parts = (fingerprints.of(row.address), row.list_ref, row.kind, row.occurred_at.isoformat())
    return f"row:{hashlib.sha256('|'.join(parts).encode()).hexdigest()}"


def backfill(
    database: Database,
    connector: Connector,
    *,
    owner: str,
    progress: Callable[[int], None],
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Push every opt-out and suppression that holds, and no opt-in. Returns their number.

    The position stays: passes push changes meanwhile. Waits for a busy provider. Raises TryLater and Misconfigured.
    """
    database.save(cursors.start, connector.name)
    pushed, started = 0, datetime.now(UTC)
    try:
        for states in _opted_out(database):
            pushes = plan.required_pushes(connector, states)
            _push_patiently(database, connector, owner, pushes=pushes, sleep=sleep)
            pushed += len(pushes)
            progress(len(states))
        database.save(cursors.unpark, connector.name, started)
        database.save(cursors.count_pushed, connector.name, pushed)
    finally:
        database.save(cursors.release, connector.name, owner)
    return pushed


def _push_patiently(
    database: Database, connector: Connector, owner: str, *, pushes: Sequence[Push], sleep: Callable[[float], None]
) -> None:
    for failures in range(1, push.MAX_FAILURES + 1):
        try:
            push.push_all(database, connector, owner, pushes)
        except TryLater as failure:
            sleep(push.spread_wait(failures, failure.after))
        else:
            return
    push.push_all(database, connector, owner, pushes)
