"""Where a topic is offered, how topics are arranged on a page, and what may be changed.

Invariants: a topic that may be sent to a contact, or that they have a preference for, is on their page; no change of a
topic allows a message that was not allowed before.
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
    """The topic's state for a contact without a preference. A topic based on consent is never on."""
    if topic.message_class is not MessageClass.MARKETING:
        return Default.REQUIRED
    return Default.OFF if needs_opt_in(topic) else Default.ON


def is_public(topic: Topic) -> bool:
    """Whether the topic is offered on public pages."""
    return topic.retired_at is None and not topic.hidden and not topic.visible_to


def is_shown(topic: Topic, *, flags: Collection[str], has_it: bool) -> bool:
    """Whether the topic is on the page of a contact with these flags. `has_it`: it may be sent to them, or they have a
    preference for it."""
    if topic.retired_at is not None:
        return False
    return has_it or (not topic.hidden and topic.visible_to in {"", *flags})


def removed_topic(slug: str, brand: str, channel: Channel) -> Topic:
    """A topic that is no longer in the catalog, as far as its slug tells: a link in an old email still names it."""
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
    """Topics under one heading, if they have any."""

    topics: tuple[Topic, ...]

    @property
    def has_heading(self) -> bool:
        return bool(self.topics[0].section)

    def heading(self, language: str) -> str:
        """The heading in this language where a topic has it, else as first written."""
        said = (dict(topic.texts)[language].section for topic in self.topics if language in dict(topic.texts))
        return next(filter(None, said), self.topics[0].section)

    def language(self, language: str) -> str:
        """The language that `heading` answers in."""
        return language if self.heading(language) != self.topics[0].section else LANGUAGES[0]


def sections_of(topics: Iterable[Topic]) -> list[Section]:
    """The topics by section: those without a section first, then each section at its first topic's place."""
    found: dict[str, list[Topic]] = {"": []}
    for topic in topics:
        found.setdefault(topic.section, []).append(topic)
    return [Section(tuple(members)) for members in found.values() if members]


def arranged(topic: Topic, given: Mapping[str, Any]) -> Topic:
    """The topic with the given `section`, `hidden`, `visible_to`, `position` and `default`; None is not given.

    Check the result with `faults_of`.
    """
    fields = {name: value for name, value in given.items() if name != "default" and value is not None}
    becomes_opt_in = given.get("default") is Default.OFF and not needs_opt_in(topic)
    return replace(topic, **fields, opt_in=topic.opt_in or becomes_opt_in)


def checked(topic: Topic, default: Default | None) -> Topic:
    """The topic. Raises NotAllowed where `faults_of` finds a fault."""
    for _, why in faults_of(topic, default):
        raise NotAllowed(f"topic {topic.slug}: {why}")
    return topic


def faults_of(topic: Topic, default: Default | None) -> Iterator[tuple[str, str]]:
    """The faults of a topic for which this default was asked: each field, and what to do about it."""
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
