"""The machines' door: may we send, and signed links for a mail.

Owns `/api/v1`: parse, call, answer. Invariants: a marketing message is never allowed on incomplete knowledge; an error
never repeats what was sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from flask import Blueprint, g, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from sqlalchemy import Connection
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.wrappers import Response

from preferences.domain.addresses import read_address
from preferences.domain.errors import BadAddress, StoreBusy
from preferences.domain.permission import Decision, Facts, Reason, may_send, purpose_topic, stricter_class
from preferences.domain.terms import BLANKET, MOST_ADDRESSES, Address, Channel, MessageClass, Purpose, Topic
from preferences.links import MESSAGE_REF, ManageLink, UnsubscribeLink
from preferences.minting import contacts_of
from preferences.site import Site, current_site
from preferences.store import queries
from preferences.store.contacts import Found, new_id
from preferences.store.facts import facts_for
from preferences.store.queries import Catalog
from preferences.store.sendings import take_places
from preferences.web import errors, metrics

blueprint = Blueprint("api", __name__)

MOST_BODY: Final = 4 * 1024 * 1024

Slug = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MessageRef = Annotated[str, StringConstraints(pattern=f"^{MESSAGE_REF.pattern}$")]
Addresses = Annotated[list[Annotated[str, StringConstraints(max_length=1000)]], Field(max_length=MOST_ADDRESSES)]
Body = TypeVar("Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class DecisionsRequest(_Strict):
    """May we send a message of this class about this topic to these addresses?

    `topic` may be a purpose, which is asked of a `brand`. `message_ref` names the mailing; not to `count` is to look.
    """

    channel: Channel
    message_class: Annotated[Slug, Field(alias="class")]
    topic: Slug | None = None
    brand: Slug | None = None
    message_ref: MessageRef | None = None
    count: bool = True
    addresses: Addresses


class LinksRequest(_Strict):
    """Links and headers for one mail to each of these addresses. `brand` says whose `*` it is, where there are many."""

    channel: Channel
    topic: Slug = BLANKET
    brand: Slug | None = None
    message_ref: MessageRef | None = None
    addresses: Addresses


class BadFields(Exception):
    """The body was JSON, and some of its fields are wrong. Holds each field's name and what to do about it."""

    def __init__(self, fields: Sequence[Mapping[str, str]]) -> None:
        super().__init__("some fields are wrong")
        self.fields = fields


@blueprint.errorhandler(BadFields)
def bad_fields(error: BadFields) -> Response:
    """Name each wrong field."""
    return errors.problem_for(error, 422, errors.TITLES[422], errors=list(error.fields))


@blueprint.post("/decisions")
def decisions() -> Response:
    """May we send? One answer for each address, in the order asked."""
    site = current_site()
    asked = read_body(DecisionsRequest)
    seq, answers = _decide(site, asked, away=g.store_busy)
    for (allowed, degraded), count in Counter((one.allowed, one.degraded) for one in answers).items():
        metrics.DECISIONS.labels(asked_class(asked) or "unknown", allowed, degraded).inc(count)
    return jsonify(
        as_of=datetime.now(UTC).isoformat(),
        seq=seq,
        decisions=[
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
    )


def asked_class(asked: DecisionsRequest) -> MessageClass | None:
    """The message class that was asked about, or None for a word we do not know."""
    try:
        return MessageClass(asked.message_class)
    except ValueError:
        return None


def _decide(site: Site, asked: DecisionsRequest, *, away: bool) -> tuple[int | None, list[Decision]]:
    """The answers, and the ledger's position they are at least as new as; None when the database is away."""
    addresses = [_read_or_none(asked.channel, text) for text in asked.addresses]
    known = list(dict.fromkeys(one for one in addresses if one is not None))
    try:
        if away:
            raise StoreBusy("the key could not be checked")
        topic = _topic_asked(asked, _catalog_for(site, asked))
        seq, facts = site.database.read(_gather, site, asked, topic, known)
        about_call = _reasons_of_the_call(asked, topic)
    except StoreBusy:
        topic = _topic_asked(asked, site.catalog.last())
        seq, facts = None, dict.fromkeys(known, Facts(reasons={}))
        about_call = {Reason.UNAVAILABLE if asked_class(asked) else Reason.UNKNOWN_CLASS: None}
    message_class = _deciding_class(asked, topic)
    bad = Facts(reasons={Reason.BAD_ADDRESS: None})
    found = [facts[one] if one else bad for one in addresses]
    decisions = [may_send(message_class, replace(one, reasons=about_call | one.reasons)) for one in found]
    if topic is None or message_class is not MessageClass.MARKETING or not asked.count:
        return seq, decisions
    return seq, _within_caps(site, asked, topic, list(zip(found, decisions, strict=True)))


def _catalog_for(site: Site, asked: DecisionsRequest) -> Catalog:
    return site.catalog.get(None if _is_purpose(asked.topic) else asked.topic)


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
    site: Site, asked: DecisionsRequest, topic: Topic, answers: Sequence[tuple[Facts, Decision]]
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
        granted: set[UUID] | None = site.database.save(
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
    connection: Connection, site: Site, asked: DecisionsRequest, topic: Topic | None, known: Sequence[Address]
) -> tuple[int, dict[Address, Facts]]:
    # The position first: what is read after it is at least as new as it says.
    seq = queries.head_seq(connection)
    return seq, facts_for(
        connection,
        known,
        channel=asked.channel,
        about=topic,
        fingerprints=site.fingerprints,
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


def _read_or_none(channel: Channel, text: str) -> Address | None:
    try:
        return read_address(channel, text)
    except BadAddress:
        return None


@blueprint.post("/links")
def links() -> Response:
    """Signed links and ready headers for one mail to each address. Contacts that are new are made."""
    site = current_site()
    if g.store_busy:
        raise StoreBusy("the key could not be checked")
    asked = read_body(LinksRequest)
    topic = _known_topic(site, asked)
    brand = _known_brand(site, asked, topic)
    addresses = _all_readable(asked)
    found = contacts_of(site, addresses)
    now = datetime.now(UTC)
    return jsonify(
        links=[
            {"address": text, **_links_for(site, asked, topic, found[address], brand=brand, now=now)}
            for text, address in zip(asked.addresses, addresses, strict=True)
        ]
    )


def _known_topic(site: Site, asked: LinksRequest) -> Topic | None:
    if asked.topic == BLANKET:
        return None
    topic = site.catalog.get(asked.topic).topics.get(asked.topic)
    if topic is None:
        raise BadFields([{"field": "topic", "detail": "there is no such topic; `flask topic add` makes one"}])
    if asked.channel not in topic.channels:
        raise BadFields([{"field": "channel", "detail": "this topic is not sent on this channel"}])
    return topic


def _known_brand(site: Site, asked: LinksRequest, topic: Topic | None) -> str:
    if topic is not None:
        if asked.brand not in {None, topic.brand}:
            raise BadFields([{"field": "brand", "detail": "this topic is another brand's"}])
        return topic.brand
    catalog = site.catalog.get()
    if asked.brand is not None and asked.brand not in catalog.brands:
        raise BadFields([{"field": "brand", "detail": "there is no such brand; `flask brand set` makes one"}])
    return asked.brand or catalog.first_brand.slug


def _all_readable(asked: LinksRequest) -> list[Address]:
    addresses = [_read_or_none(asked.channel, text) for text in asked.addresses]
    bad = [index for index, one in enumerate(addresses) if one is None]
    if bad:
        detail = "not an address of this channel; remove it or correct it. No link was made"
        raise BadFields([{"field": f"addresses[{index}]", "detail": detail} for index in bad[:100]])
    return [one for one in addresses if one is not None]


def _links_for(
    site: Site, asked: LinksRequest, topic: Topic | None, found: Found, *, brand: str, now: datetime
) -> dict[str, Any]:
    if found.contact_id is None:
        return {"unsubscribe_url": None, "manage_url": None, "headers": {}}
    manage_url = site.manage_url(ManageLink(found.contact_id, asked.channel, brand, now))
    if topic is not None and topic.message_class is not MessageClass.MARKETING:
        # RFC 8058 is for mail one can leave; Gmail's guidelines ask for no list headers on transactional mail.
        return {"unsubscribe_url": None, "manage_url": manage_url, "headers": {}}
    url = site.unsubscribe_url(
        UnsubscribeLink(found.contact_id, asked.channel, brand, asked.topic, asked.message_ref or "")
    )
    label = brand if topic is None else f"{topic.slug}.{brand}"
    headers = {
        "List-Unsubscribe": f"<{url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"<{label}.list-id.{site.settings.host}>",
    }
    return {
        "unsubscribe_url": url,
        "manage_url": manage_url,
        "headers": headers if asked.channel is Channel.EMAIL else {},
    }


def read_body(model: type[Body]) -> Body:
    """The JSON body as `model`. Raises BadFields naming each field; no message repeats a value."""
    if request.content_length is None:
        # Werkzeug cuts a chunked body at the limit without a word; half a list must not pass for a whole one.
        raise LengthRequired
    if request.content_length > MOST_BODY:
        raise RequestEntityTooLarge
    if request.mimetype not in {"application/json", ""}:
        raise UnsupportedMediaType
    try:
        return model.model_validate_json(request.get_data())
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        raise BadFields([_field(detail) for detail in details[:100]]) from None


def _field(detail: Mapping[str, Any]) -> dict[str, str]:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    return {"field": path.lstrip(".") or "body", "detail": str(detail["msg"])}
