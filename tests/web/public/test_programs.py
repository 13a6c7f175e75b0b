"""Programs that unsubscribe for people who have only the page: they look for the word, press, and look for it again.

Written after what two published ones do, nothx 0.1.18 and gmail-manager 0.2.1, where a mail has List-Unsubscribe and
no List-Unsubscribe-Post. Neither runs script; neither sends the values of buttons; one presses only what is plain.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest
from flask import Flask
from flask.testing import FlaskClient

from preferences.current import services_of
from preferences.domain.vocabulary import BLANKET
from tests.support import add_contact, api_headers, email, link_for

ADDRESS = "jane.doe@example.com"
WORD = re.compile("unsubscribe|opt out", re.IGNORECASE)
DONE = re.compile(r"you (?:are|are now|have been) unsubscribed", re.IGNORECASE)
CONDITIONS = re.compile(r"\bif\b[^.!?]*(?:[.!?]|$)", re.IGNORECASE)
GATES = ("captcha", "sign in to", "log in to", "enable javascript", "enable cookies", "are you sure", "please confirm")


@dataclass
class Form:
    """A form as such a program sees it. `odd` is one with something to fill in, which it leaves alone."""

    action: str
    method: str
    hidden: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[str] = field(default_factory=list)
    odd: bool = False
    words: str = ""


class Seen(HTMLParser):
    """The forms and the words of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.words = ""
        self._form: Form | None = None
        self._in_button = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(values.get("action", ""), values.get("method", "get"))
            self.forms.append(self._form)
        elif tag == "button" and self._form:
            self._in_button = True
            self._form.buttons.append("")
        elif tag in {"input", "select", "textarea"} and self._form:
            if values.get("type") == "hidden":
                self._form.hidden.append((values["name"], values.get("value", "")))
            else:
                self._form.odd = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "button":
            self._in_button = False

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"
        if self._form:
            self._form.words += f" {data}"
        if self._form and self._in_button:
            self._form.buttons[-1] += data


def says_that_it_worked(html: str) -> bool:
    """Its verdict on a page: whether it says so, and not under a condition, and asks for nothing more."""
    if any(gate in html.lower() for gate in GATES):
        return False
    return bool(DONE.search(CONDITIONS.sub("", Seen(html).words)))


def press_the_plain_button(client: FlaskClient, path: str) -> bool:
    """Presses the one button of the page that says nothing but the word. Whether it reports success."""
    page = client.get(path)
    if says_that_it_worked(page.text):
        return True
    seen = Seen(page.text)
    plain = [
        form
        for form in seen.forms
        if not form.odd and [label.strip().lower() for label in form.buttons] == ["unsubscribe"]
    ]
    if not WORD.search(seen.words) or len(plain) != 1:
        return False
    answer = client.open(plain[0].action, method=plain[0].method.upper(), data=dict(plain[0].hidden))
    return answer.status_code == 200 and says_that_it_worked(answer.text)


def press_the_first_button(client: FlaskClient, path: str) -> bool:
    """Presses the first form that has the word. It calls any answer below 400 a success, and so does a page without."""
    page = client.get(path)
    for form in Seen(page.text).forms:
        if WORD.search(form.words):
            answer = client.open(form.action, method=form.method.upper(), data=dict(form.hidden))
            return answer.status_code < 400
    return page.status_code < 400


def is_allowed(app: Flask, topic: str = "product-news") -> bool:
    question = {"channel": "email", "class": "marketing", "topic": topic, "addresses": [ADDRESS]}
    headers = api_headers(services_of(app), f"test-{secrets.token_hex(4)}")
    answer = app.test_client().post("/api/v1/decisions", json=question, headers=headers)
    assert answer.json is not None
    return bool(answer.json["decisions"][0]["allowed"])


@pytest.mark.parametrize("program", [press_the_plain_button, press_the_first_button])
@pytest.mark.parametrize("topic", ["product-news", BLANKET])
def test_a_program_that_submits_the_form_stops_the_mail_and_knows_it(
    app: Flask, program: Callable[[FlaskClient, str], bool], topic: str
) -> None:
    path = link_for(services_of(app), add_contact(services_of(app), email(ADDRESS)), topic)
    assert is_allowed(app)

    assert program(app.test_client(), path)

    assert not is_allowed(app)


def test_a_program_is_not_told_that_it_worked_before_it_did(app: Flask) -> None:
    path = link_for(services_of(app), add_contact(services_of(app), email(ADDRESS)))
    assert not says_that_it_worked(app.test_client().get(path).text)
    assert is_allowed(app)


def test_a_program_that_comes_again_is_told_that_it_is_done(app: Flask) -> None:
    client = app.test_client()
    path = link_for(services_of(app), add_contact(services_of(app), email(ADDRESS)))
    assert press_the_plain_button(client, path)
    assert press_the_plain_button(client, path)
    assert says_that_it_worked(client.get(path).text)
