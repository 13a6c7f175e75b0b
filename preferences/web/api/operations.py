"""The API's blueprint, and the declaration of each call: key scope, body, query and answer.

The guard and `/api/openapi.json` are made from the declarations. Invariant: a view without a declaration keeps the site
from starting.
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
    """One call.

    Without a `scope` every key may make it. `media` is the type of its body and answer; only JSON has models.
    `statuses` are those beside 200 and the ones common to all calls. `without_database` calls are answered even if the
    key could not be checked; `unlimited` calls have no rate limit.
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
    """Declares a view. Goes below the route decorator."""
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
    """The key is valid, and lacks a scope that the call needs."""


@blueprint.errorhandler(MissingScope)
def missing_scope(error: MissingScope) -> Response:
    return problem(error, 403)


@blueprint.errorhandler(BadFields)
def bad_fields(error: BadFields) -> Response:
    return problem(error, 422)


def problem(error: BadFields, status: int, title: str | None = None) -> Response:
    """The problem document that names each wrong field."""
    fields = [{"field": field, "detail": detail} for field, detail in error.faults]
    return errors.problem_for(error, status, title or errors.TITLES[status], errors=fields)


def require_declared(app: Flask) -> None:
    """Raises LookupError naming the views of the API that have no declaration: with them the site does not start."""
    views = {name for name in app.view_functions if name.startswith(f"{blueprint.name}.")}
    if missing := sorted(views - OPERATIONS.keys()):
        raise LookupError(f"without @operation: {', '.join(missing)}")
