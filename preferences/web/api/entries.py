"""The ledger as a feed, for whoever follows it: a warehouse, a customer database.

Owns `/api/v1/entries`. Invariant: every change on every path stands here once, in the order in which it was committed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from flask import jsonify
from pydantic import Field
from werkzeug.wrappers import Response

from preferences.domain.terms import Actor, Basis, Channel, Scope, Status, SuppressionReason, Verb
from preferences.site import current_site
from preferences.store import queries
from preferences.store.feed import MOST_ENTRIES, feed_page
from preferences.web.api.bodies import Strict, read_query
from preferences.web.api.operations import blueprint, operation

LARGEST_SEQ: Final = 2**53 - 1
"""The largest number that every JSON reader keeps exactly."""


class EntriesQuery(Strict):
    """From where on, and how many at most. `after` is the `next` of the page before, and 0 at first."""

    after: Annotated[int, Field(ge=0, le=LARGEST_SEQ)] = 0
    limit: Annotated[int, Field(ge=1, le=MOST_ENTRIES)] = MOST_ENTRIES


class FeedEntry(Strict):
    """One entry of the ledger.

    `status` is what the contact wishes since then; null for a suppression (`reason`), a pause (`until`) and a cap
    (`per_week`). `changed` is false for one that altered nothing, such as a second no. `address` is the one it names,
    or of a wish the contact's present one on that channel; null once that was erased. `hash` covers the entry and the
    one before.
    """

    seq: int
    recorded_at: datetime
    occurred_at: datetime | None
    verb: Verb
    channel: Channel
    contact: UUID | None
    fingerprint: str | None
    address: str | None
    brand: str
    topic: str
    status: Status | None
    reason: SuppressionReason | None
    basis: Basis | None
    origin: str
    origin_ref: str | None
    actor: Actor
    trusted: bool
    changed: bool
    undoes: int | None
    until: datetime | None
    per_week: int | None
    notice: str | None
    hash: str


class EntriesAnswer(Strict):
    """Entries in order. `next` is where to go on; at the end it equals `head`, the newest entry's number."""

    entries: list[FeedEntry]
    next: int
    head: int


@blueprint.get("/entries")
@operation(scope=Scope.ENTRIES, query=EntriesQuery, answer=EntriesAnswer)
def entries() -> Response:
    """What happened since an entry. Keep `next`, and ask again from there: nothing is skipped or told twice."""
    database, asked = current_site().database, read_query(EntriesQuery)
    # The head first: what is read after it is at least as new.
    head = database.read(queries.head_seq)
    page = database.read(feed_page, asked.after, asked.limit)
    last = page[-1]["seq"] if page else asked.after
    return jsonify(entries=page, next=last, head=max(head, page[-1]["seq"] if page else 0))
