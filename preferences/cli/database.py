"""`flask db`: Flask-Migrate's commands, and the messages of `upgrade`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from flask_migrate import Migrate
from flask_migrate.cli import db as db_group

from preferences.cli.common import plain_errors
from preferences.current import current_services

MIGRATIONS: Final = Path(__file__).parent.parent.parent / "migrations"

FOR_OPERATORS: Final = frozenset({"upgrade", "current", "history", "heads"})


def add_migrations(app: Flask) -> None:
    """Set the folder of the migrations."""
    Migrate(directory=str(MIGRATIONS)).init_app(app)


def _with_migrations(callback: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(callback)
    def run(**options: Any) -> Any:
        add_migrations(current_app._get_current_object())  # type: ignore[attr-defined]
        return callback(**options)

    return with_appcontext(run)


def _saying_what_it_did(quiet: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(quiet)
    def upgrade(**options: Any) -> None:
        if options["sql"]:
            quiet(**options)
            return
        before = _revision()
        quiet(**options)
        after = _revision()
        if before == after:
            click.echo(f"The database is up to date already, at {after}.")
        else:
            click.echo(f"Brought the database from {before or 'nothing'} to {after}.")

    return with_appcontext(upgrade)


def _revision() -> str | None:
    from preferences.store.migrations import current

    with plain_errors():
        return current_services().database.read(current)


db_group.callback = _with_migrations(db_group.callback)
db_group.commands["upgrade"].callback = _saying_what_it_did(db_group.commands["upgrade"].callback)
for _name, _command in db_group.commands.items():
    _command.hidden = _name not in FOR_OPERATORS
