"""Whatever colour a brand gives, every text keeps its contrast, in light and in dark."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe

import preferences
from preferences.current import services_of
from preferences.domain.colours import contrast
from preferences.domain.vocabulary import Channel
from preferences.services import Services
from preferences.store import contact_state
from preferences.store.catalog import add_topic, save_brand
from preferences.tokens import UnsubscribeLink
from tests.processes import Installation
from tests.support import BRAND, TOPICS, add_contact, close, email, manage_link_for, new_app, new_sqlite

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

THEMES = ("light", "dark")
Theme = Literal["light", "dark"]

COLOURS = {
    "light-yellow": "#fff59d",
    "black": "#000000",
    "white": "#ffffff",
    "mid-grey": "#808080",
    "saturated-blue": "#0000ff",
    "saturated-green": "#00ff00",
}
EVERY_KIND = ["#" + "".join(parts) for parts in itertools.product(("00", "33", "66", "99", "cc", "ff"), repeat=3)]

# What is written on what. WCAG 2.2 asks 4.5 for text (1.4.3) and 3 for the edges of fields (1.4.11).
TEXTS = (
    *itertools.product(("ink", "soft", "act", "act-over"), ("paper", "card", "wash")),
    *itertools.product(("on-act",), ("act", "act-over")),
    *itertools.product(("bad",), ("paper", "card")),
)
EDGES = (("edge", "paper"), ("edge", "card"))

PAINTED = """(colours) => {
  const names = ["paper", "card", "wash", "ink", "soft", "edge", "act", "act-over", "on-act", "bad"]
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true})
  const probes = names.map((name) => {
    const probe = document.body.appendChild(document.createElement("i"))
    probe.style.color = `var(--${name})`
    return [name, probe]
  })
  const hex = (colour) => {
    canvas.fillStyle = colour
    canvas.fillRect(0, 0, 1, 1)
    const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
    return "#" + parts.map((part) => part.toString(16).padStart(2, "0")).join("")
  }
  return Object.fromEntries(colours.map((colour) => {
    document.documentElement.style.setProperty("--brand", colour)
    return [colour, Object.fromEntries(probes.map(([name, probe]) => [name, hex(getComputedStyle(probe).color)]))]
  }))
}"""
"""What each colour of the stylesheet comes out as on the screen, for each colour that a brand may give."""


@pytest.mark.parametrize("theme", THEMES)
def test_every_text_is_readable_whatever_the_brands_colour(browser: Browser, theme: Theme) -> None:
    style = (Path(preferences.__file__).parent / "static" / "style.css").read_text()
    page = browser.new_page(color_scheme=theme)
    page.set_content(f"<!doctype html><style>{style}</style><body>")
    painted = page.evaluate(PAINTED, [*COLOURS.values(), *EVERY_KIND])
    page.close()
    assert len({colours["act"] for colours in painted.values()}) > 100, "the colour has no effect"
    faint = [
        (colour, text, ground)
        for colour, found in painted.items()
        for pairs, least in ((TEXTS, 4.5), (EDGES, 3.0))
        for text, ground in pairs
        if contrast(found[text], found[ground]) < least
    ]
    assert faint == []


@pytest.fixture(scope="module")
def painted_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Services]]:
    """A running site with a brand of each colour, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("painted")
    with Installation(folder, new_sqlite(folder)) as installation:
        app = new_app(installation.settings.database_url, public_url=installation.url)
        database = services_of(app).database
        for slug, colour in COLOURS.items():
            brand = replace(BRAND, slug=slug, name=slug, path=slug, colour=colour)
            database.save(save_brand, brand, datetime.now(UTC))
            for topic in TOPICS:
                database.save(add_topic, replace(topic, slug=f"{slug}-{topic.slug}", brand=slug), datetime.now(UTC))
        installation.web.start()
        yield installation, services_of(app)
        close(app)


def violations(page: Page) -> list[tuple[str, list[str]]]:
    found = Axe().run(page).response["violations"]
    return [(violation["id"], node["target"]) for violation in found for node in violation["nodes"]]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("slug", COLOURS)
def test_pages_in_a_brands_colour_pass_axe(
    browser: Browser, painted_site: tuple[Installation, Services], slug: str, theme: Theme
) -> None:
    installation, services = painted_site
    manage = f"{installation.url}/{slug}{manage_link_for(services, add_contact(services), brand=slug)}"
    with browser.new_page(color_scheme=theme) as page:
        for address in (manage, f"{installation.url}/{slug}/optout"):
            page.goto(address)
            shown = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--brand').trim()")
            assert shown == COLOURS[slug]
            assert violations(page) == []
        page.get_by_role("button", name="Unsubscribe from everything").click()
        page.get_by_role("heading", name="There is a problem").wait_for()
        assert violations(page) == []
        page.get_by_label("Email address").fill("jane.doe@example.com")
        page.get_by_role("button", name="Unsubscribe from everything").click()
        page.get_by_role("heading", name="Unsubscribe from more").wait_for()
        assert violations(page) == []


def test_other_brands_are_stopped_and_undone_by_keyboard_without_script(
    browser: Browser, painted_site: tuple[Installation, Services]
) -> None:
    _, services = painted_site
    jane = add_contact(services, email("by.keyboard@example.com"))
    link = UnsubscribeLink(jane, Channel.EMAIL, "white", "white-offers")
    context = browser.new_context(java_script_enabled=False, viewport={"width": 320, "height": 640})
    page = context.new_page()
    page.goto(services.unsubscribe_url(link))
    for name in ("Unsubscribe from all marketing email", "Unsubscribe from all our brands", "Undo"):
        page.get_by_role("button", name=name).focus()
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.get_by_role("heading", name="Undone").wait_for()
    context.close()
    contact = services.database.read(contact_state.state_of, jane)
    # The first press is another one, and stands: an undo takes back its own press alone.
    assert [(brand, choice.status) for (_, brand, _), choice in contact.preferences.items()] == [
        ("white", "unsubscribed")
    ]
