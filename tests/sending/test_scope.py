"""Names of channels, brands and topics, resolved against the catalog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from preferences.domain.errors import BadFields
from preferences.domain.vocabulary import BLANKET, Channel, Purpose
from preferences.sending.scope import check_choosable, find_topic, get_brand, get_topic, resolve
from preferences.store.catalog import Catalog
from tests.support import BRAND, TOPICS

ACME = replace(BRAND, slug="acme")
CATALOG = Catalog(
    brands={brand.slug: brand for brand in (BRAND, ACME)},
    topics={topic.slug: topic for topic in (*TOPICS, replace(TOPICS[0], slug="acme-news", brand="acme"))},
)


@pytest.mark.parametrize("topic", [None, BLANKET])
@pytest.mark.parametrize(("brand", "whose"), [(None, "default"), ("acme", "acme")])
def test_without_a_topic_it_is_everything_of_a_brand(topic: str | None, brand: str | None, whose: str) -> None:
    scope = resolve(CATALOG, Channel.SMS, topic=topic, brand=brand)
    assert (scope.channel, scope.brand.slug, scope.topic, scope.slug) == (Channel.SMS, whose, None, BLANKET)


@pytest.mark.parametrize("brand", [None, "acme"])
def test_a_topic_brings_its_own_brand(brand: str | None) -> None:
    scope = resolve(CATALOG, Channel.EMAIL, topic="acme-news", brand=brand)
    assert (scope.brand.slug, scope.slug) == ("acme", "acme-news")


@pytest.mark.parametrize(
    ("names", "field"),
    [
        ({"topic": "gone"}, "topic"),
        ({"topic": None, "brand": "gone"}, "brand"),
        ({"topic": "acme-news", "brand": "default"}, "brand"),
        ({"topic": "acme-news", "brand": "gone"}, "brand"),
        ({"topic": "@tracking"}, "topic"),
        ({"topic": "@tracking", "purposes": True, "brand": "gone"}, "brand"),
        ({"topic": "@unknown", "purposes": True}, "topic"),
    ],
)
def test_a_wrong_name_is_refused_by_its_field_and_not_repeated(names: dict[str, Any], field: str) -> None:
    with pytest.raises(BadFields) as raised:
        resolve(CATALOG, Channel.EMAIL, **names)
    ((found, detail),) = raised.value.faults
    assert found == field
    assert "gone" not in str(raised.value)
    assert detail


def test_a_topic_that_is_not_sent_on_the_channel_is_refused() -> None:
    with pytest.raises(BadFields, match="channel: this topic is not sent by sms"):
        resolve(CATALOG, Channel.SMS, topic="offers")
    assert get_topic(CATALOG, "offers", channel=None, brand=None).slug == "offers"


def test_a_purpose_stands_for_a_topic_only_where_it_may() -> None:
    scope = resolve(CATALOG, Channel.SMS, topic="@tracking", brand="acme", purposes=True)
    assert (scope.brand.slug, scope.slug) == ("acme", Purpose.TRACKING)
    assert find_topic(CATALOG, "@tracking", brand=None, purposes=False) is None


def test_only_marketing_can_be_chosen_about() -> None:
    check_choosable(None)
    check_choosable(CATALOG.topics["offers"])
    with pytest.raises(BadFields, match="topic"):
        check_choosable(CATALOG.topics["receipts"])


def test_the_first_brand_is_meant_where_none_is_named() -> None:
    assert get_brand(CATALOG, None).slug == "default"
