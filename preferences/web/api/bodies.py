"""Strict parsing of bodies and queries.

Invariant: no error message repeats a value or an unknown field's name.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Final, TypeVar, cast

from flask import request
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, StringConstraints, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge, UnsupportedMediaType

from preferences.address_parsing import read_address
from preferences.domain.errors import BadAddress, BadFields
from preferences.domain.records import Address
from preferences.domain.vocabulary import MOST_ADDRESSES, Channel
from preferences.tokens import MESSAGE_REF

MOST_BODY: Final = 4 * 1024 * 1024
EXTRA: Final = "an extra field, which this call does not know; leave it out"

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]{1,64}")

Slug = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MessageRef = Annotated[str, StringConstraints(pattern=f"^{MESSAGE_REF.pattern}$")]
AddressText = Annotated[str, StringConstraints(max_length=1000)]
Addresses = Annotated[list[AddressText], Field(max_length=MOST_ADDRESSES)]
Body = TypeVar("Body", bound=BaseModel)


class Strict(BaseModel):
    """The base of every body. The string below a field is its description in `/api/openapi.json`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        document = handler(schema)
        properties = handler.resolve_ref_schema(document).get("properties", {})
        for field, text in _field_docs(cls).items():
            properties[cls.model_fields[field].alias or field]["description"] = text
        return document


def _field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The string below each field. Pydantic's `use_attribute_docstrings` reads them at class creation, a fifth of the
    startup time."""
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for field, below in pairwise(cast("ast.ClassDef", definition).body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = inspect.cleandoc(text)
    return docs


def read_or_none(channel: Channel, text: str) -> Address | None:
    """The normalised address, or None if invalid."""
    try:
        return read_address(channel, text)
    except BadAddress:
        return None


def read_body(model: type[Body]) -> Body:
    """Raises BadFields."""
    if request.content_length is None:
        # Werkzeug silently truncates a chunked body at the limit.
        raise LengthRequired
    if request.content_length > MOST_BODY:
        raise RequestEntityTooLarge
    if request.mimetype not in {"application/json", ""}:
        raise UnsupportedMediaType
    body = request.get_data()
    return _checked(lambda: model.model_validate_json(body))


def read_query(model: type[Body]) -> Body:
    """Raises BadFields."""
    twice = [name for name, values in request.args.lists() if len(values) > 1]
    if twice:
        raise BadFields([(_name(name), "is there more than once") for name in twice])
    return _checked(lambda: model.model_validate_strings(request.args.to_dict()))


def _checked(read: Callable[[], Body]) -> Body:
    try:
        return read()
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        raise BadFields([_field(detail) for detail in details]) from None


def _field(detail: Mapping[str, Any]) -> tuple[str, str]:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{_name(part)}" for part in detail["loc"])
    why = EXTRA if detail["type"] == "extra_forbidden" else str(detail["msg"])
    return path.lstrip(".") or "body", why


def _name(part: str) -> str:
    """Known names only: anything else might be an address."""
    return part if _PLAIN_NAME.fullmatch(part) else "…"
