"""A file of addresses, answered row by row.

Owns `/api/v1/scrubs`. Invariants: the answers are those of `/decisions` without counting; a body of any kind takes no
more memory than the limits say.
"""

from __future__ import annotations

import io
import zlib
from datetime import UTC, datetime
from typing import Final

from flask import request
from pydantic import Field
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain.addresses import Fingerprints
from preferences.domain.permission import Decision, Reason, may_send
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, KeyScope, MessageClass
from preferences.files.tables import BadFile
from preferences.sending.scrub import BadQuestion, question
from preferences.sending.scrub.rows import added_cells, addresses_of, header_with, with_cells
from preferences.sending.scrub.table import Layout, Piece, pieces, read_layout, rows_of
from preferences.store.decision_facts import facts_for
from preferences.store.scrub import Question
from preferences.web.api.bodies import BadFields, Slug, Strict, read_query
from preferences.web.api.operations import blueprint, operation
from preferences.web.shared import errors

MOST_OCTETS: Final = 8 * 1024 * 1024
MOST_ROWS: Final = 100_000
BLOCK: Final = 10_000
"""Rows looked up in one go."""


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
    services, asked = current_services(), read_query(ScrubQuery)
    try:
        about = question(
            services.catalog.get(asked.topic),
            asked.topic,
            asked.channel,
            now=datetime.now(UTC),
            message_class=asked.message_class,
            brand=asked.brand,
        )
    except BadQuestion as error:
        raise BadFields([{"field": error.field, "detail": str(error)}]) from None
    if request.mimetype not in {"text/csv", ""}:
        return errors.problem_for(UnsupportedMediaType(), 415, "Only text/csv is read here")
    try:
        file = io.BytesIO(_body())
        layout = read_layout(file, asked.channel, asked.column)
        found = list(pieces(file, layout))
    except BadFile as error:
        raise BadFields([{"field": "body", "detail": str(error)}]) from None
    answer = [header_with(layout, (b"allowed", b"reason"))]
    answer += _answered(found, layout, about, services.fingerprints)
    return Response(b"".join(answer), content_type="text/csv")


def _answered(found: list[Piece], layout: Layout, about: Question, fingerprints: Fingerprints) -> list[bytes]:
    read = [(piece, rows_of(piece, layout)) for piece in found]
    if sum(len(rows) for _, rows in read) > MOST_ROWS:
        raise RequestEntityTooLarge
    answered = []
    for piece, rows in read:
        values, bad = addresses_of(piece, rows, layout=layout, channel=about.channel)
        addresses = [None if n in bad else Address(about.channel, one.decode()) for n, one in enumerate(values)]
        for start in range(0, len(rows), BLOCK):
            decisions = _decide(addresses[start : start + BLOCK], about, fingerprints)
            for row, decision in zip(rows[start : start + BLOCK], decisions, strict=True):
                if row.strip():
                    allowed = b"yes" if decision.allowed else b"no"
                    answered.append(with_cells(row, added_cells(layout, (allowed, decision.reason.encode()))) + b"\n")
                    metrics.DECISIONS.labels(about.message_class, decision.allowed, decision.degraded).inc()
    return answered


def _decide(addresses: list[Address | None], about: Question, fingerprints: Fingerprints) -> list[Decision]:
    """The answers for a block of rows; None stands for one without an address."""
    known = list({one for one in addresses if one is not None})
    facts = current_services().database.read(
        facts_for, known, channel=about.channel, about=about.about, fingerprints=fingerprints, now=about.now
    )
    made = {one: may_send(about.message_class, found) for one, found in facts.items()}
    refused = Decision(allowed=False, reason=Reason.BAD_ADDRESS, rule=f"{about.message_class}.{Reason.BAD_ADDRESS}")
    return [refused if one is None else made[one] for one in addresses]


def _body() -> bytes:
    """The file, unpacked. Of a small body that unpacks to a huge file no more is unpacked than may be."""
    if request.content_length is None:
        raise LengthRequired
    if request.content_length > MOST_OCTETS:
        raise RequestEntityTooLarge
    body = request.get_data()
    if request.headers.get("Content-Encoding", "identity").strip().lower() == "identity":
        return body
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(body, MOST_OCTETS)
    except zlib.error:
        raise BadFile("not whole, or not gzip, which is the only compression that is read here") from None
    if unpacker.unconsumed_tail or unpacker.unused_data:
        raise RequestEntityTooLarge
    if not unpacker.eof:
        raise BadFile("the compressed file is not whole; send it again")
    return body
