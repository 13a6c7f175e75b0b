"""The API's own description, for programs and for people: made from what each call declares.

Owns `/api/openapi.json` (OpenAPI 3.1) and `/api/docs`. Invariant: nothing is described twice, so that the description
cannot differ from the calls (a test holds every answer against it).
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

from preferences.domain.terms import LANGUAGES
from preferences.languages import Spoken
from preferences.site import Site, current_site
from preferences.web import errors
from preferences.web.api.operations import JSON, OPERATIONS, Operation
from preferences.web.pages import render

blueprint = Blueprint("api_docs", __name__)

REFERENCE: Final = "#/components/schemas/{model}"

ALWAYS: Final = (401, 429, 503)
OF_A_BODY: Final = (411, 413, 415, 422)

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
    """For programs."""
    return jsonify(document(current_app, current_site().settings.public_url))


@blueprint.get("/api/docs")
def docs() -> Response:
    """For people: the same, on one page that needs no script and nothing from elsewhere."""
    site = current_site()
    described = document(current_app, site.settings.public_url)
    return render(
        site,
        "api/docs.html",
        brand=_brand(site),
        spoken=Spoken(LANGUAGES[0]),
        calls=list(_calls(described)),
        schemas=described["components"]["schemas"],
        base=site.settings.public_url,
    )


def _brand(site: Site) -> Any:
    catalog = site.catalog.get()
    return catalog.first_brand


@cache
def document(app: Flask, public_url: str) -> dict[str, Any]:
    """The whole description. Raises KeyError for a call that declares nothing."""
    rules = sorted((one for one in app.url_map.iter_rules() if one.endpoint.startswith("api.")), key=_place)
    paths: dict[str, dict[str, Any]] = {}
    for rule in rules:
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        view = app.view_functions[rule.endpoint]
        described = _described(rule, OPERATIONS[rule.endpoint], view.__doc__ or "")
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
            "schemas": {"Problem": PROBLEM} | _schemas(),
        },
    }


def _place(rule: Rule) -> tuple[str, str]:
    return rule.rule, rule.endpoint


def _path(rule: Rule) -> str:
    return _PARAMETER.sub(r"{\1}", rule.rule)


def _described(rule: Rule, declared: Operation, text: str) -> dict[str, Any]:
    summary, _, rest = " ".join(text.split()).partition(". ")
    described: dict[str, Any] = {
        "operationId": rule.endpoint.removeprefix("api."),
        "summary": summary.rstrip("."),
        "description": rest,
        "parameters": [*_path_parameters(rule), *_query_parameters(declared)],
        "responses": {str(status): _answer(status, declared) for status in _statuses(rule, declared)},
    }
    if declared.scope is not None:
        described["x-scope"] = declared.scope.value
    body = _content(declared.body, declared.media)
    if body is not None:
        described["requestBody"] = {"required": True, "content": body}
    return described


def _path_parameters(rule: Rule) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(rule.rule):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}


def _query_parameters(declared: Operation) -> Iterator[dict[str, Any]]:
    if declared.query is None:
        return
    _, defined = models_json_schema([(declared.query, "validation")], ref_template=REFERENCE)
    model = defined["$defs"][declared.query.__name__]
    for name, schema in model["properties"].items():
        yield {"name": name, "in": "query", "required": name in model.get("required", ()), "schema": schema}


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
    found = {one for each in OPERATIONS.values() for one in (each.body, each.query, each.answer) if one is not None}
    wanted = [(model, "validation") for model in sorted(found, key=lambda model: model.__name__)]
    _, defined = models_json_schema(wanted, ref_template=REFERENCE)  # type: ignore[arg-type]
    return dict(defined["$defs"])


# For people.


def _calls(described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each call with what the page says of it."""
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            yield {
                "method": method.upper(),
                "path": path,
                "anchor": one["operationId"],
                "summary": one["summary"],
                "text": one["description"],
                "scope": one.get("x-scope"),
                "parameters": one["parameters"],
                "body": _named(one.get("requestBody", {}).get("content", {})),
                "answer": _named(one["responses"]["200"]["content"]),
                "statuses": {status: answer["description"] for status, answer in one["responses"].items()},
            }


def _named(content: Mapping[str, Any]) -> str | None:
    """The name of the schema, or the type of what has none."""
    for media, one in content.items():
        reference: str = one["schema"].get("$ref", "")
        return reference.rpartition("/")[2] or str(media)
    return None
