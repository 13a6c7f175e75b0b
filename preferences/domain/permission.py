"""May we send? A table that counsel can read, and one loop over it.

Owns the answer; the facts are gathered by `store.facts.facts_for`. Invariant: a marketing message is allowed only
when nothing speaks against it and everything needed is known; a transactional one is stopped only by an address that
cannot be reached or must not be used at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from preferences.domain.records import Preference, SendingLimit, Topic
from preferences.domain.vocabulary import Basis, Channel, MessageClass, Purpose, Status, SuppressionReason


class Reason(StrEnum):
    """What speaks against a message, or `ok`. The order is the order in which they are named."""

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


class Answer(StrEnum):
    """What a rule says of one message class. DEGRADED allows, and says that not everything is known."""

    YES = "yes"
    DEGRADED = "yes, degraded"
    NO = "no"


YES, DEGRADED, NO = Answer.YES, Answer.DEGRADED, Answer.NO
MARKETING, TRANSACTIONAL, NOTICE = MessageClass.MARKETING, MessageClass.TRANSACTIONAL, MessageClass.NOTICE

# Sources: 15 USC 7704(a)(3)-(4) and 16 CFR 316 (opt-out stops commercial mail, not transactional), GDPR 7(3), 17,
# 21(3), ICO direct marketing guidance (keep a suppression record after erasure). A notice to an unreachable address or
# a child's needs another way: another channel, or the parent.
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
    """The answer to "may I send?".

    `rule` names the cell of the table (`marketing.unsubscribed`), `entry` the ledger entry behind it, if there is
    one. `degraded` says that the answer was given without knowing everything.
    """

    allowed: bool
    reason: Reason
    rule: str
    entry: int | None = None
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known about one address for one message: each reason that holds, with the entry behind it.

    `contact_id` is whose address it is, where they have said something. `cap` is how many messages about the topic
    they want in a week at the most, where they have said so.
    """

    reasons: dict[Reason, int | None]
    contact_id: UUID | None = None
    cap: SendingLimit | None = None


LIMIT_PERIOD: Final = timedelta(days=7)
"""A week of a cap: any seven days in a row, so that a Sunday and a Monday do not make two."""

PURPOSE_BASIS: Final = {
    Purpose.TRACKING: Basis.LEGITIMATE_INTEREST,
    Purpose.PROFILING: Basis.LEGITIMATE_INTEREST,
    Purpose.LOCATION: Basis.CONSENT,
    Purpose.NEW_TOPICS: Basis.LEGITIMATE_INTEREST,
}
"""On what ground each purpose stands: the place where somebody is, needs a yes; the others end with a no."""


def purpose_topic(purpose: Purpose, brand: str) -> Topic:
    """The purpose as the topic that it stands in for, when somebody asks "may I?"."""
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
    """Collect what holds. `choice` is the effective one (`consent.effective`); `blanket` says that it covers all;
    `paces` are the pauses and the cap that bear on the topic."""
    reasons: dict[Reason, int | None] = {Reason(reason): seq for reason, seq in suppressions.items()}
    if choice is not None and choice.status is Status.UNSUBSCRIBED:
        reasons[Reason.UNSUBSCRIBED_ALL if blanket else Reason.UNSUBSCRIBED] = choice.seq
    elif topic and needs_opt_in(topic) and not _said_yes(choice):
        reasons[Reason.NO_CONSENT] = None
    if topic and topic.retired_at is not None:
        reasons[Reason.RETIRED] = None
    for pace in paces:
        if pace.until is not None and pace.until > now:
            reasons[Reason.PAUSED] = pace.seq
    caps = {pace.per_week: pace for pace in paces if pace.per_week is not None}
    return Facts(reasons=reasons, contact_id=contact_id, cap=caps[min(caps)] if caps else None)


def needs_opt_in(topic: Topic) -> bool:
    """Whether the topic is sent to those alone who said yes to it."""
    return topic.opt_in or topic.basis is Basis.CONSENT


def _said_yes(choice: Preference | None) -> bool:
    return choice is not None and choice.status is Status.SUBSCRIBED


def stricter_class(asked: MessageClass, topic: Topic | None) -> MessageClass:
    """The class that decides when the caller and the topic differ: marketing, if either says so.

    16 CFR 316.3: what carries a promotion is commercial, whatever its sender calls it.
    """
    if topic is not None and MARKETING in (asked, topic.message_class):
        return MARKETING
    return asked


def may_send(message_class: MessageClass, facts: Facts) -> Decision:
    """The first reason whose rule says no; else the first that leaves something unknown; else yes.

    A reason whose rule says yes is never named: a transactional message must not reveal who has left the marketing.
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
