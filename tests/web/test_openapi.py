"""The API's description: complete, valid, readable without a script, and never at odds with what is answered."""

from __future__ import annotations

from typing import Any

import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate
from schemathesis.specs.openapi.checks import positive_data_acceptance

from preferences.site import site_of
from preferences.web.api.operations import OPERATIONS, blueprint
from tests.support import api_headers


def document(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/api/openapi.json")
    assert answer.status_code == 200
    assert answer.json is not None
    return answer.json


def test_the_description_is_valid_openapi(client: FlaskClient) -> None:
    validate(document(client))


def test_every_call_is_described_and_declared(sqlite_app: Flask) -> None:
    views = {name for name in sqlite_app.view_functions if name.startswith(f"{blueprint.name}.")}
    described = document(sqlite_app.test_client())
    ids = {f"{blueprint.name}.{one['operationId']}" for path in described["paths"].values() for one in path.values()}
    assert views == OPERATIONS.keys() == ids


def test_the_page_for_people_names_every_call_and_shape_and_runs_nothing(client: FlaskClient) -> None:
    answer = client.get("/api/docs")
    assert answer.status_code == 200
    described = document(client)
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            assert f"{method.upper()} {path}" in answer.text
            assert f'id="{one["operationId"]}"' in answer.text
    for name in described["components"]["schemas"]:
        assert f'id="{name}"' in answer.text
    assert "<script" not in answer.text
    assert "style=" not in answer.text


def test_no_call_answers_what_its_description_does_not_say(sqlite_app: Flask) -> None:
    headers = api_headers(site_of(sqlite_app))
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", sqlite_app)

    @given(case=schema.as_strategy())
    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def holds(case: schemathesis.Case) -> None:
        # Which topics and contacts there are, no description can say: a call that is well formed may name none of them.
        case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

    holds()
