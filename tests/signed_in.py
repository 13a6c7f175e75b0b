"""Somebody who has signed in: opens pages, fills in forms and presses buttons as their browser would.

Knows nothing of pytest. Invariant: signs in through a real door, and sends only what the page's own form would send.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

from flask import Flask
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.tokens import Ticket

ACCOUNT = "/account/"


class SignedIn:
    """A browser in which this contact has just signed in. `token` is that of the page that was opened last."""

    def __init__(self, app: Flask, contact_id: UUID) -> None:
        app.config["PREFERRED_URL_SCHEME"] = "https"  # the session's cookie travels over nothing else
        self.client = app.test_client()
        self.token = ""
        ticket = Ticket(contact_id, datetime.now(UTC))
        entered = self.client.post(f"/sign-in/hand-off/{services_of(app).links.sign_hand_off(ticket, may_opt_in=True)}")
        assert entered.status_code == 303

    def open(self, path: str = ACCOUNT) -> TestResponse:
        """Open a page."""
        return self._remember(self.client.get(path))

    def press(self, path: str, **form: str) -> TestResponse:
        """Press the button of a form that the page at this path has."""
        self.open(path)
        return self.send(path, form)

    def send(self, path: str, form: dict[str, str]) -> TestResponse:
        """Send a form from the page that was opened last."""
        return self._remember(self.client.post(path, data={"csrf_token": self.token} | form))

    def save(self, moved: dict[str, str], page: TestResponse | None = None, path: str = ACCOUNT) -> TestResponse:
        """Move some controls and save, on a page that is opened for it, or on one that was opened before."""
        fields = filled_in(page or self.open(path))
        return self.send(path, fields | {"csrf_token": self.token} | moves(moved))

    def _remember(self, page: TestResponse) -> TestResponse:
        found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        self.token = found[1] if found else self.token
        return page


def moves(moved: dict[str, str]) -> dict[str, str]:
    """Controls and their new values, as a form sends them."""
    return {f"set.{control}": value for control, value in moved.items()}


def filled_in(page: TestResponse) -> dict[str, str]:
    """What a browser would send of the choices form, if nobody touched it."""
    form = page.text[page.text.index('<form class="all"') :].partition("</form>")[0]
    fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form))
    fields |= dict(re.findall(r'type="radio" name="([^"]+)" value="([^"]*)" checked', form))
    fields |= dict(re.findall(r'type="date" name="([^"]+)"[^>]* value="([^"]*)"', form))
    for name, options in re.findall(r'<select id="[^"]*" name="([^"]+)">(.*?)</select>', form, re.DOTALL):
        fields[name] = "".join(re.findall(r'value="([^"]*)" selected', options))
    return fields


def state(page: TestResponse, control: str) -> str:
    """What the page shows of a control."""
    return filled_in(page)[f"set.{control}"]
