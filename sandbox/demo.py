"""`make run`: prepares a demo in `instance/`, then hands over to honcho, which runs the Procfile.

Owns the demo's settings and its people. Invariants: keys and data are made once and kept; a setting that
the environment gives wins; what fails is said in one clear line, before anything runs.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sandbox import offers
from sandbox.config import CONTACTS_FILE
from sandbox.platform_api import PREFIX

ROOT: Final = Path(__file__).resolve().parent.parent
INSTANCE: Final = Path("instance")
SETTINGS_FILE: Final = INSTANCE / "demo.env"
DATABASE_FILE: Final = INSTANCE / "demo.db"
DKIM_KEY_FILE: Final = INSTANCE / "demo-dkim.pem"
CONNECTORS_FILE: Final = INSTANCE / "demo.toml"
"""Not `config.toml`, which is for a site of one's own in the same folder: it would lack the demo's secrets."""

INTERRUPTED: Final = 130
"""What a program ends with that was stopped by Ctrl-C, by the custom of shells."""

API_KEY: Final = "PREFERENCES_API_KEY"

CONNECTORS: Final = """\
# The demo's platform: email, text messages and post. `make run` keeps its port right, and changes nothing else here.
[connectors.sandbox]
kind = "webhook"
base_url = "{base_url}"
api_key = {{ env = "SANDBOX_API_KEY" }}
signing_secrets = [{{ env = "SANDBOX_SIGNING_SECRET" }}]
webhook_secrets = [{{ env = "SANDBOX_WEBHOOK_SECRET" }}]

[connectors.sandbox.options]
search = true

[connectors.sandbox.topics]
"product-news" = "product-news"
"offers" = "offers"
"workshop-evenings" = "workshop-evenings"
"catalogue" = "catalogue"
"*" = "global"
"""

GIVE_COMMANDS: Final = """\
import json, sys
from flask.cli import cli
for words in json.load(sys.stdin):
    cli.main(words, prog_name="flask", standalone_mode=False)
"""
"""Many commands in one process: each needs a second to start on its own."""


def main() -> None:
    os.chdir(ROOT)
    ports = _ports(os.environ)
    _check_ports(ports)
    INSTANCE.mkdir(exist_ok=True)
    kept = _read_settings()
    settings = _settings(kept, ports)
    if settings["DATABASE_URL"] != kept.get("DATABASE_URL"):
        settings.pop(API_KEY, None)  # it stands in the other database
    _write_settings(settings)
    _write_connectors(settings)
    _make_dkim_key()
    _prepare(settings)
    print("Starting ...", flush=True)
    os.execve(sys.executable, [sys.executable, "-m", "honcho", "start"], _environment(settings))


def _ports(env: Mapping[str, str]) -> dict[str, int]:
    """The ports to listen on, by the variable that changes each."""
    usual = {"WEB_PORT": "8000", "SANDBOX_PORT": "8025", "SANDBOX_SMTP_PORT": "8026"}
    given = {name: env.get(name) or port for name, port in usual.items()}
    for name, port in given.items():
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            _stop(f"{name} must be the number of a port, such as {usual[name]}.")
    return {name: int(port) for name, port in given.items()}


def _check_ports(ports: Mapping[str, int]) -> None:
    for name, port in ports.items():
        with socket.socket() as probe:
            # As the servers themselves do: a port that was closed a moment ago is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                _stop(f"Port {port} is taken. Stop what uses it, or take another: {name}={port + 100} make run")


def _read_settings() -> dict[str, str]:
    if SETTINGS_FILE.exists():
        lines = SETTINGS_FILE.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    if DATABASE_FILE.exists() and "FINGERPRINT_KEYS" not in os.environ:
        _stop(f"{DATABASE_FILE} is useless without its keys in {SETTINGS_FILE}: bring these back, or remove it.")
    return {}


def _settings(kept: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """Every setting of the demo: from the environment, else as kept, else new. Addresses follow the ports."""
    web, sandbox, smtp = ports.values()
    fixed = {
        **{name: str(port) for name, port in ports.items()},
        "PUBLIC_URL": f"http://127.0.0.1:{web}",
        "PREFERENCES_URL": f"http://127.0.0.1:{web}",
        "SMTP_URL": f"smtp://127.0.0.1:{smtp}",
        "DATABASE_URL": f"sqlite:///{DATABASE_FILE}",
        "CONFIG_FILE": str(CONNECTORS_FILE),
        "SANDBOX_URL": f"http://127.0.0.1:{sandbox}",
        "SANDBOX_DATABASE": str(INSTANCE / "sandbox.db"),
        "SANDBOX_FIRST_NEWSLETTER": "product-news",
        "SANDBOX_DKIM_FILE": str(DKIM_KEY_FILE),
    }
    made = {
        **{name: secrets.token_urlsafe(32) for name in ("SECRET_KEYS", "LINK_KEYS", "FINGERPRINT_KEYS")},
        "SANDBOX_API_KEY": secrets.token_urlsafe(32),
        "SANDBOX_SIGNING_SECRET": _webhook_secret(),
        "SANDBOX_WEBHOOK_SECRET": _webhook_secret(),
    }
    merged = made | dict(kept) | fixed
    return {name: os.environ.get(name) or value for name, value in merged.items()}


def _webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _write_settings(settings: Mapping[str, str]) -> None:
    """Keep the settings, readable for their owner alone, and whole even if the power fails meanwhile."""
    fresh = SETTINGS_FILE.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("# Made by `make run`. For commands of your own:  set -a; . instance/demo.env; set +a\n")
        file.writelines(f"{name}={value}\n" for name, value in settings.items())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(SETTINGS_FILE)


def _write_connectors(settings: Mapping[str, str]) -> None:
    """Tell the preference center about the platform: a new file if there is none, else the right port."""
    path = Path(settings["CONFIG_FILE"])
    base_url = settings["SANDBOX_URL"] + PREFIX
    if not path.exists():
        path.write_text(CONNECTORS.format(base_url=base_url))
        return
    text = path.read_text()
    right = re.sub(rf'"http://127\.0\.0\.1:\d+{PREFIX}"', f'"{base_url}"', text)
    if right != text:
        path.write_text(right)


def _make_dkim_key() -> None:
    """What the company signs its mails with, and the public half, which a real company has in its DNS."""
    if DKIM_KEY_FILE.exists():
        return
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    DKIM_KEY_FILE.with_suffix(".pub").write_bytes(public)
    with os.fdopen(os.open(DKIM_KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)


def _prepare(settings: dict[str, str]) -> None:
    """Bring the database up to date, and fill it if it is new.

    The company's API key comes last: while there is none, a start begins from the top again, and every step may be
    repeated.
    """
    flask = _Flask(_environment(settings))
    flask("db", "upgrade")
    if API_KEY in settings:
        return
    print("Preparing the demo: two brands, a dozen made-up people ...", flush=True)
    flask.give(offers.commands())
    flask("import", str(CONTACTS_FILE.relative_to(ROOT)))
    # A name of its own each time: after a start that was cut off here, `demo` would be taken, and its key unknown.
    settings[API_KEY] = flask("api-key", "create", f"demo-{secrets.token_hex(3)}").strip()
    _write_settings(settings)


class _Flask:
    """Runs commands of the preference center: on its own command line, as anybody would."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, *words: str) -> str:
        """What the command printed. Stops with what it said if it fails."""
        return self._run([sys.executable, "-m", "flask", *words], f"`flask {' '.join(words[:2])}` failed")

    def give(self, commands: Sequence[Sequence[str]]) -> None:
        """Run many. Stops with what the first that fails said."""
        self._run([sys.executable, "-c", GIVE_COMMANDS], "The demo could not be prepared", given=json.dumps(commands))

    def _run(self, program: Sequence[str], when_it_fails: str, given: str | None = None) -> str:
        done = subprocess.run(program, env=self._environment, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            _stop(f"{when_it_fails}:\n{(done.stderr or done.stdout).strip()}")
        return done.stdout


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """For the programs that we start: all settings, and the commands of this .venv."""
    commands = str(Path(sys.executable).parent)
    return {**os.environ, **settings, "PATH": os.pathsep.join([commands, os.environ.get("PATH", os.defpath)])}


def _stop(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
