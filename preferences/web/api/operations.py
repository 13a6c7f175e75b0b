"""What each call of the API is: who may make it, what it takes, what it answers.

Owns the blueprint and the declaration beside each view, from which the guard and `/api/openapi.json` are made.
Invariant: with a view that has no declaration the site does not start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from flask import Blueprint, Flask
from pydantic import BaseModel
from werkzeug.wrappers import Response

from preferences.domain.vocabulary import KeyScope
from preferences.web.api.bodies import BadFields
from preferences.web.shared import errors

blueprint: Final = Blueprint("api", __name__)

JSON: Final = "application/json"

View = TypeVar("View", bound=Callable[..., Response])


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call.

    `scope` None is for every key. `media` is what it takes and gives, JSON unless it says otherwise; a body that is not
    JSON has no model. `statuses` are those beside 200 and what every such call can answer. `without_database` says that
    it answers even when the key could not be checked, and says nothing about anybody then; `unlimited`, that it is
    never put off, however often it is made.
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
    """Declares a view. Stands below the route, so that it is there before the route is."""
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
    """The key is valid, and may not make this call."""


@blueprint.errorhandler(MissingScope)
def missing_scope(error: MissingScope) -> Response:
    """Say which scope it would need."""
    return errors.problem_for(error, 403, errors.TITLES[403], errors=list(error.fields))


def require_declared(app: Flask) -> None:
    """Raises LookupError naming the views of the API that have no declaration: with them the site does not start."""
    views = {name for name in app.view_functions if name.startswith(f"{blueprint.name}.")}
    if missing := sorted(views - OPERATIONS.keys()):
        raise LookupError(f"without @operation: {', '.join(missing)}")


@blueprint.errorhandler(BadFields)
def bad_fields(error: BadFields) -> Response:
    """Name each wrong field."""
    return errors.problem_for(error, 422, errors.TITLES[422], errors=list(error.fields))
