"""The controls of a preferences page: what each stands at, and what it means when a person moves one.

Owns the way from a contact's wishes to the values of a form and back to acts. Invariants: only what was moved
becomes an act; what lets more through is told apart from what lets less through, because only the first needs proof of
who asks.
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
"""What a question stands at that was never answered, a pause that is none, and a cap that is none."""

CAPS: Final = tuple(range(1, 8))
"""How many messages a week one may ask for at the most: with more, a cap means nothing."""

LONGEST_PAUSE: Final = timedelta(days=366)
"""Whoever wants nothing for longer than a year wants to stop."""

Choices = Mapping[tuple[Channel, str, str], Preference]
Paces = Mapping[tuple[Channel, str, str, Verb], SendingLimit]


class Aspect(StrEnum):
    """What a control is about."""

    STATUS = "status"
    PAUSE = "pause"
    CAP = "cap"


PACE_VERB: Final = {Aspect.PAUSE: Verb.PAUSE, Aspect.CAP: Verb.CAP}


class BadValue(PreferencesError):
    """A control was given a value that it cannot have. Holds the control, and nothing that was typed."""

    def __init__(self, control: Control) -> None:
        super().__init__("a value that this control cannot have")
        self.control = control


@dataclass(frozen=True, slots=True)
class Control:
    """One thing that can be moved on the page: a topic or a purpose, on a channel, and what about it."""

    channel: Channel
    topic: str
    aspect: Aspect = Aspect.STATUS

    @property
    def name(self) -> str:
        """How a form calls it, such as `email.product-news.pause`. No slug holds a dot."""
        return f"{self.channel}.{self.topic}.{self.aspect}"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a control stands at, and the newest entry that this comes from (0 if there is none)."""

    control: Control
    value: str
    seen: int


@dataclass(frozen=True, slots=True)
class Change:
    """A control that a person moved. `seen` is the entry that their page knew of."""

    control: Control
    value: str
    seen: int = 0

    @property
    def item(self) -> str:
        """As it stands in a confirm link: `email.product-news.status=on`."""
        return f"{self.control.name}={self.value}"


def read_item(item: str) -> Change:
    """The change behind `Change.item`. Raises ValueError for what is none."""
    name, _, value = item.partition("=")
    channel, topic, aspect = name.split(".")
    return Change(Control(Channel(channel), topic, Aspect(aspect)), value)


def controls_of(topics: Iterable[Topic]) -> Iterator[Control]:
    """Every control of a brand's page: three for each topic and channel, one for each purpose."""
    for topic in topics:
        for channel in topic.channels:
            yield from (Control(channel, topic.slug, aspect) for aspect in Aspect)
    yield from (Control(Channel.EMAIL, purpose.value) for purpose in Purpose)


def settings_of(brand: str, topics: Iterable[Topic], choices: Choices, paces: Paces, now: datetime) -> list[Setting]:
    """What each control stands at now."""
    known = {topic.slug: topic for topic in topics}
    known |= {purpose.value: purpose_topic(purpose, brand) for purpose in Purpose}
    return [_setting(control, brand, known[control.topic], choices, paces, now) for control in controls_of(topics)]


def slugs_had(settings: Iterable[Setting], brand: str, choices: Choices) -> set[str]:
    """The topics that may be sent to the contact on some channel, and those that they have chosen about."""
    sent = {one.control.topic for one in settings if one.control.aspect is Aspect.STATUS and one.value == ON}
    chosen = {
        topic
        for (_, whose, topic), choice in choices.items()
        if whose == brand and choice.status is not Status.NEVER_ASKED
    }
    return sent | chosen


def _setting(control: Control, brand: str, topic: Topic, choices: Choices, paces: Paces, now: datetime) -> Setting:
    if control.aspect is not Aspect.STATUS:
        pace = paces.get((control.channel, brand, control.topic, PACE_VERB[control.aspect]))
        return Setting(control, _pace_value(pace, now), pace.seq if pace else 0)
    own, blanket = (choices.get((control.channel, brand, slug)) for slug in (control.topic, BLANKET))
    to_new = answer_to_new(topic.added_at, own, choices.get((Channel.EMAIL, brand, Purpose.NEW_TOPICS)))
    seen = max(one.seq if one else 0 for one in (own, blanket))
    return Setting(control, OFF if to_new else _status_value(control, topic, own, blanket), seen)


def _status_value(control: Control, topic: Topic, own: Preference | None, blanket: Preference | None) -> str:
    if control.topic == Purpose.NEW_TOPICS:
        # A question of its own: what somebody stopped so far does not answer it.
        answers = {Status.SUBSCRIBED: ON, Status.UNSUBSCRIBED: OFF}
        return answers.get(own.status, UNANSWERED) if own else UNANSWERED
    choice = effective(own, blanket)
    if choice is None or choice.status is Status.NEVER_ASKED:
        return OFF if needs_opt_in(topic) else ON
    return ON if choice.status is Status.SUBSCRIBED else OFF


def _pace_value(pace: SendingLimit | None, now: datetime) -> str:
    if pace is None or (pace.until is not None and pace.until <= now):
        return UNANSWERED
    if pace.until is not None:
        return _first_free_day(pace.until).isoformat()
    return UNANSWERED if pace.per_week is None else str(pace.per_week)


def _first_free_day(until: datetime) -> date:
    """The day with whose start a pause is over. One that a system told of may end within a day, and chosen as that day
    it would end earlier than it does: what stands on the page never shortens it."""
    end = until.astimezone(UTC)
    ends_within = end.time() != time() and end.date() != date.max
    return end.date() + timedelta(days=1) if ends_within else end.date()


def check_value(control: Control, value: str, now: datetime) -> None:
    """Raises BadValue for a value that the control cannot have."""
    fine = value in {ON, OFF}
    if control.aspect is Aspect.CAP:
        fine = value == UNANSWERED or value in {str(cap) for cap in CAPS}
    if control.aspect is Aspect.PAUSE:
        end = _pause_end(control, value)
        fine = end is None or now < end <= now + LONGEST_PAUSE
    if not fine:
        raise BadValue(control)


def _pause_end(control: Control, value: str) -> datetime | None:
    """The start of the day, in UTC, on which a pause is over."""
    if value == UNANSWERED:
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise BadValue(control) from None
    if day.isoformat() != value:  # the same day in another form, which does not sort as days do
        raise BadValue(control)
    return datetime.combine(day, time(), UTC)


def lets_more_through(change: Change, was: str) -> bool:
    """Whether more may be sent after the change than when its control stood at `was`."""
    if change.control.aspect is Aspect.STATUS:
        return change.value == ON
    if UNANSWERED in {change.value, was}:
        return change.value == UNANSWERED
    if change.control.aspect is Aspect.PAUSE:
        return change.value < was  # dates in ISO form sort as days
    return int(change.value) > int(was)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who moves controls, through which door, and what proves it. `asked_at` is when a confirm link was asked for."""

    contact_id: UUID
    brand: str
    origin: Origin
    evidence: Mapping[str, str]
    asked_at: datetime | None = None


def edit_for(
    change: Change, asker: Provenance, *, more: bool, notice: str | None, now: datetime, ref: str | None
) -> Edit:
    """The change as the ledger takes it. Only one that lets more through may turn out to be stale."""
    return Edit(
        act=_act(change, asker, notice=notice, now=now, ref=ref),
        seen=change.seen if more and asker.asked_at is None else None,
        asked_at=asker.asked_at if more else None,
    )


def _act(change: Change, asker: Provenance, *, notice: str | None, now: datetime, ref: str | None) -> Act:
    control = change.control
    verb = PACE_VERB.get(control.aspect) or (Verb.SUBSCRIBE if change.value == ON else Verb.UNSUBSCRIBE)
    return Act(
        verb=verb,
        channel=control.channel,
        who=asker.contact_id,
        brand=asker.brand,
        topic=control.topic,
        basis=Basis.CONSENT if verb is Verb.SUBSCRIBE else None,
        origin=asker.origin,
        origin_ref=ref,
        actor=Actor.RECIPIENT,
        occurred_at=now,
        trusted=True,
        evidence=asker.evidence,
        until=_pause_end(control, change.value) if verb is Verb.PAUSE else None,
        per_week=int(change.value) if verb is Verb.CAP and change.value else None,
        notice=notice,
    )


def channels_of(topics: Iterable[Topic]) -> list[Channel]:
    """The channels on which these topics are sent, in the order of the vocabulary."""
    used = {channel for topic in topics for channel in topic.channels}
    return [channel for channel in Channel if channel in used]
