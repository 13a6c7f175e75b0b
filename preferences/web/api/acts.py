"""What a company's own systems tell of people: wishes, pauses, caps, addresses that are no good.

Owns `/api/v1/acts`. Invariants: nothing is acknowledged before it is durable; an act told twice counts once; an act
that bears another's reference is never taken for it, so no opt-out is swallowed; a yes turns no no around unless the
key may do that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

from flask import g, jsonify
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, RootModel, StringConstraints
from pydantic_core import PydanticCustomError
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain import consent
from preferences.domain.acts import ReportedAct, reported
from preferences.domain.records import Act, Address, Entry, Topic
from preferences.domain.suppressions import BECAUSE, NOT_LIFTED, lift
from preferences.domain.vocabulary import (
    BLANKET,
    MOST_ADDRESSES,
    Actor,
    Basis,
    Channel,
    KeyScope,
    MessageClass,
    Purpose,
    SuppressionReason,
    Verb,
    api_origin,
)
from preferences.ledger import duplicates
from preferences.services import Services
from preferences.store import feed
from preferences.store.catalog import Catalog
from preferences.store.transactions import Read
from preferences.web.api.bodies import AddressText, BadFields, Slug, Strict, read_body, read_or_none
from preferences.web.api.operations import MissingScope, blueprint, operation
from preferences.web.shared import errors

MOST_SHARED: Final = 20
"""Acts of a call that shares its transaction with others: what arrives as it happens, and not in bulk."""

MOST_PER_WEEK: Final = 100


class ToldVerb(StrEnum):
    """What can be told."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    PAUSE = "pause"
    CAP = "cap"
    SUPPRESS = "suppress"
    LIFT = "lift"
    """Ends one suppression, which needs the scope `unsuppress`."""


ABOUT_ADDRESS: Final = frozenset({ToldVerb.SUPPRESS, ToldVerb.LIFT})
"""What is told of an address, and not of what its owner chose."""


TOLD_REASONS: Final = (
    SuppressionReason.HARD_BOUNCE,
    SuppressionReason.COMPLAINT,
    SuppressionReason.INVALID,
    SuppressionReason.LEGAL,
)
"""Why an address is suppressed, of what a system can know."""


EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9998, 12, 31, tzinfo=UTC)
"""Between these, every instant can be written in every time zone."""


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
    services, asked = current_services(), read_body(ActsRequest).root
    acts = _all_sound(services, asked)
    known, newest = services.database.read(_told_before, acts)
    # Looked at before anything is written, and again afterwards, since another call may have come in between.
    clashes = _clashes(services, acts, [known.get((act.origin, act.origin_ref)) for act in acts])
    if clashes:
        return _refuse(clashes, "nothing of this call was recorded")
    writer = services.writer
    entries = writer.record(acts) if len(acts) <= MOST_SHARED else writer.record_many(acts)
    clashes = _clashes(services, acts, entries)
    if clashes:
        return _refuse(clashes, "the other acts of this call were recorded")
    metrics.RECORDED.labels("api").inc(len(acts))
    return jsonify(entries=list(_answers(entries, newest)))


def _told_before(read: Read, acts: Sequence[Act]) -> tuple[dict[duplicates.Ref, Entry], int]:
    """The entries of acts that were told before, and the number of the newest entry of all."""
    return duplicates.find_recorded(read, acts), feed.head_seq(read)


def _answers(entries: Sequence[Entry], newest: int) -> Iterator[dict[str, object]]:
    """What is newer than `newest` was recorded by this call."""
    seen: set[int] = set()
    for entry in entries:
        yield {
            "seq": entry.seq,
            "changed": entry.changed,
            "repeated": entry.seq <= newest or entry.seq in seen,
            "recorded_at": entry.recorded_at.isoformat(),
        }
        seen.add(entry.seq)


def _clashes(services: Services, acts: Sequence[Act], entries: Sequence[Entry | None]) -> list[int]:
    """The acts whose reference another act has, here or earlier in the same call."""
    first: dict[str | None, Act] = {}
    return [
        index
        for index, (act, entry) in enumerate(zip(acts, entries, strict=True))
        if (entry is not None and not _is_of(services, entry, act))
        or _meaning(first.setdefault(act.origin_ref, act)) != _meaning(act)
    ]


def _meaning(act: Act) -> tuple[object, ...]:
    return (act.who, act.verb, act.channel, act.brand, act.topic, act.reason, act.until, act.per_week)


def _is_of(services: Services, entry: Entry, act: Act) -> bool:
    same = (entry.verb, entry.channel, entry.brand, entry.topic, entry.reason, entry.until, entry.per_week)
    address = act.who
    return (
        isinstance(address, Address)
        and entry.fingerprint in services.fingerprints.candidates(address)
        and same == (act.verb, act.channel, act.brand, act.topic, act.reason, act.until, act.per_week)
    )


def _refuse(clashes: Sequence[int], rest: str) -> Response:
    detail = f"this reference is another act's, so the act was not recorded; give it one of its own ({rest})"
    return errors.problem_for(
        BadFields([]),
        409,
        "A reference is another act's",
        errors=[{"field": f"[{index}].origin_ref", "detail": detail} for index in clashes[:100]],
    )


# What may be told.


def _all_sound(services: Services, asked: Sequence[ActOf]) -> list[Act]:
    """The acts, or BadFields naming what is wrong with each."""
    catalog = _catalog(services, asked)
    _refuse_lifts(asked)
    trusted = KeyScope.RETURNS in g.api_key.scopes
    problems: list[dict[str, str]] = []
    acts = []
    for index, one in enumerate(asked):
        address = read_or_none(one.channel, one.address)
        topic = catalog.topics.get(one.topic or "")
        faults = list(_faults(one, address, topic, catalog))
        problems += [{"field": f"[{index}].{field}", "detail": detail} for field, detail in faults]
        if address is not None and not faults:
            acts.append(_act(one, address, topic, catalog, trusted=trusted))
    if problems:
        raise BadFields(problems[:100])
    return acts


def _refuse_lifts(asked: Sequence[ActOf]) -> None:
    """Raises MissingScope when a key tells a lift that may not."""
    if KeyScope.UNSUPPRESS in g.api_key.scopes:
        return
    lifts = [index for index, one in enumerate(asked) if one.verb is ToldVerb.LIFT]
    if lifts:
        detail = f"the key has no scope {KeyScope.UNSUPPRESS}, which a lift needs"
        raise MissingScope([{"field": f"[{index}].verb", "detail": detail} for index in lifts[:100]])


def _catalog(services: Services, asked: Sequence[ActOf]) -> Catalog:
    """As it is, or as it was just made: a topic that is not in the one at hand may have been added since."""
    catalog = services.catalog.get()
    unknown = next((one.topic for one in asked if one.topic and not _is_known(one.topic, catalog)), None)
    return services.catalog.get(unknown) if unknown else catalog


def _is_known(topic: str, catalog: Catalog) -> bool:
    return topic == BLANKET or topic.startswith("@") or topic in catalog.topics


def _faults(one: ActOf, address: Address | None, topic: Topic | None, catalog: Catalog) -> Iterator[tuple[str, str]]:
    if address is None:
        yield "address", f"not an address for {one.channel}"
    if one.brand is not None and one.brand not in catalog.brands:
        yield "brand", "there is no such brand; `flask brand set` makes one"
    if one.verb in ABOUT_ADDRESS:
        yield from _faults_of_suppress(one)
        return
    if one.reason is not None:
        yield "reason", "only a suppress has a reason; what a person says about theirs goes into evidence"
    yield from _faults_of_topic(one, topic)
    yield from _faults_of_pace(one)
    if one.verb is ToldVerb.SUBSCRIBE:
        yield from _faults_of_yes(one)


def _faults_of_suppress(one: ActOf) -> Iterator[tuple[str, str]]:
    if one.reason is None or (one.verb is ToldVerb.SUPPRESS and one.reason not in TOLD_REASONS):
        yield "reason", f"a {one.verb} needs one: " + ", ".join(TOLD_REASONS)
    elif one.verb is ToldVerb.LIFT and one.reason in NOT_LIFTED:
        yield "reason", f"cannot be lifted: {NOT_LIFTED[one.reason]}"
    for field in ("topic", "brand", "basis", "until", "per_week"):
        if getattr(one, field) is not None:
            yield field, f"a {one.verb} is about the address, whatever is sent to it; leave this out"
    if one.verb is ToldVerb.LIFT:
        yield from _faults_of_instant(one, "a lift needs the instant at which it was decided")
    if one.verb is ToldVerb.LIFT and not one.evidence.get(BECAUSE, "").strip():
        yield "evidence", f'a lift needs why, such as {{"{BECAUSE}": "the mailbox was full; its owner wrote to us"}}'


def _faults_of_topic(one: ActOf, topic: Topic | None) -> Iterator[tuple[str, str]]:
    slug = one.topic or BLANKET
    if slug == BLANKET:
        if one.verb is not ToldVerb.UNSUBSCRIBE:
            yield "topic", "needs a topic; only an unsubscribe can be about everything (*)"
    elif slug in set(Purpose):
        if one.verb not in {ToldVerb.SUBSCRIBE, ToldVerb.UNSUBSCRIBE}:
            yield "topic", "a purpose is allowed or not; it cannot be slowed down"
    elif topic is None:
        yield "topic", "there is no such topic; PUT /topics or `flask topic add` makes one"
    elif topic.message_class is not MessageClass.MARKETING:
        yield "topic", "is not marketing, so nobody chooses about it"
    elif one.channel not in topic.channels:
        yield "channel", "this topic is not sent on this channel"
    elif one.brand not in {None, topic.brand}:
        yield "brand", "this topic is another brand's; leave this out"


def _faults_of_pace(one: ActOf) -> Iterator[tuple[str, str]]:
    if one.until is not None and one.verb is not ToldVerb.PAUSE:
        yield "until", "only a pause has an end"
    if one.per_week is not None and one.verb is not ToldVerb.CAP:
        yield "per_week", "only a cap has a number"
    ends = one.verb in {ToldVerb.PAUSE, ToldVerb.CAP} and one.until is None and one.per_week is None
    if ends:
        yield from _faults_of_instant(one, "to take a pause or a cap away needs the instant at which that was said")


def _faults_of_yes(one: ActOf) -> Iterator[tuple[str, str]]:
    if one.basis is None:
        yield "basis", "a subscribe needs the lawful ground, such as consent"
    yield from _faults_of_instant(one, "a subscribe counts only with the instant at which it was said")
    if not any(one.evidence.values()):
        yield "evidence", 'a subscribe counts only with how it was said, such as {"source": "checkout page"}'


def _faults_of_instant(one: ActOf, why: str) -> Iterator[tuple[str, str]]:
    """Of an act that weighs nothing unless it is known when it happened."""
    if consent.known_time(one.occurred_at) is None:
        early = "" if one.occurred_at is None else f"; before {consent.EARLIEST.year} there was no such mail"
        yield "occurred_at", why + early


def _act(one: ActOf, address: Address, topic: Topic | None, catalog: Catalog, *, trusted: bool) -> Act:
    if one.verb is not ToldVerb.LIFT or one.reason is None or one.occurred_at is None:
        return reported(_told(one, address, topic, catalog), g.api_key.name, trusted=trusted)
    act = lift(
        address,
        one.reason,
        because=one.evidence.get(BECAUSE, ""),
        actor=Actor.SYSTEM,
        origin=api_origin(g.api_key.name),
        origin_ref=one.origin_ref,
        decided_at=one.occurred_at,
    )
    return replace(act, evidence=one.evidence)


def _told(one: ActOf, address: Address, topic: Topic | None, catalog: Catalog) -> ReportedAct:
    is_wish = one.verb not in ABOUT_ADDRESS
    return ReportedAct(
        address=address,
        verb=Verb(one.verb),
        origin_ref=one.origin_ref,
        brand=(topic.brand if topic else one.brand or catalog.first_brand.slug) if is_wish else "",
        topic=(one.topic or BLANKET) if is_wish else "",
        reason=one.reason,
        basis=one.basis,
        occurred_at=one.occurred_at,
        evidence=one.evidence,
        until=one.until,
        per_week=one.per_week,
    )
