"""Topics by API: added and reworded, and never made into something else than people chose."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.site import Site
from tests.support import TOPICS, api_headers

PATH = "/api/v1/topics"
NEW = {"slug": "events", "name": "Events", "class": "marketing", "basis": "consent"}
OLD = {"slug": "offers", "name": "Bargains", "class": "marketing", "basis": "consent", "channels": ["email"]}


@pytest.fixture
def headers(site: Site) -> dict[str, str]:
    return api_headers(site)


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


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"class": "transactional"}, "class"), ({"basis": "soft_opt_in"}, "basis"), ({"channels": ["sms"]}, "channels")],
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
