"""Settings from the environment and the configuration file, as validated types.

Invariant: an error names every problem and never a value, since most are secrets. Each `NAME` can instead be given as
`NAME_FILE`, the path of a file that contains it.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from limits import parse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from preferences.domain.errors import Misconfigured

SHORTEST_KEY: Final = 16
STANDARD_SECRET: Final = f"each must be whsec_ and the base64 of {SHORTEST_KEY} octets or more"

SETTINGS_FILE: Final = Path("instance/settings.env")
"""Written by `flask init`, for a shell or systemd to load."""

_VISIBLE: Final = re.compile(r"[!-~]+")
_HOST_NAME: Final = re.compile(r"[a-z0-9._:-]+")


def _split(value: object) -> object:
    return [part for part in re.split(r"[\s,]+", value) if part] if isinstance(value, str) else value


Table = TypeVar("Table", bound=BaseModel)
Listed = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Settings(BaseModel):
    """The settings of a process, explained in docs/operator.md."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid", defer_build=True)

    public_url: str
    """The public address of the site, which begins every link. https, or http on this machine only."""
    secret_keys: Listed
    """Session and form keys, oldest first; the last signs."""
    link_keys: Listed
    """Link keys, oldest first; the last signs. Removing a key invalidates its links."""
    fingerprint_keys: Listed
    """Fingerprint keys, oldest first; the last is used. Removing a key loses the opt-outs of erased contacts."""
    database_url: str = "sqlite:///instance/preferences.db"
    """`sqlite:///path` or `postgresql://…`."""
    database_pool: Annotated[int, Field(ge=1, le=200)] = 10
    """Maximum database connections per process."""
    config_file: Path = Path("instance/config.toml")
    """The connectors, feeds and sign-in providers. May be missing."""
    rate_limit_url: str = "memory://"
    """Storage of rate limits: `memory://` per process, or shared `redis://…`."""
    api_limit: str = "6000 per minute"
    """Calls per API key, such as `100 per second`. Opt-outs are never limited."""
    smtp_url: str = ""
    """Server for our own email: `smtp://user:password@host:587` or `smtps://…`. None is sent without it."""
    embed_origins: Listed = ()
    """Origins, such as `https://shop.example.com`, that may embed `/account/`."""
    trusted_hosts: Listed = ()
    """Further host names of the site, such as `web.internal`, besides those of brands."""
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
    """Number of reverse proxies in front that set X-Forwarded-For and -Proto."""

    @field_validator("public_url")
    @classmethod
    def _https_or_local(cls, value: str) -> str:
        parts = _url_parts(value, "https://preferences.example.com")
        if parts.scheme == "http" and not _is_local(parts.hostname or ""):
            raise ValueError("must be https: links in mails must not travel in the clear")
        return value.rstrip("/")

    @field_validator("secret_keys", "link_keys", "fingerprint_keys")
    @classmethod
    def _long_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("needs at least one key")
        if any(len(key) < SHORTEST_KEY for key in value):
            raise ValueError(f"each key needs at least {SHORTEST_KEY} characters")
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):
            raise ValueError("must be like sqlite:///path or postgresql://user@host:5432/name") from None
        backend = url.drivername.partition("+")[0]
        if backend not in {"sqlite", "postgresql", "postgres"}:
            raise ValueError("must begin with sqlite:/// or postgresql://")
        if backend == "sqlite" and url.database in {None, "", ":memory:"}:
            raise ValueError("needs a file, such as sqlite:///instance/preferences.db: memory forgets opt-outs")
        return value

    @field_validator("rate_limit_url")
    @classmethod
    def _known_counter(cls, value: str) -> str:
        if value != "memory://" and not value.startswith(("redis://", "rediss://")):
            raise ValueError("must be memory:// or begin with redis://")
        return value

    @field_validator("api_limit")
    @classmethod
    def _known_limit(cls, value: str) -> str:
        try:
            parse(value)
        except ValueError:
            raise ValueError("must be like 6000 per minute") from None
        return value

    @field_validator("smtp_url")
    @classmethod
    def _known_mail_server(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            fine = parts.scheme in {"smtp", "smtps"} and parts.hostname and parts.port != 0
        except ValueError:
            fine = False
        if value and (not fine or parts.path.strip("/") or parts.query not in {"", "tls=required"}):
            raise ValueError("must be like smtp://user:password@mail.example.com:587 or smtps://…")
        return value

    @field_validator("embed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = _url_parts(origin, "https://shop.example.com")
            if parts.path or ";" in origin or (parts.scheme == "http" and not _is_local(parts.hostname or "")):
                raise ValueError("must be origins such as https://shop.example.com, without a path")
        return value

    @field_validator("trusted_hosts")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not _HOST_NAME.fullmatch(name) for name in value):
            raise ValueError("must be names such as web.internal, in small letters and without a port")
        return value

    @property
    def root(self) -> str:
        """The path of the site; empty at the root of a host."""
        return urlsplit(self.public_url).path.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the site."""
        return _is_local(self.host)

    @property
    def host(self) -> str:
        return urlsplit(self.public_url).hostname or ""

    def key_bytes(self, keys: tuple[str, ...]) -> list[bytes]:
        return [key.encode() for key in keys]

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Raises Misconfigured with every problem and no value."""
        values, given_wrong = _given(environment, cls.model_fields)
        problems = list(given_wrong.values())
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False)
            problems += [_problem(detail) for detail in details if given_wrong.keys().isdisjoint(detail["loc"])]
        if problems:
            raise Misconfigured("\n".join(["The settings are not complete:", *problems, *_where_from(problems)]))
        return settings


def _given(environment: Mapping[str, str], fields: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The values by field, and the problems by field."""
    values: dict[str, str] = {}
    problems: dict[str, str] = {}
    for field in fields:
        name = field.upper()
        value, path = environment.get(name), environment.get(f"{name}_FILE")
        if value and path:
            problems[field] = f"  {name}: given twice, as {name} and as {name}_FILE; keep one"
        elif path:
            try:
                values[field] = Path(path).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                problems[field] = f"  {name}_FILE: cannot be read ({_why(error)})"
        elif value:
            values[field] = value
    return values, problems


def _problem(detail: Mapping[str, Any]) -> str:
    name = str(detail["loc"][0]).upper() if detail["loc"] else "settings"
    if detail["type"] == "missing":
        return f"  {name}: is not set"
    return f"  {name}: {str(detail['msg']).removeprefix('Value error, ')}"


def _where_from(problems: Sequence[str]) -> list[str]:
    """How to get missing settings."""
    if not any(problem.endswith("is not set") for problem in problems):
        return []
    if SETTINGS_FILE.exists():
        return [f"{SETTINGS_FILE} has settings; load them first:  set -a; . {SETTINGS_FILE}; set +a"]
    return [f"`flask init` writes them, with fresh keys, to {SETTINGS_FILE}; docs/operator.md explains each."]


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "unknown" if isinstance(error, OSError) else "not text in UTF-8"


def _url_parts(value: str, example: str) -> SplitResult:
    """Like `urlsplit`, whose errors quote the URL and so perhaps a password."""
    try:
        parts = urlsplit(value)
        fine = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not _VISIBLE.fullmatch(value) or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"must be an address such as {example}")
    return parts


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ConnectorSettings(BaseModel):
    """A `[connectors.NAME]` table of the configuration file, secrets resolved."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid", defer_build=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]
    kind: str
    base_url: str
    brand: str = "default"
    label: Annotated[str, Field(max_length=80)] = ""
    """The name that people see, such as in their history. Defaults to the kind's."""
    api_key: str = ""
    signing_secrets: tuple[str, ...] = ()
    webhook_secrets: tuple[str, ...] = ()
    topics: Mapping[str, str] = Field(default_factory=dict)
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Options of this kind, which the connector validates."""

    @field_validator("topics")
    @classmethod
    def _one_list_each(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if len(set(value.values())) != len(value):
            raise ValueError("two topics share a list, so an opt-out of one would stop the other")
        if any(topic.startswith("@") for topic in value):
            raise ValueError("what begins with @ is a purpose, and none is told to a provider")
        return value

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        _url_parts(value, "https://api.example.com")
        return value.rstrip("/")


class SignInSettings(BaseModel):
    """A `[sign_in.NAME]` table: an OpenID provider of the company's customers."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid", defer_build=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]
    issuer: str
    """Exactly as the provider writes it; its metadata is found below this URL."""
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: Annotated[str, Field(min_length=1)]
    label: Annotated[str, Field(min_length=1, max_length=80)]
    """The text of the button."""

    @field_validator("issuer")
    @classmethod
    def _https_or_local(cls, value: str) -> str:
        parts = _url_parts(value, "https://accounts.example.com")
        if parts.scheme == "http" and not _is_local(parts.hostname or ""):
            raise ValueError("must be https: whoever can change what the provider says can sign in as anybody")
        return value


class FeedSettings(BaseModel):
    """A `[feeds.NAME]` table: a receiver of every ledger entry (docs/feed.md)."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid", defer_build=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]
    url: str
    signing_secrets: Annotated[tuple[str, ...], Field(min_length=1)]
    """All of them sign each message, so that the receiver can rotate."""

    @field_validator("url")
    @classmethod
    def _https_or_local(cls, value: str) -> str:
        parts = _url_parts(value, "https://warehouse.example.com/preferences")
        if parts.scheme == "http" and not _is_local(parts.hostname or ""):
            raise ValueError("must be https: it carries addresses")
        return value

    @field_validator("signing_secrets")
    @classmethod
    def _standard_secrets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(is_standard_secret(secret) for secret in value):
            raise ValueError(STANDARD_SECRET)
        return value

    @property
    def cursor(self) -> str:
        """The key of its ledger position. Connector names have no dot."""
        return f"feed.{self.name}"


def is_standard_secret(secret: str) -> bool:
    """Whether this is a symmetric secret of Standard Webhooks."""
    try:
        text = secret.removeprefix("whsec_").rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return False
    return secret.startswith("whsec_") and len(key) >= SHORTEST_KEY


def read_connectors(path: Path, environment: Mapping[str, str]) -> dict[str, ConnectorSettings]:
    """The configured connectors by name. Raises Misconfigured."""
    tables = _tables(path, "connectors", "my-platform")
    return {name: _checked(ConnectorSettings, "connector", name, tables[name], environment) for name in tables}


def read_feeds(path: Path, environment: Mapping[str, str]) -> dict[str, FeedSettings]:
    """The configured feeds by name. Raises Misconfigured."""
    tables = _tables(path, "feeds", "warehouse")
    return {name: _checked(FeedSettings, "feed", name, tables[name], environment) for name in tables}


def read_sign_in(path: Path, environment: Mapping[str, str]) -> dict[str, SignInSettings]:
    """The configured sign-in providers by name. Raises Misconfigured."""
    tables = _tables(path, "sign_in", "my-shop")
    return {name: _checked(SignInSettings, "sign_in", name, tables[name], environment) for name in tables}


def _tables(path: Path, section: str, example: str) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        tables = tomllib.loads(path.read_text()).get(section, {})
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path.name} cannot be read: {error}") from None
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise Misconfigured(f"{path.name}: {section} must be tables, such as [{section}.{example}]")
    return tables


def _checked(
    kind: type[Table], word: str, name: str, table: Mapping[str, Any], environment: Mapping[str, str]
) -> Table:
    try:
        return kind.model_validate({**_resolved(f"{word} {name}", table, environment), "name": name})
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        problems = [f"{'.'.join(map(str, d['loc']))}: {d['msg']}" for d in details]
        raise Misconfigured(f"{word} {name}: {'; '.join(problems)}") from None


def _resolved(where: str, value: Any, environment: Mapping[str, str]) -> Any:
    """The value with each `{ env = "NAME" }` and `{ file = "PATH" }` replaced by the secret."""
    if isinstance(value, list):
        return [_resolved(where, item, environment) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"env"}:
        if not environment.get(str(value["env"])):
            raise Misconfigured(f"{where}: the environment has no {value['env']}")
        return environment[str(value["env"])]
    if value.keys() == {"file"}:
        try:
            return Path(str(value["file"])).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"{where}: {value['file']} cannot be read ({_why(error)})") from None
    return {key: _resolved(where, item, environment) for key, item in value.items()}


def from_process() -> Settings:
    return Settings.from_env(os.environ)
