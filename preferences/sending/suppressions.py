"""Suppressed addresses: list, unsuppress.

Invariant: the list is made of decisions and agrees with `decide`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from preferences.domain.errors import NotAllowed
from preferences.domain.permission import Decision, Message, Reason
from preferences.domain.records import Address, Entry, Topic
from preferences.domain.suppressions import lift
from preferences.domain.vocabulary import Actor, Basis, MessageClass, Origin, SuppressionReason
from preferences.sending.decide import decide
from preferences.sending.scope import Scope
from preferences.services import Services
from preferences.store import contacts

PASSING: Final = frozenset({Reason.PAUSED, Reason.OVER_CAP})
"""Temporary reasons, omitted from the list."""

LONGEST_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class SuppressedPage:
    """Suppressed addresses with decisions. `last` is the fingerprint to continue after; None at the end."""

    addresses: Sequence[Address]
    decisions: Sequence[Decision]
    last: str | None


def list_suppressed(services: Services, scope: Scope, *, after: str, limit: int) -> SuppressedPage:
    """Suppressed addresses among the next `limit`, by fingerprint. Raises StoreBusy."""
    rows = services.database.read(contacts.page_of, scope.channel, after, limit)
    addresses, topic = [address for _, address in rows], _on_any_basis(scope)
    message = Message(channel=scope.channel, message_class=topic.message_class, topic=topic)
    decided = decide(services, message, addresses, ignore=PASSING)
    refused = [pair for pair in zip(addresses, decided.decisions, strict=True) if not pair[1].allowed]
    return SuppressedPage(
        [address for address, _ in refused],
        [decision for _, decision in refused],
        rows[-1][0] if len(rows) == limit else None,
    )


def _on_any_basis(scope: Scope) -> Topic:
    """The topic without its need for consent: a contact who was never asked did not opt out."""
    topic = scope.topic or Topic(
        slug="",
        brand=scope.brand.slug,
        name="",
        description="",
        frequency="",
        message_class=MessageClass.MARKETING,
        basis=Basis.LEGITIMATE_INTEREST,
        channels=(scope.channel,),
    )
    return replace(topic, basis=Basis.LEGITIMATE_INTEREST, opt_in=False, retired_at=None)


def unsuppress(
    services: Services, address: Address, reason: SuppressionReason, *, because: str
) -> tuple[Entry, set[SuppressionReason]]:
    """End a suppression for one reason. Returns the entry and the remaining reasons.

    Raises NotAllowed if the address is not suppressed for this reason, or the reason is permanent.
    """
    act = lift(
        address,
        reason,
        because=because[:LONGEST_REASON],
        actor=Actor.STAFF,
        origin=Origin.COMMAND,
        decided_at=datetime.now(UTC),
    )
    held = services.database.read(contacts.suppressed_for, address, services.fingerprints)
    if reason not in held:
        known = f"; it is for {', '.join(sorted(held))}" if held else ""
        raise NotAllowed(
            f"this address is not suppressed for {reason}{known}. `flask explain` shows why it gets no mail"
        )
    (entry,) = services.writer.record([act])
    return entry, services.database.read(contacts.suppressed_for, address, services.fingerprints)
