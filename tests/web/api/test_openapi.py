"""The API's description: complete, valid, readable without a script, and never at odds with what is answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.vocabulary import KeyScope
from preferences.web.api.openapi import CONTACT
from preferences.web.api.operations import OPERATIONS, blueprint, require_declared
from tests.processes import database_away
from tests.profiles import scaled
from tests.support import api_headers, close, new_app, new_sqlite

EVERYTHING = frozenset(KeyScope)
CANARY = "canary-7f3a@example.com"


def document(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/api/openapi.json")
    assert answer.status_code == 200
    assert answer.json is not None
    return answer.json


def calls(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each call: its path, its method, and what is said of it."""
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            yield path, method.upper(), one


def made(client: FlaskClient, path: str, method: str, **how: Any) -> TestResponse:
    return client.open(path.replace("{contact_id}", CONTACT), method=method, **how)


def body_of(one: dict[str, Any]) -> tuple[str, Any]:
    """The media type of a call's body and its example, or nothing."""
    for media, body in one.get("requestBody", {}).get("content", {}).items():
        return media, body["example"]
    return "", None


def sent(media: str, body: Any) -> dict[str, Any]:
    if body is None:
        return {}
    return {"json": body} if media == "application/json" else {"data": body, "content_type": media}


# The document.


def test_the_description_is_valid_openapi(client: FlaskClient) -> None:
    described = document(client)
    assert described["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


def test_every_call_is_described_and_declared(sqlite_app: Flask) -> None:
    views = {name for name in sqlite_app.view_functions if name.startswith(f"{blueprint.name}.")}
    described = document(sqlite_app.test_client())
    assert views == OPERATIONS.keys() == {f"{blueprint.name}.{one['operationId']}" for _, _, one in calls(described)}


def test_a_call_that_declares_nothing_keeps_the_site_from_starting(sqlite_app: Flask) -> None:
    require_declared(sqlite_app)
    sqlite_app.view_functions[f"{blueprint.name}.forgotten"] = lambda: "said by nobody"
    with pytest.raises(LookupError, match=r"without @operation: api\.forgotten"):
        require_declared(sqlite_app)


def test_every_example_is_a_call_that_works(sqlite_app: Flask) -> None:
    client, headers = sqlite_app.test_client(), api_headers(services_of(sqlite_app), scopes=EVERYTHING)
    for path, method, one in calls(document(client)):
        query = {each["name"]: each["example"] for each in one["parameters"] if "example" in each}
        query.pop("contact_id", None)
        answer = made(client, path, method, query_string=query, headers=headers, **sent(*body_of(one)))
        # Nobody can know the id of a contact that is not there yet.
        assert answer.status_code == (404 if "{contact_id}" in path else 200), (method, path, answer.text)


# The page.


def test_the_page_names_every_call_and_field_and_runs_no_script(client: FlaskClient) -> None:
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    ids, described = re.findall(r' id="([^"]+)"', page.text), document(client)
    assert len(ids) == len(set(ids))
    assert {one["operationId"] for _, _, one in calls(described)} <= set(ids)
    for path, method, one in calls(described):
        assert f"{method} {path}" in page.text
        assert all(f"<code>{each['name']}</code>" in page.text for each in one["parameters"])
    for name in ids:
        for field in described["components"]["schemas"].get(name, {}).get("properties", {}):
            assert f"<code>{field}</code>" in page.text, (name, field)
    assert set(re.findall(r'href="#([^"]+)"', page.text)) <= set(ids)
    assert "<script" not in page.text
    assert "style=" not in page.text


def test_the_page_says_of_a_field_what_the_description_says_of_it(client: FlaskClient) -> None:
    words = [
        each["description"]
        for name, shape in document(client)["components"]["schemas"].items()
        for each in shape.get("properties", {}).values()
        if name != "Problem" and "description" in each and "`" not in each["description"]
    ]
    assert "Your own id of the act, without spaces: told again, it counts once." in words
    page = unescape(client.get("/api/docs").text)
    assert [one for one in words if one not in page] == []


def test_under_a_path_the_page_and_the_document_lead_to_the_right_place(tmp_path: Path) -> None:
    app = new_app(new_sqlite(tmp_path), public_url="https://example.test/choices")
    client = app.test_client()
    page = client.get("/choices/api/docs").text
    assert document(client)["servers"] == [{"url": "https://example.test/choices"}]
    assert "curl https://example.test/choices/api/v1/acts" in page
    links = [link for link in re.findall(r'href="([^"]+)"', page) if not link.startswith("#")]
    assert {client.get(link, buffered=True).status_code for link in links} == {200}
    close(app)


def test_both_are_there_while_the_database_is_away(sqlite_app: Flask) -> None:
    with database_away(sqlite_app):
        for path in ("/api/docs", "/api/openapi.json"):
            assert sqlite_app.test_client().get(path).status_code == 200


# The calls.


def test_no_call_answers_what_its_description_does_not_say(sqlite_app: Flask) -> None:
    headers = api_headers(services_of(sqlite_app), scopes=EVERYTHING)
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", sqlite_app)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    described = {(method.upper(), path) for path, method, _ in calls(document(sqlite_app.test_client()))}
    assert {(operation.method.upper(), operation.path) for operation in operations} == described
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=scaled(20),
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def holds(case: schemathesis.Case) -> None:
            # Which topics and contacts there are, no description can say: a call that is well formed may name none.
            case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

        holds()


def with_canaries(value: Any) -> Iterator[Any]:
    """The value with the canary in each place of it: as each value, as a field's name, and as a field too much."""
    yield CANARY
    yield [CANARY]
    if isinstance(value, dict):
        yield {**value, CANARY: CANARY}
        yield {**value, "evidence": {CANARY: CANARY * 50}}
        for name, one in value.items():
            yield from ({**value, name: other} for other in with_canaries(one))
    if isinstance(value, list):
        for other in with_canaries(value[0]):
            yield from ([other], [value[0], other])


def canary_calls(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Calls with the canary in each field that the description names, and around them."""
    media, body = body_of(one)
    query = {each["name"]: each["example"] for each in one["parameters"] if each["in"] == "query" and "example" in each}
    yield {"query_string": {**query, CANARY: CANARY}, **sent(media, body)}
    yield {"query_string": query, **sent(media, body), "content_type": CANARY}
    for each in one["parameters"]:
        yield {"query_string": {**query, each["name"]: CANARY}, **sent(media, body)}
    for other in () if body is None else with_canaries(body):
        yield {"query_string": query, **sent(media, other if media == "application/json" else str(other))}
    for raw in () if body is None else (f'{{"{CANARY}', f'[{{"address": "{CANARY}", "address": "{CANARY}"}}]'):
        yield {"query_string": query, "data": raw, "content_type": media}


@pytest.mark.parametrize("away", [False, True], ids=["", "database away"])
def test_no_refusal_and_no_line_of_the_log_repeats_what_was_sent(
    sqlite_app: Flask, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, *, away: bool
) -> None:
    client, headers = sqlite_app.test_client(), api_headers(services_of(sqlite_app))
    refused = 0
    described = list(calls(document(client)))
    with database_away(sqlite_app) if away else sqlite_app.app_context():
        for path, method, one in described:
            tries = [
                *((path, headers | {"X-Address": CANARY}, how) for how in canary_calls(one)),
                (path, {"Authorization": f"Bearer {CANARY}"}, {}),
                (f"{path}/{CANARY}", headers, {}),
            ]
            for place, bears, how in tries:
                answer = made(client, place, method, headers=bears, **how)
                if answer.status_code >= 400:
                    refused += 1
                    assert "canary" not in answer.text.lower(), (method, path, how)
                    assert "canary" not in str(answer.headers).lower(), (method, path, how)
    assert refused > 100
    output = capfd.readouterr()
    logged = output.out + output.err + caplog.text
    assert ("request failed" in logged) == away
    assert "canary" not in logged.lower()
