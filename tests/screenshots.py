"""Pictures of the pages: `make screenshots`.

Writes the pictures of the README to `docs/images/`, and every page in light and dark, wide and narrow, and in three
languages to `instance/screenshots/` for somebody to look at.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product, starmap
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

from preferences.current import services_of
from preferences.services import Services
from preferences.tokens import ManageLink
from tests.conftest import CHROMIUM_ARGUMENTS
from tests.processes import ROOT, Installation
from tests.servers import chromium_path
from tests.support import BRAND, add_contact, close, email, link_for, new_app, new_sqlite

IMAGES = ROOT / "docs" / "images"
README_PICTURES = {
    "unsubscribe.png": ("1-link-light-wide.png", "4-all-stopped-light-wide.png"),
    "choices.png": ("8-manage-light-wide.png", "8-manage-dark-wide.png"),
}
FOLDER = ROOT / "instance" / "screenshots"
SIZES = {"wide": 1280, "narrow": 320}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LANGUAGES = ("en", "de", "ar")
"""The source, a language of long words, and one that is written from the right."""
PLAIN_PAGES = {"15-home": "/", "16-lost-link": "/link", "17-sign-in": "/sign-in", "18-sign-up": "/sign-up"}


@dataclass(frozen=True, slots=True)
class Look:
    """How a page is looked at."""

    theme: Literal["light", "dark"]
    size: str
    language: str

    @property
    def name(self) -> str:
        """Part of the names of files and of addresses."""
        return f"{self.theme}-{self.size}" + ("" if self.language == "en" else f"-{self.language}")


def main() -> None:
    """Start a site with a made-up contact and walk through it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        url = new_sqlite(Path(folder))
        app = new_app(url)
        with Installation(Path(folder), url) as installation:
            installation.web.start()
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_ARGUMENTS)
            for look in starmap(Look, product(THEMES, SIZES, LANGUAGES)):
                _walk(browser, installation.url, services_of(app), look)
            for name, sides in README_PICTURES.items():
                _readme_picture(browser, IMAGES / name, sides)
            browser.close()
        close(app)
    print(f"Wrote {', '.join(README_PICTURES)} to {IMAGES.relative_to(ROOT)}/, and {FOLDER.relative_to(ROOT)}/")


def _walk(browser: Browser, base: str, services: Services, look: Look) -> None:
    contact, other = (add_contact(services, email(f"{name}.{look.name}@example.com")) for name in ("jane", "omar"))
    manage = services.links.sign_manage(ManageLink(contact, email().channel, BRAND.slug, _now()))
    query = f"?lang={look.language}"
    with _page(browser, look) as page:

        def shoot(name: str) -> None:
            # As high as the page: what sticks to the bottom of a window would else stand in its middle.
            width, height = SIZES[look.size], page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": width, "height": height})
            page.screenshot(path=FOLDER / f"{name}-{look.name}.png")
            page.set_viewport_size({"width": width, "height": 800})

        def press(intent: str) -> None:
            page.locator(f"form:has([name=intent][value='{intent}']) button").first.click()

        page.goto(base + link_for(services, contact) + query)
        shoot("1-link")
        press("topic")
        shoot("2-topic-stopped")
        page.goto(base + link_for(services, contact) + query)
        shoot("3-link-after-topic")
        press("all")
        shoot("4-all-stopped")
        page.locator("form[action*='/undo'] button").click()
        shoot("5-undone")
        page.goto(base + link_for(services, other) + query)
        press("all")
        page.locator("details.reason summary").click()
        page.locator("input[value=too_many]").check()
        page.locator("details.reason button").click()
        shoot("6-reason")
        page.goto(base + link_for(services, other) + query)
        shoot("7-link-after-all")
        page.goto(f"{base}/p/{manage}{query}")
        shoot("8-manage")
        page.emulate_media(media="print")
        shoot("8-manage-printed")
        page.emulate_media(media="screen")
        page.locator("[name='set.sms.product-news.status'][value=off]").check()
        page.locator("[name='set.email.offers.status'][value=on]").check()
        shoot("9-manage-moved")
        press("save")
        shoot("10-manage-saved")
        page.goto(f"{base}/optout{query}")
        shoot("11-address-box")
        page.locator("main button").first.click()
        shoot("12-address-box-error")
        page.locator("#address").fill("+1 202 555 0123")
        page.locator("main button").first.click()
        shoot("13-number-stopped")
        page.goto(f"{base}/u/not-a-link{query}")
        shoot("14-bad-link")
        for name, path in PLAIN_PAGES.items():
            page.goto(f"{base}{path}{query}")
            shoot(name)


@contextmanager
def _page(browser: Browser, look: Look) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": SIZES[look.size], "height": 800}, color_scheme=look.theme, java_script_enabled=False
    )
    yield context.new_page()
    context.close()


def _readme_picture(browser: Browser, target: Path, sides: tuple[str, str]) -> None:
    """Two pictures, side by side."""
    images = "".join(
        f'<img src="data:image/png;base64,{base64.b64encode((FOLDER / name).read_bytes()).decode()}">' for name in sides
    )
    page = browser.new_page(viewport={"width": 1600, "height": 740})
    page.set_content(
        "<style>body{margin:0;display:flex;gap:24px;padding:24px;background:#dfe6e4}"
        "img{width:764px;height:692px;object-fit:cover;object-position:top;border-radius:12px}</style>" + images
    )
    page.screenshot(path=target)
    page.close()


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
