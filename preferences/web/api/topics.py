"""`/api/v1/topics`: list and change topics."""

from __future__ import annotations

from typing import Annotated, Any, Final

from flask import jsonify
from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.plain_text import is_one_line
from preferences.domain.records import Topic
from preferences.domain.topics import default_of
from preferences.domain.vocabulary import LANGUAGES, Basis, Channel, Default, KeyScope, MessageClass
from preferences.sending import topics
from preferences.sending.topics import TopicChange
from preferences.store.catalog import Catalog
from preferences.web.api.bodies import Slug, Strict, read_body
from preferences.web.api.operations import blueprint, operation

MOST_TOPICS: Final = 1_000

TopicSlug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


def _one_line(words: str) -> str:
    if not is_one_line(words):
        raise PydanticCustomError("one_line", "must be one line of plain text, without control characters")
    return words


Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), AfterValidator(_one_line)]
Line = Annotated[str, StringConstraints(max_length=500, strip_whitespace=True), AfterValidator(_one_line)]


class TopicOf(Strict):
    """A topic, its words in English, and how it is offered: what is left out stays as it is."""

    slug: TopicSlug
    """Links in old mails name it, so it never changes."""
    brand: Slug | None = None
    """The first brand if left out. It never changes."""
    name: Name
    description: Line | None = None
    frequency: Line | None = None
    """How often mail comes, in words, such as `About twice a month`."""
    message_class: Annotated[MessageClass, Field(alias="class")]
    basis: Basis
    """The lawful ground. With `consent`, only those who said yes get it."""
    channels: Annotated[list[Channel], Field(min_length=1)] | None = None
    """How it is sent: by email if left out. They never change."""
    section: Line | None = None
    """The heading that it stands under on a page, with the others of the same section; empty for none."""
    default: Default | None = None
    """What holds until a person says something about it: `on` or `off` for marketing, `required` for what is always
    sent. Only `off` with the basis `consent`; what was off never becomes on."""
    hidden: bool | None = None
    """Whether no public page offers it. It can be sent, left, and found by those who have it."""
    visible_to: Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$")] | None = None
    """The flag of contacts (`PUT /contacts`) who are shown it; empty for everybody. It bears on no decision."""
    position: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Topics stand in the order of these numbers, and those with the same as they were added."""
    retired: bool | None = None
    """Whether nothing is sent about it any more. What people chose is kept, and holds again once it is back."""


class TopicsRequest(Strict):
    """Topics to add, or whose words to change."""

    topics: Annotated[list[TopicOf], Field(max_length=MOST_TOPICS)]


class KnownTopic(Strict):
    """A topic as it is kept, with its English words."""

    slug: str
    brand: str
    name: str
    description: str
    frequency: str
    message_class: Annotated[MessageClass, Field(alias="class")]
    basis: Basis
    channels: list[Channel]
    section: str
    default: Default
    hidden: bool
    visible_to: str
    position: int
    retired: bool
    """Whether nothing is sent about it any more."""
    languages: list[str]
    """Those that it has words in."""


class TopicsAnswer(Strict):
    """Every topic, in the order in which pages show them."""

    topics: list[KnownTopic]


@blueprint.get("/topics")
@operation(scope=KeyScope.TOPICS, answer=TopicsAnswer)
def get_topics() -> Response:
    """Every topic there is."""
    return _answer(topics.list_topics(current_services()))


@blueprint.put("/topics")
@operation(scope=KeyScope.TOPICS, body=TopicsRequest, answer=TopicsAnswer, statuses=(409,))
def put_topics() -> Response:
    """Add topics; change the English words of those that are there, and how they are offered. Others stay as they are.

    A topic's brand, class, basis and channels never change: people agreed to what they were. Make a new topic instead.
    409 says that somebody else added one of them just now: look, and try again.
    """
    wanted = [TopicChange(**dict(topic)) for topic in read_body(TopicsRequest).topics]
    return _answer(topics.save_topics(current_services(), wanted))


def _answer(catalog: Catalog) -> Response:
    return jsonify(topics=[_known(topic) for topic in catalog.topics.values()])


def _known(topic: Topic) -> dict[str, Any]:
    return {
        "slug": topic.slug,
        "brand": topic.brand,
        "name": topic.name,
        "description": topic.description,
        "frequency": topic.frequency,
        "class": topic.message_class,
        "basis": topic.basis,
        "channels": list(topic.channels),
        "section": topic.section,
        "default": default_of(topic),
        "hidden": topic.hidden,
        "visible_to": topic.visible_to,
        "position": topic.position,
        "retired": topic.retired_at is not None,
        "languages": [LANGUAGES[0], *(language for language, _ in topic.texts)],
    }
