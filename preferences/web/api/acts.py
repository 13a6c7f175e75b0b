"""`/api/v1/acts`: acts reported by a company's systems.

Invariant: acknowledged only once durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from flask import g, jsonify
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, RootModel, StringConstraints
from pydantic_core import PydanticCustomError
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain.vocabulary import MOST_ADDRESSES, Basis, Channel, KeyScope, SuppressionReason, Verb
from preferences.sending.reported_acts import Recorded, ReferenceTaken, Report, record_reports
from preferences.web.api.bodies import AddressText, Slug, Strict, read_body
from preferences.web.api.operations import MissingScope, blueprint, operation, problem

MOST_PER_WEEK: Final = 100


class ToldVerb(StrEnum):
    """What can be reported."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    PAUSE = "pause"
    CAP = "cap"
    SUPPRESS = "suppress"
    LIFT = "lift"
    """Ends one suppression, which needs the scope `unsuppress`."""


EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9998, 12, 31, tzinfo=UTC)
"""Representable in every time zone."""


def _usable(at: datetime) -> datetime:
    if not EARLIEST <= at <= LATEST:
        raise PydanticCustomError("instant", "must lie between the years 1970 and 9998")
    return at


Instant = Annotated[AwareDatetime, AfterValidator(_usable)]
Reference = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
Name = Annotated[str, StringConstraints(max_length=64)]
Words = Annotated[str, StringConstraints(max_length=500)]


class ActOf(Strict):
    """One act. A subscribe needs `basis`, `occurred_at` and `evidence`: who says yes must be able to be shown to have
    said it."""

    address: AddressText
    channel: Channel = Channel.EMAIL
    topic: Slug | None = None
    """A topic's slug, a purpose such as `@tracking`, or `*`, which only an unsubscribe can be about. A suppress has
    none."""
    brand: Slug | None = None
    """Whose `*` or purpose it is; the first brand's if left out."""
    verb: ToldVerb
    origin_ref: Reference
    """Your own id of the act, without spaces: told again, it counts once."""
    occurred_at: Instant | None = None
    """When it was said, with its time zone. What lies in the future counts as now. Before 1990 there was no such mail:
    what says no counts from its receipt then, and what needs its instant is refused."""
    basis: Basis | None = None
    """The lawful ground of a subscribe."""
    evidence: Annotated[dict[Name, Words], Field(max_length=20, default_factory=dict)]
    """What proves it, such as where it was said and the form's version."""
    until: Instant | None = None
    """When a pause ends. Left out, there is no pause any more, which needs `occurred_at`."""
    per_week: Annotated[int, Field(ge=1, le=MOST_PER_WEEK)] | None = None
    """How many messages a week at the most. Left out, there is no cap any more, which needs `occurred_at`."""
    reason: SuppressionReason | None = None
    """Of a suppress and of a lift, which need it: a system can know of `hard_bounce`, `complaint`, `invalid` and
    `legal`, and nobody lifts `erased`, `child` and `replaced`."""


class ActsRequest(RootModel[Annotated[list[ActOf], Field(max_length=MOST_ADDRESSES)]]):
    """A list of acts, recorded in this order."""

    model_config = ConfigDict(hide_input_in_errors=True)


class EntryOf(Strict):
    """The entry of an act."""

    seq: int
    """Its number in the ledger."""
    changed: bool
    """Whether it altered anything. A second no does not."""
    repeated: bool
    """Whether it had been told before."""
    recorded_at: datetime


class ActsAnswer(Strict):
    """The entry of each act, in the order told."""

    entries: list[EntryOf]


@blueprint.post("/acts")
@operation(scope=KeyScope.ACTS, body=ActsRequest, answer=ActsAnswer, statuses=(409,), unlimited=True)
def post_acts() -> Response:
    """Record what people did elsewhere. Answered once it is durable; a call that failed can be repeated as it is.

    409 names the acts whose `origin_ref` belongs to another act. They were not recorded: give them references of
    their own.
    """
    services, scopes = current_services(), g.api_key.scopes
    acts = read_body(ActsRequest).root
    _check_lifts(acts, scopes)
    trusted, key_name = KeyScope.RETURNS in scopes, g.api_key.name
    recorded = record_reports(services, list(map(_report, acts)), key_name=key_name, trusted=trusted)
    metrics.RECORDED.labels("api").inc(len(acts))
    return jsonify(entries=list(map(_rendered, recorded)))


def _check_lifts(acts: Sequence[ActOf], scopes: frozenset[KeyScope]) -> None:
    lifts = [index for index, act in enumerate(acts) if act.verb is ToldVerb.LIFT]
    if lifts and KeyScope.UNSUPPRESS not in scopes:
        detail = f"the key has no scope {KeyScope.UNSUPPRESS}, which a lift needs"
        raise MissingScope([(f"[{index}].verb", detail) for index in lifts])


def _report(act: ActOf) -> Report:
    return Report(**dict(act) | {"verb": Verb(act.verb)})


def _rendered(recorded: Recorded) -> dict[str, Any]:
    entry = recorded.entry
    return {
        "seq": entry.seq,
        "changed": entry.changed,
        "repeated": recorded.repeated,
        "recorded_at": entry.recorded_at.isoformat(),
    }


@blueprint.errorhandler(ReferenceTaken)
def reference_taken(error: ReferenceTaken) -> Response:
    return problem(error, 409, "A reference is another act's")
