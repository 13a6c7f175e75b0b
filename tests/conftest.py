"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient

from preferences.current import services_of
from preferences.services import Services
from tests import profiles
from tests.mail_sink import MailSink
from tests.servers import PostgresServer, chromium_path, postgresql_binaries
from tests.support import close, give_back, new_app, new_postgresql, new_sqlite

if TYPE_CHECKING:
    from playwright.sync_api import Browser

profiles.load()

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",  # root cannot have one, and the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # The rest keeps the browser from calling its maker.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they use, so that `-m "not browser"` needs no marks by hand."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "browser" in fixtures:
            item.add_marker(pytest.mark.browser)
        if "postgres" in fixtures or "postgresql" in _parameters(item):
            item.add_marker(pytest.mark.postgresql)


def _parameters(item: pytest.Item) -> list[object]:
    return list(item.callspec.params.values()) if hasattr(item, "callspec") else []


def do_without(what: str) -> NoReturn:
    """Skip on a machine that lacks something; in CI a missing server would hide what is not tested."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL, started when the first test asks for it, one for each xdist worker."""
    if postgresql_binaries() is None:
        do_without("no PostgreSQL found: set TEST_PG_BIN or install the package postgresql")
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A running Chromium, started when the first test asks for it. Each test opens its own context."""
    path = chromium_path()
    if path is None:
        do_without("no Chromium found: install the package chromium")
    # Late, because importing it takes longer than most tests.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database without contacts: every test that asks for it runs on both engines."""
    if request.param == "sqlite":
        yield new_sqlite(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = new_postgresql(server)
    yield url
    give_back(server, url)


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """The application, on both engines."""
    app = new_app(database_url)
    yield app
    close(app)


@pytest.fixture
def services(app: Flask) -> Services:
    """The application's parts, on both engines."""
    return services_of(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Somebody who calls, on both engines. Goes through the front, as a real call does."""
    return app.test_client()


@pytest.fixture
def sqlite_app(tmp_path: Path) -> Iterator[Flask]:
    """The application on SQLite alone, for what does not depend on the engine."""
    app = new_app(new_sqlite(tmp_path))
    yield app
    close(app)


@pytest.fixture
def mail() -> Iterator[MailSink]:
    """A mail server that keeps what it gets. An application that shall use it is made with `smtp_url=mail.url`."""
    with MailSink() as sink:
        yield sink


@pytest.fixture
def mailing_app(database_url: str, mail: MailSink) -> Iterator[Flask]:
    """The application with a mail server, on both engines. `send_emails` sends what waits."""
    app = new_app(database_url, smtp_url=mail.url)
    yield app
    close(app)
