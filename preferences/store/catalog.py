"""Brands and topics: add and change them.

Owns the rows `brand` and `topic`; reading them is in `queries.catalog`. Invariant: a topic's slug, brand and class
never change, since links in old mails and entries in the ledger name them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from preferences.domain.errors import NotAllowed
from preferences.domain.terms import Brand, Topic
from preferences.store.tables import brand, topic


def save_brand(connection: Connection, new: Brand, now: datetime) -> bool:
    """Add a brand or change the one of this slug. Returns whether it was added."""
    values = {
        "name": new.name,
        "postal_address": new.postal_address,
        "contact_email": new.contact_email,
        "one_click": new.one_click.value,
    }
    if connection.execute(select(brand.c.slug).where(brand.c.slug == new.slug)).first() is None:
        connection.execute(brand.insert().values(slug=new.slug, created_at=now, **values))
        return True
    connection.execute(update(brand).where(brand.c.slug == new.slug).values(**values))
    return False


def add_topic(connection: Connection, new: Topic, now: datetime) -> None:
    """Add a topic. Raises NotAllowed when its slug is taken or its brand is unknown."""
    if connection.execute(select(topic.c.slug).where(topic.c.slug == new.slug)).first() is not None:
        raise NotAllowed(f"there is a topic {new.slug} already")
    if connection.execute(select(brand.c.slug).where(brand.c.slug == new.brand)).first() is None:
        raise NotAllowed(f"there is no brand {new.brand}; add it with `flask brand set {new.brand} --name …`")
    connection.execute(topic.insert().values(**_topic_row(new), created_at=now))


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
    }
