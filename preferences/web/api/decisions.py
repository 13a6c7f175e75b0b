"""May we send? One call for many addresses.

Owns `/api/v1/decisions`: parse, call, answer. Invariant: a marketing message is never allowed on incomplete knowledge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import orjson
from flask import g
from pydantic import Field
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain.errors import StoreBusy
from preferences.domain.permission import Decision, Facts, Reason, may_send, purpose_topic, stricter_class
from preferences.domain.records import Address, Topic
from preferences.domain.vocabulary import Channel, KeyScope, MessageClass, Purpose
from preferences.services import Services
from preferences.store import feed
from preferences.store.catalog import Catalog
from preferences.store.contacts import new_id
from preferences.store.decision_facts import facts_for
from preferences.store.frequency import take_places
from preferences.store.transactions import Read
from preferences.web.api.bodies import Addresses, BadFields, MessageRef, Slug, Strict, read_body, read_or_none
from preferences.web.api.operations import blueprint, operation


class DecisionsRequest(Strict):
    """May we send a message of this class about this topic to these addresses?"""

    channel: Channel
    message_class: Annotated[Slug, Field(alias="class")]
    """`marketing`, `transactional` or `notice`. Any other word is answered with `unknown_class`."""
    topic: Slug | None = None
    """A topic's slug, or a purpose such as `@tracking`. Only what is not marketing needs none."""
    brand: Slug | None = None
    """Whose purpose it is; the first brand's if left out."""
    message_ref: MessageRef | None = None
    """Your own name of the mailing: asked again under it, nobody's place of a week is taken twice."""
    count: bool = True
    """False only looks, and takes nobody's place of a week."""
    addresses: Addresses


class DecisionOf(Strict):
    """The answer for one address."""

    address: str
    """As it was asked about."""
    allowed: bool
    reason: Reason
    rule: str
    """What decided: the class and the reason, such as `marketing.ok`."""
    entry: int | None
    """The number of the ledger entry behind a no, where one is."""
    degraded: bool
    """Whether not all was known."""


class DecisionsAnswer(Strict):
    """One answer for each address, in the order asked, at least as new as entry `seq` of the ledger."""

    as_of: datetime
    seq: int | None
    """Null when the database is away."""
    decisions: list[DecisionOf]


@blueprint.post("/decisions")
@operation(scope=KeyScope.DECISIONS, body=DecisionsRequest, answer=DecisionsAnswer, without_database=True)
def decisions() -> Response:
    """May we send? One answer for each address, in the order asked."""
    asked = read_body(DecisionsRequest)
    seq, answers = _decide(current_services(), asked, away=g.api_key is None)
    for (allowed, degraded), count in Counter((one.allowed, one.degraded) for one in answers).items():
        metrics.DECISIONS.labels(asked_class(asked) or "unknown", allowed, degraded).inc(count)
    answer = {
        "as_of": datetime.now(UTC).isoformat(),
        "seq": seq,
        "decisions": [
            {
                "address": address,
                "allowed": answer.allowed,
                "reason": answer.reason,
                "rule": answer.rule,
                "entry": answer.entry,
                "degraded": answer.degraded,
            }
            for address, answer in zip(asked.addresses, answers, strict=True)
        ],
    }
    return Response(orjson.dumps(answer), content_type="application/json")


def asked_class(asked: DecisionsRequest) -> MessageClass | None:
    """The message class that was asked about, or None for a word we do not know."""
    try:
        return MessageClass(asked.message_class)
    except ValueError:
        return None


def _decide(services: Services, asked: DecisionsRequest, *, away: bool) -> tuple[int | None, list[Decision]]:
    """The answers, and the ledger's position they are at least as new as; None when the database is away."""
    addresses = [read_or_none(asked.channel, text) for text in asked.addresses]
    known = list(dict.fromkeys(one for one in addresses if one is not None))
    try:
        if away:
            raise StoreBusy("the key could not be checked")
        topic = _topic_asked(asked, _catalog_for(services, asked))
        seq, facts = services.database.read(_gather, services, asked, topic, known)
        about_call = _reasons_of_the_call(asked, topic)
    except StoreBusy:
        topic = _topic_asked(asked, services.catalog.last())
        seq, facts = None, dict.fromkeys(known, Facts(reasons={}))
        about_call = {Reason.UNAVAILABLE if asked_class(asked) else Reason.UNKNOWN_CLASS: None}
    message_class = _deciding_class(asked, topic)
    bad = Facts(reasons={Reason.BAD_ADDRESS: None})
    found = [facts[one] if one else bad for one in addresses]
    decisions = _decided(message_class, found, about_call)
    if topic is None or message_class is not MessageClass.MARKETING or not asked.count:
        return seq, decisions
    return seq, _within_caps(services, asked, topic, list(zip(found, decisions, strict=True)))


def _decided(
    message_class: MessageClass, found: Sequence[Facts], about_call: Mapping[Reason, int | None]
) -> list[Decision]:
    """The answer to each. Most addresses share the facts that nothing is on record, and so their answer."""
    made: dict[int, Decision] = {}
    for one in found:
        if id(one) not in made:
            made[id(one)] = may_send(message_class, replace(one, reasons={**about_call, **one.reasons}))
    return [made[id(one)] for one in found]


def _catalog_for(services: Services, asked: DecisionsRequest) -> Catalog:
    return services.catalog.get(None if _is_purpose(asked.topic) else asked.topic)


def _is_purpose(topic: str | None) -> bool:
    return topic is not None and topic.startswith("@")


def _topic_asked(asked: DecisionsRequest, catalog: Catalog | None) -> Topic | None:
    """The topic that the call is about, or the purpose in the place of one; None for one that we do not know."""
    if asked.topic in set(Purpose):
        brand = asked.brand or (catalog.first_brand.slug if catalog else "")
        if catalog and brand not in catalog.brands:
            raise BadFields([{"field": "brand", "detail": "there is no such brand; `flask brand set` makes one"}])
        return purpose_topic(Purpose(asked.topic), brand)
    topic = catalog.topics.get(asked.topic or "") if catalog else None
    if topic is not None and asked.brand not in {None, topic.brand}:
        raise BadFields([{"field": "brand", "detail": "this topic is another brand's"}])
    return topic


def _deciding_class(asked: DecisionsRequest, topic: Topic | None) -> MessageClass:
    """What is asked about a purpose, even one that we do not know, is answered as strictly as marketing."""
    if _is_purpose(asked.topic):
        return MessageClass.MARKETING
    return stricter_class(asked_class(asked) or MessageClass.MARKETING, topic)


def _within_caps(
    services: Services, asked: DecisionsRequest, topic: Topic, answers: Sequence[tuple[Facts, Decision]]
) -> list[Decision]:
    """The same answers, with a place of their week taken for everybody who has a cap and may be written to."""
    caps = {
        facts.contact_id: facts.cap.per_week
        for facts, decision in answers
        if decision.allowed and facts.contact_id and facts.cap and facts.cap.per_week is not None
    }
    if not caps:
        return [decision for _, decision in answers]
    now = datetime.now(UTC)
    # Made here and once, so that work which is run again on a new connection takes no second place.
    message_ref = asked.message_ref or str(new_id(now))
    try:
        granted: set[UUID] | None = services.database.save(
            take_places, caps, channel=asked.channel, topic=topic.slug, message_ref=message_ref, now=now
        )
    except StoreBusy:
        granted = None
    return [_if_granted(facts, decision, caps, granted) for facts, decision in answers]


def _if_granted(facts: Facts, decision: Decision, caps: Mapping[UUID, int], granted: set[UUID] | None) -> Decision:
    if not decision.allowed or facts.contact_id not in caps or (granted and facts.contact_id in granted):
        return decision
    if granted is None:
        return may_send(MessageClass.MARKETING, Facts(reasons={Reason.UNAVAILABLE: None}))
    return may_send(MessageClass.MARKETING, Facts(reasons={Reason.OVER_CAP: facts.cap.seq if facts.cap else None}))


def _gather(
    read: Read, services: Services, asked: DecisionsRequest, topic: Topic | None, known: Sequence[Address]
) -> tuple[int, dict[Address, Facts]]:
    # The position first: what is read after it is at least as new as it says.
    seq = feed.head_seq(read)
    return seq, facts_for(
        read,
        known,
        channel=asked.channel,
        about=topic,
        fingerprints=services.fingerprints,
        now=datetime.now(UTC),
        message_ref=asked.message_ref or "",
    )


def _reasons_of_the_call(asked: DecisionsRequest, topic: Topic | None) -> dict[Reason, int | None]:
    reasons: dict[Reason, int | None] = {}
    message_class = asked_class(asked)
    if message_class is None:
        reasons[Reason.UNKNOWN_CLASS] = None
    if topic is None and (asked.topic is not None or message_class is MessageClass.MARKETING):
        reasons[Reason.UNKNOWN_TOPIC] = None
    if topic is not None and asked.channel not in topic.channels:
        reasons[Reason.WRONG_CHANNEL] = None
    return reasons
