"""`/api/v1/suppressions`: paged list of suppressed addresses."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any, Final

from flask import jsonify
from pydantic import Field, StringConstraints
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.errors import BadFields
from preferences.domain.permission import Decision, Reason
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, KeyScope
from preferences.sending.scope import catalog_for, resolve
from preferences.sending.suppressions import list_suppressed
from preferences.web.api.bodies import Slug, Strict, read_query
from preferences.web.api.operations import blueprint, operation

MOST_READ: Final = 10_000
"""Addresses read per call; a page holds the suppressed ones."""

_FINGERPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class SuppressionsQuery(Strict):
    """Whose list: of a topic, of a purpose such as `@tracking`, or of all marketing of a brand. `after` is the `next`
    of the page before."""

    channel: Channel
    topic: Slug | None = None
    brand: Slug | None = None
    after: Annotated[str, StringConstraints(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_READ)] = MOST_READ
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
    services, query = current_services(), read_query(SuppressionsQuery)
    catalog = catalog_for(services, query.topic)
    scope = resolve(catalog, query.channel, topic=query.topic, brand=query.brand, purposes=True)
    page = list_suppressed(services, scope, after=_read_cursor(query.after), limit=query.limit)
    return jsonify(suppressions=list(map(_rendered, page.addresses, page.decisions)), next=_cursor(page.last))


def _rendered(address: Address, decision: Decision) -> dict[str, Any]:
    return {"address": address.value, "reason": decision.reason, "entry": decision.entry}


def _cursor(fingerprint: str | None) -> str | None:
    return None if fingerprint is None else base64.urlsafe_b64encode(fingerprint.encode()).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        text = ""
    if not _FINGERPRINT.fullmatch(text):
        raise BadFields([("after", "is not the `next` of a page; leave it out to begin")])
    return text
