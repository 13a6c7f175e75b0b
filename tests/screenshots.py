"""Pictures of the pages: `make screenshots`.

Writes the pictures of the README to `docs/images/`, and every page in light and dark, wide and narrow, to
`instance/screenshots/` for somebody to look at.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

from preferences.links import ManageLink
from preferences.site import Site, site_of
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
            for theme in THEMES:
                for size in SIZES:
                    _walk(browser, installation.url, site_of(app), theme, size)
            for name, sides in README_PICTURES.items():
                _readme_picture(browser, IMAGES / name, sides)
            browser.close()
        close(app)
    print(f"Wrote {', '.join(README_PICTURES)} to {IMAGES.relative_to(ROOT)}/, and {FOLDER.relative_to(ROOT)}/")


def _walk(browser: Browser, base: str, site: Site, theme: Literal["light", "dark"], size: str) -> None:
    contact = add_contact(site, email(f"jane.{theme}.{size}@example.com"))
    other = add_contact(site, email(f"omar.{theme}.{size}@example.com"))
    manage = site.links.sign_manage(ManageLink(contact, email().channel, BRAND.slug, _now()))
    with _page(browser, theme, size) as page:

        def shoot(name: str) -> None:
            # As high as the page: what sticks to the bottom of a window would else stand in its middle.
            height = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": SIZES[size], "height": height})
            page.screenshot(path=FOLDER / f"{name}-{theme}-{size}.png")
            page.set_viewport_size({"width": SIZES[size], "height": 800})

        def press(name: str) -> None:
            page.get_by_role("button", name=name).first.click()

        page.goto(base + link_for(site, contact))
        shoot("1-link")
        press("Unsubscribe")
        shoot("2-topic-stopped")
        page.goto(base + link_for(site, contact))
        shoot("3-link-after-topic")
        press("Unsubscribe from everything")
        shoot("4-all-stopped")
        press("Undo")
        shoot("5-undone")
        page.goto(base + link_for(site, other))
        press("Unsubscribe from everything")
        page.get_by_label("There were too many messages").check()
        press("Send this reason")
        shoot("6-reason")
        page.goto(base + link_for(site, other))
        shoot("7-link-after-all")
        page.goto(f"{base}/p/{manage}")
        shoot("8-manage")
        page.goto(f"{base}/optout")
        shoot("9-address-box")
        page.get_by_role("button").first.click()
        shoot("10-address-box-error")
        page.goto(f"{base}/u/not-a-link")
        shoot("11-bad-link")


@contextmanager
def _page(browser: Browser, theme: Literal["light", "dark"], size: str) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": SIZES[size], "height": 800}, color_scheme=theme, java_script_enabled=False
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
