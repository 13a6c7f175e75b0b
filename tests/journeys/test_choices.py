"""Every door to a person's choices, from sign-up to a changed address: a real browser, mail server and worker."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import requests

from preferences.current import services_of
from preferences.ledger import verify
from preferences.services import Services
from preferences.store import contact_state
from tests.journeys.looks import (
    MOST_BYTES,
    NARROW,
    WIDE,
    button,
    heading,
    opened,
    overflow,
    small_targets,
    switch,
    violations,
)
from tests.mail_sink import MailSink
from tests.processes import Installation
from tests.support import add_contact, close, email, link_for, manage_link_for, new_app, new_sqlite

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_people = count(1)
Decision = dict[str, Any]


class World:
    """A running site with a worker and a mail server, and a look at it from the side."""

    def __init__(self, installation: Installation, services: Services, mail: MailSink) -> None:
        self.url = installation.url
        self.services = services
        self.mail = mail

    def somebody(self) -> tuple[UUID, str]:
        """A new contact, and their address."""
        address = self.newcomer()
        return add_contact(self.services, email(address)), address

    def newcomer(self) -> str:
        """An address that nobody has."""
        return f"person-{next(_people)}@example.com"

    def email_to(self, address: str, count: int = 1) -> str:
        """The link in the letter that came to this address, once it is there."""
        return self.mail.wait_for(address, count).url

    def choices(self, address: str) -> dict[tuple[str, str], str]:
        """What the owner of this address has chosen, by channel and topic."""
        contact = self.services.database.read(contact_state.state_of, add_contact(self.services, email(address)))
        return {(channel, topic): choice.status for (channel, _, topic), choice in contact.preferences.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("choices")
    with (
        MailSink() as mail,
        Installation(folder, new_sqlite(folder), SMTP_URL=mail.url) as installation,
    ):
        installation.web.start()
        installation.worker.start()
        app = new_app(installation.settings.database_url, public_url=installation.url)
        yield World(installation, services_of(app), mail)
        close(app)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A browser without script. Cookies are there only for who signs in."""
    with opened(browser, java_script_enabled=False, viewport=WIDE) as page:
        yield page


def sign_in(page: Page, world: World, address: str, letters: int = 1) -> None:
    """Ask for a code, read it in the mailbox, type it."""
    page.goto(f"{world.url}/sign-in")
    page.get_by_label("Email address").fill(address)
    button(page, "Email me a code").click()
    code = world.mail.wait_for(address, letters).code
    page.locator("input[name=code]").fill(f"{code[:3]} {code[3:]}")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="History", exact=True).wait_for()


def test_a_newcomer_signs_up_confirms_and_can_leave_in_fewer_presses(page: Page, world: World) -> None:
    address = world.newcomer()
    presses_to_give = 0
    page.goto(f"{world.url}/sign-up")
    assert page.locator("input:checked").count() == 0, "nothing is ticked for anybody"
    page.get_by_label("Offers").check()
    page.get_by_label("Email address").fill(address)
    button(page, "Sign up").click()
    presses_to_give += 2
    assert heading(page) == "Check your email"

    page.goto(world.email_to(address))
    presses_to_give += 1
    assert world.choices(address) == {}, "opening the link changes nothing"
    button(page, "Yes, send me this").click()
    presses_to_give += 1
    assert heading(page) == "Confirmed"
    assert world.choices(address) == {("email", "offers"): "subscribed"}
    assert page.context.cookies() == []

    presses_to_withdraw = 1  # the link in a mail
    page.goto(world.url + link_for(world.services, add_contact(world.services, email(address)), "offers"))
    button(page, "Unsubscribe from all marketing email").click()
    presses_to_withdraw += 1
    assert heading(page) == "You are unsubscribed from all marketing email"
    assert presses_to_withdraw <= presses_to_give


def test_a_confirm_pressed_again_after_leaving_does_not_bring_anybody_back(page: Page, world: World) -> None:
    contact_id, address = world.somebody()
    page.goto(world.url + manage_link_for(world.services, contact_id))
    switch(page, "Offers", "Email", "On").check()
    button(page, "Save changes").click()
    confirm = world.email_to(address)
    page.goto(confirm)
    page.locator("main button").first.click()
    assert world.choices(address)["email", "offers"] == "subscribed"
    page.goto(world.url + link_for(world.services, contact_id))
    button(page, "Unsubscribe from all marketing email").click()

    page.goto(confirm)
    if page.locator("main form button").count():
        page.locator("main form button").first.click()

    assert world.choices(address)["email", "*"] == "unsubscribed"
    page.goto(world.url + manage_link_for(world.services, contact_id))
    assert switch(page, "Offers", "Email", "Off").is_checked()


def test_signed_in_a_yes_is_at_once_and_its_wording_can_be_read_and_kept(page: Page, world: World) -> None:
    _, address = world.somebody()
    sign_in(page, world, address)
    assert address in page.inner_text("main")

    switch(page, "Offers", "Email", "On").check()
    button(page, "Save changes").click()

    assert "Saved. This takes effect immediately." in page.get_by_role("status").inner_text()
    assert world.choices(address) == {("email", "offers"): "subscribed"}
    page.get_by_role("link", name="History", exact=True).click()
    assert heading(page) == "Your history"
    assert "Offers" in page.inner_text("main")
    page.locator("main a[href*='/receipts/']").first.click()
    assert "I want Offers by email from Maple & Finch." in page.inner_text("main")


def test_a_changed_address_takes_its_choices_along_and_the_old_one_is_told(page: Page, world: World) -> None:
    contact_id, old = world.somebody()
    new = world.newcomer()
    page.goto(world.url + link_for(world.services, contact_id))
    button(page, "Unsubscribe from all marketing email").click()
    sign_in(page, world, old)
    page.get_by_role("link", name="Addresses", exact=True).click()
    page.get_by_role("link", name="Change").first.click()
    page.get_by_label("New email address").fill(new)
    button(page, "Send the email").click()
    assert heading(page) == "Check your email"

    page.goto(world.email_to(new))
    button(page, "Yes, this is my address").click()

    told = world.mail.wait_for(old, 2)
    assert told.message["Subject"] == "Your address was changed"
    assert add_contact(world.services, email(new)) == contact_id
    assert world.choices(new)["email", "*"] == "unsubscribed"


def test_somebody_who_has_lost_everything_gets_a_link_by_mail(page: Page, world: World) -> None:
    _, address = world.somebody()
    page.goto(f"{world.url}/link")
    page.get_by_label("Email address").fill(address)
    button(page, "Email me a link").click()
    page.goto(world.email_to(address))
    assert heading(page) == "Your preferences"
    assert page.context.cookies() == []


def test_signing_out_everywhere_ends_every_link_but_unsubscribe_links(page: Page, world: World) -> None:
    contact_id, address = world.somebody()
    manage, unsubscribe = manage_link_for(world.services, contact_id), link_for(world.services, contact_id)
    sign_in(page, world, address)
    page.get_by_role("button", name="Sign out everywhere").click()
    for path, status in ((manage, 410), (unsubscribe, 200)):
        answer = page.goto(world.url + path)
        assert answer is not None
        assert answer.status == status
    page.goto(f"{world.url}/account/")
    assert heading(page) == "Sign in"


# Every new page and state, in every way of looking at it.


def every_page(page: Page, world: World, query: str) -> Iterator[str]:
    """Walk through the doors in one language, and stop at each state with its name."""
    contact_id, address = world.somebody()
    new = world.newcomer()
    for path in ("/sign-up", "/link", "/sign-in", "/optout", "/"):
        page.goto(f"{world.url}{path}{query}")
        yield path
        if page.locator("main form").count():
            page.locator("main form button").first.click()
            yield f"{path}, mistake"
    page.goto(f"{world.url}/sign-up{query}")
    page.locator("main input[type=checkbox]").first.check()
    page.locator("input[name=address]").fill(new)
    page.locator("main form button").first.click()
    yield "sign-up sent"
    page.goto(confirm := world.email_to(new))
    yield "confirm"
    page.locator("main form button").first.click()
    yield "confirmed"
    page.goto(confirm)
    yield "confirmed already"
    page.goto(world.url + manage_link_for(world.services, contact_id) + query)
    yield "choices by link"
    page.goto(f"{world.url}/sign-in{query}")
    page.locator("input[name=address]").fill(address)
    page.locator("main form button").first.click()
    yield "code"
    code = world.mail.wait_for(address).code
    page.locator("input[name=code]").fill("000000" if code != "000000" else "111111")
    page.keyboard.press("Enter")
    page.locator(".summary").wait_for()
    yield "wrong code"
    page.locator("input[name=code]").fill(code)
    page.keyboard.press("Enter")
    page.locator("form.all").wait_for()
    yield "account"
    page.locator("input[type=radio][name='set.email.offers.status'][value=on]").check()
    page.locator(".save button").click()
    yield "account saved"
    for path in ("/account/history", "/account/addresses"):
        page.goto(f"{world.url}{path}{query}")
        yield path
    page.goto(f"{world.url}/account/history{query}")
    page.locator("main a[href*='/receipts/']").first.click()
    yield "receipt"
    page.goto(f"{world.url}/account/addresses{query}")
    page.locator("main a[href*='/addresses/']").first.click()
    yield "new address"
    page.locator("input[name=address]").fill("no address")
    page.locator("main form button").last.click()
    yield "new address, mistake"


def measure(page: Page, world: World, stop: str, problems: dict[str, Any]) -> None:
    if found := violations(page):
        problems[stop] = found
    page.set_viewport_size(NARROW)
    if wide := overflow(page):
        problems[f"{stop}, at 320 px"] = f"{wide} px too wide"
    if small := small_targets(page):
        problems[f"{stop}, targets"] = small
    page.set_viewport_size(WIDE)
    if (size := len(page.content().encode())) > MOST_BYTES:
        problems[f"{stop}, size"] = size


@pytest.mark.parametrize("language", ["en", "ar", "de"])
def test_every_page_is_accessible_fits_and_keeps_its_language(browser: Browser, world: World, language: str) -> None:
    problems: dict[str, Any] = {}
    asked: list[str] = []
    stops: list[str] = []
    direction = "rtl" if language == "ar" else "ltr"
    with opened(browser, bypass_csp=True, reduced_motion="reduce", viewport=WIDE) as page:
        page.on("request", lambda request: asked.append(request.url))
        for stop in every_page(page, world, f"?lang={language}"):
            stops.append(stop)
            measure(page, world, stop, problems)
            if page.locator(f"html[lang={language}][dir={direction}]").count() != 1:
                problems[f"{stop}, language"] = page.url.partition("?")[2]
            if page.locator("h1").count() != 1 or page.locator("script, [style], [onclick]").count():
                problems[f"{stop}, shape"] = "one h1, no script, no style"
    assert problems == {}
    assert len(stops) >= 20
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(world.url).netloc}


def test_all_works_with_the_keyboard_alone(page: Page, world: World) -> None:
    contact_id, address = world.somebody()
    page.goto(world.url + manage_link_for(world.services, contact_id))
    off = switch(page, "Product news", "Email", "Off")
    switch(page, "Product news", "Email", "On").focus()
    page.keyboard.press("ArrowRight")
    assert off.is_checked()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Save changes":
            break
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert world.choices(address) == {("email", "product-news"): "unsubscribed"}


def test_at_four_hundred_percent_nothing_is_lost(browser: Browser, world: World) -> None:
    contact_id, _ = world.somebody()
    # 1280 px at 400 % are 320 px of four device pixels each (WCAG 2.2, 1.4.10).
    with opened(browser, viewport={"width": 320, "height": 256}, device_scale_factor=4) as page:
        page.goto(world.url + manage_link_for(world.services, contact_id))
        assert overflow(page) == 0
        switch(page, "Product news", "Email", "Off").check()
        button(page, "Save changes").click()
        page.get_by_role("status").wait_for()


def test_after_all_this_the_ledger_is_what_it_says(world: World) -> None:
    # Of its own, since another worker may have had all the others.
    for _ in range(6):
        contact_id, _address = world.somebody()
        assert requests.post(world.url + link_for(world.services, contact_id), timeout=30).status_code == 200
    report = world.services.database.snapshot(verify.verify, lambda _: None)
    assert report.problems == []
    assert report.entries > 5
