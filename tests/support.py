"""What tests build the site from: settings, migrated databases, topics, contacts and links.

Knows nothing of pytest, so that the benchmark and the screenshots use it too.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import Engine
from werkzeug.routing import Rule

from preferences import cli
from preferences.address_parsing import read_address
from preferences.cli.database import MIGRATIONS, add_migrations
from preferences.config import Settings
from preferences.current import services_of
from preferences.domain.permission import Message
from preferences.domain.records import Address, Brand, Topic
from preferences.domain.vocabulary import DEFAULT_SCOPES, Basis, Channel, KeyScope, MessageClass, OneClick
from preferences.factory import create_app
from preferences.mail.outbox import OutboxWorker
from preferences.sending import decide
from preferences.sending.scope import catalog_for, get_topic
from preferences.services import Services
from preferences.store import contacts
from preferences.store.api_keys import create_key
from preferences.store.catalog import add_topic, save_brand
from preferences.tokens import ManageLink, UnsubscribeLink
from tests.databases import Databases
from tests.servers import PostgresServer

PUBLIC_URL = "https://preferences.example.test"
BRAND = Brand(
    slug="default",
    name="Maple & Finch",
    postal_address="12 Harbour Lane, Portland, ME 04101, USA",
    contact_email="hello@maple-and-finch.example",
    one_click=OneClick.EVERYTHING,
)
TOPICS = (
    Topic(
        slug="product-news",
        brand="default",
        name="Product news",
        description="What is new in the shop.",
        frequency="About twice a month",
        message_class=MessageClass.MARKETING,
        basis=Basis.LEGITIMATE_INTEREST,
        channels=(Channel.EMAIL, Channel.SMS),
    ),
    Topic(
        slug="offers",
        brand="default",
        name="Offers",
        description="Reduced prices.",
        frequency="Once a week",
        message_class=MessageClass.MARKETING,
        basis=Basis.CONSENT,
        channels=(Channel.EMAIL,),
    ),
    Topic(
        slug="receipts",
        brand="default",
        name="Receipts",
        description="What you bought.",
        frequency="With each order",
        message_class=MessageClass.TRANSACTIONAL,
        basis=Basis.CONTRACT,
        channels=(Channel.EMAIL,),
    ),
)

_names = itertools.count(1)
_donors: dict[str, Engine] = {}


def settings(database_url: str, **changes: Any) -> Settings:
    """Settings for a test: fixed keys, no connectors unless a file is named."""
    values: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "secret_keys": ("session-key-of-the-tests",),
        "link_keys": ("link-key-of-the-tests-01",),
        "fingerprint_keys": ("fingerprint-key-of-tests",),
        "database_url": database_url,
        "config_file": Path("no-such-file.toml"),
        "trusted_hosts": ("localhost", "127.0.0.1"),  # what Flask's test client calls, and what tests with a server do
    }
    return Settings(**(values | changes))


def migrate(database_url: str) -> None:
    """Bring an empty database to the newest tables, and fill in the brand and the topics."""
    app = new_app(database_url)
    with app.app_context():
        upgrade(directory=str(MIGRATIONS))
        database = services_of(app).database
        now = datetime.now(UTC)
        database.save(save_brand, BRAND, now)
        for topic in TOPICS:
            database.save(add_topic, topic, now)
        database.engine.dispose()


@cache
def _sqlite_template() -> Path:
    path = Path(tempfile.mkdtemp(prefix="preferences-template-")) / "template.db"
    migrate(f"sqlite:///{path}")
    return path


def new_sqlite(folder: Path) -> str:
    """The URL of a fresh, migrated SQLite database in the folder."""
    path = folder / f"preferences-{next(_names)}.db"
    shutil.copy(_sqlite_template(), path)
    return f"sqlite:///{path}"


def new_postgresql(server: PostgresServer) -> str:
    """The URL of a fresh, migrated PostgreSQL database on the server."""
    return _databases_of(server).take()


def give_back(server: PostgresServer, url: str) -> None:
    """Let the next caller of `new_postgresql` have this database, as it was when it was new."""
    _databases_of(server).give_back(url)


@cache
def _databases_of(server: PostgresServer) -> Databases:
    return Databases(server, migrate)


def _compile_routes_once() -> None:
    """Let all applications of this process share Werkzeug's compiled routes: half of the time that making one takes."""
    compile_builder = Rule._compile_builder
    built: dict[object, Callable[..., tuple[str, str]]] = {}

    def compile_once(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key = (tuple(rule._trace), repr(rule.defaults), append_unknown)
        if key not in built:
            built[key] = compile_builder(rule, append_unknown)
        return built[key]

    Rule._compile_builder = compile_once  # type: ignore[assignment, method-assign]


_compile_routes_once()


def _share_compiled_statements(engine: Engine) -> None:
    """Let all applications of this process share the statements that SQLAlchemy compiled.

    It keeps them by engine and dialect. A dialect is shared once it was connected, and knows what its server can do.
    """
    donor = _donors.get(engine.dialect.name)
    if donor is None or cast("Any", donor.dialect).server_version_info is None:
        _donors[engine.dialect.name] = engine
        return
    engine.dialect = donor.dialect
    engine._compiled_cache = donor._compiled_cache


def new_app(database_url: str, **changes: Any) -> Flask:
    """The application on this database."""
    app = create_app(settings(database_url, **changes))
    cli.register(app)
    for value in vars(services_of(app).database).values():
        if isinstance(value, Engine):
            _share_compiled_statements(value)
    add_migrations(app)
    return app


def close(app: Flask) -> None:
    """Close every connection to the database."""
    services_of(app).database.engine.dispose()


def email(text: str = "jane.doe@example.com") -> Address:
    """An email address in normal form."""
    return read_address(Channel.EMAIL, text)


def add_contact(services: Services, address: Address | None = None) -> UUID:
    """A contact with this address; the same one if somebody has it already."""
    address = address or email()
    found = services.database.write(contacts.find_or_create, [address], services.fingerprints, datetime.now(UTC))
    contact_id = found[address].contact_id
    assert contact_id is not None
    return contact_id


def link_for(services: Services, contact_id: UUID, topic: str = "product-news", message_ref: str = "") -> str:
    """The path of an unsubscribe link."""
    token = services.links.sign_unsubscribe(UnsubscribeLink(contact_id, Channel.EMAIL, "default", topic, message_ref))
    return f"/u/{token}"


def message_about(
    services: Services, topic: str, channel: Channel = Channel.EMAIL, *, message_class: MessageClass | None = None
) -> Message:
    """A message about the topic, or the purpose, of this slug."""
    known = get_topic(catalog_for(services, topic), topic, channel=channel, brand=None, purposes=True)
    return decide.message_about(known, channel, message_class=message_class)


def api_headers(
    services: Services, name: str = "shop", *, scopes: Collection[KeyScope] = DEFAULT_SCOPES
) -> dict[str, str]:
    """The headers of a call to the API by a new key."""
    key = services.database.save(create_key, name, datetime.now(UTC), scopes)
    return {"Authorization": f"Bearer {key}"}


def manage_link_for(
    services: Services, contact_id: UUID, *, channel: Channel = Channel.EMAIL, brand: str = "default"
) -> str:
    """The path of a manage link made just now."""
    link = ManageLink(contact_id, channel, brand, datetime.now(UTC))
    return f"/p/{services.links.sign_manage(link)}"


def send_emails(services: Services) -> None:
    """Send every email in the outbox, as the worker does."""
    worker = OutboxWorker(services)
    while worker():
        pass
