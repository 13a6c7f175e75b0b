"""What people can choose, for systems that keep the list of it.

Owns `/api/v1/topics`. Invariant: what links in old mails and the ledger name (slug, brand, class), and what was
promised with it (basis, channels), never changes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from flask import jsonify
from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.plain_text import is_one_line
from preferences.domain.records import Topic
from preferences.domain.topics import arranged, default_of, faults_of
from preferences.domain.vocabulary import LANGUAGES, Basis, Channel, Default, KeyScope, MessageClass
from preferences.store.catalog import Catalog, last_position, read_catalog, save_topics
from preferences.store.transactions import Save
from preferences.web.api.bodies import MOST_FIELDS, BadFields, Slug, Strict, read_body
from preferences.web.api.operations import blueprint, operation

_ARRANGEMENT: Final = ("hidden", "visible_to", "section", "position", "default")

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
    return _answer(current_services().database.read(read_catalog))


@blueprint.put("/topics")
@operation(scope=KeyScope.TOPICS, body=TopicsRequest, answer=TopicsAnswer, statuses=(409,))
def put_topics() -> Response:
    """Add topics; change the English words of those that are there, and how they are offered. Others stay as they are.

    A topic's brand, class, basis and channels never change: people agreed to what they were. Make a new topic instead.
    409 says that somebody else added one of them just now: look, and try again.
    """
    database, asked = current_services().database, read_body(TopicsRequest)
    problems = list(_problems(asked, database.read(read_catalog)))
    if problems:
        raise BadFields(problems[:MOST_FIELDS])
    return _answer(database.save(_save, asked, datetime.now(UTC)))


def _save(save: Save, asked: TopicsRequest, now: datetime) -> Catalog:
    catalog = read_catalog(save)
    return save_topics(save, [_topic(one, catalog, now) for one in asked.topics], now)


def _topic(one: TopicOf, catalog: Catalog, now: datetime) -> Topic:
    old = catalog.topics.get(one.slug)
    channels = tuple(dict.fromkeys(one.channels or (Channel.EMAIL,)))
    topic = Topic(
        slug=one.slug,
        brand=one.brand or (old.brand if old else catalog.first_brand.slug),
        name=one.name,
        description=one.description if one.description is not None else old.description if old else "",
        frequency=one.frequency if one.frequency is not None else old.frequency if old else "",
        message_class=one.message_class,
        basis=one.basis,
        channels=old.channels if old and (one.channels is None or set(channels) == set(old.channels)) else channels,
        added_at=old.added_at if old else None,
        texts=old.texts if old else (),
        retired_at=_retired_at(one, old, now),
        position=old.position if old else last_position(catalog.topics),
        hidden=old.hidden if old else False,
        visible_to=old.visible_to if old else "",
        section=old.section if old else "",
        opt_in=old.opt_in if old else False,
    )
    return arranged(topic, {name: getattr(one, name) for name in _ARRANGEMENT})


def _retired_at(one: TopicOf, old: Topic | None, now: datetime) -> datetime | None:
    since = old.retired_at if old else None
    if one.retired is None:
        return since
    return (since or now) if one.retired else None


def _problems(asked: TopicsRequest, catalog: Catalog) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    for index, one in enumerate(asked.topics):
        if one.slug in seen:
            yield {"field": f"topics[{index}].slug", "detail": "is there twice"}
        seen.add(one.slug)
        if one.brand is not None and one.brand not in catalog.brands:
            yield {"field": f"topics[{index}].brand", "detail": "there is no such brand; `flask brand set` makes one"}
        else:
            new = _topic(one, catalog, datetime.now(UTC))
            faults = faults_of(new, one.default)
            yield from ({"field": f"topics[{index}].{field}", "detail": why} for field, why in faults)
            if one.slug in catalog.topics:
                yield from _changes(index, new, catalog.topics[one.slug])


def _changes(index: int, new: Topic, old: Topic) -> Iterator[dict[str, str]]:
    for field in ("description", "frequency"):
        if getattr(old, field) and not getattr(new, field):
            yield {"field": f"topics[{index}].{field}", "detail": "was there, so it cannot be emptied; leave it out"}
    same = {
        "brand": new.brand == old.brand,
        "class": new.message_class is old.message_class,
        "basis": new.basis is old.basis,
        "channels": new.channels == old.channels,
    }
    for field, unchanged in same.items():
        if not unchanged:
            detail = "never changes, since people chose what it was; make a topic under another slug"
            yield {"field": f"topics[{index}].{field}", "detail": detail}


def _answer(catalog: Catalog) -> Response:
    return jsonify(topics=[_known(one) for one in catalog.topics.values()])


def _known(one: Topic) -> dict[str, Any]:
    return {
        "slug": one.slug,
        "brand": one.brand,
        "name": one.name,
        "description": one.description,
        "frequency": one.frequency,
        "class": one.message_class,
        "basis": one.basis,
        "channels": list(one.channels),
        "section": one.section,
        "default": default_of(one),
        "hidden": one.hidden,
        "visible_to": one.visible_to,
        "position": one.position,
        "retired": one.retired_at is not None,
        "languages": [LANGUAGES[0], *(language for language, _ in one.texts)],
    }
