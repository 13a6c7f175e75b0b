"""Where a topic is offered, how topics are arranged on a page, and what may be set of one.

Owns these rules; decisions are in `domain.permission`. Invariants: what may be sent to a contact, or what they have
chosen about, stands on their own page; nothing that is set of a topic lets more through.
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
    """What holds for the topic while a contact has said nothing about it. Nothing that rests on consent is on."""
    if topic.message_class is not MessageClass.MARKETING:
        return Default.REQUIRED
    return Default.OFF if needs_opt_in(topic) else Default.ON


def is_public(topic: Topic) -> bool:
    """Whether the topic is offered to anybody, on pages that do not know who asks."""
    return topic.retired_at is None and not topic.hidden and not topic.visible_to


def is_shown(topic: Topic, *, flags: Collection[str], has_it: bool) -> bool:
    """Whether the topic stands on the page of a contact with these flags. `has_it` says that it may be sent to them, or
    that they have chosen about it."""
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
    """Topics that stand together, under a heading if they have one."""

    topics: tuple[Topic, ...]

    @property
    def has_heading(self) -> bool:
        """Whether its topics name a section."""
        return bool(self.topics[0].section)

    def heading(self, language: str) -> str:
        """In this language where one of its topics says it, else as it was first written."""
        said = (dict(topic.texts)[language].section for topic in self.topics if language in dict(topic.texts))
        return next(filter(None, said), self.topics[0].section)

    def language(self, language: str) -> str:
        """The language that `heading` answers in."""
        return language if self.heading(language) != self.topics[0].section else LANGUAGES[0]


def sections_of(topics: Iterable[Topic]) -> list[Section]:
    """The topics by section: those without one first, then each section where its first topic stands."""
    found: dict[str, list[Topic]] = {"": []}
    for topic in topics:
        found.setdefault(topic.section, []).append(topic)
    return [Section(tuple(members)) for members in found.values() if members]


def arranged(topic: Topic, given: Mapping[str, Any]) -> Topic:
    """The topic with what is given of `section`, `hidden`, `visible_to`, `position`, and `default`, a `Default`.

    What is None is not given. `faults_of` says whether it can be.
    """
    fields = {name: value for name, value in given.items() if name != "default" and value is not None}
    becomes_opt_in = given.get("default") is Default.OFF and not needs_opt_in(topic)
    return replace(topic, **fields, opt_in=topic.opt_in or becomes_opt_in)


def checked(topic: Topic, default: Default | None) -> Topic:
    """The topic. Raises NotAllowed for one that cannot be, when this default was asked for."""
    for _, why in faults_of(topic, default):
        raise NotAllowed(f"topic {topic.slug}: {why}")
    return topic


def faults_of(topic: Topic, default: Default | None) -> Iterator[tuple[str, str]]:
    """What is wrong with a topic for which this default was asked, if any: each field with what to do about it."""
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
