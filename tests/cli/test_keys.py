"""Keys of sending systems: shown once, only as powerful as asked, changed without an outage, ended at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient

from preferences.domain.vocabulary import DEFAULT_SCOPES, KeyScope
from preferences.services import Services
from preferences.store.api_keys import PREFIX, find_named
from tests.support import close, new_app, new_sqlite

QUESTION = {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": []}


def flask(app: Flask, *words: str, status: int = 0) -> str:
    result = app.test_cli_runner().invoke(args=["api-key", *words])
    assert result.exit_code == status, result.output
    return result.output


def ask(client: FlaskClient, key: str) -> int:
    return client.post("/api/v1/decisions", json=QUESTION, headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_key_is_printed_alone_and_never_again(app: Flask, client: FlaskClient) -> None:
    key = flask(app, "create", "shop").removesuffix("\n")
    assert key.startswith(PREFIX)
    assert ask(client, key) == 200
    listed = flask(app, "list")
    assert "shop: valid" in listed
    assert key not in listed


def test_a_new_key_may_neither_bring_people_back_nor_sign_anybody_in(app: Flask, services: Services) -> None:
    flask(app, "create", "shop")
    found = services.database.read(find_named, "shop")
    assert found is not None
    assert (
        found.scopes
        == DEFAULT_SCOPES
        == frozenset(KeyScope) - {KeyScope.RETURNS, KeyScope.HAND_OFFS, KeyScope.UNSUPPRESS}
    )


def test_a_key_with_one_scope_opens_one_door_and_says_what_it_lacks(app: Flask, client: FlaskClient) -> None:
    key = flask(app, "create", "mailer", "--scope", "links").strip()
    answer = client.post("/api/v1/decisions", json=QUESTION, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 403
    assert answer.json is not None
    (problem,) = answer.json["errors"]
    assert problem["field"] == "scope"
    assert "no scope decisions" in problem["detail"]
    links = {"channel": "email", "addresses": []}
    assert client.post("/api/v1/links", json=links, headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_after_a_rotation_both_keys_work_for_a_while(app: Flask, client: FlaskClient) -> None:
    old = flask(app, "create", "shop").strip()
    new = flask(app, "rotate", "shop", "--overlap", "3").strip()
    assert [ask(client, one) for one in (old, new)] == [200, 200]
    assert "and the one before until" in flask(app, "list")
    with time_machine.travel(datetime.now(UTC) + timedelta(days=4)):
        assert [ask(client, one) for one in (old, new)] == [401, 200]


def test_without_an_overlap_the_old_key_ends_at_once(app: Flask, client: FlaskClient) -> None:
    old = flask(app, "create", "shop").strip()
    new = flask(app, "rotate", "shop", "--overlap", "0").strip()
    assert [ask(client, one) for one in (old, new)] == [401, 200]


def test_a_revoked_key_and_the_one_before_it_end_at_once(app: Flask, client: FlaskClient) -> None:
    old = flask(app, "create", "shop").strip()
    new = flask(app, "rotate", "shop").strip()
    flask(app, "revoke", "shop")
    assert [ask(client, one) for one in (old, new)] == [401, 401]
    assert "shop: revoked" in flask(app, "list")


@pytest.mark.parametrize("words", [("create", "two words"), ("create", "a" * 65), ("rotate", "nobody"), ("revoke", "")])
def test_a_wrong_name_is_one_clear_line(app: Flask, words: tuple[str, ...]) -> None:
    output = flask(app, *words, status=1)
    assert output.startswith("Error: ")
    assert len(output.splitlines()) == 1


def test_a_key_is_held_to_its_limit_and_an_opt_out_never_is(tmp_path: Path) -> None:
    limited = new_app(new_sqlite(tmp_path), api_limit="2 per minute")
    client, key = limited.test_client(), flask(limited, "create", "limited").strip()
    other = flask(limited, "create", "other").strip()
    assert [ask(client, key) for _ in range(3)] == [200, 200, 429]
    assert ask(client, other) == 200
    act = {"address": "jane.doe@example.com", "verb": "unsubscribe", "origin_ref": "1"}
    answers = [client.post("/api/v1/acts", json=[act], headers={"Authorization": f"Bearer {key}"}) for _ in range(5)]
    assert {one.status_code for one in answers} == {200}
    close(limited)


def test_which_keys_are_used_is_counted(app: Flask, client: FlaskClient) -> None:
    old = flask(app, "create", "counted").strip()
    flask(app, "rotate", "counted")
    ask(client, old)
    metrics = client.get("/metrics").text
    assert 'preferences_api_calls_total{call="decisions",key="counted",old_key="true"}' in metrics
