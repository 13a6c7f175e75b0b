"""`/api/v1/entries`: the ledger as a feed.

Invariant: each entry comes once, in commit order.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from flask import jsonify
from pydantic import Field
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.vocabulary import Actor, Basis, Channel, KeyScope, Status, SuppressionReason, Verb
from preferences.sending.entries import read_entries
from preferences.store.feed import MAX_PAGE_ENTRIES
from preferences.web.api.bodies import Strict, read_query
from preferences.web.api.operations import blueprint, operation

LARGEST_SEQ: Final = 2**53 - 1
"""The largest integer that is exact in every JSON reader."""


class EntriesQuery(Strict):
    """From where on, and how many at most. `after` is the `next` of the page before, and 0 at first."""

    after: Annotated[int, Field(ge=0, le=LARGEST_SEQ)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_ENTRIES)] = MAX_PAGE_ENTRIES


class FeedEntry(Strict):
    """One entry of the ledger."""

    seq: int
    """Without gaps, in the order in which entries were committed."""
    recorded_at: datetime
    """When it was recorded here."""
    occurred_at: datetime | None
    """When it is said to have happened."""
    verb: Verb
    channel: Channel
    contact: UUID | None
    """The contact's id, which stays when their address changes."""
    fingerprint: str | None
    """A keyed hash of the address that the entry names."""
    address: str | None
    """The address that it names; of a wish, the contact's present one on the channel. Null once it is erased."""
    brand: str
    topic: str
    """A topic's slug; `*` is all marketing of the brand, `@…` a purpose; empty for a suppression."""
    status: Status | None
    """What the contact wishes since then; of an undo, what counted again for its topic. Null for a suppression, a pause
    and a cap."""
    reason: SuppressionReason | None
    """Of a suppression."""
    basis: Basis | None
    """The lawful ground of a yes."""
    origin: str
    """The door it came through, such as `one_click`, `page`, `import`, `connector.sendgrid`, `api.shop`."""
    origin_ref: str | None
    """Its id there."""
    actor: Actor
    trusted: bool
    """Whether its door may turn a no into a yes."""
    changed: bool
    """Whether what may be sent changed with it. One that changed nothing may count later, when another is undone."""
    undoes: int | None
    """The number of the entry that an undo takes back."""
    until: datetime | None
    """The end of a pause; null where it was taken away."""
    per_week: int | None
    """The number of a cap; null where it was taken away."""
    notice: str | None
    """The hash of the wording that was shown."""
    evidence_digest: str | None
    """A salted digest of the evidence, which is kept apart from the ledger: it stays when the evidence is erased."""
    hash: str
    """Covers the entry and the hash of the one before."""


class EntriesAnswer(Strict):
    """Entries in order. `next` is where to go on; at the end it equals `head`, the newest entry's number."""

    entries: list[FeedEntry]
    next: int
    head: int


@blueprint.get("/entries")
@operation(scope=KeyScope.ENTRIES, query=EntriesQuery, answer=EntriesAnswer)
def entries() -> Response:
    """What happened since an entry. Keep `next`, and ask again from there: nothing is skipped or told twice."""
    query = read_query(EntriesQuery)
    page = read_entries(current_services(), query.after, query.limit)
    return jsonify(entries=page.entries, next=page.next, head=page.head)
