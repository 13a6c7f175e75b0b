"""The commands: `flask …`.

Owns which there are. Invariants: bad input is one clear line on standard error and exit code 1, with nothing half done;
long work shows its progress.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from flask import Flask
from flask import cli as flask_cli
from flask_migrate import Migrate
from flask_migrate.cli import db as db_group

from preferences.cli import (
    catalog,
    checks,
    database,
    export,
    feed,
    health,
    init,
    keys,
    ledger,
    links,
    people,
    scrub,
    sign_up,
    suppressions,
    sync,
)
from preferences.store.engine import db

MIGRATIONS: Final = Path(__file__).parent.parent.parent / "migrations"

GROUPS: Final = (
    catalog.brand_group,
    catalog.topic_group,
    keys.key_group,
    links.links_group,
    ledger.ledger_group,
    sync.connectors,
    feed.feed_group,
    checks.selftest,
)
COMMANDS: Final = (
    init.init,
    people.import_command,
    people.explain,
    suppressions.unsuppress,
    export.export_command,
    scrub.scrub_command,
    sync.worker,
    sync.reconcile,
    sync.backfill,
    sync.resume,
    health.doctor,
    checks.lint_eml,
    sign_up.sign_up_form,
)


DEVELOPERS: Final = (flask_cli.run_command, flask_cli.shell_command, flask_cli.routes_command)
"""What Flask brings along. It works as ever, and so does what is left out of `flask db --help`."""

OPERATORS_OF_DB: Final = frozenset({"upgrade", "current", "history", "heads"})


def register(app: Flask) -> None:
    """Add every command to `flask`, `flask db` included, and leave out of its help what is not for operators."""
    Migrate(app, db, directory=str(MIGRATIONS))
    database.make_talkative(db_group)
    _hide_from_help()
    for command in (*GROUPS, *COMMANDS):
        app.cli.add_command(command)


@cache
def _hide_from_help() -> None:
    plugins = [point.load() for point in entry_points(group="flask.commands") if point.name != "db"]
    others = [command for name, command in db_group.commands.items() if name not in OPERATORS_OF_DB]
    for command in (*DEVELOPERS, *plugins, *others):
        command.hidden = True
