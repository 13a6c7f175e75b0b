"""Where topics are offered, how pages arrange them, and how they may be edited.

Invariants: topics that may be sent to a contact, or that they have a preference for, are on their page; no edit lets
more mail through. Decisions are in `domain.permission`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from preferences.domain.errors import NotAllowed
from preferences.domain.permission import needs_opt_in
from preferences.domain.records import Topic
from preferences.domain.vocabulary import LANGUAGES, Basis, Channel, Default, MessageClass


def default_of(topic: Topic) -> Default:
    """What applies without a preference. Topics based on consent are never on."""
    if topic.message_class is not MessageClass.MARKETING:
        return Default.REQUIRED
    return Default.OFF if needs_opt_in(topic) else Default.ON


def is_public(topic: Topic) -> bool:
    return topic.retired_at is None and not topic.hidden and not topic.visible_to


def is_shown(topic: Topic, *, flags: Collection[str], has_it: bool) -> bool:
    """Whether a contact's page shows the topic. `has_it`: it may be sent to them, or they have a preference for it."""
    if topic.retired_at is not None:
        return False
    return has_it or (not topic.hidden and topic.visible_to in {"", *flags})


def removed_topic(slug: str, brand: str, channel: Channel) -> Topic:
    """For a topic that left the catalog: old links name it."""
    return Topic(
        slug=slug,
        brand=brand,
        name=slug.replace("-", " ").capitalize(),
        description="",
        frequency="",
        message_class=MessageClass.MARKETING,
        basis=Basis.LEGITIMATE_INTEREST,
        channels=(channel,),
    )


@dataclass(frozen=True, slots=True)
class Section:
    """Topics under a common heading, or without one."""

    topics: tuple[Topic, ...]

    @property
    def has_heading(self) -> bool:
        return bool(self.topics[0].section)

    def heading(self, language: str) -> str:
        """In this language if a topic has it, else in the original."""
        headings = (dict(topic.texts)[language].section for topic in self.topics if language in dict(topic.texts))
        return next(filter(None, headings), self.topics[0].section)

    def language(self, language: str) -> str:
        """The language of what `heading` returns."""
        return language if self.heading(language) != self.topics[0].section else LANGUAGES[0]


def sections_of(topics: Iterable[Topic]) -> list[Section]:
    """Topics without a section first, then sections by their first topic."""
    found: dict[str, list[Topic]] = {"": []}
    for topic in topics:
        found.setdefault(topic.section, []).append(topic)
    return [Section(tuple(members)) for members in found.values() if members]


def arranged(topic: Topic, given: Mapping[str, Any]) -> Topic:
    """The topic with new `section`, `hidden`, `visible_to`, `position` or `default`; None keeps the old value. Check
    the result with `faults_of`."""
    fields = {name: value for name, value in given.items() if name != "default" and value is not None}
    becomes_opt_in = given.get("default") is Default.OFF and not needs_opt_in(topic)
    return replace(topic, **fields, opt_in=topic.opt_in or becomes_opt_in)


def checked(topic: Topic, default: Default | None) -> Topic:
    """Raises NotAllowed if the topic, or this default for it, is invalid."""
    for _, why in faults_of(topic, default):
        raise NotAllowed(f"topic {topic.slug}: {why}")
    return topic


def faults_of(topic: Topic, default: Default | None) -> Iterator[tuple[str, str]]:
    """Problems with the topic or this default, as pairs of field and correction."""
    if default not in {None, default_of(topic)}:
        yield "default", _why_not(topic, default)
    if topic.visible_to and default_of(topic) is Default.ON:
        yield "visible_to", "a topic that is on for everybody cannot be shown to some alone; make its default off"


def _why_not(topic: Topic, default: Default | None) -> str:
    if topic.message_class is not MessageClass.MARKETING:
        return f"what is {topic.message_class} is always sent, so its default can only be required"
    if default is Default.REQUIRED:
        return "marketing can never be required: everybody may stop it"
    if topic.opt_in:
        return "people were shown it as off, so it stays off until they ask for it; make a topic under another slug"
    return "nothing that rests on consent is on before somebody says yes, so its default is off"
