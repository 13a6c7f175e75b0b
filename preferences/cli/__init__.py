"""The list of `flask` commands.

Invariants: bad input gives one line on standard error and exit code 1, with nothing half done; long work shows
progress; a command's module is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import click
from flask import Flask
from flask import cli as flask_cli


@dataclass(frozen=True, slots=True)
class Entry:
    """A command's `module:name` in `preferences.cli`, and its line of help."""

    place: str
    help: str
    has_pages: bool = False
    """It needs the site's routes."""


ENTRIES: Final[Mapping[str, Entry]] = {
    "api-key": Entry("keys:key_group", "Keys of sending systems."),
    "backfill": Entry(
        "sync:backfill", "Tell the provider of connector NAME every opt-out and suppression that stands."
    ),
    "brand": Entry("catalog:brand_group", "Whose name the mail bears.", has_pages=True),
    "connectors": Entry(
        "sync:connectors",
        "Show each connector: state, lag, contacts it refused, what it was told, last success, drift; and whether any"
        " worker is alive.",
    ),
    "db": Entry("database:db_group", "Perform database migrations."),
    "doctor": Entry("health:doctor", "Look at everything that must be right, and say what is not."),
    "explain": Entry("people:explain", "Say what may be sent to ADDRESS, and every entry that led there."),
    "export": Entry(
        "export:export_command",
        "Write everything on record to FILE: a .zip of all, or a .csv of what holds now, which `flask import` reads.",
    ),
    "feed": Entry("feed:feed_group", "Who is told of every entry of the ledger, by signed webhooks."),
    "import": Entry(
        "people:import_command",
        "Bring in contacts and opt-outs from a CSV FILE; an opt-out that stands is never undone by it.",
    ),
    "init": Entry(
        "init:init",
        "Write a settings FILE with fresh keys (instance/settings.env if none is named). It replaces nothing.",
    ),
    "ledger": Entry("ledger:ledger_group", "The record of every act."),
    "links": Entry("links:links_group", "Signed links."),
    "lint-eml": Entry(
        "checks:lint_eml",
        "Check mails, saved as .eml by any program, against the rules for mail that people can leave.",
    ),
    "reconcile": Entry(
        "sync:reconcile",
        "Hold the suppression list of connector NAME against ours, and mend both in the safe direction.",
    ),
    "resume": Entry("sync:resume", "Start a paused connector NAME again, after what was wrong has been mended."),
    "scrub": Entry(
        "scrub:scrub_command", "Sort a CSV FILE into those who may be sent a mailing now and those who may not."
    ),
    "selftest": Entry("checks:selftest", "Call a live site as mail programs do."),
    "sign-up-form": Entry(
        "sign_up:sign_up_form", "Print the sign-up form as plain HTML, to be pasted into a page of your own."
    ),
    "topic": Entry("catalog:topic_group", "What people can choose."),
    "unsuppress": Entry(
        "suppressions:unsuppress",
        "Let ADDRESS be written to again after a bounce, a complaint, an invalid address or a legal hold.",
    ),
    "worker": Entry(
        "sync:worker", "Keep every connector and every feed in step until stopped. Run any number of them."
    ),
}

WITHOUT_SETTINGS: Final = frozenset({"init", "lint-eml"})
"""Commands that run without settings, but read them if present."""

DEVELOPERS: Final = (flask_cli.run_command, flask_cli.shell_command, flask_cli.routes_command)
"""Flask's own commands, hidden in the help."""


class LazyCommand(click.Command):
    """Imports its command's module on use or `--help`."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help)
        self._place = entry.place

    def load(self) -> click.Command:
        module, _, name = self._place.partition(":")
        command: click.Command = getattr(import_module(f"preferences.cli.{module}"), name)
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        return self.load().make_context(*args, **kwargs)


def register(app: Flask) -> None:
    """Add all commands, and hide Flask's own from the help."""
    for name, entry in ENTRIES.items():
        app.cli.add_command(LazyCommand(name, entry))
    plugins = [point.load() for point in entry_points(group="flask.commands") if point.name not in ENTRIES]
    for command in (*DEVELOPERS, *plugins):
        command.hidden = True


def words(argv: Sequence[str]) -> list[str] | None:
    """The command line of `flask`. None if another program calls the commands."""
    program = Path(argv[0])
    is_flask = program.stem == "flask" or (program.name == "__main__.py" and program.parent.name == "flask")
    return list(argv[1:]) if is_flask else None


def is_help(words: Sequence[str] | None) -> bool:
    return words is not None and (not words or "--help" in words)


def needs_pages(words: Sequence[str] | None) -> bool:
    """Whether the command needs the site's routes, as Flask's own do."""
    entry = ENTRIES.get(words[0]) if words else None
    return entry is None or entry.has_pages


def needs_settings(words: Sequence[str] | None) -> bool:
    return not words or words[0] not in WITHOUT_SETTINGS
