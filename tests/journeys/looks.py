"""How a page is opened, read and judged in a real browser: what is accessible, what fits, what a thumb can hit.

Knows nothing of pytest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

MOST_BYTES = 50_000
NARROW: ViewportSize = {"width": 320, "height": 640}
WIDE: ViewportSize = {"width": 1280, "height": 800}


@contextmanager
def opened(browser: Browser, **options: Any) -> Iterator[Page]:
    """A fresh page of a fresh profile."""
    context = browser.new_context(**options)
    try:
        yield context.new_page()
    finally:
        context.close()


def heading(page: Page) -> str:
    return page.locator("h1").inner_text()


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def switch(page: Page, topic: str, channel: str, answer: str) -> Any:
    """One half of a switch, by its name, its channel and what it says."""
    group = page.get_by_role("group", name=re.compile(rf"^{channel}\W+{topic}$"))
    return group.get_by_role("radio", name=answer, exact=True)


def violations(page: Page) -> list[str]:
    """What axe finds, each with where. In the dark it looks again at what the dark can change: colours."""
    page.emulate_media(color_scheme="light")
    found = Axe().run(page).response["violations"]
    page.emulate_media(color_scheme="dark")
    found += Axe().run(page, options={"runOnly": ["color-contrast"]}).response["violations"]
    return [f"{violation['id']}: {json.dumps([node['target'] for node in violation['nodes']])}" for violation in found]


def overflow(page: Page) -> int:
    """By how many pixels the page can be scrolled sideways."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def small_targets(page: Page) -> list[str]:
    """Buttons, boxes and links standing alone that are too small for a thumb."""
    return page.evaluate(
        """() => [...document.querySelectorAll(
                'button, input:not([type=hidden]):not([type=radio]):not([type=checkbox]), select, summary,'
                + ' a.go, label.pick, .switch label')]
            .filter(element => element.checkVisibility())
            .map(element => [element, element.getBoundingClientRect()])
            .filter(([_, box]) => box.height < 44 || box.width < 44)
            .map(([element]) => element.outerHTML.slice(0, 80))"""
    )
