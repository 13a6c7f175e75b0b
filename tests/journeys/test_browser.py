"""What recipients meet, in a real browser against a real server: without script, without cookies, by keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from flask import Flask

from preferences.current import services_of
from preferences.domain.vocabulary import Channel
from preferences.people.opt_outs import REASONS
from preferences.services import Services
from preferences.store import contact_state
from preferences.tokens import ManageLink
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
from tests.processes import Installation, contents
from tests.support import add_contact, close, email, link_for, new_app, new_sqlite

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Response

STOP_ALL = "Unsubscribe from everything"
STOP_EMAIL = "Unsubscribe from all marketing email"
ALL_STOPPED = "You are unsubscribed from all marketing email"
EITHER = "Email address or phone number"

_people = count(1)


class World:
    """A running site, and a look at it from the side."""

    def __init__(self, installation: Installation, app: Flask) -> None:
        self.installation = installation
        self.app = app

    @property
    def services(self) -> Services:
        return services_of(self.app)

    def somebody(self) -> UUID:
        """A new contact."""
        return add_contact(self.services, email(f"somebody-{next(_people)}@example.com"))

    def link(self, contact_id: UUID, topic: str = "product-news") -> str:
        """The address of an unsubscribe link."""
        return self.installation.url + link_for(self.services, contact_id, topic)

    def manage(self, contact_id: UUID, age: timedelta = timedelta()) -> str:
        """The address of a manage link."""
        link = ManageLink(contact_id, Channel.EMAIL, "default", datetime.now(UTC) - age)
        return f"{self.installation.url}/p/{self.services.links.sign_manage(link)}"

    def stopped(self, contact_id: UUID) -> set[str]:
        """The topics that this contact has stopped."""
        wishes = self.services.reader.channel_preferences(
            contact_state.ChannelKey(contact_id, Channel.EMAIL, "default")
        )
        return {topic for topic, choice in wishes.preferences.items() if choice.status == "unsubscribed"}

    def post(self, url: str, body: str = "") -> int:
        """A post by a program."""
        with closing(self.installation.connect()) as connection:
            connection.request("POST", urlsplit(url).path, body)
            return connection.getresponse().status


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A granian on SQLite."""
    folder = tmp_path_factory.mktemp("world")
    with Installation(folder, new_sqlite(folder)) as installation:
        installation.web.start()
        app = new_app(installation.settings.database_url, public_url=installation.url)
        yield World(installation, app)
        close(app)


@dataclass(frozen=True)
class Scanner:
    """A security scanner: a whole browser, with script, that opens every page of a mail and looks at it for a while."""

    pages: list[Page]
    methods: list[str]
    database_url: str
    before: dict[str, list[str]]
    since: float


@pytest.fixture(scope="module")
def scanner(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scanner]:
    """At work on a site of its own while other tests run, so that nobody has to wait a whole minute for it."""
    folder = tmp_path_factory.mktemp("scanned")
    with Installation(folder, new_sqlite(folder)) as installation, opened(browser) as done:
        installation.web.start()
        app = new_app(installation.settings.database_url)
        world = World(installation, app)
        done.goto(world.link(world.somebody()))
        button(done, STOP_EMAIL).click()
        methods: list[str] = []
        done.context.on("request", lambda request: methods.append(request.method))
        somebody = world.somebody()
        before = contents(installation.settings.database_url)
        pages = [done]
        for url in (
            world.link(somebody),
            world.link(somebody, "*"),
            world.manage(somebody),
            f"{installation.url}/optout",
        ):
            pages.append(page := done.context.new_page())
            page.goto(url)
            page.mouse.move(200, 300)
            page.mouse.wheel(0, 400)
        yield Scanner(pages, methods, installation.settings.database_url, before, time.monotonic())
        close(app)


@pytest.fixture
def page(browser: Browser, world: World, scanner: Scanner) -> Iterator[Page]:
    """A browser with script switched off and cookies refused; that the site asks for neither is checked at the end."""
    with opened(browser, java_script_enabled=False, viewport=WIDE) as page:
        page.context.new_cdp_session(page).send("Emulation.setDocumentCookieDisabled", {"disabled": True})
        asked_to_keep: list[str] = []
        page.on("response", lambda response: asked_to_keep.extend(set_cookies(response)))
        yield page
        assert asked_to_keep == []
        assert page.context.cookies() == []


def set_cookies(response: Response) -> list[str]:
    return [header["value"] for header in response.headers_array() if header["name"].lower() == "set-cookie"]


# Journeys, without script and without cookies.


def test_one_press_stops_all_marketing_and_one_more_takes_it_back(page: Page, world: World) -> None:
    somebody = world.somebody()
    page.goto(link := world.link(somebody))
    assert world.stopped(somebody) == set()

    button(page, STOP_EMAIL).click()

    assert heading(page) == page.title().partition(" – ")[0] == ALL_STOPPED
    assert page.url == link, "the same address, and no redirect"
    assert world.stopped(somebody) == {"*"}

    button(page, "Undo").click()

    assert heading(page) == "Undone"
    assert world.stopped(somebody) == set()
    page.goto(link)
    assert heading(page) == "Unsubscribe"


def test_only_this_topic_and_then_the_rest_from_the_same_page(page: Page, world: World) -> None:
    somebody = world.somebody()
    page.goto(world.link(somebody))

    button(page, "Unsubscribe").click()
    assert heading(page) == "You are unsubscribed from Product news"
    assert world.stopped(somebody) == {"product-news"}

    button(page, STOP_EMAIL).click()
    assert heading(page) == ALL_STOPPED
    assert world.stopped(somebody) == {"product-news", "*"}


def test_after_an_undo_one_can_leave_again(page: Page, world: World) -> None:
    somebody = world.somebody()
    page.goto(world.link(somebody))
    button(page, "Unsubscribe").click()
    button(page, "Undo").click()
    button(page, "Unsubscribe").click()
    assert heading(page) == "You are unsubscribed from Product news"
    assert world.stopped(somebody) == {"product-news"}


def test_a_reason_can_be_given_afterwards_and_changes_nothing(page: Page, world: World) -> None:
    somebody = world.somebody()
    page.goto(world.link(somebody))
    assert page.get_by_role("radio").count() == 0
    button(page, STOP_EMAIL).click()
    page.get_by_text("Tell us why").click()
    assert page.get_by_role("radio").count() == len(REASONS)
    assert page.locator("input:checked").count() == 0, "nothing is ticked for anybody"

    page.get_by_label("Too many messages").check()
    button(page, "Send").click()

    assert "Your reason is recorded." in page.inner_text("main")
    assert world.stopped(somebody) == {"*"}
    assert any("too_many" in row for row in contents(world.installation.settings.database_url)["stated_reason"])


def test_going_back_and_reloading_harms_nothing(page: Page, world: World) -> None:
    somebody = world.somebody()
    page.goto(world.link(somebody))
    button(page, STOP_EMAIL).click()
    page.get_by_role("heading", name=ALL_STOPPED).wait_for()
    page.wait_for_load_state()
    page.reload()
    assert heading(page) == ALL_STOPPED
    page.go_back()
    assert page.locator("h1").count() == 1
    assert world.stopped(somebody) == {"*"}


def test_the_address_box_explains_a_mistake_and_keeps_what_was_typed(page: Page, world: World) -> None:
    page.goto(f"{world.installation.url}/")
    page.get_by_role("link", name=STOP_ALL).click()
    page.get_by_label(EITHER).fill("jane at example")
    button(page, STOP_ALL).click()

    assert page.title().startswith("Error: ")
    assert page.get_by_role("alert").inner_text().startswith("There is a problem")
    assert page.get_by_label(EITHER).input_value() == "jane at example"
    page.get_by_role("link", name="Enter an email address, like name@example.com").click()
    assert page.evaluate("document.activeElement.id") == "address"

    page.get_by_label(EITHER).fill("jane.by.box@example.com")
    button(page, STOP_ALL).click()

    assert heading(page) == ALL_STOPPED
    assert "jane.by.box" not in page.url
    assert world.stopped(add_contact(world.services, email("jane.by.box@example.com"))) == {"*"}


def test_the_manage_page_stops_one_thing_and_then_everything(page: Page, world: World) -> None:
    somebody = world.somebody()
    page.goto(world.manage(somebody))

    switch(page, "Product news", "Email", "Off").check()
    button(page, "Save changes").click()
    saved = page.get_by_role("status").inner_text()
    assert "I do not want Product news by email from Maple & Finch." in saved
    assert world.stopped(somebody) == {"product-news"}

    button(page, "Unsubscribe from everything").first.click()
    assert heading(page) == "You are unsubscribed from everything"
    assert world.stopped(somebody) == {"product-news", "*"}


def test_a_pause_and_a_cap_are_chosen_saved_and_shown_again(page: Page, world: World) -> None:
    somebody, day = world.somebody(), (datetime.now(UTC) + timedelta(days=20)).date()
    page.goto(world.manage(somebody))
    page.locator("#product-news summary").first.click()
    page.get_by_label("At most").first.select_option("2 a week")
    page.get_by_label("Pause until").first.fill(day.isoformat())
    button(page, "Save changes").click()

    saved = page.get_by_role("status").inner_text()
    assert "At most 2 messages a week: Product news by email." in saved
    assert f"Paused until {day.day}" in saved
    assert page.locator("details[open]").count() == 1, "what slows a topic down is in sight"
    assert page.get_by_label("Pause until").first.input_value() == day.isoformat()


def test_the_save_bar_is_shown_while_something_has_changed(page: Page, world: World) -> None:
    page.goto(world.manage(world.somebody()))
    save = button(page, "Save changes")
    assert not save.is_visible()

    switch(page, "Product news", "Email", "Off").check()
    assert save.is_visible()
    switch(page, "Product news", "Email", "On").check()
    assert not save.is_visible()

    page.locator("#product-news summary").first.click()
    page.get_by_label("At most").first.select_option("2 a week")
    assert save.is_visible()
    page.get_by_label("At most").first.select_option("No limit")
    assert not save.is_visible()

    page.get_by_label("Pause until").first.focus()
    page.keyboard.type("12312099")  # month, day and year, as a browser set to American English asks for them
    page.keyboard.press("Tab")
    assert save.is_visible()


def test_a_pending_switch_says_so_and_a_stopped_switch_says_since_when(page: Page, world: World) -> None:
    page.goto(world.manage(world.somebody()))
    switch(page, "Offers", "Email", "On").check()
    switch(page, "Product news", "Email", "Off").check()
    button(page, "Save changes").click()
    assert "Waiting for you to confirm" in page.locator("#offers").inner_text()
    assert "Unsubscribed since" in page.locator("#product-news").inner_text()
    assert page.title().startswith("One more step:")


def test_a_yes_on_the_page_by_link_waits_for_the_mailbox(page: Page, world: World) -> None:
    page.goto(world.manage(world.somebody()))
    switch(page, "Offers", "Email", "On").check()
    button(page, "Save changes").click()
    assert "One more step: check your email at" in page.get_by_role("status").inner_text()
    assert switch(page, "Offers", "Email", "Off").is_checked()


def test_a_broken_link_leads_to_the_address_box_and_to_the_end(page: Page, world: World) -> None:
    broken = world.link(world.somebody())[:-3]
    answer = page.goto(broken)
    assert answer is not None
    assert answer.status == 404
    assert "This link is incomplete or no longer valid." in page.inner_text("main")

    page.get_by_label(EITHER).fill("jane.broken@example.com")
    button(page, STOP_ALL).click()

    assert heading(page) == ALL_STOPPED
    assert world.stopped(add_contact(world.services, email("jane.broken@example.com"))) == {"*"}


def test_an_old_manage_link_leads_to_the_address_box(page: Page, world: World) -> None:
    answer = page.goto(world.manage(world.somebody(), age=timedelta(days=31)))
    assert answer is not None
    assert answer.status == 410
    button(page, STOP_ALL).wait_for()


# By keyboard alone.


def focused(page: Page) -> dict[str, str]:
    """What the next key press would go to, and how its focus is shown."""
    return page.evaluate(
        """() => {
            const element = document.activeElement, style = getComputedStyle(element);
            return {text: element.innerText, id: element.id, outline: style.outlineStyle, width: style.outlineWidth};
        }"""
    )


def tab_to(page: Page, text: str) -> None:
    """Press Tab until this has the focus, which everything on the way shows."""
    for _ in range(20):
        page.keyboard.press("Tab")
        now = focused(page)
        assert now["outline"] != "none"
        assert float(now["width"].removesuffix("px")) >= 2
        if text in {now["text"], now["id"]}:
            return
    pytest.fail(f"{text} cannot be reached by Tab")


def test_everything_can_be_done_with_tab_and_enter(page: Page, world: World) -> None:
    somebody = world.somebody()
    page.goto(world.link(somebody))
    tab_to(page, STOP_EMAIL)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=ALL_STOPPED).wait_for()

    tab_to(page, "Undo")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Undone").wait_for()
    tab_to(page, "Unsubscribe")
    page.keyboard.press("Space")
    page.get_by_role("heading", name="You are unsubscribed from Product news").wait_for()
    assert world.stopped(somebody) == {"product-news"}


def test_the_address_box_can_be_used_with_the_keyboard(page: Page, world: World) -> None:
    page.goto(f"{world.installation.url}/optout")
    tab_to(page, "address")
    page.keyboard.type("jane.by.keyboard@example.com")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=ALL_STOPPED).wait_for()
    assert world.stopped(add_contact(world.services, email("jane.by.keyboard@example.com"))) == {"*"}


# Every page and every state of it.


Visit = Callable[[str, int], None]


def visit_every_state(page: Page, world: World, check: Visit) -> int:
    """Walk through all that a recipient can be shown; `check` is called at each stop with its name. Counts them."""
    stops = count(1)

    def stop(name: str, status: int, answer: Response | None = None) -> None:
        if answer is not None:
            assert answer.status == status, name
        check(name, next(stops))

    url, somebody = world.installation.url, world.somebody()
    link, manage = world.link(somebody), world.manage(somebody)
    stop("home", 200, page.goto(f"{url}/"))
    stop("link", 200, page.goto(link))
    stop("link for everything", 200, page.goto(world.link(somebody, "*")))
    stop("manage", 200, page.goto(manage))
    page.goto(link)
    button(page, "Unsubscribe").click()
    stop("done with the topic", 200)
    stop("link, topic stopped", 200, page.goto(link))
    page.goto(manage)
    assert not button(page, "Save changes").is_visible(), "there is nothing to save yet"
    with page.expect_navigation():
        page.locator("form.all").evaluate("form => form.requestSubmit()")
    stop("manage, nothing moved", 200)
    switch(page, "Product news", "Text message", "Off").check()
    switch(page, "Offers", "Email", "On").check()
    page.locator("#product-news summary").first.click()
    button(page, "Save changes").click()
    stop("manage, less saved and more asked for", 200)
    page.goto(paced := world.manage(world.somebody()))
    page.locator("#product-news summary").first.click()
    page.get_by_label("Pause until").first.fill("2020-01-01")
    page.get_by_label("At most").first.select_option("2 a week")
    button(page, "Save changes").click()
    stop("manage, mistake", 400)
    page.get_by_label("Pause until").first.fill("")
    page.get_by_label("At most").first.select_option("1 a week")
    button(page, "Save changes").click()
    stop("manage, slowed down", 200)
    page.goto(paced)
    button(page, "Disable this link").click()
    stop("manage, link ended", 200)
    page.goto(link)
    button(page, STOP_EMAIL).click()
    stop("done with everything", 200)
    page.get_by_text("Tell us why").click()
    page.get_by_label("Another reason").check()
    button(page, "Send").click()
    stop("thanks for the reason", 200)
    stop("link, all stopped", 200, page.goto(link))
    stop("manage, all stopped", 200, page.goto(manage))
    another = world.link(world.somebody())
    page.goto(another)
    button(page, STOP_EMAIL).click()
    button(page, "Undo").click()
    stop("undone", 200)
    stop("address box", 200, page.goto(f"{url}/optout"))
    button(page, STOP_ALL).click()
    stop("address box, mistake", 400)
    page.get_by_label(EITHER).fill("walker@example.com")
    button(page, STOP_ALL).click()
    stop("address box, done", 200)
    stop("broken link", 404, page.goto(f"{link}x"))
    stop("old manage link", 410, page.goto(world.manage(somebody, age=timedelta(days=31))))
    stop("wrong method", 405, page.goto(f"{link}/undo"))
    page.goto(limited := world.link(world.somebody()))
    for _ in range(125):
        world.post(limited)
    button(page, STOP_EMAIL).click()
    stop("too often", 429)
    return next(stops) - 1


def test_every_state_is_accessible_in_both_themes_and_on_a_small_screen(browser: Browser, world: World) -> None:
    problems: dict[str, list[str]] = {}
    with opened(browser, bypass_csp=True, reduced_motion="reduce") as page:

        def check(name: str, _number: int) -> None:
            if found := violations(page):
                problems[name] = found
            page.set_viewport_size(NARROW)
            if wide := overflow(page):
                problems[f"{name}, at 320 px"] = [f"{wide} px too wide"]
            if small := small_targets(page):
                problems[f"{name}, targets"] = small
            page.set_viewport_size(WIDE)

        assert visit_every_state(page, world, check) >= 23
    assert problems == {}


def test_every_state_is_small_comes_from_us_alone_and_runs_no_script(browser: Browser, world: World) -> None:
    requests: list[str] = []
    sizes: list[int] = []
    problems: list[str] = []
    with opened(browser) as page:
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))

        def check(name: str, _number: int) -> None:
            html = len(page.content().encode())
            style = page.locator('link[rel="stylesheet"]').get_attribute("href")
            sizes.append(html + len(page.request.get(f"{world.installation.url}{style}").body()))
            if sizes[-1] > MOST_BYTES:
                problems.append(f"{name}: {sizes[-1]} bytes")
            if page.locator("script, iframe, img, object, [onclick], [style]").count():
                problems.append(f"{name}: more than text and forms")
            if page.locator("html[lang=en][dir=ltr]").count() != 1 or page.locator("h1").count() != 1:
                problems.append(f"{name}: lang, dir or h1")

        page.context.set_default_timeout(10_000)
        visit_every_state(page, world, check)
    assert [problem for problem in problems if "Failed to load resource" not in problem] == []
    assert {urlsplit(url).netloc for url in requests} == {urlsplit(world.installation.url).netloc}
    assert max(sizes) > 3_000, "it was really measured"


def test_an_unforeseen_error_is_a_page_like_the_others(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("broken")
    with (
        Installation(folder, new_sqlite(folder)) as installation,
        opened(browser, bypass_csp=True, reduced_motion="reduce") as page,
    ):
        installation.web.start()
        app = new_app(installation.settings.database_url)
        path = link_for(services_of(app), add_contact(services_of(app)))
        page.goto(installation.url + path)
        with services_of(app).database.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE evidence")
        button(page, STOP_EMAIL).click()

        assert heading(page) == "Something went wrong on our side"
        assert "Your choice may not have been saved." in page.inner_text("main")
        assert violations(page) == []
        page.set_viewport_size(NARROW)
        assert overflow(page) == 0
        page.get_by_role("link", name="Enter your address to unsubscribe").click()
        button(page, STOP_ALL).wait_for()
        close(app)


# A scanner that is a real browser, and patient.


@pytest.mark.slow
def test_a_browser_with_script_that_only_waits_changes_no_row(scanner: Scanner) -> None:
    waited = time.monotonic() - scanner.since
    scanner.pages[0].wait_for_timeout(max(0.0, 60 - waited) * 1_000)

    assert contents(scanner.database_url) == scanner.before
    assert set(scanner.methods) == {"GET"}
    assert len(scanner.pages) == 5
    for page in scanner.pages:
        assert page.evaluate("1 + 1") == 2, "script ran all the while"
        assert page.locator("h1").is_visible()
