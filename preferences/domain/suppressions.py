"""Which suppressions can be lifted, and the temporary ones that soft bounces make.

Invariants: a lift covers a single address and reason, with its grounds, and no opt-out; a newer report suppresses
again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from preferences.domain.errors import NotAllowed
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import Actor, Origin, SuppressionReason, Verb

SOFT_BOUNCE_DAYS: Final = 5
"""Days with a soft bounce before the address is suppressed."""
SOFT_BOUNCE_PERIOD: Final = timedelta(days=30)
"""For counting these days; without a soft bounce for as long, the suppression ends."""

BECAUSE: Final = "because"
"""The key of the grounds in the evidence."""

NOT_LIFTED: Final = {
    SuppressionReason.ERASED: "the person was erased, and the address stays suppressed for good",
    SuppressionReason.CHILD: "the address is a child's; who answers for the child must be asked first",
    SuppressionReason.REPLACED: "its owner has put the address away, and takes it back by confirming it again",
}


def refuse_to_lift(reason: SuppressionReason) -> None:
    """Raises NotAllowed for a reason that cannot be lifted."""
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
    """Ends a suppression. Raises NotAllowed if it cannot be lifted, or without grounds."""
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
    """After SOFT_BOUNCE_DAYS days."""
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
    """After SOFT_BOUNCE_PERIOD. `suppressed_by` is the entry that this ends."""
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
    """The UTC day of a soft bounce: today if unknown, None if too long ago."""
    at = now if occurred_at is None or occurred_at > now else occurred_at
    return None if at <= now - SOFT_BOUNCE_PERIOD else at.astimezone(UTC).date().isoformat()
