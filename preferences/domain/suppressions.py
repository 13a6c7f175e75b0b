"""Suppressions that end: which may be lifted and by what act, and those that soft bounces make for a while.

Owns the rules for every door. Invariants: a lift is about one address and one reason, and says why; it lifts no other
reason and no opt-out; a newer report suppresses the address again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from preferences.domain.errors import NotAllowed
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import Actor, Origin, SuppressionReason, Verb

SOFT_BOUNCE_DAYS: Final = 5
"""On so many different days mail must have come back before the address is suppressed: several on one day are one."""
SOFT_BOUNCE_PERIOD: Final = timedelta(days=30)
"""How far back those days are counted, and after how long without a soft bounce the suppression ends."""

BECAUSE: Final = "because"
"""The name under which the evidence of a lift says why."""

NOT_LIFTED: Final = {
    SuppressionReason.ERASED: "the person was erased, and the address stays suppressed for good",
    SuppressionReason.CHILD: "the address is a child's; who answers for the child must be asked first",
    SuppressionReason.REPLACED: "its owner has put the address away, and takes it back by confirming it again",
}


def refuse_to_lift(reason: SuppressionReason) -> None:
    """Raises NotAllowed for a reason that nobody may lift, saying why."""
    if reason in NOT_LIFTED:
        raise NotAllowed(f"{reason} cannot be lifted: {NOT_LIFTED[reason]}")


def lift(
    address: Address,
    reason: SuppressionReason,
    *,
    because: str,
    actor: Actor,
    origin: str,
    origin_ref: str | None = None,
    decided_at: datetime,
) -> Act:
    """End the suppression of this address for this reason. Raises NotAllowed where nobody may, or nothing says why."""
    refuse_to_lift(reason)
    if not because.strip():
        raise NotAllowed("a lift needs the reason why")
    return Act(
        verb=Verb.LIFT,
        channel=address.channel,
        who=address,
        reason=reason,
        origin=origin,
        origin_ref=origin_ref,
        actor=actor,
        occurred_at=decided_at,
        trusted=True,
        evidence={BECAUSE: because.strip()},
    )


def suppress_for_soft_bounces(address: Address, *, origin: str, now: datetime) -> Act:
    """Mail to this address has come back on SOFT_BOUNCE_DAYS days."""
    return Act(
        verb=Verb.SUPPRESS,
        channel=address.channel,
        who=address,
        reason=SuppressionReason.SOFT_BOUNCES,
        origin=origin,
        actor=Actor.PROVIDER,
        occurred_at=now,
        evidence={BECAUSE: f"soft bounces on {SOFT_BOUNCE_DAYS} days within {SOFT_BOUNCE_PERIOD.days}"},
    )


def end_soft_bounces(address: Address, suppressed_by: int, *, now: datetime) -> Act:
    """Nothing has come back for SOFT_BOUNCE_PERIOD. `suppressed_by` is the entry of the suppression that ends."""
    return lift(
        address,
        SuppressionReason.SOFT_BOUNCES,
        because=f"no soft bounce for {SOFT_BOUNCE_PERIOD.days} days",
        actor=Actor.SYSTEM,
        origin=Origin.SOFT_BOUNCES,
        origin_ref=str(suppressed_by),
        decided_at=now,
    )


def day_of(occurred_at: datetime | None, now: datetime) -> str | None:
    """The UTC day under which a soft bounce is counted: today where nobody knows, None for one of long ago."""
    at = now if occurred_at is None or occurred_at > now else occurred_at
    return None if at <= now - SOFT_BOUNCE_PERIOD else at.astimezone(UTC).date().isoformat()
