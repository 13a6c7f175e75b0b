"""Which pushes follow from the ledger: what a provider must hold, and which opt-outs it may be asked to let go.

Owns the way from entries and current states to pushes; makes no call and moves no position. Invariants: an
opt-out of one topic is never meant for another list; a return is the person's own act, after an opt-out that was on
record, and nothing of ours stands against it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from preferences.connectors.base import Connector, Push
from preferences.domain.consent import effective
from preferences.domain.records import Entry, Preference, Suppression
from preferences.domain.vocabulary import (
    BLANKET,
    LIMIT_VERBS,
    Actor,
    Channel,
    Purpose,
    Status,
    SuppressionReason,
    Verb,
    connector_origin,
)
from preferences.store import contact_state, feed
from preferences.store.contact_state import AddressState
from preferences.store.transactions import Read

_PURPOSES: Final = frozenset(Purpose)

LiftKey = tuple[UUID | None, Channel, str, str | None]
"""Whose return, on which channel, to which topic; and to which address, by its fingerprint, if to that one alone."""

RETURNS: Final = frozenset({Verb.SUBSCRIBE, Verb.UNDO, Verb.LIFT})


def changes(read: Read, connector: Connector, entries: Sequence[Entry]) -> tuple[list[Push], list[Push]]:
    """What to tell of these entries: every no that holds now, and the returns that were the person's own act."""
    own = connector_origin(connector.name)
    told = [entry for entry in entries if entry.origin != own and _is_told(entry)]
    news = [entry for entry in told if entry.changed]
    # A topic that is stopped while everything is changes nothing, and has a list of its own all the same.
    covered = [entry for entry in told if not entry.changed and entry.status is Status.UNSUBSCRIBED]
    ids = list(dict.fromkeys(entry.contact_id for entry in news + covered if entry.contact_id))
    seqs, changed = {entry.seq for entry in covered}, {entry.contact_id for entry in news}
    states = [
        state
        for state in reached(connector, contact_state.address_states(read, ids))
        if state.contact_id in changed or any(choice.seq in seqs for choice in state.choices.values())
    ]
    pushes = [push for state in states for push in wanted(state, connector.settings.topics, connector.settings.brand)]
    returns = _returns(read, connector, news) if connector.can_lift else {}
    ended = _ended(read, returns.values())
    lifts = [push for state in states for push in _lifts(connector, state, returns, ended)]
    return pushes, lifts


def _ended(read: Read, returns: Collection[Entry]) -> dict[int, datetime]:
    """When that was said which an undo, or an address that is taken back, puts an end to: by the return's number."""
    undone = contact_state.occurrence_times(read, [entry.undoes for entry in returns if entry.undoes])
    ended = {entry.seq: undone[entry.undoes] for entry in returns if entry.undoes in undone}
    again = [entry for entry in returns if entry.reason]
    ids = list({entry.contact_id for entry in again if entry.contact_id})
    for said in feed.entries_of(read, ids, {Verb.SUPPRESS}) if ids else []:
        for entry in again:
            is_same = (said.fingerprint, said.reason) == (entry.fingerprint, entry.reason)
            if is_same and said.changed and said.seq < entry.seq:
                ended[entry.seq] = _said_at(said)
    return ended


def _is_told(entry: Entry) -> bool:
    """Whether it is any provider's business. A pause, a cap and a purpose are not: the decision heeds them."""
    return entry.contact_id is not None and entry.verb not in LIMIT_VERBS and entry.topic not in _PURPOSES


def reached(connector: Connector, states: Iterable[AddressState]) -> list[AddressState]:
    """Those whose address is of a channel that the provider sends by."""
    return [state for state in states if state.address.channel in connector.channels]


def _returns(read: Read, connector: Connector, news: Sequence[Entry]) -> dict[LiftKey, Entry]:
    """The entries with which somebody came back, of each the one that was said last.

    A first yes of somebody who never said no is no return: there is nothing of ours to take away.
    """
    brands = {connector.settings.brand, ""}
    found = [entry for entry in news if _is_return(entry) and entry.brand in brands]
    ids = list({entry.contact_id for entry in found if entry.contact_id})
    stops = contact_state.first_opt_outs(read, ids) if ids else {}
    returns: dict[LiftKey, Entry] = {}
    for entry in sorted(found, key=_said_at):
        print_ = entry.fingerprint if entry.reason else None
        if entry.reason or _had_stopped(entry, stops):
            returns[entry.contact_id, entry.channel, entry.topic or BLANKET, print_] = entry
    return returns


def _is_return(entry: Entry) -> bool:
    """The person's own act, from a door trusted for it, that ends a no."""
    return entry.trusted and entry.actor is Actor.RECIPIENT and entry.verb in RETURNS


def suppressions_lifted(read: Read, connector: Connector, entries: Sequence[Entry]) -> list[Push]:
    """What somebody has lifted among these entries, and may be taken off here: of each address the newest, if nothing
    suppresses it any more for a reason that providers are told of."""
    own = connector_origin(connector.name)
    news = [entry for entry in entries if entry.changed and entry.origin != own and _is_lifted(connector, entry)]
    ids = list({entry.contact_id for entry in news if entry.contact_id})
    states = reached(connector, contact_state.address_states(read, ids))
    lifted = {entry.fingerprint: entry for entry in sorted(news, key=_said_at)}
    return [
        _push(state, "", _said_at(entry), entry.seq, entry.reason, Status.SUBSCRIBED)
        for state in states
        if (entry := lifted.get(state.fingerprint)) is not None and not _told_of(state)
    ]


def returns_of(
    read: Read, connector: Connector, contact_ids: Sequence[UUID]
) -> tuple[list[Push], list[Push], list[Push]]:
    """What to tell of everything with which these contacts ever came back: the opt-outs to lift, the suppressions to
    take off, and the opt-outs that hold."""
    entries = feed.entries_of(read, contact_ids, RETURNS)
    pushes, lifts = changes(read, connector, entries)
    return lifts, suppressions_lifted(read, connector, entries) if connector.taken_off else [], pushes


def _is_lifted(connector: Connector, entry: Entry) -> bool:
    return entry.verb is Verb.LIFT and entry.trusted and entry.reason in connector.taken_off


def _had_stopped(entry: Entry, stops: Mapping[contact_state.OptOutKey, int]) -> bool:
    key = (entry.contact_id, entry.channel, entry.brand)
    return any(stops.get((*key, topic), entry.seq) < entry.seq for topic in (entry.topic, BLANKET))


def _said_at(entry: Entry) -> datetime:
    """When it was said. An undo and a lift are said at the moment when they are recorded."""
    return entry.occurred_at or entry.recorded_at


def wanted(state: AddressState, topics: Mapping[str, str], brand: str) -> list[Push]:
    """Every no that the provider must hold about this address, by the explicit mapping of topics to its lists.

    A topic without a mapping appears nowhere: it never falls through to another list. A provider without a list for
    everything is told of a blanket no on each list that it has.
    """
    pushes: dict[str, Push] = {}
    blanket = _no(state.choices.get((brand, BLANKET)))
    for topic, list_ref in topics.items():
        choice = blanket
        if topic != BLANKET:
            own = state.choices.get((brand, topic))
            choice = _no(own if BLANKET in topics else effective(own, blanket))
        if choice is not None:
            pushes[list_ref] = _push(state, list_ref, choice.since, choice.seq)
    for suppression in _told_of(state):
        for list_ref in [topics[BLANKET]] if BLANKET in topics else topics.values():
            pushes[list_ref] = _push(state, list_ref, suppression.since, suppression.seq, suppression.reason)
    return list(pushes.values())


def _told_of(state: AddressState) -> list[Suppression]:
    """What suppresses the address for a reason that providers are told of: they know which mail came back, and
    `soft_bounces` passes by itself."""
    return [one for one in state.suppressions if one.reason is not SuppressionReason.SOFT_BOUNCES]


def _no(choice: Preference | None) -> Preference | None:
    return choice if choice is not None and choice.status is Status.UNSUBSCRIBED else None


def _push(
    state: AddressState,
    list_ref: str,
    since: datetime,
    seq: int,
    reason: SuppressionReason | None = None,
    status: Status = Status.UNSUBSCRIBED,
    undoes: datetime | None = None,
) -> Push:
    return Push(
        contact_id=state.contact_id,
        address=state.address,
        list_ref=list_ref,
        status=status,
        reason=reason,
        since=since,
        entry=seq,
        undoes=undoes,
    )


def _lifts(
    connector: Connector, state: AddressState, returns: Mapping[LiftKey, Entry], ended: Mapping[int, datetime]
) -> Iterator[Push]:
    topics = connector.settings.topics
    for topic, list_ref in topics.items():
        if not connector.lifts_from(list_ref) or not _may_be_sent(connector, state, list_ref):
            continue
        about = [topic] if BLANKET in topics else [topic, BLANKET]
        # An address that is taken back is no opt-in: each of the two takes away what is its own, and no more.
        for print_ in (state.fingerprint, None):
            keys = [(state.contact_id, state.address.channel, name, print_) for name in about]
            entries = [returns[key] for key in keys if key in returns]
            entry = max(entries, key=_said_at, default=None)
            if entry is not None and (entry.reason is None or entry.seq in ended):
                at, ends = _said_at(entry), ended.get(entry.seq)
                yield _push(state, list_ref, at, entry.seq, status=Status.SUBSCRIBED, undoes=ends)


def _may_be_sent(connector: Connector, state: AddressState, list_ref: str) -> bool:
    """Whether nothing of ours stands against this address and this list now."""
    topics, brand = connector.settings.topics, connector.settings.brand
    if _told_of(state) or list_ref in {push.list_ref for push in wanted(state, topics, brand)}:
        return False
    own = state.choices.get((brand, connector.topic_of(list_ref) or BLANKET))
    counts = effective(own, state.choices.get((brand, BLANKET)))
    return counts is None or counts.status is not Status.UNSUBSCRIBED


def still_returned(read: Read, connector: Connector, lifts: Sequence[Push]) -> list[Push]:
    """Those that nothing newer of ours stands against, read once more directly before they are told."""
    ids = list({lift.contact_id for lift in lifts})
    states = {state.address: state for state in contact_state.address_states(read, ids)}
    known = [(lift, states.get(lift.address)) for lift in lifts]
    return [lift for lift, state in known if state is not None and _may_be_sent(connector, state, lift.list_ref)]
