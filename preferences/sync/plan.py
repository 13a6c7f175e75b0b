"""The pushes that follow from the ledger: what a provider must hold, and which opt-outs it may lift.

Makes no call and moves no position. Invariants: an opt-out of a topic is never pushed to another list; a lift needs the
contact's own opt-in after a recorded opt-out, and nothing of ours against it.
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
"""Contact, channel, topic, and the fingerprint if the opt-in is for one address."""

OPT_INS: Final = frozenset({Verb.SUBSCRIBE, Verb.UNDO, Verb.LIFT})


def changes(read: Read, connector: Connector, entries: Sequence[Entry]) -> tuple[list[Push], list[Push]]:
    """The pushes of these entries (every opt-out that holds now) and the lifts."""
    own = connector_origin(connector.name)
    relevant = [entry for entry in entries if entry.origin != own and _is_relevant(entry)]
    news = [entry for entry in relevant if entry.changed]
    # An opt-out of a topic under a blanket opt-out changes nothing but belongs on the topic's list.
    covered = [entry for entry in relevant if not entry.changed and entry.status is Status.UNSUBSCRIBED]
    ids = list(dict.fromkeys(entry.contact_id for entry in news + covered if entry.contact_id))
    seqs, changed = {entry.seq for entry in covered}, {entry.contact_id for entry in news}
    states = [
        state
        for state in reachable(connector, contact_state.address_states(read, ids))
        if state.contact_id in changed or any(preference.seq in seqs for preference in state.preferences.values())
    ]
    opt_ins = _opt_ins(read, connector, news) if connector.can_lift else {}
    ended = _ended(read, opt_ins.values())
    lifts = [push for state in states for push in _lifts(connector, state, opt_ins, ended)]
    return required_pushes(connector, states), lifts


def _ended(read: Read, opt_ins: Collection[Entry]) -> dict[int, datetime]:
    """The time of the opt-out or suppression that each opt-in ends, by the opt-in's seq."""
    undone = contact_state.occurrence_times(read, [entry.undoes for entry in opt_ins if entry.undoes])
    ended = {entry.seq: undone[entry.undoes] for entry in opt_ins if entry.undoes in undone}
    unsuppressed = [entry for entry in opt_ins if entry.reason]
    ids = list({entry.contact_id for entry in unsuppressed if entry.contact_id})
    for suppressed in feed.entries_of(read, ids, {Verb.SUPPRESS}) if ids else []:
        for entry in unsuppressed:
            is_same = (suppressed.fingerprint, suppressed.reason) == (entry.fingerprint, entry.reason)
            if is_same and suppressed.changed and suppressed.seq < entry.seq:
                ended[entry.seq] = _occurred_at(suppressed)
    return ended


def _is_relevant(entry: Entry) -> bool:
    """Pauses, frequency limits and purposes are not pushed."""
    return entry.contact_id is not None and entry.verb not in LIMIT_VERBS and entry.topic not in _PURPOSES


def reachable(connector: Connector, states: Iterable[AddressState]) -> list[AddressState]:
    """States of addresses on the provider's channels."""
    return [state for state in states if state.address.channel in connector.channels]


def _opt_ins(read: Read, connector: Connector, news: Sequence[Entry]) -> dict[LiftKey, Entry]:
    """The last entry of each key that ends an opt-out."""
    brands = {connector.settings.brand, ""}
    found = [entry for entry in news if _is_own_opt_in(entry) and entry.brand in brands]
    ids = list({entry.contact_id for entry in found if entry.contact_id})
    opt_outs = contact_state.first_opt_outs(read, ids) if ids else {}
    opt_ins: dict[LiftKey, Entry] = {}
    for entry in sorted(found, key=_occurred_at):
        fingerprint = entry.fingerprint if entry.reason else None
        if entry.reason or _had_opted_out(entry, opt_outs):
            opt_ins[entry.contact_id, entry.channel, entry.topic or BLANKET, fingerprint] = entry
    return opt_ins


def _is_own_opt_in(entry: Entry) -> bool:
    """Whether the contact opted in from a trusted origin."""
    return entry.trusted and entry.actor is Actor.RECIPIENT and entry.verb in OPT_INS


def unsuppressed(read: Read, connector: Connector, entries: Sequence[Entry]) -> list[Push]:
    """Suppressions to take off, by the newest entry of each address, unless a pushed suppression holds."""
    own = connector_origin(connector.name)
    news = [entry for entry in entries if entry.changed and entry.origin != own and _is_lifted(connector, entry)]
    ids = list({entry.contact_id for entry in news if entry.contact_id})
    states = reachable(connector, contact_state.address_states(read, ids))
    lifted = {entry.fingerprint: entry for entry in sorted(news, key=_occurred_at)}
    return [
        _push(state, "", _occurred_at(entry), entry.seq, entry.reason, Status.SUBSCRIBED)
        for state in states
        if (entry := lifted.get(state.fingerprint)) is not None and not _pushed_suppressions(state)
    ]


def lifts_of(
    read: Read, connector: Connector, contact_ids: Sequence[UUID]
) -> tuple[list[Push], list[Push], list[Push]]:
    """For all their opt-ins: lifts, suppressions to take off, opt-outs that hold."""
    entries = feed.entries_of(read, contact_ids, OPT_INS)
    pushes, lifts = changes(read, connector, entries)
    return lifts, unsuppressed(read, connector, entries) if connector.taken_off else [], pushes


def _is_lifted(connector: Connector, entry: Entry) -> bool:
    return entry.verb is Verb.LIFT and entry.trusted and entry.reason in connector.taken_off


def _had_opted_out(entry: Entry, opt_outs: Mapping[contact_state.OptOutKey, int]) -> bool:
    key = (entry.contact_id, entry.channel, entry.brand)
    return any(opt_outs.get((*key, topic), entry.seq) < entry.seq for topic in (entry.topic, BLANKET))


def _occurred_at(entry: Entry) -> datetime:
    """An undo and an unsuppression occur when they are recorded."""
    return entry.occurred_at or entry.recorded_at


def required_pushes(connector: Connector, states: Iterable[AddressState]) -> list[Push]:
    topics, brand = connector.settings.topics, connector.settings.brand
    return [push for state in reachable(connector, states) for push in required(state, topics, brand)]


def required(state: AddressState, topics: Mapping[str, str], brand: str) -> list[Push]:
    """Every opt-out and suppression that a provider with this mapping must hold.

    Unmapped topics are never pushed. Without a list for everything, a blanket opt-out goes to each list.
    """
    pushes: dict[str, Push] = {}
    blanket = _opt_out(state.preferences.get((brand, BLANKET)))
    for topic, list_ref in topics.items():
        opt_out = blanket
        if topic != BLANKET:
            own = state.preferences.get((brand, topic))
            opt_out = _opt_out(own if BLANKET in topics else effective(own, blanket))
        if opt_out is not None:
            pushes[list_ref] = _push(state, list_ref, opt_out.since, opt_out.seq)
    for suppression in _pushed_suppressions(state):
        for list_ref in [topics[BLANKET]] if BLANKET in topics else topics.values():
            pushes[list_ref] = _push(state, list_ref, suppression.since, suppression.seq, suppression.reason)
    return list(pushes.values())


def _pushed_suppressions(state: AddressState) -> list[Suppression]:
    """All but soft bounces, which providers count themselves and which end by themselves."""
    return [held for held in state.suppressions if held.reason is not SuppressionReason.SOFT_BOUNCES]


def _opt_out(preference: Preference | None) -> Preference | None:
    return preference if preference is not None and preference.status is Status.UNSUBSCRIBED else None


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
    connector: Connector, state: AddressState, opt_ins: Mapping[LiftKey, Entry], ended: Mapping[int, datetime]
) -> Iterator[Push]:
    topics = connector.settings.topics
    for topic, list_ref in topics.items():
        if not connector.lifts_from(list_ref) or not _may_be_sent(connector, state, list_ref):
            continue
        covering = [topic] if BLANKET in topics else [topic, BLANKET]
        # An unsuppressed address is no opt-in: each lifts only its own.
        for fingerprint in (state.fingerprint, None):
            keys = [(state.contact_id, state.address.channel, name, fingerprint) for name in covering]
            entries = [opt_ins[key] for key in keys if key in opt_ins]
            entry = max(entries, key=_occurred_at, default=None)
            if entry is not None and (entry.reason is None or entry.seq in ended):
                at, ends = _occurred_at(entry), ended.get(entry.seq)
                yield _push(state, list_ref, at, entry.seq, status=Status.SUBSCRIBED, undoes=ends)


def _may_be_sent(connector: Connector, state: AddressState, list_ref: str) -> bool:
    """Whether nothing of ours opposes mail from this list."""
    topics, brand = connector.settings.topics, connector.settings.brand
    if _pushed_suppressions(state) or list_ref in {push.list_ref for push in required(state, topics, brand)}:
        return False
    own = state.preferences.get((brand, connector.topic_of(list_ref) or BLANKET))
    preference = effective(own, state.preferences.get((brand, BLANKET)))
    return preference is None or preference.status is not Status.UNSUBSCRIBED


def still_valid(read: Read, connector: Connector, lifts: Sequence[Push]) -> list[Push]:
    """The lifts that nothing of ours opposes, read again just before the push."""
    ids = list({lift.contact_id for lift in lifts})
    states = {state.address: state for state in contact_state.address_states(read, ids)}
    known = [(lift, states.get(lift.address)) for lift in lifts]
    return [lift for lift, state in known if state is not None and _may_be_sent(connector, state, lift.list_ref)]
