"""Acts reported by a company's systems: preferences, pauses, frequency limits, suppressions.

Invariants: a repeated report counts once; a reference of another act is refused, so no opt-out is lost; an opt-in
overrides an opt-out only with a trusted key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from preferences.address_parsing import read_address
from preferences.domain import consent
from preferences.domain.acts import ReportedAct, reported
from preferences.domain.errors import BadAddress, BadFields, Fault
from preferences.domain.records import Act, Address, Entry
from preferences.domain.suppressions import BECAUSE, NOT_LIFTED, lift
from preferences.domain.vocabulary import (
    BLANKET,
    LIMIT_VERBS,
    Actor,
    Basis,
    Channel,
    SuppressionReason,
    Verb,
    api_origin,
)
from preferences.ledger import duplicates
from preferences.sending.scope import PURPOSES, Scope, catalog_for, check_choosable, resolve
from preferences.services import Services
from preferences.store import feed
from preferences.store.catalog import Catalog
from preferences.store.transactions import Read

MOST_SHARED: Final = 20
"""Calls with at most this many acts share transactions."""

ABOUT_ADDRESS: Final = frozenset({Verb.SUPPRESS, Verb.LIFT})
"""Verbs about an address instead of a preference."""

REPORTED_REASONS: Final = (
    SuppressionReason.HARD_BOUNCE,
    SuppressionReason.COMPLAINT,
    SuppressionReason.INVALID,
    SuppressionReason.LEGAL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    address: str
    channel: Channel
    verb: Verb
    origin_ref: str
    topic: str | None = None
    brand: str | None = None
    occurred_at: datetime | None = None
    basis: Basis | None = None
    evidence: Mapping[str, str] = field(default_factory=dict)
    until: datetime | None = None
    per_week: int | None = None
    reason: SuppressionReason | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """`repeated` means that the entry existed before."""

    entry: Entry
    repeated: bool


class ReferenceTaken(BadFields):
    """The reference belongs to another act; this act was not recorded."""


def record_reports(services: Services, reports: Sequence[Report], *, key_name: str, trusted: bool) -> list[Recorded]:
    """Record reports made with an API key. Returns once they are durable; a failed call can be repeated.

    With `trusted`, an opt-in may override an older opt-out. Raises BadFields, ReferenceTaken and StoreBusy.
    """
    acts = _acts(services, reports, key_name=key_name, trusted=trusted)
    known, newest = services.database.read(_known, acts)
    # Checked again after writing: a concurrent call may have used a reference.
    known_entries = [known.get((act.origin, act.origin_ref)) for act in acts]
    _check_references(services, acts, known_entries, rest="nothing of this call was recorded")
    writer = services.writer
    entries = writer.record(acts) if len(acts) <= MOST_SHARED else writer.record_many(acts)
    _check_references(services, acts, entries, rest="the other acts of this call were recorded")
    return list(_recorded(entries, newest))


def _known(read: Read, acts: Sequence[Act]) -> tuple[dict[duplicates.Ref, Entry], int]:
    """Stored entries of these acts, and the newest sequence number."""
    return duplicates.find_recorded(read, acts), feed.head_seq(read)


def _recorded(entries: Sequence[Entry], newest: int) -> Iterator[Recorded]:
    """Entries after `newest` were recorded by this call."""
    seen: set[int] = set()
    for entry in entries:
        yield Recorded(entry, entry.seq <= newest or entry.seq in seen)
        seen.add(entry.seq)


def _check_references(services: Services, acts: Sequence[Act], entries: Sequence[Entry | None], *, rest: str) -> None:
    """Raises ReferenceTaken for references of other acts, stored or in the same call."""
    first: dict[str | None, Act] = {}
    taken = [
        index
        for index, (act, entry) in enumerate(zip(acts, entries, strict=True))
        if (entry is not None and not _is_of(services, entry, act))
        or not _is_same(first.setdefault(act.origin_ref, act), act)
    ]
    if taken:
        detail = f"this reference is another act's, so the act was not recorded; give it one of its own ({rest})"
        raise ReferenceTaken([(f"[{index}].origin_ref", detail) for index in taken])


def _is_same(first: Act, act: Act) -> bool:
    return first.who == act.who and duplicates.meaning(first) == duplicates.meaning(act)


def _is_of(services: Services, entry: Entry, act: Act) -> bool:
    return (
        isinstance(act.who, Address)
        and entry.fingerprint in services.fingerprints.candidates(act.who)
        and duplicates.meaning(entry) == duplicates.meaning(act)
    )


def _acts(services: Services, reports: Sequence[Report], *, key_name: str, trusted: bool) -> list[Act]:
    """Raises BadFields naming each fault of each report."""
    catalog = catalog_for(services, *(report.topic for report in reports))
    acts, faults = [], list[Fault]()
    for index, report in enumerate(reports):
        try:
            acts.append(_act(report, catalog, key_name=key_name, trusted=trusted))
        except BadFields as error:
            faults += [(f"[{index}].{name}", detail) for name, detail in error.faults]
    if faults:
        raise BadFields(faults)
    return acts


def _act(report: Report, catalog: Catalog, *, key_name: str, trusted: bool) -> Act:
    address, scope, faults = None, None, list[Fault]()
    try:
        address = read_address(report.channel, report.address)
    except BadAddress:
        faults.append(("address", f"not an address for {report.channel}"))
    try:
        scope = _scope(report, catalog)
    except BadFields as error:
        faults += error.faults
    faults += _faults(report)
    if address is None or faults:
        raise BadFields(faults)
    if report.verb is Verb.LIFT:
        return _lift(report, address, key_name)
    return reported(_reported_act(report, address, scope), key_name, trusted=trusted)


def _scope(report: Report, catalog: Catalog) -> Scope | None:
    """None for an act about the address itself."""
    if report.verb in ABOUT_ADDRESS:
        return None
    if report.topic in {None, BLANKET} and report.verb is not Verb.UNSUBSCRIBE:
        raise BadFields([("topic", "needs a topic; only an unsubscribe can be about everything (*)")])
    if report.topic in PURPOSES and report.verb in LIMIT_VERBS:
        raise BadFields([("topic", "a purpose is allowed or not; it cannot be slowed down")])
    scope = resolve(catalog, report.channel, topic=report.topic, brand=report.brand, purposes=True)
    check_choosable(scope.topic)
    return scope


def _faults(report: Report) -> Iterator[Fault]:
    if report.verb in ABOUT_ADDRESS:
        yield from _faults_about_address(report)
        return
    if report.reason is not None:
        yield "reason", "only a suppress has a reason; what a person says about theirs goes into evidence"
    yield from _faults_of_pace(report)
    if report.verb is Verb.SUBSCRIBE:
        yield from _faults_of_opt_in(report)


def _faults_about_address(report: Report) -> Iterator[Fault]:
    if report.reason is None or (report.verb is Verb.SUPPRESS and report.reason not in REPORTED_REASONS):
        yield "reason", f"a {report.verb} needs one: " + ", ".join(REPORTED_REASONS)
    elif report.verb is Verb.LIFT and report.reason in NOT_LIFTED:
        yield "reason", f"cannot be lifted: {NOT_LIFTED[report.reason]}"
    for name in ("topic", "brand", "basis", "until", "per_week"):
        if getattr(report, name) is not None:
            yield name, f"a {report.verb} is about the address, whatever is sent to it; leave this out"
    if report.verb is Verb.LIFT:
        yield from _faults_of_time(report, "a lift needs the instant at which it was decided")
    if report.verb is Verb.LIFT and not report.evidence.get(BECAUSE, "").strip():
        yield "evidence", f'a lift needs why, such as {{"{BECAUSE}": "the mailbox was full; its owner wrote to us"}}'


def _faults_of_pace(report: Report) -> Iterator[Fault]:
    if report.until is not None and report.verb is not Verb.PAUSE:
        yield "until", "only a pause has an end"
    if report.per_week is not None and report.verb is not Verb.CAP:
        yield "per_week", "only a cap has a number"
    if report.verb in LIMIT_VERBS and report.until is None and report.per_week is None:
        yield from _faults_of_time(report, "to take a pause or a cap away needs the instant at which that was said")


def _faults_of_opt_in(report: Report) -> Iterator[Fault]:
    if report.basis is None:
        yield "basis", "a subscribe needs the lawful ground, such as consent"
    yield from _faults_of_time(report, "a subscribe counts only with the instant at which it was said")
    if not any(report.evidence.values()):
        yield "evidence", 'a subscribe counts only with how it was said, such as {"source": "checkout page"}'


def _faults_of_time(report: Report, why: str) -> Iterator[Fault]:
    """Faults of an act that requires a known time."""
    if consent.known_time(report.occurred_at) is None:
        early = "" if report.occurred_at is None else f"; before {consent.EARLIEST.year} there was no such mail"
        yield "occurred_at", why + early


def _reported_act(report: Report, address: Address, scope: Scope | None) -> ReportedAct:
    return ReportedAct(
        address=address,
        verb=report.verb,
        origin_ref=report.origin_ref,
        brand=scope.brand.slug if scope else "",
        topic=scope.slug if scope else "",
        reason=report.reason,
        basis=report.basis,
        occurred_at=report.occurred_at,
        evidence=report.evidence,
        until=report.until,
        per_week=report.per_week,
    )


def _lift(report: Report, address: Address, key_name: str) -> Act:
    if report.reason is None or report.occurred_at is None:
        raise ValueError("a lift without a reason or a time has faults")
    act = lift(
        address,
        report.reason,
        because=report.evidence.get(BECAUSE, ""),
        actor=Actor.SYSTEM,
        origin=api_origin(key_name),
        origin_ref=report.origin_ref,
        decided_at=report.occurred_at,
    )
    return replace(act, evidence=report.evidence)
