"""What `flask db upgrade` says.

Owns the words; the command is Flask-Migrate's. Invariant: it says what was done, or that nothing was.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import click
from flask.cli import with_appcontext

from preferences.cli.common import plain_errors
from preferences.current import current_services


def make_talkative(group: click.Group) -> None:
    """Have `upgrade` of this group say what it did. Doing it again changes nothing."""
    command = group.commands["upgrade"]
    quiet = command.callback
    if quiet is None or getattr(quiet, "talks", False):
        return

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

    upgrade.talks = True  # type: ignore[attr-defined]
    command.callback = with_appcontext(upgrade)


def _revision() -> str | None:
    from preferences.store.migrations import current

    with plain_errors():
        return current_services().database.read(current)
