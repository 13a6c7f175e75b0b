"""`/api/docs`: the API's description as HTML, without scripts and external files.

Invariant: rendered from `/api/openapi.json` alone, without the database.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from flask import current_app
from werkzeug.wrappers import Response

from preferences.current import current_services
from preferences.domain.vocabulary import LANGUAGES
from preferences.i18n import Spoken
from preferences.web.api.openapi import blueprint, document
from preferences.web.api.operations import JSON
from preferences.web.shared.render import render

__all__ = ["blueprint"]


@blueprint.get("/api/docs")
def docs() -> Response:
    """The whole description. English only: it is for engineers, and no recipient is led here."""
    services = current_services()
    described = document(current_app, services.settings.public_url)
    spoken = Spoken(LANGUAGES[0])
    return render(services, "api/docs.html", brand=None, spoken=spoken, calls=list(_calls(described)))


def _calls(described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Calls as shown. A shape is shown with its first call; later calls link to it."""
    schemas, shown = described["components"]["schemas"], set[str]()
    (base,) = (server["url"] for server in described["servers"])
    for path, methods in described["paths"].items():
        for method, call in methods.items():
            body = call.get("requestBody", {}).get("content", {})
            yield {
                "method": method.upper(),
                "path": path,
                "anchor": call["operationId"],
                "summary": call["summary"],
                "text": call["description"],
                "scope": call.get("x-scope"),
                "fields": [
                    _row(parameter, parameter["schema"], schemas, needed=parameter["required"])
                    for parameter in call["parameters"]
                ],
                "parts": [
                    _part("Body", body, schemas, shown),
                    _part("Answer", call["responses"]["200"]["content"], schemas, shown),
                ],
                "statuses": {status: answer["description"] for status, answer in call["responses"].items()},
                "curl": _curl(base + path, method, call),
            }


def _part(title: str, content: Mapping[str, Any], schemas: Mapping[str, Any], shown: set[str]) -> dict[str, Any]:
    """A body or answer: its media type, and its shapes that were not shown before."""
    for media, described in content.items():
        name = _name_of(described["schema"])
        shapes = [] if name is None else [_shape(shape, schemas) for shape in _unfolded(name, schemas, shown)]
        return {"title": title, "media": media, "name": name, "shapes": shapes}
    return {}


def _unfolded(name: str, schemas: Mapping[str, Any], shown: set[str]) -> Iterator[str]:
    """The shape and nested ones, outermost first. Enumerations are shown with their fields."""
    if name in shown or "enum" in schemas[name]:
        return
    shown.add(name)
    yield name
    for part in _parts_of(schemas[name]):
        yield from _unfolded(part, schemas, shown)


def _parts_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield str(_name_of(schema))
        for value in schema.values():
            yield from _parts_of(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _parts_of(item)


def _shape(name: str, schemas: Mapping[str, Any]) -> dict[str, Any]:
    schema = schemas[name]
    needed = schema.get("required", ())
    fields = schema.get("properties", {})
    return {
        "name": name,
        "text": schema.get("description", ""),
        "kind": None if fields else _kind(schema, schemas),
        "fields": [_row({"name": field}, fields[field], schemas, needed=field in needed) for field in fields],
    }


def _row(named: Mapping[str, Any], schema: Mapping[str, Any], schemas: Mapping[str, Any], *, needed: bool) -> Any:
    text, rules = schema.get("description", ""), "; ".join(_rules(schema, schemas))
    if rules:
        rules = f"{rules[0].upper()}{rules[1:]}."
    rules = f"{text} {rules}".strip()
    return {"name": named["name"], "kind": _kind(schema, schemas), "needed": needed, "rules": rules}


def _name_of(schema: Mapping[str, Any]) -> str | None:
    reference = schema.get("$ref")
    return None if reference is None else str(reference).rpartition("/")[2]


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The type in words, each with the shape to link to, if any."""
    name = _name_of(schema)
    if name is not None:
        return [("text", None)] if "enum" in schemas[name] else [(name, name)]
    if "anyOf" in schema:
        first, *others = (_kind(option, schemas) for option in schema["anyOf"])
        return first + [word for other in others for word in ([(" or ", None), *other])]
    if schema.get("type") == "array":
        return [("list of ", None), *_kind(schema["items"], schemas)]
    if schema.get("additionalProperties"):
        return [("names, each with ", None), *_kind(schema["additionalProperties"], schemas)]
    kind = schema.get("format") or schema["type"]
    return [({"string": "text", "date-time": "instant"}.get(kind, kind), None)]


def _rules(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    """Constraints in words."""
    name = _name_of(schema)
    if name is not None and "enum" in schemas[name]:
        yield "one of " + ", ".join(f"`{value}`" for value in schemas[name]["enum"])
    for option in schema.get("anyOf", ()):
        yield from _rules(option, schemas)
    if "items" in schema:
        yield from (f"each {rule}" for rule in _rules(schema["items"], schemas))
    for least, most, unit in (
        ("minLength", "maxLength", "characters"),
        ("minItems", "maxItems", "in the list"),
        ("minProperties", "maxProperties", "names"),
        ("minimum", "maximum", ""),
    ):
        yield from _range(schema.get(least), schema.get(most), unit)
    if "pattern" in schema:
        yield f"as `{schema['pattern']}`"
    if schema.get("default") is not None:
        yield f"`{_text(schema['default'])}` where left out"


def _range(least: int | None, most: int | None, unit: str) -> Iterator[str]:
    match least, most:
        case None, None:
            return
        case None | 0, _:
            yield f"at most {most:,} {unit}".strip()
        case _, None:
            yield f"at least {least:,} {unit}".strip()
        case _:
            yield f"{least:,} to {most:,} {unit}".strip()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _curl(url: str, method: str, call: Mapping[str, Any]) -> str:
    for parameter in call["parameters"]:
        if parameter["in"] == "path":
            url = url.replace(f"{{{parameter['name']}}}", parameter["example"])
    query = {
        parameter["name"]: parameter["example"]
        for parameter in call["parameters"]
        if parameter["in"] == "query" and "example" in parameter
    }
    lines = [f"curl {shlex.quote(url + ('?' + urlencode(query, safe='@') if query else ''))}"]
    lines.append('-H "Authorization: Bearer $KEY"')
    if method not in {"get", "post"}:
        lines.append(f"-X {method.upper()}")
    for media, body in call.get("requestBody", {}).get("content", {}).items():
        sent = json.dumps(body["example"], indent=2) if media == JSON else "@contacts.csv"
        lines += [f"-H 'Content-Type: {media}'", f"--data-binary {shlex.quote(sent)}"]
    return " \\\n  ".join(lines)
