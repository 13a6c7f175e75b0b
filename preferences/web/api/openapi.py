"""`/api/openapi.json` (OpenAPI 3.1).

Invariant: generated from the declarations of the calls alone; tests validate every answer and example against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from flask import Blueprint, Flask, current_app, jsonify
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.web.api.operations import JSON, OPERATIONS, Operation
from preferences.web.shared import errors

blueprint = Blueprint("api_docs", __name__)

REFERENCE: Final = "#/components/schemas/{model}"

ALWAYS: Final = (401, 429, 503)
OF_A_BODY: Final = (411, 413, 415, 422)

EXAMPLES: Final[Mapping[str, str]] = {
    "address": "jane.doe@example.com",
    "channel": "email",
    "class": "marketing",
    "topic": "product-news",
    "verb": "unsubscribe",
    "origin_ref": "crm-20714",
    "slug": "spring-sale",
    "name": "Spring sale",
    "basis": "consent",
}
"""Example values by field."""

USUAL: Final = {"channel", "topic"}
"""Optional fields shown in examples."""

CONTACT: Final = "01936f0e-8a5b-7c3d-9e21-4f6a7b8c9d0e"
FILE: Final = "email,name\njane.doe@example.com,Jane\n"

_PARAMETER: Final = re.compile(r"<uuid:(\w+)>")

PROBLEM: Final = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). No value that was sent is repeated.",
    "type": "object",
    "required": ["type", "status", "title"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "errors": {
            "description": "Each field that is wrong, and what to do about it.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


@blueprint.get("/api/openapi.json")
def openapi_json() -> Response:
    """The whole description, open to all: it tells nothing that the source does not."""
    return jsonify(document(current_app, current_services().settings.public_url))


@cache
def document(app: Flask, public_url: str) -> dict[str, Any]:
    """Raises KeyError for an undeclared call."""
    schemas = {"Problem": PROBLEM} | _schemas()
    rules = sorted((rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("api.")), key=_place)
    paths: dict[str, dict[str, Any]] = {}
    for rule in rules:
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        view = app.view_functions[rule.endpoint]
        described = _described(rule, OPERATIONS[rule.endpoint], view.__doc__ or "", schemas)
        paths.setdefault(_path(rule), {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Preferences",
            "version": "1",
            "description": "Who may be sent what: ask before you send, get links for your mails, tell what people did.",
        },
        "servers": [{"url": public_url}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    }


def _place(rule: Rule) -> tuple[str, str]:
    return rule.rule, rule.endpoint


def _path(rule: Rule) -> str:
    return _PARAMETER.sub(r"{\1}", rule.rule)


def _described(rule: Rule, declared: Operation, text: str, schemas: Mapping[str, Any]) -> dict[str, Any]:
    summary, _, rest = " ".join(text.split()).partition(". ")
    about_query = schemas[declared.query.__name__].get("description", "") if declared.query else ""
    described: dict[str, Any] = {
        "operationId": rule.endpoint.removeprefix("api."),
        "summary": summary.rstrip("."),
        "description": f"{rest} {' '.join(about_query.split())}".strip(),
        "parameters": [*_path_parameters(rule), *_query_parameters(declared, schemas)],
        "responses": {str(status): _answer(status, declared) for status in _statuses(rule, declared)},
    }
    if declared.scope is not None:
        described["x-scope"] = declared.scope.value
    body = _content(declared.body, declared.media)
    if body is not None:
        reference = body[declared.media]["schema"]
        example = _example(reference, schemas) if "$ref" in reference else FILE
        described["requestBody"] = {
            "required": True,
            "content": {declared.media: body[declared.media] | {"example": example}},
        }
    return described


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "") -> Any:
    """An example body: required and usual fields, and single-item lists."""
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    if schema.get("type") == "array":
        return [_example(schema["items"], schemas, {"addresses": "address", "channels": "channel"}.get(name, name))]
    if "properties" in schema:
        return {
            field: _example(described, schemas, field)
            for field, described in schema["properties"].items()
            if field in USUAL or field in schema.get("required", ())
        }
    return EXAMPLES[name]


def _path_parameters(rule: Rule) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(rule.rule):
        schema = {"type": "string", "format": "uuid"}
        yield {"name": name, "in": "path", "required": True, "schema": schema, "example": CONTACT}


def _query_parameters(declared: Operation, schemas: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if declared.query is None:
        return
    model = schemas[declared.query.__name__]
    for name, schema in model["properties"].items():
        needed = name in model.get("required", ())
        parameter = {"name": name, "in": "query", "required": needed, "schema": schema}
        yield parameter | {"example": EXAMPLES[name]} if needed or name in USUAL else parameter


def _statuses(rule: Rule, declared: Operation) -> list[int]:
    found = {200, *ALWAYS, *declared.statuses}
    if declared.unlimited:
        found.remove(429)
    if declared.scope is not None:
        found.add(403)
    if _takes_body(declared):
        found.update(OF_A_BODY)
    if declared.query is not None:
        found.add(422)
    if _PARAMETER.search(rule.rule):
        found.add(404)
    return sorted(found)


def _takes_body(declared: Operation) -> bool:
    return declared.body is not None or declared.media != JSON


def _content(model: type[BaseModel] | None, media: str) -> dict[str, Any] | None:
    if media != JSON:
        return {media: {"schema": {"type": "string"}}}
    return {media: {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}} if model else None


def _answer(status: int, declared: Operation) -> dict[str, Any]:
    if status == 200:
        return {"description": "Done", "content": _content(declared.answer, declared.media) or {}}
    problem = {"application/problem+json": {"schema": {"$ref": REFERENCE.format(model="Problem")}}}
    answer: dict[str, Any] = {"description": errors.TITLES[status], "content": problem}
    if status in {429, 503}:
        answer["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return answer


def _schemas() -> dict[str, Any]:
    found = {
        model
        for declared in OPERATIONS.values()
        for model in (declared.body, declared.query, declared.answer)
        if model is not None
    }
    wanted = [(model, "validation") for model in sorted(found, key=lambda model: model.__name__)]
    _, defined = models_json_schema(wanted, ref_template=REFERENCE)  # type: ignore[arg-type]
    return dict(defined["$defs"])
