"""The controls of the preference page: their values, and the acts that changing them means.

Owns the way from preferences to form values and back. Invariants: only what was moved becomes an act; what lets more
mail through is told apart from what lets less through, because only the first needs proof of identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from preferences.domain.consent import answer_to_new, effective
from preferences.domain.errors import PreferencesError
from preferences.domain.permission import needs_opt_in, purpose_topic
from preferences.domain.records import Act, Edit, Preference, SendingLimit, Topic
from preferences.domain.vocabulary import BLANKET, Actor, Basis, Channel, Origin, Purpose, Status, Verb

ON: Final = "on"
OFF: Final = "off"
UNANSWERED: Final = ""
"""The value of an unanswered question, of no pause, and of no frequency limit."""

WEEKLY_LIMITS: Final = tuple(range(1, 8))
"""The frequency limits on offer, in messages a week: a higher one would mean nothing."""

LONGEST_PAUSE: Final = timedelta(days=366)
"""For longer than a year, unsubscribing is what is meant."""

Choices = Mapping[tuple[Channel, str, str], Preference]
Limits = Mapping[tuple[Channel, str, str, Verb], SendingLimit]


class Aspect(StrEnum):
    """What a control is about."""

    STATUS = "status"
    PAUSE = "pause"
    LIMIT = "cap"


LIMIT_VERB: Final = {Aspect.PAUSE: Verb.PAUSE, Aspect.LIMIT: Verb.CAP}


class BadValue(PreferencesError):
    """A control was given a value that it cannot have. Holds the control, and nothing that was typed."""

    def __init__(self, control: Control) -> None:
        super().__init__("a value that this control cannot have")
        self.control = control


@dataclass(frozen=True, slots=True)
class Control:
    """A control of the page: an aspect of a topic or a purpose on a channel."""

    channel: Channel
    topic: str
    aspect: Aspect = Aspect.STATUS

    @property
    def name(self) -> str:
        """Its name in forms and confirm links, such as `email.product-news.pause`. No slug contains a dot."""
        return f"{self.channel}.{self.topic}.{self.aspect}"


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of a control, and the newest entry behind it (0 for none)."""

    control: Control
    value: str
    seen: int


@dataclass(frozen=True, slots=True)
class Change:
    """A control that was moved. `seen` is the entry that the page knew of."""

    control: Control
    value: str
    seen: int = 0

    @property
    def item(self) -> str:
        """Its form in a confirm link: `email.product-news.status=on`."""
        return f"{self.control.name}={self.value}"


def read_item(item: str) -> Change:
    """The change of a `Change.item`. Raises ValueError."""
    name, _, value = item.partition("=")
    channel, topic, aspect = name.split(".")
    return Change(Control(Channel(channel), topic, Aspect(aspect)), value)


def controls_of(topics: Iterable[Topic]) -> Iterator[Control]:
    """The controls of a brand's page: three for each topic and channel, one for each purpose."""
    for topic in topics:
        for channel in topic.channels:
            yield from (Control(channel, topic.slug, aspect) for aspect in Aspect)
    yield from (Control(Channel.EMAIL, purpose.value) for purpose in Purpose)


def settings_of(brand: str, topics: Iterable[Topic], choices: Choices, limits: Limits, now: datetime) -> list[Setting]:
    """The current value of each control."""
    known = {topic.slug: topic for topic in topics}
    known |= {purpose.value: purpose_topic(purpose, brand) for purpose in Purpose}
    return [_setting(control, brand, known[control.topic], choices, limits, now) for control in controls_of(topics)]


def slugs_had(settings: Iterable[Setting], brand: str, choices: Choices) -> set[str]:
    """The topics that may be sent to the contact on some channel, and those that they have a preference for."""
    sent = {state.control.topic for state in settings if state.control.aspect is Aspect.STATUS and state.value == ON}
    chosen = {
        topic
        for (_, whose, topic), choice in choices.items()
        if whose == brand and choice.status is not Status.NEVER_ASKED
    }
    return sent | chosen


def _setting(control: Control, brand: str, topic: Topic, choices: Choices, limits: Limits, now: datetime) -> Setting:
    if control.aspect is not Aspect.STATUS:
        limit = limits.get((control.channel, brand, control.topic, LIMIT_VERB[control.aspect]))
        return Setting(control, _limit_value(limit, now), limit.seq if limit else 0)
    own, blanket = (choices.get((control.channel, brand, slug)) for slug in (control.topic, BLANKET))
    to_new = answer_to_new(topic.added_at, own, choices.get((Channel.EMAIL, brand, Purpose.NEW_TOPICS)))
    seen = max(preference.seq if preference else 0 for preference in (own, blanket))
    return Setting(control, OFF if to_new else _status_value(control, topic, own, blanket), seen)


def _status_value(control: Control, topic: Topic, own: Preference | None, blanket: Preference | None) -> str:
    if control.topic == Purpose.NEW_TOPICS:
        # A question of its own: earlier opt-outs do not answer it.
        answers = {Status.SUBSCRIBED: ON, Status.UNSUBSCRIBED: OFF}
        return answers.get(own.status, UNANSWERED) if own else UNANSWERED
    choice = effective(own, blanket)
    if choice is None or choice.status is Status.NEVER_ASKED:
        return OFF if needs_opt_in(topic) else ON
    return ON if choice.status is Status.SUBSCRIBED else OFF


def _limit_value(limit: SendingLimit | None, now: datetime) -> str:
    if limit is None or (limit.until is not None and limit.until <= now):
        return UNANSWERED
    if limit.until is not None:
        return _first_free_day(limit.until).isoformat()
    return UNANSWERED if limit.per_week is None else str(limit.per_week)


def _first_free_day(until: datetime) -> date:
    """The day with whose start a pause is over. A pause that a system reported may end within a day: the next day is
    shown, so that submitting the value never shortens it."""
    end = until.astimezone(UTC)
    ends_within = end.time() != time() and end.date() != date.max
    return end.date() + timedelta(days=1) if ends_within else end.date()


def check_value(control: Control, value: str, now: datetime) -> None:
    """Raises BadValue for a value that the control cannot have."""
    is_valid = value in {ON, OFF}
    if control.aspect is Aspect.LIMIT:
        is_valid = value == UNANSWERED or value in {str(limit) for limit in WEEKLY_LIMITS}
    if control.aspect is Aspect.PAUSE:
        end = _pause_end(control, value)
        is_valid = end is None or now < end <= now + LONGEST_PAUSE
    if not is_valid:
        raise BadValue(control)


def _pause_end(control: Control, value: str) -> datetime | None:
    """The start of the day, in UTC, on which a pause is over."""
    if value == UNANSWERED:
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise BadValue(control) from None
    if day.isoformat() != value:  # another way to write the day, which does not sort as days do
        raise BadValue(control)
    return datetime.combine(day, time(), UTC)


def lets_more_through(change: Change, was: str) -> bool:
    """Whether the change from the value `was` lets more mail through."""
    if change.control.aspect is Aspect.STATUS:
        return change.value == ON
    if UNANSWERED in {change.value, was}:
        return change.value == UNANSWERED
    if change.control.aspect is Aspect.PAUSE:
        return change.value < was  # dates in ISO form sort as days
    return int(change.value) > int(was)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who changes preferences, from which origin, on what evidence. `asked_at` is when a confirm link was asked for."""

    contact_id: UUID
    brand: str
    origin: Origin
    evidence: Mapping[str, str]
    asked_at: datetime | None = None


def edit_for(change: Change, by: Provenance, *, more: bool, notice: str | None, now: datetime, ref: str | None) -> Edit:
    """The change as an edit for the ledger. Only one that lets more through can be refused as stale."""
    return Edit(
        act=_act(change, by, notice=notice, now=now, ref=ref),
        seen=change.seen if more and by.asked_at is None else None,
        asked_at=by.asked_at if more else None,
    )


def _act(change: Change, by: Provenance, *, notice: str | None, now: datetime, ref: str | None) -> Act:
    control = change.control
    verb = LIMIT_VERB.get(control.aspect) or (Verb.SUBSCRIBE if change.value == ON else Verb.UNSUBSCRIBE)
    return Act(
        verb=verb,
        channel=control.channel,
        who=by.contact_id,
        brand=by.brand,
        topic=control.topic,
        basis=Basis.CONSENT if verb is Verb.SUBSCRIBE else None,
        origin=by.origin,
        origin_ref=ref,
        actor=Actor.RECIPIENT,
        occurred_at=now,
        trusted=True,
        evidence=by.evidence,
        until=_pause_end(control, change.value) if verb is Verb.PAUSE else None,
        per_week=int(change.value) if verb is Verb.CAP and change.value else None,
        notice=notice,
    )


def channels_of(topics: Iterable[Topic]) -> list[Channel]:
    """The channels on which these topics are sent, in the order of the vocabulary."""
    used = {channel for topic in topics for channel in topic.channels}
    return [channel for channel in Channel if channel in used]
