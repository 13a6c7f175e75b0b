"""`/api/v1/scrubs`: adds decisions to a table of addresses.

Invariant: memory is bounded for any body.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Final

from flask import request
from pydantic import Field
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain.errors import BadFields
from preferences.domain.permission import Message
from preferences.domain.vocabulary import Channel, KeyScope, MessageClass
from preferences.files.tables import BadFile
from preferences.sending.decide import message_about
from preferences.sending.scope import catalog_for, get_topic
from preferences.sending.scrub.annotate import Annotated, TooManyRows, annotate
from preferences.web.api.bodies import Slug, Strict, read_query
from preferences.web.api.operations import blueprint, operation
from preferences.web.shared import errors

MOST_BYTES: Final = 8 * 1024 * 1024


class ScrubQuery(Strict):
    """What is asked of each row, as in `/decisions`; `column` names the one that holds the addresses."""

    topic: Slug
    channel: Channel
    message_class: MessageClass | None = Field(default=None, alias="class")
    """The topic's own if left out."""
    brand: Slug | None = None
    """Whose purpose the topic is, if it is one; the first brand's if left out."""
    column: Slug | None = None
    """The name of the column that holds the addresses, if it is none of the usual."""


@blueprint.post("/scrubs")
@operation(scope=KeyScope.DECISIONS, query=ScrubQuery, media="text/csv")
def scrubs() -> Response:
    """The rows of a CSV file (text/csv, gzip too) with `allowed` and `reason` added: at most 8 MB and 100,000 rows."""
    query = read_query(ScrubQuery)
    message = _message(query)
    if request.mimetype not in {"text/csv", ""}:
        return errors.problem_for(UnsupportedMediaType(), 415, "Only text/csv is read here")
    try:
        annotated = annotate(current_services(), message, _body(), column=query.column)
    except BadFile as error:
        raise BadFields([("body", str(error))]) from None
    except TooManyRows:
        raise RequestEntityTooLarge from None
    _count(message, annotated)
    return Response(annotated.table, content_type="text/csv")


def _message(query: ScrubQuery) -> Message:
    catalog = catalog_for(current_services(), query.topic)
    topic = get_topic(catalog, query.topic, channel=query.channel, brand=query.brand, purposes=True)
    return message_about(topic, query.channel, message_class=query.message_class)


def _count(message: Message, annotated: Annotated) -> None:
    kinds = Counter((decision.allowed, decision.degraded) for decision in annotated.decisions)
    for (allowed, degraded), count in kinds.items():
        metrics.DECISIONS.labels(message.message_class, allowed, degraded).inc(count)


def _body() -> bytes:
    """The unpacked file. Unpacking stops at the limit."""
    if request.content_length is None:
        raise LengthRequired
    if request.content_length > MOST_BYTES:
        raise RequestEntityTooLarge
    body = request.get_data()
    if request.headers.get("Content-Encoding", "identity").strip().lower() == "identity":
        return body
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(body, MOST_BYTES)
    except zlib.error:
        raise BadFile("not whole, or not gzip, which is the only compression that is read here") from None
    if unpacker.unconsumed_tail or unpacker.unused_data:
        raise RequestEntityTooLarge
    if not unpacker.eof:
        raise BadFile("the compressed file is not whole; send it again")
    return body
