"""The application factories, for the site and for commands. They only connect components."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any, Final

import structlog
from flask import Flask

from preferences.config import Settings, from_process, read_feeds, read_sign_in
from preferences.connectors import read_checked
from preferences.current import EXTENSION, own_folders, services_of
from preferences.domain.addresses import Fingerprints
from preferences.i18n import Templates
from preferences.ledger.group_commit import Writer
from preferences.services import CatalogCache, Services
from preferences.store.batched_reads import Reader
from preferences.store.engine import make_engine
from preferences.store.transactions import Database
from preferences.tokens import Links

ROOT: Final = Path(__file__).parent.parent
STATIC: Final = Path(__file__).parent / "static"
MOST_BODY: Final = 8 * 1024 * 1024
"""Bytes; a batch of a thousand provider events has about 500,000."""


def create_app(settings: Settings | None = None) -> Flask:
    """The site as a WSGI application."""
    # Imported here, since commands need no pages.
    from preferences import web
    from preferences.web.front import Front
    from preferences.web.proxies import BehindProxies
    from preferences.web.shared.limits import limiter
    from preferences.web.slow_bodies import SlowBodies

    app = create_command_app(settings, static_folder=str(STATIC))
    services = services_of(app)
    app.config.update(**site_options(services.settings))
    web.register(app)
    limiter.init_app(app)
    app.wsgi_app = SlowBodies(Front(app.wsgi_app, services, own_folders(app)))  # type: ignore[method-assign]
    app.wsgi_app = BehindProxies(app.wsgi_app, services.settings.trusted_proxies)  # type: ignore[method-assign]
    return app


def create_command_app(settings: Settings | None = None, *, static_folder: str | None = None) -> Flask:
    """The services without pages, for commands."""
    settings = settings or from_process()
    app = Flask("preferences", static_folder=static_folder)
    app.extensions[EXTENSION] = make_services(
        settings, Database(make_engine(settings.database_url, settings.database_pool))
    )
    return app


def site_options(settings: Settings) -> dict[str, Any]:
    """Flask's configuration. Cookie and form tokens expire with the session."""
    from preferences.web.account.session import SESSION_LIFE

    return {
        "SECRET_KEY": settings.secret_keys[-1],
        "SECRET_KEY_FALLBACKS": list(settings.secret_keys[:-1]),
        "SEND_FILE_MAX_AGE_DEFAULT": 31_536_000,
        "MAX_CONTENT_LENGTH": MOST_BODY,
        "RATELIMIT_STORAGE_URI": settings.rate_limit_url,
        "SESSION_COOKIE_NAME": "preferences-session",
        "SESSION_COOKIE_PATH": f"{settings.root}/",
        "SESSION_COOKIE_SECURE": settings.public_url.startswith("https:"),
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "PERMANENT_SESSION_LIFETIME": SESSION_LIFE,
        "WTF_CSRF_TIME_LIMIT": int(SESSION_LIFE.total_seconds()),
    }


def make_services(settings: Settings, database: Database) -> Services:
    fingerprints = Fingerprints(settings.key_bytes(settings.fingerprint_keys))
    return Services(
        settings=settings,
        database=database,
        fingerprints=fingerprints,
        writer=Writer(database, fingerprints),
        reader=Reader(database),
        links=Links(settings.key_bytes(settings.link_keys)),
        catalog=CatalogCache(database),
        connectors=read_checked(settings.config_file, os.environ),
        feeds=read_feeds(settings.config_file, os.environ),
        sign_in_providers=read_sign_in(settings.config_file, os.environ),
        templates=Templates(ROOT / "templates"),
        style_version=hashlib.sha256(b"".join(map(Path.read_bytes, sorted(STATIC.glob("*.css"))))).hexdigest()[:12],
    )


def configure_logging() -> None:
    """JSON lines on standard output."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
