"""Scopes: the channel, brand and topic of a message, link or preference.

The only place that resolves these names. Invariant: a topic belongs to the scope's brand and channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from preferences.domain.errors import BadFields
from preferences.domain.permission import purpose_topic
from preferences.domain.records import Brand, Topic
from preferences.domain.vocabulary import BLANKET, Channel, MessageClass, Purpose
from preferences.services import Services
from preferences.store.catalog import Catalog

PURPOSES: Final = frozenset(Purpose)


@dataclass(frozen=True, slots=True)
class Scope:
    """`topic` is None for `*`, all marketing of the brand on the channel."""

    channel: Channel
    brand: Brand
    topic: Topic | None = None

    @property
    def slug(self) -> str:
        return BLANKET if self.topic is None else self.topic.slug


def catalog_for(services: Services, *topics: str | None) -> Catalog:
    """The catalog, reloaded if the cached copy lacks one of these topics. Raises StoreBusy."""
    catalog = services.catalog.get()
    unknown = next((slug for slug in topics if _names_topic(slug) and slug not in catalog.topics), None)
    return catalog if unknown is None else services.catalog.get(unknown)


def _names_topic(slug: str | None) -> bool:
    return slug is not None and slug != BLANKET and not slug.startswith("@")


def get_brand(catalog: Catalog, slug: str | None) -> Brand:
    """The brand; the first one for None. Raises BadFields."""
    if slug is None:
        return catalog.first_brand
    if slug not in catalog.brands:
        raise BadFields([("brand", "there is no such brand; `flask brand set` makes one")])
    return catalog.brands[slug]


def find_topic(catalog: Catalog, slug: str | None, *, brand: str | None, purposes: bool = True) -> Topic | None:
    """The topic, or None. A purpose (`@tracking`) counts as a topic of the named or first brand.

    Raises BadFields for an unknown brand, or one that is not the topic's.
    """
    if purposes and slug in PURPOSES:
        return purpose_topic(Purpose(slug), get_brand(catalog, brand).slug)
    topic = catalog.topics.get(slug or "")
    if topic is not None and brand not in {None, topic.brand}:
        get_brand(catalog, brand)
        raise BadFields([("brand", "this topic is another brand's; leave this out")])
    return topic


def get_topic(
    catalog: Catalog, slug: str | None, *, channel: Channel | None, brand: str | None, purposes: bool = False
) -> Topic:
    """Like `find_topic`; also raises BadFields for an unknown topic or one without the channel."""
    topic = find_topic(catalog, slug, brand=brand, purposes=purposes)
    if topic is None:
        raise BadFields([("topic", "there is no such topic; PUT /topics or `flask topic add` makes one")])
    if channel is not None and channel not in topic.channels:
        raise BadFields([("channel", f"this topic is not sent by {channel}")])
    return topic


def resolve(
    catalog: Catalog, channel: Channel, *, topic: str | None, brand: str | None = None, purposes: bool = False
) -> Scope:
    """Resolve names; without a topic, or with `*`, all marketing of the brand.

    `purposes` allows a purpose as topic. Raises BadFields naming the field.
    """
    if topic in {None, BLANKET}:
        return Scope(channel, get_brand(catalog, brand))
    known = get_topic(catalog, topic, channel=channel, brand=brand, purposes=purposes)
    return Scope(channel, catalog.brands[known.brand], known)


def check_choosable(topic: Topic | None) -> None:
    """Raises BadFields for a topic that is not marketing. None is `*`."""
    if topic is not None and topic.message_class is not MessageClass.MARKETING:
        raise BadFields([("topic", "this topic is not marketing, so nobody chooses about it")])
