"""A file of addresses, sorted into those who may be written to and those who may not.

Owns what is asked of a whole file; `run` sorts a file of any size, `rows` and `table` know its rows. Invariant: the
answer for a row is the one that `/api/v1/decisions` would give without counting.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from preferences.domain.errors import PreferencesError
from preferences.domain.permission import purpose_topic, stricter_class
from preferences.domain.records import Topic
from preferences.domain.vocabulary import Channel, MessageClass, Purpose
from preferences.store.catalog import Catalog
from preferences.store.scrub import Question

MARKETING: Final = MessageClass.MARKETING


class BadQuestion(PreferencesError):
    """It names what there is not. `field` says where."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


def question(
    catalog: Catalog,
    topic: str,
    channel: Channel,
    *,
    now: datetime,
    message_class: MessageClass | None = None,
    brand: str | None = None,
) -> Question:
    """What is asked of each address, the class as strict as it must be. Raises BadQuestion.

    Without a class the topic's own counts; a purpose is asked about as marketing.
    """
    about = _about(catalog, topic, brand)
    if channel not in about.channels:
        raise BadQuestion("channel", f"topic {topic} is not sent by {channel}")
    asked = MARKETING if topic in set(Purpose) else message_class or about.message_class
    return Question(channel=channel, message_class=stricter_class(asked, about), about=about, now=now)


def _about(catalog: Catalog, slug: str, brand: str | None) -> Topic:
    if brand is not None and brand not in catalog.brands:
        raise BadQuestion("brand", "there is no such brand; `flask brand list` shows those there are")
    if slug in set(Purpose):
        return purpose_topic(Purpose(slug), brand or catalog.first_brand.slug)
    topic = catalog.topics.get(slug)
    if topic is None:
        raise BadQuestion("topic", "there is no such topic; `flask topic list` shows those there are")
    if brand not in {None, topic.brand}:
        raise BadQuestion("brand", "this topic is another brand's")
    return topic
