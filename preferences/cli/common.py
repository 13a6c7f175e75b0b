"""Shared by all commands: errors, progress bars, argument checks.

Invariant: bad input gives one line on standard error and exit code 1.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from flask.cli import AppGroup

from preferences.domain.errors import PreferencesError
from preferences.store.transactions import StoreFault

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def fail(message: str) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(1)


class Command(click.Command):
    """Reports usage errors in one line."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            fail(" ".join(error.format_message().split()))


class Group(AppGroup):
    """Reports usage errors in one line."""

    command_class = Command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            if not self.invoke_without_command:
                raise
            fail(" ".join(error.format_message().split()))


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print our own errors in one line. Others keep their traceback."""
    try:
        yield
    except PreferencesError as error:
        fail(str(error))
    except StoreFault as error:
        fail(f"the database refused it ({error}); has `flask db upgrade` been run? `flask doctor` looks")


@contextmanager
def progress_bar(label: str, total: int | None = None, unit: str = "rows") -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, a line a minute elsewhere. Yields a function to call with the number of rows just done."""
    from tqdm import tqdm

    on_terminal = sys.stderr.isatty()
    interval, delay = (0.1, 0.5) if on_terminal else (60.0, 60.0)
    with tqdm(
        desc=label,
        total=total,
        unit=f" {unit}",
        mininterval=interval,
        delay=delay,
        ascii=not on_terminal,
        leave=on_terminal,
    ) as bar:

        def advance(done: int) -> None:
            bar.update(done)

        yield advance


def check_output(path: Path, *, force: bool, source: Path | None = None) -> None:
    """Fail if the folder is missing, the file exists, or it is the input file."""
    if source is not None and path.resolve() == source.resolve():
        fail("what is read and what is written must be different files")
    if not path.parent.is_dir():
        fail(f"there is no folder {path.parent}")
    if os.path.lexists(path) and not force:
        fail(f"{path} is there already; give another name, or --force to write over it")


def encoding_of(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        "a".encode(value)
    except (LookupError, UnicodeError):
        raise click.BadParameter("there is no such encoding; try utf-8 or latin-1", param=parameter) from None
    return value


FOR_SPREADSHEETS: Final = "Make cells harmless that a spreadsheet program would calculate; alters them."


def slug_of(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not SLUG.fullmatch(value):
        raise click.BadParameter("use small letters, digits and hyphens, such as product-news", param=parameter)
    return value


def choice(kind: Any) -> click.Choice[Any]:
    return click.Choice([member.value for member in kind], case_sensitive=False)
