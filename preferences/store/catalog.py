"""Brands and topics: the rows `brand`, `topic` and `topic_text`.

Invariants: a topic's slug, brand and class never change, because old links and entries name them; brands differ in host
or path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, select, update

from preferences.domain.errors import NotAllowed
from preferences.domain.records import Brand, Topic, TopicText
from preferences.domain.topics import arranged, checked
from preferences.domain.vocabulary import LANGUAGES, Basis, Channel, MessageClass, OneClick
from preferences.store.dialect import insert_rows
from preferences.store.tables import brand, topic, topic_text
from preferences.store.transactions import Read, Save


@dataclass(frozen=True, slots=True)
class Catalog:
    brands: Mapping[str, Brand]
    topics: Mapping[str, Topic]

    @property
    def first_brand(self) -> Brand:
        """The oldest brand, at `PUBLIC_URL` itself."""
        return next(iter(self.brands.values()))

    @property
    def marketing_channels(self) -> set[Channel]:
        marketing = (topic for topic in self.topics.values() if topic.message_class is MessageClass.MARKETING)
        return {channel for topic in marketing for channel in topic.channels}

    def topics_of(self, brand_slug: str, *, marketing: bool, retired: bool = False) -> list[Topic]:
        """The brand's marketing topics, or its others, in order."""
        return [
            topic
            for topic in self.topics.values()
            if topic.brand == brand_slug
            and (topic.message_class is MessageClass.MARKETING) is marketing
            and (retired or topic.retired_at is None)
        ]


def read_catalog(read: Read) -> Catalog:
    brands = read.execute(select(brand).order_by(brand.c.created_at, brand.c.slug))
    topics = read.execute(select(topic).order_by(topic.c.position, topic.c.created_at, topic.c.slug)).all()
    texts: dict[str, list[tuple[str, TopicText]]] = {}
    for row in read.execute(select(topic_text).order_by(topic_text.c.topic, topic_text.c.language)):
        words = TopicText(name=row.name, description=row.description, frequency=row.frequency, section=row.section)
        texts.setdefault(row.topic, []).append((row.language, words))
    return Catalog(
        brands={row.slug: _brand(row) for row in brands},
        topics={row.slug: _topic(row, texts.get(row.slug, [])) for row in topics},
    )


def _brand(row: Row[Any]) -> Brand:
    return Brand(
        slug=row.slug,
        name=row.name,
        postal_address=row.postal_address,
        contact_email=row.contact_email,
        one_click=OneClick(row.one_click),
        host=row.host,
        path=row.path,
        colour=row.colour,
        language=row.language,
    )


def _topic(row: Row[Any], texts: Sequence[tuple[str, TopicText]]) -> Topic:
    return Topic(
        slug=row.slug,
        brand=row.brand,
        name=row.name,
        description=row.description,
        frequency=row.frequency,
        message_class=MessageClass(row.message_class),
        basis=Basis(row.basis),
        channels=tuple(Channel(channel) for channel in row.channels),
        added_at=row.created_at,
        texts=tuple(texts),
        retired_at=row.retired_at,
        hidden=row.hidden,
        visible_to=row.visible_to,
        opt_in=row.opt_in,
        section=row.section,
        position=row.position,
    )


def save_brand(save: Save, new: Brand, now: datetime) -> bool:
    """Returns whether the brand was added.

    Raises NotAllowed when another brand has its host and path. Brands without either share `PUBLIC_URL`.
    """
    others = save.execute(
        select(brand.c.slug).where(brand.c.slug != new.slug, brand.c.host == new.host, brand.c.path == new.path)
    ).first()
    if others is not None and (new.host or new.path):
        raise NotAllowed(f"brand {others.slug} has that place already; give another --host or --path")
    values = asdict(new) | {"one_click": new.one_click.value}
    if save.execute(select(brand.c.slug).where(brand.c.slug == new.slug)).first() is None:
        save.execute(brand.insert().values(**values, created_at=now))
        return True
    save.execute(update(brand).where(brand.c.slug == new.slug).values(**values))
    return False


INITIAL_BRAND: Final = Brand(
    slug="default", name="Our company", postal_address="", contact_email="", one_click=OneClick.EVERYTHING
)
"""The brand that the migrations create."""


def change_brand(save: Save, slug: str, given: Mapping[str, Any], now: datetime) -> bool:
    """Set fields of a brand, or add it. Returns whether it is new; the initial brand is, until its first change.

    Raises NotAllowed when a new brand has no name, and as `save_brand` does.
    """
    known = read_catalog(save).brands.get(slug)
    if known is None and not given.get("name"):
        raise NotAllowed(f"there is no brand {slug}, and a new one needs --name")
    plain = Brand(slug=slug, name="", postal_address="", contact_email="", one_click=OneClick.EVERYTHING)
    return save_brand(save, replace(known or plain, **given), now) or known == INITIAL_BRAND


def add_topic(save: Save, new: Topic, now: datetime) -> None:
    """Raises NotAllowed when the slug is taken or the brand unknown."""
    known = read_catalog(save).topics
    if new.slug in known:
        retired = f", retired; `flask topic restore {new.slug}` brings it back" if known[new.slug].retired_at else ""
        raise NotAllowed(f"there is a topic {new.slug} already{retired}")
    if save.execute(select(brand.c.slug).where(brand.c.slug == new.brand)).first() is None:
        raise NotAllowed(f"there is no brand {new.brand}; add it with `flask brand set {new.brand} --name …`")
    row = _topic_row(replace(new, position=last_position(known)))
    save.execute(topic.insert().values(**row, created_at=now))


def change_topic(save: Save, slug: str, given: Mapping[str, Any]) -> Topic:
    """Set fields of a topic (`topics.arranged`).

    Raises NotAllowed for an unknown topic and for values that do not fit together.
    """
    changed = checked(arranged(_get_topic(save, slug), given), given.get("default"))
    save.execute(update(topic).where(topic.c.slug == slug).values(**_topic_row(changed)))
    return changed


def order_topics(save: Save, slugs: Sequence[str]) -> list[str]:
    """Put these topics first, in this order. Raises NotAllowed for an unknown or repeated topic."""
    known = list(read_catalog(save).topics)
    for slug in slugs:
        if slug not in known:
            raise NotAllowed(f"there is no topic {slug}; `flask topic list` shows those there are")
        if slugs.count(slug) > 1:
            raise NotAllowed(f"{slug} is named twice")
    ordered = [*slugs, *(slug for slug in known if slug not in slugs)]
    for position, slug in enumerate(ordered, start=1):
        save.execute(update(topic).where(topic.c.slug == slug).values(position=position))
    return ordered


def retire_topic(save: Save, slug: str, now: datetime) -> bool:
    """Preferences are kept. Returns whether anything changed. Raises NotAllowed for an unknown topic."""
    return _set_retired(save, slug, now)


def restore_topic(save: Save, slug: str) -> bool:
    """Returns whether anything changed. Raises NotAllowed for an unknown topic."""
    return _set_retired(save, slug, None)


def _set_retired(save: Save, slug: str, at: datetime | None) -> bool:
    known = _get_topic(save, slug)
    if (known.retired_at is None) is (at is None):
        return False
    save.execute(update(topic).where(topic.c.slug == slug).values(retired_at=at))
    return True


def _get_topic(read: Read, slug: str) -> Topic:
    known = read_catalog(read).topics.get(slug)
    if known is None:
        raise NotAllowed(f"there is no topic {slug}; `flask topic list` shows those there are")
    return known


def last_position(known: Mapping[str, Topic]) -> int:
    """At equal positions, newer topics come last."""
    return max((topic.position for topic in known.values()), default=0)


def save_topics(save: Save, wanted: Sequence[Topic], now: datetime) -> Catalog:
    """Add unknown topics in this order, and change the texts of the others.

    Raises NotAllowed if another transaction added one with other fixed fields.
    """
    known = read_catalog(save).topics
    _check_lasting(wanted, known)
    times = {new.slug: now + timedelta(microseconds=index) for index, new in enumerate(wanted)}
    rows = [_topic_row(new) | {"created_at": _added_at(known.get(new.slug)) or times[new.slug]} for new in wanted]
    insert_rows(save, topic, [row for row in rows if row["slug"] not in known], on_conflict="ignore")
    insert_rows(save, topic, [row for row in rows if row["slug"] in known], on_conflict="replace")
    after = read_catalog(save)
    # Topics added concurrently are unchanged.
    _check_lasting(wanted, after.topics)
    return after


def _check_lasting(wanted: Sequence[Topic], known: Mapping[str, Topic]) -> None:
    if any(new.slug in known and _lasting(new) != _lasting(known[new.slug]) for new in wanted):
        raise NotAllowed("one of these topics was added meanwhile, and is something else")


def _added_at(known: Topic | None) -> datetime | None:
    return known.added_at if known else None


def _lasting(topic: Topic) -> tuple[object, ...]:
    """The fields that never change."""
    return topic.slug, topic.brand, topic.message_class, topic.basis, topic.channels


def _topic_row(new: Topic) -> dict[str, Any]:
    return {
        "slug": new.slug,
        "brand": new.brand,
        "name": new.name,
        "description": new.description,
        "frequency": new.frequency,
        "message_class": new.message_class.value,
        "basis": new.basis.value,
        "channels": [channel.value for channel in new.channels],
        "retired_at": new.retired_at,
        "hidden": new.hidden,
        "visible_to": new.visible_to,
        "opt_in": new.opt_in,
        "section": new.section,
        "position": new.position,
    }


def save_topic_text(save: Save, slug: str, language: str, *, given: Mapping[str, str]) -> TopicText:
    """Set texts of a topic in a language, and return all of them.

    Raises NotAllowed for an unknown topic, and for texts that lack one that the topic has.
    """
    known = read_catalog(save).topics.get(slug)
    if known is None:
        raise NotAllowed(f"there is no topic {slug}; `flask topic add {slug} …` makes one")
    first = known.text(LANGUAGES[0])
    empty = TopicText(name="", description="", frequency="")
    text = replace(first if language == LANGUAGES[0] else dict(known.texts).get(language, empty), **given)
    # A section without a heading in this language uses the topic's own.
    needed = {name: value for name, value in asdict(first).items() if name != "section"}
    missing = [f"--{name}" for name, value in needed.items() if value and not getattr(text, name)]
    if missing:
        raise NotAllowed(f"the words of {slug} in {language} would not be whole: give {' and '.join(missing)} too")
    if language == LANGUAGES[0]:
        save.execute(update(topic).where(topic.c.slug == slug).values(**asdict(text)))
        return text
    save.execute(topic_text.delete().where(topic_text.c.topic == slug, topic_text.c.language == language))
    save.execute(topic_text.insert().values(topic=slug, language=language, **asdict(text)))
    return text
