"""The controls of the preference page: their values, and the acts that changes mean.

Invariants: only a changed control makes an act; changes that let more mail through are separate, since only they need
proof of identity.
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
"""No answer, no pause, or no frequency limit."""

WEEKLY_LIMITS: Final = tuple(range(1, 8))
"""Frequency limits on offer, in messages a week."""

LONGEST_PAUSE: Final = timedelta(days=366)

Choices = Mapping[tuple[Channel, str, str], Preference]
Limits = Mapping[tuple[Channel, str, str, Verb], SendingLimit]


class Aspect(StrEnum):
    STATUS = "status"
    PAUSE = "pause"
    LIMIT = "cap"


LIMIT_VERB: Final = {Aspect.PAUSE: Verb.PAUSE, Aspect.LIMIT: Verb.CAP}


class BadValue(PreferencesError):
    """Invalid value for a control. Holds no input."""

    def __init__(self, control: Control) -> None:
        super().__init__("a value that this control cannot have")
        self.control = control


@dataclass(frozen=True, slots=True)
class Control:
    """An aspect of a topic or purpose on a channel."""

    channel: Channel
    topic: str
    aspect: Aspect = Aspect.STATUS

    @property
    def name(self) -> str:
        """The form field, such as `email.product-news.pause`. Slugs contain no dot."""
        return f"{self.channel}.{self.topic}.{self.aspect}"


@dataclass(frozen=True, slots=True)
class Setting:
    """`seen` is the newest entry behind the value, or 0."""

    control: Control
    value: str
    seen: int


@dataclass(frozen=True, slots=True)
class Change:
    """A changed control. `seen` is the newest entry that the page knew of."""

    control: Control
    value: str
    seen: int = 0

    @property
    def item(self) -> str:
        """In confirm links: `email.product-news.status=on`."""
        return f"{self.control.name}={self.value}"


def read_item(item: str) -> Change:
    """Parses `Change.item`. Raises ValueError."""
    name, _, value = item.partition("=")
    channel, topic, aspect = name.split(".")
    return Change(Control(Channel(channel), topic, Aspect(aspect)), value)


def controls_of(topics: Iterable[Topic]) -> Iterator[Control]:
    """Three for each topic and channel, one for each purpose."""
    for topic in topics:
        for channel in topic.channels:
            yield from (Control(channel, topic.slug, aspect) for aspect in Aspect)
    yield from (Control(Channel.EMAIL, purpose.value) for purpose in Purpose)


def settings_of(brand: str, topics: Iterable[Topic], choices: Choices, limits: Limits, now: datetime) -> list[Setting]:
    known = {topic.slug: topic for topic in topics}
    known |= {purpose.value: purpose_topic(purpose, brand) for purpose in Purpose}
    return [_setting(control, brand, known[control.topic], choices, limits, now) for control in controls_of(topics)]


def slugs_had(settings: Iterable[Setting], brand: str, choices: Choices) -> set[str]:
    """Topics that may be sent to the contact, or with a preference."""
    sent = {state.control.topic for state in settings if state.control.aspect is Aspect.STATUS and state.value == ON}
    chosen = {
        topic
        for (_, of_brand, topic), choice in choices.items()
        if of_brand == brand and choice.status is not Status.NEVER_ASKED
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
        # Earlier opt-outs do not answer this question.
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
    """The day on which a pause has ended. A reported pause may end within a day; the next day is shown, so that
    submitting it does not shorten the pause."""
    end = until.astimezone(UTC)
    ends_within = end.time() != time() and end.date() != date.max
    return end.date() + timedelta(days=1) if ends_within else end.date()


def check_value(control: Control, value: str, now: datetime) -> None:
    """Raises BadValue."""
    is_valid = value in {ON, OFF}
    if control.aspect is Aspect.LIMIT:
        is_valid = value == UNANSWERED or value in {str(limit) for limit in WEEKLY_LIMITS}
    if control.aspect is Aspect.PAUSE:
        end = _pause_end(control, value)
        is_valid = end is None or now < end <= now + LONGEST_PAUSE
    if not is_valid:
        raise BadValue(control)


def _pause_end(control: Control, value: str) -> datetime | None:
    """The start of the day in UTC. Raises BadValue."""
    if value == UNANSWERED:
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise BadValue(control) from None
    if day.isoformat() != value:  # other ISO forms do not sort by date
        raise BadValue(control)
    return datetime.combine(day, time(), UTC)


def lets_more_through(change: Change, was: str) -> bool:
    """Whether changing the value `was` lets more mail through."""
    if change.control.aspect is Aspect.STATUS:
        return change.value == ON
    if UNANSWERED in {change.value, was}:
        return change.value == UNANSWERED
    if change.control.aspect is Aspect.PAUSE:
        return change.value < was  # ISO dates sort as text
    return int(change.value) > int(was)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who changes preferences, where and on what evidence. `asked_at` is when a confirm link was requested."""

    contact_id: UUID
    brand: str
    origin: Origin
    evidence: Mapping[str, str]
    asked_at: datetime | None = None


def edit_for(change: Change, by: Provenance, *, more: bool, notice: str | None, now: datetime, ref: str | None) -> Edit:
    """An edit for the ledger. Only one that lets more through can be refused as stale."""
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
    """The channels of these topics, in the order of the enum."""
    used = {channel for topic in topics for channel in topic.channels}
    return [channel for channel in Channel if channel in used]
