"""The unsubscribe link: whoever calls, and however, the mail stops; and nothing else happens."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import Client, TestResponse

from preferences.current import services_of
from preferences.domain.consent import is_stopped
from preferences.domain.errors import BadLink
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import BLANKET, Channel, OneClick, Status
from preferences.ledger.verify import verify
from preferences.services import Services
from preferences.store import feed
from preferences.store.catalog import save_brand
from preferences.store.contact_state import ChannelKey, ChannelPreferences
from preferences.tokens import ManageLink, UndoToken, UnsubscribeLink
from preferences.web.slow_bodies import BodyReadLimit, NoThreadFree
from tests.processes import Installation, contents, database_away
from tests.support import (
    BRAND,
    add_contact,
    api_headers,
    close,
    email,
    link_for,
    new_app,
    new_sqlite,
)

ADDRESS = "jane.doe@example.com"
FORM = "application/x-www-form-urlencoded"
ONE_CLICK = b"List-Unsubscribe=One-Click"
MULTIPART = (
    b'--frontier\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--frontier--\r\n'
)
BROWSER = {"Content-Type": FORM, "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
STILL_ARRIVES = "You will still get messages about your orders and your account."

# What mail clients have been seen to send, and what the web between them and us makes of it: headers and body.
SHAPES = {
    "urlencoded": ({"Content-Type": FORM}, ONE_CLICK),
    "urlencoded, with a charset": ({"Content-Type": f"{FORM}; charset=utf-8"}, ONE_CLICK),
    "urlencoded, in capitals": ({"Content-Type": FORM.upper()}, ONE_CLICK),
    "multipart": ({"Content-Type": "multipart/form-data; boundary=frontier"}, MULTIPART),
    "multipart without a boundary": ({"Content-Type": "multipart/form-data"}, MULTIPART),
    "multipart that never ends": ({"Content-Type": "multipart/form-data; boundary=frontier"}, MULTIPART[:60]),
    "an empty body": ({"Content-Type": FORM}, b""),
    "neither body nor content type": ({}, b""),
    "no content type": ({}, ONE_CLICK),
    "a body that says it is JSON": ({"Content-Type": "application/json"}, b'{"List-Unsubscribe": "One-Click"}'),
    "JSON that is none": ({"Content-Type": "application/json"}, ONE_CLICK),
    "a content type that is none": ({"Content-Type": ";;;=,"}, ONE_CLICK),
    "bytes that are no text": ({"Content-Type": FORM}, bytes(range(256))),
    "percent signs that encode nothing": ({"Content-Type": FORM}, b"%zz=%&%%%"),
    "a compressed body": ({"Content-Type": FORM, "Content-Encoding": "gzip"}, b"\x1f\x8b\x08\x00"),
    "Origin null": ({"Content-Type": FORM, "Origin": "null"}, ONE_CLICK),
    "a foreign Origin": ({"Content-Type": FORM, "Origin": "https://mail.example", "Sec-Fetch-Site": "cross-site"}, b""),
    "a foreign Referer": ({"Content-Type": FORM, "Referer": "https://mail.example/inbox"}, ONE_CLICK),
    "somebody's session cookie": ({"Content-Type": FORM, "Cookie": "session=eyJjb250YWN0IjoxfQ.aa.bb"}, ONE_CLICK),
    "a cookie that is none": ({"Content-Type": FORM, "Cookie": "=;;==; \xff"}, ONE_CLICK),
    "somebody's API key": ({"Content-Type": FORM, "Authorization": "Bearer pref_stolen"}, ONE_CLICK),
    "a host in capitals": ({"Content-Type": FORM, "Host": "PREFERENCES.EXAMPLE.TEST"}, ONE_CLICK),
    "a reader of Arabic": ({"Content-Type": FORM, "Accept-Language": "ar"}, ONE_CLICK),
    "prefetch headers on a POST": ({"Content-Type": FORM, "Sec-Purpose": "prefetch"}, ONE_CLICK),
    "two meanings at once": ({"Content-Type": FORM}, ONE_CLICK + b"&intent="),
    "more fields than anybody counts": ({"Content-Type": FORM}, b"intent=all" + b"&a=1" * 100),
    "a body of 1 MB": ({"Content-Type": FORM}, ONE_CLICK + b"&" + b"x" * 1_000_000),
    "a multipart body of 1 MB": ({"Content-Type": "multipart/form-data; boundary=frontier"}, MULTIPART * 10_000),
}
every_shape = pytest.mark.parametrize(("headers", "body"), SHAPES.values(), ids=SHAPES)


def decision(app: Flask, topic: str = "product-news", message_class: str = "marketing") -> dict[str, Any]:
    """What the decision API says of our contact."""
    name = f"test-{secrets.token_hex(4)}"
    question = {"channel": "email", "class": message_class, "topic": topic, "addresses": [ADDRESS]}
    answer = app.test_client().post("/api/v1/decisions", json=question, headers=api_headers(services_of(app), name))
    assert answer.json is not None
    return answer.json["decisions"][0]


def link_of(app: Flask, topic: str = "product-news") -> str:
    """The path of our contact's link; the contact is made if it is not there."""
    services = services_of(app)
    return link_for(services, add_contact(services, email(ADDRESS)), topic)


def channel_preferences(services: Services, contact_id: UUID) -> ChannelPreferences:
    """What is in force for a contact, by id: also for one whose address is no longer known."""
    return services.reader.channel_preferences(ChannelKey(contact_id, Channel.EMAIL, "default"))


def press(client: FlaskClient, path: str, intent: str = "all", name: str = "", **headers: str) -> TestResponse:
    """Press a button of the page, as a browser does. `name` is the press's own, from the page's hidden field."""
    return client.post(path, data={"intent": intent, "press": name}, headers=BROWSER | headers)


def without_presses(page: str) -> str:
    """A page but for what is random in it: the names of presses, and references, since evidence is sealed with salt."""
    page = re.sub(r"(?:(?<=%20)|\b)[0-9A-Z]{4}-[0-9A-Z]{4}\b", "", page)
    return re.sub(r'name="press" value="[^"]{32}"', "", page)


def undo_in(page: TestResponse) -> str | None:
    """The token in the page's undo form."""
    found = re.search(r'name="undo" value="([^"]+)"', page.text)
    return found[1] if found else None


def is_acknowledged(status: int, headers: Any) -> bool:
    """200, where it was asked, and without a cookie."""
    return status == 200 and "Location" not in headers and "Set-Cookie" not in headers


def count_entries(services: Services) -> int:
    return services.database.read(feed.head_seq)


# One click.


@every_shape
def test_a_post_of_any_shape_stops_the_mail(sqlite_app: Flask, headers: dict[str, str], body: bytes) -> None:
    path = link_of(sqlite_app)
    assert decision(sqlite_app)["allowed"]

    answer = sqlite_app.test_client().post(path, headers=headers, data=body)

    assert is_acknowledged(answer.status_code, answer.headers)
    assert decision(sqlite_app)["reason"] == "unsubscribed_all"


@pytest.mark.parametrize("more", ["/", "?utm_source=news&e=1", "/?"])
def test_a_path_with_something_behind_it_is_the_same_link(sqlite_app: Flask, more: str) -> None:
    answer = sqlite_app.test_client().post(link_of(sqlite_app) + more, data={"List-Unsubscribe": "One-Click"})

    assert is_acknowledged(answer.status_code, answer.headers)
    assert not decision(sqlite_app)["allowed"]


@pytest.mark.parametrize("more", ["/undo/", "/reason/"])
def test_no_form_of_the_page_is_redirected(sqlite_app: Flask, more: str) -> None:
    answer = sqlite_app.test_client().post(link_of(sqlite_app) + more, headers=BROWSER)
    assert answer.status_code not in range(300, 400)


def test_a_proxy_that_speaks_http_to_us_causes_no_redirect(tmp_path: Path) -> None:
    app = new_app(new_sqlite(tmp_path), trusted_proxies=1)
    path = link_of(app)

    answer = app.test_client().post(path, headers={"X-Forwarded-Proto": "http", "X-Forwarded-For": "192.0.2.77"})

    assert is_acknowledged(answer.status_code, answer.headers)
    (details,) = contents_of(app)["evidence"]
    assert "192.0.2.0/24" in details, "the proxy's word for the network counts"
    assert "192.0.2.77" not in details, "and is shortened before it is kept"
    close(app)


def test_the_network_that_a_client_claims_is_not_believed(sqlite_app: Flask) -> None:
    sqlite_app.test_client().post(link_of(sqlite_app), headers={"X-Forwarded-For": "192.0.2.77"})
    (details,) = contents_of(sqlite_app)["evidence"]
    assert "192.0.2" not in details


def test_one_click_is_in_force_at_once(app: Flask) -> None:
    path = link_of(app)
    answer = app.test_client().post(path, data={"List-Unsubscribe": "One-Click"})

    assert answer.status_code == 200
    assert answer.text.startswith("You are unsubscribed from all marketing by email. Reference ")
    for topic in ("product-news", "offers"):
        assert decision(app, topic)["reason"] == "unsubscribed_all"
    assert decision(app, "receipts", "transactional")["allowed"]


def test_the_answer_names_the_entry_that_was_recorded(app: Flask) -> None:
    answer = app.test_client().post(link_of(app))
    services = services_of(app)
    (entry,) = services.database.read(feed.entries_after, 0, 10)
    assert reference_of(entry.hash) in answer.text


def test_four_posts_in_a_row_all_succeed_and_change_one_thing(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)

    answers = [client.post(path, data={"List-Unsubscribe": "One-Click"}) for _ in range(4)]

    assert all(is_acknowledged(answer.status_code, answer.headers) for answer in answers)
    entries = services_of(app).database.read(feed.entries_after, 0, 10)
    assert [entry.changed for entry in entries] == [True, False, False, False]


def test_fifty_posts_at_once_all_succeed_and_change_one_thing(app: Flask) -> None:
    path, services = link_of(app), services_of(app)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: app.test_client().post(path), range(50)))

    assert [answer.status_code for answer in answers] == [200] * 50
    entries = services.database.read(feed.entries_after, 0, 100)
    assert [entry.changed for entry in entries] == [True] + [False] * 49
    assert services.database.snapshot(verify, lambda _: None).problems == []


def test_a_link_stops_its_owners_mail_and_no_other_contacts(app: Flask) -> None:
    services = services_of(app)
    other = add_contact(services, email("somebody.else@example.com"))
    app.test_client().post(link_of(app))
    assert channel_preferences(services, other).preferences == {}


# The same, through the server that is used in production.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Flask]]:
    """A running granian, and an application on the same database to look in from the side."""
    folder = tmp_path_factory.mktemp("real")
    with Installation(folder, new_sqlite(folder)) as installation:
        installation.web.start()
        app = new_app(installation.settings.database_url)
        yield installation, app
        close(app)


Answer = tuple[int, dict[str, str], str]


def call(installation: Installation, path: str, headers: dict[str, str], body: Any) -> Answer:
    """One POST over a connection of its own."""
    connection = installation.connect()
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, {name.title(): value for name, value in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def test_a_real_server_takes_every_shape(real: tuple[Installation, Flask]) -> None:
    installation, app = real
    services = services_of(app)
    for number, (shape, (headers, body)) in enumerate(SHAPES.items()):
        contact_id = add_contact(services, email(f"shape-{number}@example.com"))

        status, got, _ = call(installation, link_for(services, contact_id), headers, body)

        assert is_acknowledged(status, got), shape
        assert channel_preferences(services, contact_id).preferences[BLANKET].status is Status.UNSUBSCRIBED, shape


@pytest.mark.parametrize(
    ("chunks", "stopped"),
    [([b"List-Unsub", b"scribe=One-Click"], BLANKET), ([b"int", b"ent=to", b"pic"], "product-news")],
    ids=["one click", "the page's form"],
)
def test_a_body_in_chunks_without_a_length_is_understood(
    real: tuple[Installation, Flask], chunks: list[bytes], stopped: str
) -> None:
    installation, app = real
    services = services_of(app)
    contact_id = add_contact(services, email(f"chunks-{len(chunks)}@example.com"))

    status, got, _ = call(installation, link_for(services, contact_id), {"Content-Type": FORM}, iter(chunks))

    assert is_acknowledged(status, got)
    assert list(channel_preferences(services, contact_id).preferences) == [stopped]


def test_a_client_that_sends_far_too_much_still_reads_its_answer(real: tuple[Installation, Flask]) -> None:
    installation, app = real
    status, got, body = call(installation, link_of(app), {"Content-Type": FORM}, b"x" * 10_000_000)
    assert is_acknowledged(status, got)
    assert body.startswith("You are unsubscribed from all marketing by email.")


def test_a_connection_can_be_used_for_many_posts(real: tuple[Installation, Flask]) -> None:
    installation, app = real
    path, connection = link_of(app), installation.connect()
    for headers, body in (SHAPES["multipart"], SHAPES["urlencoded"], SHAPES["no content type"], SHAPES["multipart"]):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()[:20]) == (200, b"You are unsubscribed")
    connection.close()


def test_fifty_connections_at_once_all_get_their_answer(real: tuple[Installation, Flask]) -> None:
    installation, app = real
    services = services_of(app)
    contact_id = add_contact(services, email("fifty@example.com"))
    path, before = link_for(services, contact_id), count_entries(services)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: call(installation, path, {"Content-Type": FORM}, ONE_CLICK), range(50)))

    assert all(is_acknowledged(status, got) for status, got, _ in answers)
    entries = services.database.read(feed.entries_after, before, 100)
    assert [entry.changed for entry in entries] == [True] + [False] * 49


# Looking changes nothing.


LOOKS = {
    "a look": ("GET", {}),
    "a browser": ("GET", {"Accept": "text/html"}),
    "HEAD": ("HEAD", {}),
    "OPTIONS": ("OPTIONS", {}),
    "a preflight": ("OPTIONS", {"Origin": "https://mail.example", "Access-Control-Request-Method": "POST"}),
    "an old prefetch": ("GET", {"Purpose": "prefetch", "X-Moz": "prefetch"}),
    "a prefetch": ("GET", {"Sec-Purpose": "prefetch;prerender"}),
    "a link preview": ("GET", {"User-Agent": "Slackbot-LinkExpanding 1.0", "Range": "bytes=0-1000"}),
    "a GET with a body": ("GET", {"Content-Type": FORM}),
    "a GET that would rather be a POST": ("GET", {"X-HTTP-Method-Override": "POST"}),
}


def contents_of(app: Flask) -> dict[str, list[str]]:
    return contents(services_of(app).settings.database_url)


def test_looking_at_a_link_however_often_changes_no_row(app: Flask) -> None:
    client, services = app.test_client(), services_of(app)
    contact_id = add_contact(services)
    manage = services.links.sign_manage(ManageLink(contact_id, Channel.EMAIL, "default", datetime.now(UTC)))
    paths = [link_of(app), link_of(app, BLANKET), f"/p/{manage}", "/optout", "/", f"{link_of(app)}?intent=all"]
    before = contents_of(app)

    statuses = {
        client.open(path, method=method, headers=headers, data=ONE_CLICK if "Content-Type" in headers else None).status
        for path in paths
        for method, headers in LOOKS.values()
    }

    assert statuses == {"200 OK"}
    assert contents_of(app) == before


def test_looking_again_after_the_choice_changes_no_row(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    undo = undo_in(press(client, path))
    before = contents_of(app)

    for method, headers in LOOKS.values():
        client.open(path, method=method, headers=headers)
        client.open(f"{path}/undo?undo={undo}", method=method, headers=headers)
        client.open(f"{path}/reason?reason=other", method=method, headers=headers)

    assert contents_of(app) == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused_and_change_no_row(sqlite_app: Flask, method: str) -> None:
    path = link_of(sqlite_app)
    before = contents_of(sqlite_app)

    answer = sqlite_app.test_client().open(path, method=method, data=ONE_CLICK)

    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert contents_of(sqlite_app) == before


# The page and its forms.


def test_the_page_offers_all_and_the_topic_and_asks_nothing_else(sqlite_app: Flask) -> None:
    page = sqlite_app.test_client().get(link_of(sqlite_app))

    assert page.status_code == 200
    assert re.findall(r'name="intent" value="(\w+)"', page.text) == ["topic", "all"]
    assert page.text.count("<form") == page.text.count("<button") == 2
    assert "Maple &amp; Finch" in page.text
    assert STILL_ARRIVES in page.text
    assert "reason" not in page.text
    assert "password" not in page.text


def test_the_page_of_a_link_for_everything_offers_everything(sqlite_app: Flask) -> None:
    page = sqlite_app.test_client().get(link_of(sqlite_app, BLANKET))
    assert re.findall(r'name="intent" value="(\w+)"', page.text) == ["all"]


def test_the_button_for_all_stops_all_marketing_and_no_receipts(app: Flask) -> None:
    page = press(app.test_client(), link_of(app), "all")

    assert is_acknowledged(page.status_code, page.headers)
    assert "You are unsubscribed" in page.text
    assert decision(app, "product-news")["reason"] == decision(app, "offers")["reason"] == "unsubscribed_all"
    assert decision(app, "receipts", "transactional")["allowed"]


def test_the_button_for_the_topic_stops_only_the_topic(app: Flask) -> None:
    page = press(app.test_client(), link_of(app), "topic")

    assert is_acknowledged(page.status_code, page.headers)
    assert "You are unsubscribed from Product news" in page.text
    assert re.findall(r'name="intent" value="(\w+)"', page.text) == ["all"], "the rest can be stopped from here"
    assert decision(app, "product-news")["reason"] == "unsubscribed"
    assert decision(app, "offers")["reason"] == "no_consent", "not touched: nobody ever said yes to it"


@pytest.mark.parametrize("intent", ["", "none", "ALL", "*", "offers", "subscribe", "<script>"])
def test_an_intent_that_we_do_not_know_acts_as_one_click(sqlite_app: Flask, intent: str) -> None:
    page = press(sqlite_app.test_client(), link_of(sqlite_app), intent)

    assert is_acknowledged(page.status_code, page.headers)
    assert decision(sqlite_app)["reason"] == "unsubscribed_all"


def test_a_browser_that_posts_nothing_stops_the_mail_and_shows_the_page(sqlite_app: Flask) -> None:
    page = sqlite_app.test_client().post(link_of(sqlite_app), headers={"Accept": "text/html"})
    assert "You are unsubscribed" in page.text
    assert page.mimetype == "text/html"
    assert decision(sqlite_app)["reason"] == "unsubscribed_all"


@pytest.mark.parametrize(
    ("headers", "data"),
    [({}, ONE_CLICK), (BROWSER, {"intent": "whatever"}), ({"Accept": "text/html"}, b"")],
    ids=["one click", "an unknown intent", "an empty form"],
)
def test_where_the_brand_says_so_one_click_stops_only_the_topic(app: Flask, headers: dict[str, str], data: Any) -> None:
    services, path = services_of(app), link_of(app)
    services.database.save(save_brand, replace(BRAND, one_click=OneClick.TOPIC), datetime.now(UTC))

    assert app.test_client().post(path, headers=headers, data=data).status_code == 200

    assert decision(app, "product-news")["reason"] == "unsubscribed"
    assert decision(app, "offers")["reason"] == "no_consent"


def test_the_page_shows_what_has_been_stopped_with_its_reference_and_time(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    done = press(client, path)
    (entry,) = services_of(app).database.read(feed.entries_after, 0, 10)

    page = client.get(path)

    assert "<h1>You are unsubscribed from all marketing email</h1>" in page.text
    assert reference_of(entry.hash) in done.text
    assert reference_of(entry.hash) in page.text
    assert f'datetime="{entry.recorded_at:%Y-%m-%dT%H:%M:%SZ}"' in page.text
    assert "<button" not in page.text, "there is nothing left to stop"


# The done page, undo and reason.


def test_the_done_page_says_what_stopped_and_what_still_arrives(app: Flask) -> None:
    page = press(app.test_client(), link_of(app))
    (entry,) = services_of(app).database.read(feed.entries_after, 0, 10)

    assert "All marketing email" in page.text
    assert "This takes effect immediately. Email already on its way may still reach you." in page.text
    assert reference_of(entry.hash) in page.text
    assert f'datetime="{entry.recorded_at:%Y-%m-%dT%H:%M:%SZ}"' in page.text
    assert STILL_ARRIVES in page.text
    assert "We keep a coded record of your address so that we do not contact you again by mistake." in page.text


def test_an_undo_puts_back_what_was(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    done = press(client, path)
    assert not decision(app)["allowed"]

    page = client.post(f"{path}/undo", data={"undo": undo_in(done)})

    assert is_acknowledged(page.status_code, page.headers)
    assert "Undone" in page.text
    assert decision(app)["allowed"]
    assert decision(app, "offers")["reason"] == "no_consent", "nobody is subscribed by an undo"


def test_an_undo_works_once(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    undo = {"undo": undo_in(press(client, path))}
    assert client.post(f"{path}/undo", data=undo).status_code == 200
    before = contents_of(app)

    again = client.post(f"{path}/undo", data=undo)

    assert again.status_code == 409
    assert "Nothing was changed" in again.text
    assert contents_of(app) == before


def test_an_undo_cannot_revive_what_was_stopped_again_afterwards(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    first = {"undo": undo_in(press(client, path))}
    client.post(f"{path}/undo", data=first)
    press(client, path)

    assert client.post(f"{path}/undo", data=first).status_code == 409
    assert not decision(app)["allowed"]


@pytest.mark.parametrize(("minutes", "status"), [(29, 200), (31, 410)])
def test_an_undo_is_open_for_half_an_hour(app: Flask, minutes: int, status: int) -> None:
    client, path, now = app.test_client(), link_of(app), datetime.now(UTC)
    with time_machine.travel(now, tick=False):
        undo = undo_in(press(client, path))

    with time_machine.travel(now + timedelta(minutes=minutes), tick=False):
        answer = client.post(f"{path}/undo", data={"undo": undo})

    assert answer.status_code == status
    assert decision(app)["allowed"] is (status == 200)


def test_another_contacts_undo_is_refused(app: Flask) -> None:
    client, services = app.test_client(), services_of(app)
    other = link_for(services, add_contact(services, email("somebody.else@example.com")))
    undo = undo_in(press(client, link_of(app)))
    press(client, other)
    before = contents_of(app)

    assert client.post(f"{other}/undo", data={"undo": undo}).status_code == 404

    assert contents_of(app) == before


def test_a_signed_undo_of_another_contacts_entry_is_refused(app: Flask) -> None:
    client, services = app.test_client(), services_of(app)
    stranger = add_contact(services, email("somebody.else@example.com"))
    press(client, link_of(app))
    token = services.links.sign_undo(UndoToken(stranger, 1, datetime.now(UTC)))
    before = contents_of(app)

    assert client.post(f"{link_for(services, stranger)}/undo", data={"undo": token}).status_code == 409

    assert contents_of(app) == before


@pytest.mark.parametrize("undo", [None, "", "nonsense", "a.b"])
def test_an_undo_without_its_token_is_refused(sqlite_app: Flask, undo: str | None) -> None:
    client, path = sqlite_app.test_client(), link_of(sqlite_app)
    press(client, path)
    before = contents_of(sqlite_app)

    answer = client.post(f"{path}/undo", data={} if undo is None else {"undo": undo})

    assert answer.status_code == 404
    assert contents_of(sqlite_app) == before


def test_an_undo_restores_exactly_its_own_entry(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    press(client, path, "topic")
    undo = undo_in(press(client, path, "all"))
    assert decision(app)["reason"] == "unsubscribed_all"

    client.post(f"{path}/undo", data={"undo": undo})

    assert decision(app)["reason"] == "unsubscribed", "the earlier choice about the topic stands"
    assert decision(app, "offers")["reason"] == "no_consent", "the blanket is gone"


def test_no_topic_is_restored_by_an_undo_while_everything_is_stopped(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    undo = undo_in(press(client, path, "topic"))
    press(client, path, "all")

    assert client.post(f"{path}/undo", data={"undo": undo}).status_code == 409
    assert undo_in(press(client, path, "topic")) is None, "and none is offered"
    assert decision(app)["reason"] == "unsubscribed"
    assert decision(app, "offers")["reason"] == "unsubscribed_all"


def test_no_page_that_is_only_looked_at_offers_an_undo(sqlite_app: Flask) -> None:
    client, path = sqlite_app.test_client(), link_of(sqlite_app)
    press(client, path)
    assert undo_in(client.get(path)) is None


def test_a_double_submission_still_shows_the_undo(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    (name, _) = re.findall(r'name="press" value="([^"]+)"', client.get(path).text)
    press(client, path, name=name)
    second = press(client, path, name=name)

    assert client.post(f"{path}/undo", data={"undo": undo_in(second)}).status_code == 200
    assert decision(app)["allowed"]


def test_a_submission_that_stops_nothing_new_offers_no_undo(sqlite_app: Flask) -> None:
    client, path, now = sqlite_app.test_client(), link_of(sqlite_app), datetime.now(UTC)
    first = press(client, path)
    with time_machine.travel(now + timedelta(hours=1), tick=False):
        page = press(client, path)

    assert page.status_code == 200
    assert undo_in(page) is None
    (reference,) = re.findall(r'class="ref"[^>]*>([^<]+)</bdi></dd>', first.text)
    assert reference in page.text, "the choice that counts is still the first one"


def test_the_reason_is_asked_afterwards_and_kept_outside_the_ledger(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    assert "too_many" not in client.get(path).text
    assert "too_many" in press(client, path).text
    before = contents_of(app)

    page = client.post(f"{path}/reason", data={"reason": "too_many"})

    assert is_acknowledged(page.status_code, page.headers)
    after = contents_of(app)
    assert len(after.pop("stated_reason")) == 1
    assert before.pop("stated_reason") == []
    assert after == before


def test_who_says_why_can_still_undo_on_the_next_page(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    kept = re.findall(r'name="keep" value="([^"]+)"', press(client, path).text)
    thanks = client.post(f"{path}/reason", data={"reason": "other", "keep": [*kept, "nonsense"]})
    assert client.post(f"{path}/undo", data={"undo": undo_in(thanks)}).status_code == 200
    assert decision(app)["allowed"]
    after = client.post(f"{path}/reason", data={"reason": "other", "keep": kept})
    assert undo_in(after) is None, "nothing is stopped any more"


def test_a_reason_offers_no_other_contacts_undo(sqlite_app: Flask) -> None:
    client = sqlite_app.test_client()
    mine = link_of(sqlite_app)
    services = services_of(sqlite_app)
    theirs = link_for(services, add_contact(services, email("theirs@example.com")))
    kept = re.findall(r'name="keep" value="([^"]+)"', press(client, theirs).text)
    press(client, mine)
    assert undo_in(client.post(f"{mine}/reason", data={"reason": "other", "keep": kept})) is None


def test_a_second_reason_replaces_the_first(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    press(client, path)
    for reason in ("too_many", "other"):
        client.post(f"{path}/reason", data={"reason": reason})
    (row,) = contents_of(app)["stated_reason"]
    assert "'other'" in row


@pytest.mark.parametrize("data", [{}, {"reason": ""}, {"reason": "I hate <you>"}, {"other": "x" * 10_000}])
def test_a_reason_is_never_required_and_nothing_free_is_kept(sqlite_app: Flask, data: dict[str, str]) -> None:
    client, path = sqlite_app.test_client(), link_of(sqlite_app)
    press(client, path)
    before = contents_of(sqlite_app)

    assert client.post(f"{path}/reason", data=data).status_code == 200

    assert contents_of(sqlite_app) == before


def test_a_reason_before_any_choice_is_not_kept(sqlite_app: Flask) -> None:
    client, path = sqlite_app.test_client(), link_of(sqlite_app)
    assert client.post(f"{path}/reason", data={"reason": "other"}).status_code == 200
    assert contents_of(sqlite_app)["stated_reason"] == []


def test_no_answer_ever_shows_the_whole_address(sqlite_app: Flask) -> None:
    client, path = sqlite_app.test_client(), link_of(sqlite_app)
    one_click = client.post(path)
    client.post(path)
    answers = [client.get(path), one_click, done := press(client, path), client.get(path)]
    answers += [client.post(f"{path}/{what}", data={"undo": undo_in(done) or ""}) for what in ("undo", "reason")]
    answers += [client.post(f"{path}/undo"), client.get(f"{path}x"), client.put(path)]

    for answer in answers:
        assert "jane" not in answer.text
        assert ADDRESS not in str(answer.headers)
    assert "j•••@example.com" in answers[0].text
    assert "j•••@example.com" in done.text


# Links outlive everything.


def change(app: Flask, *statements: str) -> None:
    """What time, an operator or an erasure may do to the rows that a link once knew."""
    with services_of(app).database.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


LATER = {
    "the contact's rows are gone": ("DELETE FROM address", "DELETE FROM contact"),
    "the topic is gone": ("DELETE FROM topic WHERE slug = 'product-news'",),
    "the brand is gone": ("DELETE FROM topic", "DELETE FROM brand"),
}


@pytest.mark.parametrize("statements", LATER.values(), ids=LATER)
@pytest.mark.parametrize("intent", [None, "all", "topic"])
def test_a_link_works_when(app: Flask, statements: tuple[str, ...], intent: str | None) -> None:
    client, services, contact_id = app.test_client(), services_of(app), add_contact(services_of(app))
    path = link_for(services, contact_id)
    change(app, *statements)

    page = client.get(path)
    answer = press(client, path, intent) if intent else client.post(path)

    assert page.status_code == 200
    assert "<button" in page.text
    assert is_acknowledged(answer.status_code, answer.headers)
    stopped = "product-news" if intent == "topic" else BLANKET
    assert channel_preferences(services, contact_id).preferences[stopped].status is Status.UNSUBSCRIBED
    assert client.get(path).status_code == 200


def test_a_link_works_after_the_key_has_been_changed(database_url: str) -> None:
    old = new_app(database_url)
    path = link_of(old)
    new = new_app(database_url, link_keys=("link-key-of-the-tests-01", "a-second-key-made-later", "a-third-key-after"))

    assert new.test_client().post(path).status_code == 200

    assert not decision(new)["allowed"]
    assert link_of(new) != path, "new links are signed with the newest key"
    close(old)
    close(new)


def test_a_link_works_two_years_later(app: Flask) -> None:
    path = link_of(app)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=731)):
        assert app.test_client().get(path).status_code == 200
        assert app.test_client().post(path).status_code == 200
        assert not decision(app)["allowed"]


def test_the_link_of_an_address_that_we_dropped_says_so_and_still_stops_it(sqlite_app: Flask) -> None:
    client, path = sqlite_app.test_client(), link_of(sqlite_app)
    change(sqlite_app, *LATER["the contact's rows are gone"])
    assert "We no longer hold the address behind this link." in client.get(path).text
    assert "You are unsubscribed" in press(client, path).text


# Limits.


def test_repeated_submissions_are_limited_once_the_opt_out_is_recorded(app: Flask) -> None:
    client, path = app.test_client(), link_of(app)
    answers = [press(client, path) for _ in range(2)]
    while answers[-1].status_code == 200 and len(answers) < 300:
        answers.append(press(client, path))

    assert {answer.status_code for answer in answers[:120]} == {200}
    assert answers[-1].status_code == 429
    assert answers[-1].headers["Retry-After"] == "30"
    assert "Anything already saved still counts." in answers[-1].text
    assert not decision(app)["allowed"]
    assert client.get(path).status_code == 200, "looking is not limited"
    assert client.post(link_of(app, "offers")).status_code == 200, "another link is not either"


def test_five_hundred_people_behind_one_network_are_all_heard(sqlite_app: Flask) -> None:
    client, services = sqlite_app.test_client(), services_of(sqlite_app)
    paths = [link_for(services, UUID(int=number + 1)) for number in range(500)]
    assert {client.post(path).status_code for path in paths} == {200}
    assert count_entries(services) == 500


# What every answer carries.


PROMISED = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


def carries_the_promised_headers(answer: TestResponse) -> bool:
    return {name: answer.headers.get(name) for name in PROMISED} == PROMISED and "Set-Cookie" not in answer.headers


def test_every_answer_of_a_link_carries_the_promised_headers(sqlite_app: Flask) -> None:
    client, services, path = sqlite_app.test_client(), services_of(sqlite_app), link_of(sqlite_app)
    manage = ManageLink(add_contact(services), Channel.EMAIL, "default", datetime.now(UTC))
    good, old = (
        services.links.sign_manage(manage),
        services.links.sign_manage(replace(manage, issued_at=datetime(2020, 1, 1, tzinfo=UTC))),
    )
    answers = [client.get(path), client.head(path), client.options(path), client.post(path), press(client, path)]
    answers += [client.get(f"/p/{good}"), client.post(f"/p/{good}", data={"intent": "all"}), client.get(f"/p/{old}")]
    answers += [client.get("/u/forged"), client.post("/u/forged"), client.delete(path), client.get("/p/forged")]
    answers += [client.post(f"{path}/undo"), client.post(f"{path}/reason"), client.post("/optout"), client.get("/")]
    with database_away(sqlite_app):
        answers += [client.get(path), client.post(path), client.get(f"/p/{good}"), client.post(f"{path}/reason")]
    change(sqlite_app, "DROP TABLE preference")
    answers += [client.get(path), client.post(path), client.get(f"/p/{good}"), client.post(f"{path}/undo")]

    assert {answer.status_code for answer in answers} == {200, 400, 404, 405, 410, 500, 503}
    for answer in answers:
        assert carries_the_promised_headers(answer), (answer.request.path, answer.status, answer.headers)


# Links as they stand in plain text.


@pytest.mark.parametrize(
    "behind", [".", ")", "%3E", "%253E", ",", "%22", "%27", "]", "=", "_", "-", "&gt;", "%E3%80%82"]
)
def test_a_link_works_with_what_a_mail_program_puts_behind_it(app: Flask, behind: str) -> None:
    client, services, contact_id = app.test_client(), services_of(app), add_contact(services_of(app))
    path = link_for(services, contact_id)
    page = client.get(path + behind)
    assert page.status_code == 200
    assert f'action="{path}"' in page.text
    assert client.post(path + behind, data=ONE_CLICK, content_type=FORM).status_code == 200
    assert channel_preferences(services, contact_id).preferences[BLANKET].status is Status.UNSUBSCRIBED


@pytest.mark.parametrize("end", ["-", "_"])
def test_an_old_link_works_without_the_end_that_was_cut_off(app: Flask, end: str) -> None:
    client, services, contact_id = app.test_client(), services_of(app), add_contact(services_of(app))
    path = old_link(services, contact_id, end)
    assert client.get(path).status_code == 200
    page = client.get(path.removesuffix(end))
    assert page.status_code == 200
    assert client.post(path.removesuffix(end), data=ONE_CLICK, content_type=FORM).status_code == 200
    assert channel_preferences(services, contact_id).preferences[BLANKET].status is Status.UNSUBSCRIBED


def old_link(services: Services, contact_id: UUID, end: str) -> str:
    """A link as it was signed before all ended in a letter or digit, with this at its end."""
    for number in range(10_000):
        path = f"{link_for(services, contact_id, message_ref=f'm-{number}')[:-1]}{end}"
        with suppress(BadLink):
            services.links.read_unsubscribe(path.removeprefix("/u/").removesuffix(end))
            return path
    raise AssertionError("no link ends so")


def test_a_link_that_is_undone_keeps_working_however_it_ended(app: Flask) -> None:
    client, services, contact_id = app.test_client(), services_of(app), add_contact(services_of(app))
    done = press(client, f"{link_for(services, contact_id)}%3Fa=1)", "topic")
    path, undo = re.search(r'action="([^"]+/undo)"', done.text), undo_in(done)
    assert path is not None
    assert client.post(path[1], data={"undo": undo}).status_code == 200
    assert not is_stopped(channel_preferences(services, contact_id).preferences, "product-news")


def test_however_a_link_ends_its_posts_are_counted_together(app: Flask) -> None:
    client, services = app.test_client(), services_of(app)
    path = link_for(services, add_contact(services))
    answers = [press(client, path + "." * (number % 50)).status_code for number in range(125)]
    assert set(answers) == {200, 429}


# A form that could not be read.

LOST = "We could not read which button you pressed."


@contextmanager
def too_many_slow_bodies() -> Iterator[None]:
    """No body is read: every thread that may wait for one does."""

    def read(*_arguments: object) -> bytes:
        raise NoThreadFree

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BodyReadLimit, "read", read)
        yield


@pytest.mark.parametrize("intent", ["topic", "all", "all-brands"])
def test_whose_form_could_not_be_read_is_told_what_was_stopped(app: Flask, intent: str) -> None:
    client, services, contact_id = app.test_client(), services_of(app), add_contact(services_of(app))
    services.database.save(save_brand, replace(BRAND, slug="tea", name="Tea"), datetime.now(UTC))
    services.catalog.get("a topic that makes it read again")
    path = link_for(services, contact_id)
    with too_many_slow_bodies():
        done = press(client, path, intent)
    assert (done.status_code, LOST in done.text) == (200, True)
    assert is_stopped(channel_preferences(services, contact_id).preferences, BLANKET), "an opt-out is never lost"
    assert "You are unsubscribed from all marketing email" in done.text
    assert 'value="all-brands"' in done.text, "the other choices are offered"

    undone = client.post(f"{path}/undo", data={"undo": undo_in(done)})
    assert 'value="topic"' in undone.text
    assert not is_stopped(channel_preferences(services, contact_id).preferences, "product-news")
    assert LOST not in press(client, path, "topic").text


def test_a_mail_program_whose_body_could_not_be_read_is_answered_as_ever(app: Flask) -> None:
    client, services, contact_id = app.test_client(), services_of(app), add_contact(services_of(app))
    with too_many_slow_bodies():
        answer = client.post(link_for(services, contact_id), data=ONE_CLICK)
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert is_stopped(channel_preferences(services, contact_id).preferences, BLANKET)


# The front is only faster.


CALLS = {
    "a look": {"method": "GET"},
    "HEAD": {"method": "HEAD"},
    "one click": {"method": "POST", "data": ONE_CLICK, "content_type": FORM},
    "multipart": {"method": "POST", "data": MULTIPART, "content_type": "multipart/form-data; boundary=frontier"},
    "the button for all": {"method": "POST", "data": {"intent": "all"}, "headers": BROWSER},
    "the button for the topic": {"method": "POST", "data": {"intent": "topic"}, "headers": BROWSER},
    "1 MB": {"method": "POST", "data": b"x" * 1_000_000, "content_type": FORM},
    "a method that is not offered": {"method": "DELETE"},
}


def two_doors(folder: Path) -> list[tuple[Flask, Client]]:
    """Two applications that are alike in everything: one called through its front, one at Flask's own door."""
    apps = [new_app(new_sqlite(folder)), new_app(new_sqlite(folder))]
    return [(apps[0], Client(apps[0].wsgi_app)), (apps[1], Client(partial(Flask.wsgi_app, apps[1])))]


def compared(answer: TestResponse) -> tuple[str, list[tuple[str, str]], str]:
    return answer.status, sorted(answer.headers), without_presses(answer.text)


@pytest.mark.parametrize("options", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("more", ["", "/"])
@pytest.mark.parametrize("forged", [False, True], ids=["a good link", "a forged one"])
def test_the_front_and_flask_answer_alike(tmp_path: Path, options: dict[str, Any], more: str, forged: bool) -> None:
    link = UnsubscribeLink(UUID(int=7), Channel.EMAIL, "default", "product-news", "campaign-7")
    answers = []
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=False):
        for app, client in two_doors(tmp_path):
            token = "forged" if forged else services_of(app).links.sign_unsubscribe(link)
            answers.append([compared(client.open(f"/u/{token}{more}", **options)) for _ in range(2)])
            close(app)
    assert answers[0] == answers[1]


def test_the_front_and_flask_fail_alike(tmp_path: Path) -> None:
    answers = []
    for app, client in two_doors(tmp_path):
        path = link_for(services_of(app), UUID(int=7))
        with database_away(app):
            answers.append([compared(client.get(path)), compared(client.post(path))])
        change(app, "DROP TABLE preference")
        answers[-1] += [compared(client.get(path)), compared(client.post(path))]
        close(app)
    assert answers[0] == answers[1]
    assert [status for status, _, _ in answers[0]] == ["503 SERVICE UNAVAILABLE"] * 2 + [
        "500 INTERNAL SERVER ERROR"
    ] * 2
