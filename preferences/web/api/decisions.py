"""`/api/v1/decisions`: may we send to these addresses?"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from flask import g
from pydantic import Field
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain.permission import Decision, Reason
from preferences.domain.vocabulary import Channel, KeyScope, MessageClass
from preferences.sending.decide import DecisionRequest, Decisions, decide_request
from preferences.web.api.bodies import Addresses, MessageRef, Slug, Strict, read_body, read_or_none
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
    """Your own name of the mailing: asked again under it, it counts once against a frequency limit."""
    count: bool = True
    """False only looks, and counts against nobody's frequency limit."""
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
    body = read_body(DecisionsRequest)
    addresses = [read_or_none(body.channel, text) for text in body.addresses]
    decided = decide_request(current_services(), _request(body), addresses, database_away=g.api_key is None)
    _count(body, decided)
    answer = {
        "as_of": datetime.now(UTC).isoformat(),
        "seq": decided.seq,
        "decisions": list(map(_rendered, body.addresses, decided.decisions)),
    }
    return Response(orjson.dumps(answer), content_type="application/json")


def _request(body: DecisionsRequest) -> DecisionRequest:
    return DecisionRequest(
        channel=body.channel,
        message_class=_known_class(body.message_class),
        topic=body.topic,
        brand=body.brand,
        message_ref=body.message_ref,
        reserve=body.count,
    )


def _known_class(word: str) -> MessageClass | None:
    return MessageClass(word) if word in set(MessageClass) else None


def _rendered(address: str, decision: Decision) -> dict[str, Any]:
    return {
        "address": address,
        "allowed": decision.allowed,
        "reason": decision.reason,
        "rule": decision.rule,
        "entry": decision.entry,
        "degraded": decision.degraded,
    }


def _count(body: DecisionsRequest, decided: Decisions) -> None:
    kinds = Counter((decision.allowed, decision.degraded) for decision in decided.decisions)
    for (allowed, degraded), count in kinds.items():
        label = _known_class(body.message_class) or "unknown"
        metrics.DECISIONS.labels(label, allowed, degraded).inc(count)
