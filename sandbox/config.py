"""Settings of the sandbox, and the made-up people it plays with.

Invariant: nothing else here reads the environment.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

CONTACTS_FILE: Final = Path(__file__).with_name("demo-contacts.csv")


@dataclass(frozen=True, slots=True)
class Person:
    """A customer of the company: a name for the salutation, and one email address."""

    name: str
    address: str


class MissingSettings(Exception):
    """The environment lacks something; the message names every variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that the sandbox needs to know.

    The platform accepts pushes signed with `signing_secret` and lists its suppressions to whoever shows `api_key`;
    it signs its own webhooks with `webhook_secret`. The company calls the preference center with
    `preferences_api_key`. `first_newsletter` names a topic to send once, as soon as the preference center answers.
    With `dkim_key`, a private key as PEM, the company signs its mails.
    """

    preferences_url: str
    preferences_api_key: str
    api_key: str
    signing_secret: str
    webhook_secret: str
    people: tuple[Person, ...]
    database: str = ":memory:"
    first_newsletter: str | None = None
    first_retry_seconds: float = 1.0
    dkim_key: bytes | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the settings. Raises MissingSettings with all that is missing, not only the first."""
        needed = ("PREFERENCES_API_KEY", "SANDBOX_API_KEY", "SANDBOX_SIGNING_SECRET", "SANDBOX_WEBHOOK_SECRET")
        if missing := [name for name in needed if not env.get(name)]:
            raise MissingSettings(f"not set: {', '.join(missing)} (`make run` sets them for the demo)")
        return cls(
            preferences_url=env.get("PREFERENCES_URL", f"http://127.0.0.1:{env.get('WEB_PORT', '8000')}"),
            preferences_api_key=env["PREFERENCES_API_KEY"],
            api_key=env["SANDBOX_API_KEY"],
            signing_secret=env["SANDBOX_SIGNING_SECRET"],
            webhook_secret=env["SANDBOX_WEBHOOK_SECRET"],
            people=read_people(CONTACTS_FILE),
            database=env.get("SANDBOX_DATABASE", ":memory:"),
            first_newsletter=env.get("SANDBOX_FIRST_NEWSLETTER"),
            dkim_key=_read_key(env.get("SANDBOX_DKIM_FILE")),
        )


def _read_key(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def read_people(path: Path) -> tuple[Person, ...]:
    """Everybody with an email address in a file that the preference center can import, in its order."""
    with path.open(newline="", encoding="utf-8") as file:
        addresses = dict.fromkeys(row["address"] for row in csv.DictReader(file) if row["channel"] == "email")
    return tuple(Person(name_from(address), address) for address in addresses)


def name_from(address: str) -> str:
    """A name to greet with: `rosa.lind@example.com` is Rosa Lind."""
    return address.partition("@")[0].replace(".", " ").title()
