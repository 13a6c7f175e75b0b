"""Signing in with a real browser: by code, by link, with a real provider, and in a frame of the company's page."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import requests
from flask import Flask

from preferences.current import services_of
from preferences.domain.vocabulary import KeyScope
from tests.journeys.looks import MOST_BYTES, NARROW, WIDE, button, heading, opened, overflow, small_targets, violations
from tests.mail_sink import MailSink
from tests.processes import Installation
from tests.support import add_contact, api_headers, close, email, new_app, new_sqlite

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oidc_provider_mock

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The provider that we test against uses a part of its library that is to go.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ELSEWHERE = "Sign in with your Maple & Finch account"
CONFIG = """
[sign_in.shop]
issuer = "http://localhost:{port}"
client_id = "preferences"
client_secret = "secret-of-the-client"
label = "{label}"
"""


class Shop:
    """The company's own site: one page, in which ours stands in a frame."""

    def __init__(self) -> None:
        self.framed = ""
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = (
                    f'<!doctype html><title>Shop</title><iframe width="900" height="900" src="{shop.framed}">'.encode()
                )
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass(frozen=True)
class World:
    """A running site with a mailbox, a provider and a shop around it."""

    installation: Installation
    app: Flask
    mail: MailSink
    shop: Shop
    stranger: Shop

    @property
    def url(self) -> str:
        """Where the site is."""
        return self.installation.url

    def hand_off(self, address: str, name: str) -> str:
        """What the shop asks for on somebody's behalf."""
        headers = api_headers(services_of(self.app), name, scopes={KeyScope.HAND_OFFS, KeyScope.RETURNS})
        answer = requests.post(f"{self.url}/api/v1/hand-offs", json={"address": address}, headers=headers, timeout=10)
        return str(answer.json()["url"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All of it, started."""
    folder = tmp_path_factory.mktemp("signing-in")
    people = [
        oidc_provider_mock.User(sub=name, claims={"email": f"{name}@example.com", "email_verified": True})
        for name in ("paula", "nobody")
    ]
    shop, stranger = Shop(), Shop()
    with MailSink() as mail, oidc_provider_mock.run_server_in_thread(user_claims=people) as provider:
        config = CONFIG.format(port=provider.server_port, label=ELSEWHERE)
        around = {"SMTP_URL": mail.url, "EMBED_ORIGINS": shop.url}
        with Installation(folder, new_sqlite(folder), connectors=config, **around) as installation:
            installation.web.start()
            installation.worker.start()
            app = new_app(installation.settings.database_url, public_url=installation.url)
            for name in ("carla", "linda", "paula", "frida", "walter"):
                add_contact(services_of(app), email(f"{name}@example.com"))
            yield World(installation, app, mail, shop, stranger)
            close(app)
    shop.close()
    stranger.close()


@pytest.fixture
def page(browser: Browser, world: World) -> Iterator[Page]:
    """A browser without script. One cookie is all that signing in needs."""
    with opened(browser, java_script_enabled=False, viewport=WIDE) as page:
        page.context.set_default_timeout(15_000)
        yield page


def ask(page: Page, world: World, address: str) -> None:
    page.goto(f"{world.url}/sign-in")
    page.get_by_label("Email address").fill(address)
    button(page, "Email me a code").click()
    page.get_by_role("heading", name="Check your email").wait_for()


def is_on_own_page(page: Page, world: World) -> bool:
    page.wait_for_url(re.compile(rf"{world.url}/account/(\?lang=en)?$"))
    return button(page, "Sign out").is_visible()


def test_sign_in_by_code_and_out_with_the_keyboard_alone(page: Page, world: World) -> None:
    page.goto(f"{world.url}/sign-in")
    page.get_by_label("Email address").focus()
    page.keyboard.type("carla@example.com")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Check your email").wait_for()
    code = world.mail.wait_for("carla@example.com").code
    page.get_by_label("Six-digit code").focus()
    page.keyboard.type(f"{code[:3]} {code[3:]}")
    page.keyboard.press("Enter")

    assert is_on_own_page(page, world)
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("preferences-session", True, "Lax")

    button(page, "Sign out").click()
    page.get_by_role("heading", name="You are signed out").wait_for()
    assert page.context.cookies() == []
    page.goto(f"{world.url}/account/")
    assert heading(page) == "Sign in"


def test_reloading_the_code_page_sends_no_second_email(page: Page, world: World) -> None:
    before = len(world.mail.to("carla@example.com"))
    ask(page, world, "carla@example.com")
    sent = world.mail.wait_for("carla@example.com", before + 1).code
    page.reload()
    page.get_by_role("link", name="Get another code").click()
    page.go_back()
    page.get_by_role("heading", name="Check your email").wait_for()
    page.get_by_label("Six-digit code").fill(sent)
    button(page, "Sign in").click()
    assert is_on_own_page(page, world)


def test_sign_in_by_the_link_in_the_email(page: Page, world: World) -> None:
    ask(page, world, "linda@example.com")
    link = world.mail.wait_for("linda@example.com").url
    page.goto(link)
    assert page.context.cookies() == []
    button(page, "Sign in").click()
    assert is_on_own_page(page, world)
    page.goto(link)
    button(page, "Sign in").click()
    assert heading(page) == "This link was already used"


def test_sign_in_with_an_account_elsewhere(page: Page, world: World) -> None:
    page.goto(f"{world.url}/sign-in")
    button(page, ELSEWHERE).click()
    page.get_by_role("heading", name="Authorize Client").wait_for()
    button(page, "paula").click()
    assert is_on_own_page(page, world)


def test_declining_at_the_provider_shows_another_way(page: Page, world: World) -> None:
    page.goto(f"{world.url}/sign-in")
    button(page, ELSEWHERE).click()
    button(page, "Deny").click()
    page.get_by_role("heading", name="You are not signed in").wait_for()
    page.get_by_role("link", name="Get a new code").click()
    assert heading(page) == "Sign in"


def test_a_hand_off_in_a_frame_of_the_companys_page(page: Page, world: World) -> None:
    world.shop.framed = world.hand_off("frida@example.com", "shop")
    page.goto(world.shop.url)
    frame = page.frame_locator("iframe")
    frame.get_by_role("button", name="See my preferences").click()
    frame.get_by_role("button", name="Sign out", exact=True).click()
    frame.get_by_role("heading", name="You are signed out").wait_for()


def test_another_sites_frame_shows_nothing(page: Page, world: World) -> None:
    world.stranger.framed = world.hand_off("frida@example.com", "another")
    page.goto(world.stranger.url)
    page.wait_for_timeout(500)
    assert page.frame_locator("iframe").get_by_role("button").count() == 0
    page.goto(world.stranger.framed)
    assert button(page, "See my preferences").is_visible(), "it was a good one"


def test_every_state_is_accessible_and_fits_a_small_screen(browser: Browser, world: World) -> None:
    problems: dict[str, list[str]] = {}
    with opened(browser, bypass_csp=True, reduced_motion="reduce", viewport=WIDE) as page:
        page.context.set_default_timeout(15_000)

        def look(name: str) -> None:
            found = violations(page) + ["too big"] * (len(page.content().encode()) > MOST_BYTES)
            page.set_viewport_size(NARROW)
            found += small_targets(page) + [f"{overflow(page)} px too wide"] * (overflow(page) > 0)
            page.set_viewport_size(WIDE)
            if found:
                problems[name] = found

        for query in ("", "?lang=ar"):
            page.goto(f"{world.url}/sign-in{query}")
            look(f"ask {query}")
            page.locator("form.address button").click()
            look(f"mistake {query}")
            page.locator("#address").fill("walter@example.com")
            page.locator("form.address button").click()
            look(f"code {query}")
            for number in range(3):
                page.locator("#code").fill("000000")
                page.locator("#code").press("Enter")
                page.wait_for_load_state()
                look(f"wrong code {number} {query}")
            page.goto(f"{world.url}/sign-in/link/junk{query}")
            look(f"no link {query}")
            page.goto(world.hand_off("walter@example.com", f"walk {query}") + query)
            look(f"hand-off {query}")
            page.goto(world.mail.wait_for("walter@example.com", 2 if query else 1).url.partition("?")[0] + query)
            look(f"link {query}")
            page.locator("main button").click()
            page.locator(".rooms button").click()
            look(f"signed out {query}")
        page.goto(f"{world.url}/sign-in")
        button(page, ELSEWHERE).click()
        button(page, "nobody").click()
        page.get_by_role("heading", name="We have no record of this address").wait_for()
        look("nobody")
    assert problems == {}
