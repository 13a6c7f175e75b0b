"""Lifting a suppression: which reasons may be lifted, and the act that does it.

Owns the rule for the command and the API alike. Invariants: a lift is about one address and one reason, and says why;
it lifts no other reason and no opt-out; a newer report suppresses the address again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from preferences.domain.errors import NotAllowed
from preferences.domain.terms import Act, Actor, Address, SuppressionReason, Verb

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
