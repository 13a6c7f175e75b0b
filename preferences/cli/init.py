"""The command that writes a settings file.

Invariants: keys are new and readable only by the owner; no file is replaced.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from preferences.cli.common import Command, fail
from preferences.config import SETTINGS_FILE, Settings
from preferences.domain.errors import Misconfigured

DATABASE: Final = Path("instance/preferences.db")

TEMPLATE: Final = """\
# The settings of this preference center, made by `flask init`. docs/operator.md explains each.
# Load them into a shell:  set -a; . {file}; set +a
# systemd reads this file as well: EnvironmentFile=. Keep a copy of it where the database is not. Put a value that holds
# anything but letters, digits and . , : / @ - _ = into single quotes.

# Where recipients reach the site: the beginning of every link. https, or http on this machine alone.
PUBLIC_URL={public_url}

# Each list: the oldest key first, commas between; the last one is used. Never take away a key of the last two lists:
# links in old mails would stop working, and people who must not be written to would be forgotten.
SECRET_KEYS={secret_keys}
LINK_KEYS={link_keys}
FINGERPRINT_KEYS={fingerprint_keys}

# Where everything is kept. PostgreSQL: postgresql://user@host/name
DATABASE_URL=sqlite:///instance/preferences.db

# The mail server for the center's own mail, such as codes to sign in with. Without it none is sent.
# For a trial: `make run` starts a mail server on this port, which delivers to the mailbox at http://127.0.0.1:8025/mailbox
# SMTP_URL=smtp://127.0.0.1:8026

# How many reverse proxies stand in front of the site.
# TRUSTED_PROXIES=1
"""


@click.command("init", cls=Command)
@click.argument("file", type=click.Path(path_type=Path), default=SETTINGS_FILE)
@click.option(
    "--public-url",
    default="http://localhost:8000",
    show_default=True,
    help="Where recipients reach the site, such as https://preferences.example.com.",
)
def init(file: Path, public_url: str) -> None:
    """Write a settings FILE with fresh keys (instance/settings.env if none is named). It replaces nothing.

    \b
    Example:
      flask init --public-url https://preferences.example.com
    """
    if file == SETTINGS_FILE and DATABASE.exists() and not file.exists():
        fail(
            f"{DATABASE} was made with other keys, and is of no use with fresh ones. Bring back the settings that it "
            "was made with, move it away, or name another file"
        )
    keys = {f"{name}_keys": secrets.token_urlsafe(32) for name in ("secret", "link", "fingerprint")}
    try:
        settings = Settings.from_env({"PUBLIC_URL": public_url, **{name.upper(): key for name, key in keys.items()}})
    except Misconfigured:
        fail("--public-url is an https address, such as https://preferences.example.com, or http://localhost:8000")
    _write(file, TEMPLATE.format(file=_in_shell(file), public_url=settings.public_url, **keys))
    click.echo(f"Wrote {file}, with fresh keys that only you can read. Next:")
    for line in _next_steps(file, settings):
        click.echo(f"  {line}")
    click.echo(f"Then open {settings.public_url}/sign-up. docs/operator.md goes on from there.")


def _next_steps(file: Path, settings: Settings) -> Iterator[str]:
    """The commands to get a first page."""
    commands = Path(sys.executable).parent
    if shutil.which("flask") != str(commands / "flask"):
        yield f'export PATH="{commands}:$PATH"'
    yield f"set -a; . {_in_shell(file)}; set +a"
    yield "flask db upgrade"
    yield (
        'flask brand set default --name "Your company" --postal-address "1 Main Street, Springfield"'
        " --contact-email hello@example.com"
    )
    yield 'flask topic add news --class marketing --basis consent --name "News" --description "What is new."'
    yield f"flask doctor{' --local' if settings.is_local else ''}"
    yield "honcho start web worker      # until Ctrl-C"


def _in_shell(file: Path) -> str:
    """The path for the shell's `.`, which looks up names without a slash on the PATH."""
    return str(file) if "/" in str(file) else f"./{file}"


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(file, flags, 0o600), "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
    except FileExistsError:
        fail(f"{file} is there already, and its keys may be in use; name another file, such as: flask init other.env")
    except OSError as error:
        fail(f"{file} cannot be written ({error.strerror})")
