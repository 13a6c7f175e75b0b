"""Decisions: may this message be sent to these addresses?

Resolves the scope, reads facts, applies `domain.permission`, reserves under frequency limits. Invariant: without the
database, marketing is refused and the rest allowed, marked as degraded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import StoreBusy
from preferences.domain.permission import Decision, Facts, Message, Reason, may_send, stricter_class
from preferences.domain.records import Address, Topic
from preferences.domain.vocabulary import Channel, MessageClass
from preferences.sending.scope import PURPOSES, catalog_for, find_topic
from preferences.services import Services
from preferences.store import feed
from preferences.store.catalog import Catalog
from preferences.store.contacts import new_id
from preferences.store.decision_facts import facts_for
from preferences.store.frequency import reserve
from preferences.store.transactions import Read

BAD_ADDRESS: Final = Facts(reasons={Reason.BAD_ADDRESS: None})
UNKNOWN: Final = Facts(reasons={})

Reasons = Mapping[Reason, int | None]


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decision and facts per address, in order, at least as new as entry `seq`.

    `seq` is None without the database.
    """

    seq: int | None
    decisions: Sequence[Decision]
    facts: Sequence[Facts]


def decide(
    services: Services,
    message: Message,
    addresses: Sequence[Address | None],
    *,
    message_ref: str = "",
    ignore: Collection[Reason] = (),
) -> Decisions:
    """Decide about each address; None is text that is no address. Raises StoreBusy.

    Reservations under the same `message_ref` are not counted; `ignore` are reasons to leave out.
    """
    known = list(dict.fromkeys(address for address in addresses if address is not None))
    seq, facts = services.database.read(_facts, message, known, fingerprints=services.fingerprints, ref=message_ref)
    found = [BAD_ADDRESS if address is None else facts[address] for address in addresses]
    return Decisions(seq, _apply(message, found, ignore), found)


def _facts(
    read: Read, message: Message, known: Sequence[Address], *, fingerprints: Fingerprints, ref: str
) -> tuple[int, Mapping[Address, Facts]]:
    # Position first: facts read later are at least as new.
    return feed.head_seq(read), facts_for(
        read,
        known,
        channel=message.channel,
        about=message.topic,
        fingerprints=fingerprints,
        now=datetime.now(UTC),
        message_ref=ref,
    )


def _apply(message: Message, found: Sequence[Facts], ignore: Collection[Reason]) -> list[Decision]:
    """Addresses without records share one `Facts`, so `may_send` is called once for them."""
    made: dict[int, Decision] = {}
    for facts in found:
        if id(facts) not in made:
            reasons = {reason: seq for reason, seq in facts.reasons.items() if reason not in ignore}
            made[id(facts)] = may_send(message.message_class, replace(facts, reasons={**message.reasons, **reasons}))
    return [made[id(facts)] for facts in found]


def message_about(topic: Topic, channel: Channel, *, message_class: MessageClass | None = None) -> Message:
    """The class defaults to the topic's; a purpose is always marketing."""
    asked = MessageClass.MARKETING if topic.slug in PURPOSES else message_class or topic.message_class
    return Message(channel=channel, message_class=stricter_class(asked, topic), topic=topic)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRequest:
    """A request of a sending system. Unknown words yield a reason instead of an error.

    `message_class` is None if unknown. With `reserve`, each allowed marketing message counts against the contact's
    frequency limit, once per `message_ref`.
    """

    channel: Channel
    message_class: MessageClass | None
    topic: str | None = None
    brand: str | None = None
    message_ref: str | None = None
    reserve: bool = True


def decide_request(
    services: Services, request: DecisionRequest, addresses: Sequence[Address | None], *, database_away: bool = False
) -> Decisions:
    """Raises BadFields for a brand that is unknown or not the topic's."""
    try:
        if database_away:
            raise StoreBusy("the key could not be checked")
        message = _message(request, catalog_for(services, request.topic))
        decided = decide(services, message, addresses, message_ref=request.message_ref or "")
    except StoreBusy:
        return _without_database(request, services.catalog.last(), addresses)
    if message.topic is None or message.message_class is not MessageClass.MARKETING or not request.reserve:
        return decided
    return _reserve(services, message.topic, decided, channel=request.channel, message_ref=request.message_ref)


def _message(request: DecisionRequest, catalog: Catalog) -> Message:
    topic = find_topic(catalog, request.topic, brand=request.brand)
    asked = request.message_class
    reasons: dict[Reason, int | None] = {}
    if asked is None:
        reasons[Reason.UNKNOWN_CLASS] = None
    if topic is None and (request.topic is not None or asked is MessageClass.MARKETING):
        reasons[Reason.UNKNOWN_TOPIC] = None
    if topic is not None and request.channel not in topic.channels:
        reasons[Reason.WRONG_CHANNEL] = None
    return Message(channel=request.channel, message_class=_deciding_class(request, topic), topic=topic, reasons=reasons)


def _deciding_class(request: DecisionRequest, topic: Topic | None) -> MessageClass:
    """A purpose, known or not, is decided as marketing."""
    if request.topic is not None and request.topic.startswith("@"):
        return MessageClass.MARKETING
    return stricter_class(request.message_class or MessageClass.MARKETING, topic)


def _without_database(
    request: DecisionRequest, catalog: Catalog | None, addresses: Sequence[Address | None]
) -> Decisions:
    topic = find_topic(catalog, request.topic, brand=request.brand) if catalog else None
    reason = Reason.UNAVAILABLE if request.message_class else Reason.UNKNOWN_CLASS
    message = Message(
        channel=request.channel,
        message_class=_deciding_class(request, topic),
        topic=topic,
        reasons={reason: None},
    )
    found = [BAD_ADDRESS if address is None else UNKNOWN for address in addresses]
    return Decisions(None, _apply(message, found, ()), found)


def _reserve(
    services: Services, topic: Topic, decided: Decisions, *, channel: Channel, message_ref: str | None
) -> Decisions:
    """Reserve one message for each allowed contact with a frequency limit."""
    limits = {
        facts.contact_id: facts.limit.per_week
        for facts, decision in zip(decided.facts, decided.decisions, strict=True)
        if decision.allowed and facts.contact_id and facts.limit and facts.limit.per_week is not None
    }
    if not limits:
        return decided
    now = datetime.now(UTC)
    # Created once: a retry on a new connection must not reserve twice.
    ref = message_ref or str(new_id(now))
    try:
        granted: set[UUID] | None = services.database.save(
            reserve, limits, channel=channel, topic=topic.slug, message_ref=ref, now=now
        )
    except StoreBusy:
        granted = None
    pairs = zip(decided.facts, decided.decisions, strict=True)
    return replace(decided, decisions=[_if_granted(facts, decision, limits, granted) for facts, decision in pairs])


def _if_granted(facts: Facts, decision: Decision, limits: Mapping[UUID, int], granted: set[UUID] | None) -> Decision:
    if not decision.allowed or facts.contact_id not in limits or (granted and facts.contact_id in granted):
        return decision
    if granted is None:
        return may_send(MessageClass.MARKETING, Facts(reasons={Reason.UNAVAILABLE: None}))
    return may_send(MessageClass.MARKETING, Facts(reasons={Reason.OVER_CAP: facts.limit.seq if facts.limit else None}))
