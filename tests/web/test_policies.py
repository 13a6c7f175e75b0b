"""The headers of each area of the site, read from real responses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.tokens import Ticket
from preferences.web import ROUTES
from preferences.web.policies import ACCOUNT, DOCS, FILES, MACHINES, PUBLIC, Policy
from tests.signed_in import SignedIn
from tests.support import add_contact, api_headers, close, email, link_for, manage_link_for, new_app, new_sqlite

ORIGINS = ("https://shop.example.com", "https://www.example.com")
EVERYWHERE = {
    "Referrer-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
PAGES = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'"
NO_PAGES = "default-src 'none'; form-action 'none'; base-uri 'none'"
UNFRAMED, FRAMED = "frame-ancestors 'none'", f"frame-ancestors {' '.join(ORIGINS)}"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """A site whose owner's pages may frame the account."""
    app = new_app(new_sqlite(tmp_path), embed_origins=ORIGINS)
    yield app
    close(app)


def holds(answer: TestResponse, content_policy: str, *, cache: str = "no-store") -> None:
    assert answer.headers["Content-Security-Policy"] == content_policy, answer.request.path
    assert answer.headers["Cache-Control"] == cache, answer.request.path
    assert {name: answer.headers.get(name) for name in EVERYWHERE} == EVERYWHERE, answer.request.path


def test_public_pages_run_nothing_and_are_never_framed_or_kept(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    contact_id = add_contact(services)
    paths = ["/", "/optout", "/sign-up", "/sign-in", "/link", "/nothing", "/account", "/p/junk", "/confirm/junk"]
    paths += [link_for(services, contact_id), manage_link_for(services, contact_id), "/sign-in/link/junk"]
    for path in paths:
        holds(client.get(path), f"{PAGES}; {UNFRAMED}")
    holds(client.post(link_for(services, contact_id)), f"{PAGES}; {UNFRAMED}")


def test_only_the_named_origins_may_frame_the_account(app: Flask) -> None:
    services = services_of(app)
    contact_id = add_contact(services, email("ada.brook@example.com"))
    token = services.links.sign_hand_off(Ticket(contact_id, datetime.now(UTC)))
    holds(app.test_client().get(f"/sign-in/hand-off/{token}"), f"{PAGES}; {FRAMED}")
    holds(app.test_client().get("/sign-in/hand-off/junk"), f"{PAGES}; {FRAMED}")
    person = SignedIn(app, contact_id)
    for path in ("/account/", "/account/history", "/account/addresses", "/account/notices/junk"):
        holds(person.open(path), f"{PAGES}; {FRAMED}")
    holds(person.press("/account/", intent="all"), f"{PAGES}; {FRAMED}")
    holds(person.press("/sign-in/out"), f"{PAGES}; {FRAMED}")


def test_answers_to_machines_load_and_send_nothing(app: Flask) -> None:
    client, headers = app.test_client(), api_headers(services_of(app))
    for path in ("/api/v1/entries", "/api/v1/topics", "/healthz", "/readyz", "/metrics"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 200
        holds(answer, f"{NO_PAGES}; {UNFRAMED}")
    holds(client.get("/api/v1/entries"), f"{NO_PAGES}; {UNFRAMED}")


def test_an_error_page_of_a_webhook_is_styled_as_every_page(app: Flask) -> None:
    holds(app.test_client().get("/webhooks/nobody"), f"{PAGES}; {UNFRAMED}")


def test_the_docs_are_a_page(app: Flask) -> None:
    for path in ("/api/docs", "/api/openapi.json"):
        holds(app.test_client().get(path), f"{PAGES}; {UNFRAMED}")


def test_files_may_be_cached_and_nothing_else(app: Flask) -> None:
    client = app.test_client()
    style = client.get("/static/style.css", buffered=True)
    holds(style, f"{NO_PAGES}; {UNFRAMED}", cache="public, max-age=31536000")
    holds(client.get("/static/nothing.css"), f"{PAGES}; {UNFRAMED}")


def test_without_origins_nothing_may_be_framed(tmp_path: Path) -> None:
    app = new_app(new_sqlite(tmp_path))
    person = SignedIn(app, add_contact(services_of(app)))
    holds(person.open("/account/"), f"{PAGES}; {UNFRAMED}")
    close(app)


def test_every_area_of_the_route_map_is_tested_here() -> None:
    areas: set[Policy] = {route.policy for route in ROUTES}
    assert areas == {PUBLIC, ACCOUNT, MACHINES, DOCS, FILES}
