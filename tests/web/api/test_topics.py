"""Topics by API: added and reworded, and never made into something else than people chose."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.domain.errors import NotAllowed
from preferences.services import Services
from preferences.store.catalog import add_topic, read_catalog, save_topics
from tests.support import TOPICS, api_headers

PATH = "/api/v1/topics"
NEW = {"slug": "events", "name": "Events", "class": "marketing", "basis": "consent"}
OLD = {"slug": "offers", "name": "Bargains", "class": "marketing", "basis": "consent", "channels": ["email"]}


@pytest.fixture
def headers(services: Services) -> dict[str, str]:
    return api_headers(services)


def put(client: FlaskClient, headers: dict[str, str], *topics: dict[str, Any]) -> TestResponse:
    return client.put(PATH, json={"topics": list(topics)}, headers=headers)


def names(client: FlaskClient, headers: dict[str, str]) -> dict[str, str]:
    answer = client.get(PATH, headers=headers)
    assert answer.status_code == 200
    assert answer.json is not None
    return {one["slug"]: one["name"] for one in answer.json["topics"]}


def test_every_topic_is_listed(client: FlaskClient, headers: dict[str, str]) -> None:
    assert names(client, headers) == {topic.slug: topic.name for topic in TOPICS}


def test_topics_are_added_and_reworded_and_the_others_stay(client: FlaskClient, headers: dict[str, str]) -> None:
    before = names(client, headers)
    for _ in range(2):
        answer = put(client, headers, NEW, OLD)
        assert answer.status_code == 200, answer.text
        assert names(client, headers) == before | {"events": "Events", "offers": "Bargains"}


def test_what_was_listed_can_be_put_back_and_what_is_left_out_stays(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    before = client.get(PATH, headers=headers).json
    assert before is not None
    whole = [{name: value for name, value in one.items() if name != "languages"} for one in before["topics"]]
    short = [{name: one[name] for name in ("slug", "name", "class", "basis")} for one in whole]
    for topics in (whole, short):
        assert put(client, headers, *topics).json == before


def test_new_topics_stand_in_the_order_in_which_they_were_given(client: FlaskClient, headers: dict[str, str]) -> None:
    slugs = [f"topic-{number}" for number in (3, 1, 2)]
    put(client, headers, *(NEW | {"slug": slug} for slug in slugs))
    assert list(names(client, headers))[-3:] == slugs


def test_a_topic_that_another_caller_just_added_is_not_overwritten(services: Services) -> None:
    now = datetime.now(UTC)
    services.database.save(add_topic, replace(TOPICS[1], slug="events"), now)
    with pytest.raises(NotAllowed):
        services.database.save(save_topics, [replace(TOPICS[0], slug="events", name="Taken over")], now)
    assert services.database.read(read_catalog).topics["events"].name == TOPICS[1].name


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"class": "transactional"}, "class"),
        ({"basis": "soft_opt_in"}, "basis"),
        ({"channels": ["sms"]}, "channels"),
        ({"description": ""}, "description"),
    ],
)
def test_what_people_chose_never_becomes_something_else(
    client: FlaskClient, headers: dict[str, str], changes: dict[str, Any], field: str
) -> None:
    before = names(client, headers)
    answer = put(client, headers, NEW, OLD | changes)
    assert answer.status_code == 422
    assert answer.json is not None
    assert [one["field"] for one in answer.json["errors"]] == [f"topics[1].{field}"]
    assert names(client, headers) == before


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": "Two Words"}, "slug"),
        ({"slug": "@tracking"}, "slug"),
        ({"brand": "no-such"}, "brand"),
        ({"name": " "}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"description": "one\ntwo"}, "description"),
        ({"channels": []}, "channels"),
    ],
)
def test_a_wrong_topic_names_its_field(
    client: FlaskClient, headers: dict[str, str], changes: dict[str, Any], field: str
) -> None:
    answer = put(client, headers, NEW | changes)
    assert answer.status_code == 422
    assert answer.json is not None
    assert [one["field"] for one in answer.json["errors"]] == [f"topics[0].{field}"]
