"""The API's blueprint, and the declaration of each call for guard and `/api/openapi.json`.

Invariant: the site does not start with an undeclared view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from flask import Blueprint, Flask
from pydantic import BaseModel
from werkzeug.wrappers import Response

from preferences.domain.errors import BadFields
from preferences.domain.vocabulary import KeyScope
from preferences.web.shared import errors

blueprint: Final = Blueprint("api", __name__)

JSON: Final = "application/json"

View = TypeVar("View", bound=Callable[..., Response])


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A call.

    Without `scope`, every key may make it. `media` is the type of body and answer; only JSON has models. `statuses` are
    those besides 200 and the common ones. `without_database`: answered even if the key cannot be checked. `unlimited`:
    no rate limit.
    """

    scope: KeyScope | None
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    media: str = JSON
    statuses: tuple[int, ...] = ()
    without_database: bool = False
    unlimited: bool = False


OPERATIONS: Final[dict[str, Operation]] = {}
"""By endpoint, such as `api.decisions`."""


def operation(
    *,
    scope: KeyScope | None,
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    answer: type[BaseModel] | None = None,
    media: str = JSON,
    statuses: tuple[int, ...] = (),
    without_database: bool = False,
    unlimited: bool = False,
) -> Callable[[View], View]:
    """Declare a view. Goes below the route decorator."""
    declared = Operation(
        scope=scope,
        body=body,
        query=query,
        answer=answer,
        media=media,
        statuses=statuses,
        without_database=without_database,
        unlimited=unlimited,
    )

    def declare(view: View) -> View:
        OPERATIONS[f"{blueprint.name}.{view.__name__}"] = declared
        return view

    return declare


class MissingScope(BadFields):
    """A valid key without the required scope."""


@blueprint.errorhandler(MissingScope)
def missing_scope(error: MissingScope) -> Response:
    return problem(error, 403)


@blueprint.errorhandler(BadFields)
def bad_fields(error: BadFields) -> Response:
    return problem(error, 422)


def problem(error: BadFields, status: int, title: str | None = None) -> Response:
    fields = [{"field": field, "detail": detail} for field, detail in error.faults]
    return errors.problem_for(error, status, title or errors.TITLES[status], errors=fields)


def require_declared(app: Flask) -> None:
    """Raises LookupError naming undeclared views."""
    views = {name for name in app.view_functions if name.startswith(f"{blueprint.name}.")}
    if missing := sorted(views - OPERATIONS.keys()):
        raise LookupError(f"without @operation: {', '.join(missing)}")
