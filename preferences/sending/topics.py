"""Topics that a company's systems add and change.

Invariant: a topic's brand, class, basis and channels never change: old links, the ledger and consents refer to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from preferences.domain.errors import BadFields, Fault
from preferences.domain.records import Topic
from preferences.domain.topics import arranged, faults_of
from preferences.domain.vocabulary import Basis, Channel, Default, MessageClass
from preferences.sending.scope import get_brand
from preferences.services import Services
from preferences.store import catalog as store
from preferences.store.catalog import Catalog, last_position, read_catalog
from preferences.store.transactions import Save


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicChange:
    """A topic to add or change. None keeps the stored value, or the default for a new topic."""

    slug: str
    name: str
    message_class: MessageClass
    basis: Basis
    brand: str | None = None
    description: str | None = None
    frequency: str | None = None
    channels: Sequence[Channel] | None = None
    section: str | None = None
    default: Default | None = None
    hidden: bool | None = None
    visible_to: str | None = None
    position: int | None = None
    retired: bool | None = None


def list_topics(services: Services) -> Catalog:
    """All topics, retired ones included. Raises StoreBusy."""
    return services.database.read(read_catalog)


def save_topics(services: Services, changes: Sequence[TopicChange]) -> Catalog:
    """Add topics, or change texts and arrangement. Returns the new catalog.

    Raises BadFields, and NotAllowed if a concurrent call added one of them differently.
    """
    faults = list(_faults(changes, services.database.read(read_catalog)))
    if faults:
        raise BadFields(faults)
    return services.database.save(_save, changes, datetime.now(UTC))


def _save(save: Save, changes: Sequence[TopicChange], now: datetime) -> Catalog:
    catalog = read_catalog(save)
    return store.save_topics(save, [_topic(change, catalog, now) for change in changes], now)


def _topic(change: TopicChange, catalog: Catalog, now: datetime) -> Topic:
    old = catalog.topics.get(change.slug) or _empty(change, catalog)
    channels = tuple(dict.fromkeys(change.channels or (Channel.EMAIL,)))
    if change.slug in catalog.topics and (change.channels is None or set(channels) == set(old.channels)):
        channels = old.channels
    topic = Topic(
        slug=change.slug,
        brand=change.brand or old.brand,
        name=change.name,
        description=old.description if change.description is None else change.description,
        frequency=old.frequency if change.frequency is None else change.frequency,
        message_class=change.message_class,
        basis=change.basis,
        channels=channels,
        added_at=old.added_at,
        texts=old.texts,
        retired_at=_retired_at(change, old, now),
        position=old.position,
        hidden=old.hidden,
        visible_to=old.visible_to,
        section=old.section,
        opt_in=old.opt_in,
    )
    names = ("hidden", "visible_to", "section", "position", "default")
    return arranged(topic, {name: getattr(change, name) for name in names})


def _empty(change: TopicChange, catalog: Catalog) -> Topic:
    return Topic(
        slug=change.slug,
        brand=catalog.first_brand.slug,
        name="",
        description="",
        frequency="",
        message_class=change.message_class,
        basis=change.basis,
        channels=(),
        position=last_position(catalog.topics),
    )


def _retired_at(change: TopicChange, old: Topic, now: datetime) -> datetime | None:
    if change.retired is None:
        return old.retired_at
    return (old.retired_at or now) if change.retired else None


def _faults(changes: Sequence[TopicChange], catalog: Catalog) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, change in enumerate(changes):
        if change.slug in seen:
            yield f"topics[{index}].slug", "is there twice"
        seen.add(change.slug)
        for field, detail in _faults_of_change(change, catalog):
            yield f"topics[{index}].{field}", detail


def _faults_of_change(change: TopicChange, catalog: Catalog) -> Iterator[Fault]:
    try:
        get_brand(catalog, change.brand)
    except BadFields as error:
        yield from error.faults
        return
    new = _topic(change, catalog, datetime.now(UTC))
    yield from faults_of(new, change.default)
    if change.slug in catalog.topics:
        yield from _lasting_faults(new, catalog.topics[change.slug])


def _lasting_faults(new: Topic, old: Topic) -> Iterator[Fault]:
    for field in ("description", "frequency"):
        if getattr(old, field) and not getattr(new, field):
            yield field, "was there, so it cannot be emptied; leave it out"
    same = {
        "brand": new.brand == old.brand,
        "class": new.message_class is old.message_class,
        "basis": new.basis is old.basis,
        "channels": new.channels == old.channels,
    }
    for field, unchanged in same.items():
        if not unchanged:
            yield field, "never changes, since people chose what it was; make a topic under another slug"
