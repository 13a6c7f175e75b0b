"""Who must not be written to: a list for systems that keep one of their own.

Owns `/api/v1/suppressions`. Invariant: it is the decisions themselves, so it never differs from `/decisions`.
"""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final

from flask import jsonify
from pydantic import Field, StringConstraints
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.permission import Facts, Reason, may_send, purpose_topic
from preferences.domain.records import Topic
from preferences.domain.vocabulary import Basis, Channel, KeyScope, MessageClass, Purpose
from preferences.services import Services
from preferences.store.catalog import Catalog
from preferences.store.contacts import page_of
from preferences.store.decision_facts import facts_for
from preferences.web.api.bodies import BadFields, Slug, Strict, read_query
from preferences.web.api.operations import blueprint, operation

MOST_LOOKED_AT: Final = 10_000
"""Addresses that one call looks at: a page holds those of them that are suppressed."""

_PASSING: Final = {Reason.PAUSED, Reason.OVER_CAP}

_PRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class SuppressionsQuery(Strict):
    """Whose list: of a topic, of a purpose such as `@tracking`, or of all marketing of a brand. `after` is the `next`
    of the page before."""

    channel: Channel
    topic: Slug | None = None
    brand: Slug | None = None
    after: Annotated[str, StringConstraints(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_LOOKED_AT)] = MOST_LOOKED_AT
    """Addresses to look at: those of them that are suppressed are answered."""


class SuppressedOf(Strict):
    """An address that must not be written to, why, and the entry behind it."""

    address: str
    reason: Reason
    entry: int | None
    """The number of the ledger entry behind it, where one is."""


class SuppressionsAnswer(Strict):
    """A page; it can be empty while there are more. `next` is null at the end."""

    suppressions: list[SuppressedOf]
    next: str | None


@blueprint.get("/suppressions")
@operation(scope=KeyScope.SUPPRESSIONS, query=SuppressionsQuery, answer=SuppressionsAnswer)
def suppressions() -> Response:
    """Addresses that said no or cannot be reached; each call looks at `limit` of those we have.

    Who was never asked is not here, though a topic that needs consent must not be sent to them; neither is who paused
    it, and an address that was erased, of which only a fingerprint is kept. `/decisions` knows them all.
    """
    services, asked = current_services(), read_query(SuppressionsQuery)
    after = _position(asked.after)
    about = _about(services, asked)
    page = services.database.read(page_of, asked.channel, after, asked.limit)
    facts = services.database.read(
        facts_for,
        [address for _, address in page],
        channel=asked.channel,
        about=about,
        fingerprints=services.fingerprints,
        now=datetime.now(UTC),
    )
    decided = [(address, may_send(about.message_class, _for_good(one))) for address, one in facts.items()]
    last = page[-1][0] if len(page) == asked.limit else None
    return jsonify(
        suppressions=[
            {"address": address.value, "reason": decision.reason, "entry": decision.entry}
            for address, decision in decided
            if not decision.allowed
        ],
        next=None if last is None else base64.urlsafe_b64encode(last.encode()).decode().rstrip("="),
    )


def _for_good(facts: Facts) -> Facts:
    """Without what passes by itself."""
    lasting = {reason: entry for reason, entry in facts.reasons.items() if reason not in _PASSING}
    return replace(facts, reasons=lasting)


def _about(services: Services, asked: SuppressionsQuery) -> Topic:
    """The topic, on any ground: who was never asked has not said no. Without one, all that a brand might send."""
    catalog = services.catalog.get(None if asked.topic in set(Purpose) else asked.topic)
    if asked.brand is not None and asked.brand not in catalog.brands:
        raise BadFields([{"field": "brand", "detail": "there is no such brand; `flask brand set` makes one"}])
    if asked.topic is None:
        return _anything(asked.brand or catalog.first_brand.slug, asked.channel)
    topic = _topic(asked, catalog)
    return replace(topic, basis=Basis.LEGITIMATE_INTEREST, opt_in=False, retired_at=None)


def _topic(asked: SuppressionsQuery, catalog: Catalog) -> Topic:
    if asked.topic in set(Purpose):
        return purpose_topic(Purpose(asked.topic), asked.brand or catalog.first_brand.slug)
    topic = catalog.topics.get(asked.topic or "")
    if topic is None:
        raise BadFields([{"field": "topic", "detail": "there is no such topic; `flask topic add` makes one"}])
    if asked.brand not in {None, topic.brand}:
        raise BadFields([{"field": "brand", "detail": "this topic is another brand's; leave this out"}])
    if asked.channel not in topic.channels:
        raise BadFields([{"field": "channel", "detail": "this topic is not sent on this channel"}])
    return topic


def _anything(brand: str, channel: Channel) -> Topic:
    return Topic(
        slug="",
        brand=brand,
        name="",
        description="",
        frequency="",
        message_class=MessageClass.MARKETING,
        basis=Basis.LEGITIMATE_INTEREST,
        channels=(channel,),
    )


def _position(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        text = ""
    if not _PRINT.fullmatch(text):
        raise BadFields([{"field": "after", "detail": "is not the `next` of a page; leave it out to begin"}])
    return text
