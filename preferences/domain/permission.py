"""May we send? The table of rules, and the function that applies it to the facts.

Invariant: marketing is allowed only when every fact is known and none forbids it; a transactional message is stopped
only by an unusable address. `store.decision_facts` reads the facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from preferences.domain.records import Preference, SendingLimit, Topic
from preferences.domain.vocabulary import Basis, Channel, MessageClass, Purpose, Status, SuppressionReason


class Reason(StrEnum):
    """Why a message is refused, or `ok`. The first that applies, in this order, is reported."""

    ERASED = "erased"
    CHILD = "child"
    LEGAL = "legal"
    INVALID = "invalid"
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    SOFT_BOUNCES = "soft_bounces"
    REPLACED = "replaced"
    UNSUBSCRIBED_ALL = "unsubscribed_all"
    UNSUBSCRIBED = "unsubscribed"
    RETIRED = "retired"
    NO_CONSENT = "no_consent"
    PAUSED = "paused"
    OVER_CAP = "over_cap"
    UNKNOWN_CLASS = "unknown_class"
    UNKNOWN_TOPIC = "unknown_topic"
    WRONG_CHANNEL = "wrong_channel"
    BAD_ADDRESS = "bad_address"
    UNAVAILABLE = "unavailable"
    OK = "ok"


OPT_OUTS: Final = frozenset({Reason.UNSUBSCRIBED_ALL, Reason.UNSUBSCRIBED})


class Answer(StrEnum):
    """DEGRADED allows, and reports that a fact is unknown."""

    YES = "yes"
    DEGRADED = "yes, degraded"
    NO = "no"


YES, DEGRADED, NO = Answer.YES, Answer.DEGRADED, Answer.NO
MARKETING, TRANSACTIONAL, NOTICE = MessageClass.MARKETING, MessageClass.TRANSACTIONAL, MessageClass.NOTICE

# Sources: 15 USC 7704(a)(3)-(4) and 16 CFR 316 (opt-out stops commercial mail, not transactional), GDPR 7(3), 17,
# 21(3), ICO direct marketing guidance (keep a suppression record after erasure). Where a notice is
# refused, use another channel.
TABLE: Final[dict[Reason, dict[MessageClass, Answer]]] = {
    Reason.ERASED: {MARKETING: NO, TRANSACTIONAL: YES, NOTICE: YES},
    Reason.CHILD: {MARKETING: NO, TRANSACTIONAL: NO, NOTICE: YES},
    Reason.LEGAL: {MARKETING: NO, TRANSACTIONAL: NO, NOTICE: YES},
    Reason.INVALID: {MARKETING: NO, TRANSACTIONAL: NO, NOTICE: NO},
    Reason.HARD_BOUNCE: {MARKETING: NO, TRANSACTIONAL: NO, NOTICE: NO},
    Reason.COMPLAINT: {MARKETING: NO, TRANSACTIONAL: YES, NOTICE: YES},
    Reason.SOFT_BOUNCES: {MARKETING: NO, TRANSACTIONAL: YES, NOTICE: YES},
    Reason.REPLACED: {MARKETING: NO, TRANSACTIONAL: YES, NOTICE: YES},
    Reason.UNSUBSCRIBED_ALL: {MARKETING: NO, TRANSACTIONAL: YES, NOTICE: YES},
    Reason.UNSUBSCRIBED: {MARKETING: NO, TRANSACTIONAL: YES, NOTICE: YES},
    Reason.RETIRED: {MARKETING: NO, TRANSACTIONAL: DEGRADED, NOTICE: DEGRADED},
    Reason.NO_CONSENT: {MARKETING: NO, TRANSACTIONAL: YES, NOTICE: YES},
    Reason.PAUSED: {MARKETING: NO, TRANSACTIONAL: YES, NOTICE: YES},
    Reason.OVER_CAP: {MARKETING: NO, TRANSACTIONAL: YES, NOTICE: YES},
    Reason.UNKNOWN_CLASS: {MARKETING: NO, TRANSACTIONAL: NO, NOTICE: NO},
    Reason.UNKNOWN_TOPIC: {MARKETING: NO, TRANSACTIONAL: DEGRADED, NOTICE: DEGRADED},
    Reason.WRONG_CHANNEL: {MARKETING: NO, TRANSACTIONAL: DEGRADED, NOTICE: DEGRADED},
    Reason.BAD_ADDRESS: {MARKETING: NO, TRANSACTIONAL: NO, NOTICE: NO},
    Reason.UNAVAILABLE: {MARKETING: NO, TRANSACTIONAL: DEGRADED, NOTICE: DEGRADED},
    Reason.OK: {MARKETING: YES, TRANSACTIONAL: YES, NOTICE: YES},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`rule` is the cell of the table, such as `marketing.unsubscribed`. `degraded`: not every fact was known."""

    allowed: bool
    reason: Reason
    rule: str
    entry: int | None = None
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The reasons that apply to an address, each with its entry. `limit` is the frequency limit for the topic."""

    reasons: Mapping[Reason, int | None]
    contact_id: UUID | None = None
    limit: SendingLimit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a decision is about. `reasons` apply to every address."""

    channel: Channel
    message_class: MessageClass
    topic: Topic | None
    reasons: Mapping[Reason, int | None] = field(default_factory=dict)


LIMIT_PERIOD: Final = timedelta(days=7)
"""A frequency limit covers any seven consecutive days, not a calendar week."""

PURPOSE_BASIS: Final = {
    Purpose.TRACKING: Basis.LEGITIMATE_INTEREST,
    Purpose.PROFILING: Basis.LEGITIMATE_INTEREST,
    Purpose.LOCATION: Basis.CONSENT,
    Purpose.NEW_TOPICS: Basis.LEGITIMATE_INTEREST,
}
"""Location needs an opt-in; the others apply until an opt-out."""


def purpose_topic(purpose: Purpose, brand: str) -> Topic:
    return Topic(
        slug=purpose.value,
        brand=brand,
        name=purpose.name.capitalize().replace("_", " "),
        description="",
        frequency="",
        message_class=MARKETING,
        basis=PURPOSE_BASIS[purpose],
        channels=tuple(Channel),
    )


def facts_of(
    topic: Topic | None,
    choice: Preference | None,
    suppressions: dict[SuppressionReason, int],
    *,
    blanket: bool,
    now: datetime,
    paces: Sequence[SendingLimit] = (),
    contact_id: UUID | None = None,
) -> Facts:
    """The facts about an address. `choice` is the effective preference (`consent.effective`), `blanket` whether it is
    the blanket opt-out, `paces` the pauses and frequency limits for the topic."""
    reasons: dict[Reason, int | None] = {Reason(reason): seq for reason, seq in suppressions.items()}
    if choice is not None and choice.status is Status.UNSUBSCRIBED:
        reasons[Reason.UNSUBSCRIBED_ALL if blanket else Reason.UNSUBSCRIBED] = choice.seq
    elif topic and needs_opt_in(topic) and (choice is None or choice.status is not Status.SUBSCRIBED):
        reasons[Reason.NO_CONSENT] = None
    if topic and topic.retired_at is not None:
        reasons[Reason.RETIRED] = None
    for pace in paces:
        if pace.until is not None and pace.until > now:
            reasons[Reason.PAUSED] = pace.seq
    limits = {pace.per_week: pace for pace in paces if pace.per_week is not None}
    return Facts(reasons=reasons, contact_id=contact_id, limit=limits[min(limits)] if limits else None)


def needs_opt_in(topic: Topic) -> bool:
    return topic.opt_in or topic.basis is Basis.CONSENT


def stricter_class(asked: MessageClass, topic: Topic | None) -> MessageClass:
    """Marketing if the caller's class or the topic's is. 16 CFR 316.3: a message with a promotion is commercial,
    whatever the sender calls it."""
    if topic is not None and MARKETING in (asked, topic.message_class):
        return MARKETING
    return asked


def may_send(message_class: MessageClass, facts: Facts) -> Decision:
    """The first reason whose rule is NO, else the first DEGRADED, else `ok`.

    Reasons whose rule is YES are never reported: a transactional message must not reveal an opt-out.
    """
    degraded: Decision | None = None
    for reason, answers in TABLE.items():
        if reason is not Reason.OK and reason not in facts.reasons:
            continue
        answer = answers[message_class]
        rule = f"{message_class}.{reason}"
        if answer is NO:
            unknown = reason is Reason.UNAVAILABLE
            return Decision(allowed=False, reason=reason, rule=rule, entry=facts.reasons.get(reason), degraded=unknown)
        if answer is DEGRADED and degraded is None:
            degraded = Decision(allowed=True, reason=reason, rule=rule, degraded=True)
    return degraded or Decision(allowed=True, reason=Reason.OK, rule=f"{message_class}.{Reason.OK}")
