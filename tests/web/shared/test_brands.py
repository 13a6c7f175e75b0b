"""Brands: each has a place and a look of its own, its links begin there, and a no to one leaves the others alone."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import Client, TestResponse

from preferences.current import services_of
from preferences.domain.errors import BadFields
from preferences.domain.records import Brand, Topic
from preferences.domain.vocabulary import Basis, Channel, MessageClass, OneClick
from preferences.importing import BadRow, check, import_file
from preferences.sending.mint import MintOptions, mint
from preferences.sending.scope import resolve
from preferences.services import Services
from preferences.store import cursors
from preferences.store.catalog import add_topic, change_brand, read_catalog, save_brand
from preferences.store.contact_state import ChannelKey
from preferences.sync.push import run_once
from preferences.tokens import ManageLink, UnsubscribeLink
from preferences.web.shared.limits import limiter
from tests.connectors.fake import FakeConnector, FakeProvider
from tests.processes import contents
from tests.support import PUBLIC_URL, add_contact, api_headers, close, email, link_for, new_app, new_sqlite

ONE_CLICK = "List-Unsubscribe=One-Click"
JANE = "jane.doe@example.com"


def brand(slug: str, **place: Any) -> Brand:
    return Brand(
        slug=slug,
        name=slug.title(),
        postal_address="1 Anvil Road",
        contact_email=f"hello@{slug}.example",
        one_click=OneClick.EVERYTHING,
        **place,
    )


ACME = brand("acme", path="acme", colour="#0b57d0")
TEA = brand("tea", host="mail.tea.example")
BOTH = brand("both", host="mail.both.example", path="club")
BRANDS = (ACME, TEA, BOTH)


def add_brands(services: Services) -> None:
    """Three more brands, each with a topic and each in a place of another kind."""
    for one in BRANDS:
        services.database.save(save_brand, one, datetime.now(UTC))
        topic = Topic(
            slug=f"{one.slug}-news",
            brand=one.slug,
            name=f"{one.name} news",
            description="What is new.",
            frequency="Monthly",
            message_class=MessageClass.MARKETING,
            basis=Basis.LEGITIMATE_INTEREST,
            channels=(Channel.EMAIL,),
        )
        services.database.save(add_topic, topic, datetime.now(UTC))
    services.catalog.get("a topic that makes it read again")


@pytest.fixture(autouse=True)
def _brands(request: pytest.FixtureRequest) -> None:
    name = next((one for one in ("app", "sqlite_app") if one in request.fixturenames), None)
    if name is not None:
        app = request.getfixturevalue(name)
        add_brands(services_of(app))
        with app.app_context():
            limiter.reset()


@pytest.fixture
def sqlite_site(sqlite_app: Flask) -> Services:
    return services_of(sqlite_app)


def unsubscribe_url(services: Services, contact_id: UUID, slug: str, topic: str = "*") -> str:
    return services.unsubscribe_url(UnsubscribeLink(contact_id, Channel.EMAIL, slug, topic))


def manage_url(services: Services, contact_id: UUID, slug: str) -> str:
    return services.manage_url(ManageLink(contact_id, Channel.EMAIL, slug, datetime.now(UTC)))


def at(client: FlaskClient, url: str, method: str = "GET", **options: Any) -> TestResponse:
    """A call as a browser makes it: the host of the address in the header, its path in the first line."""
    return client.open(url, method=method, **options)


def whose(page: TestResponse) -> str:
    """The slug of the brand that a page is in the name of."""
    found = re.search(r'data-brand="([^"]*)"', page.text)
    assert found
    return found[1]


def stopped(services: Services, contact_id: UUID) -> set[str]:
    """The brands whose marketing email this contact has stopped altogether."""
    found = set()
    for slug in services.database.read(read_catalog).brands:
        choice = services.reader.channel_preferences(ChannelKey(contact_id, Channel.EMAIL, slug)).preferences.get("*")
        found |= {slug} if choice is not None and choice.status == "unsubscribed" else set()
    return found


# Where a brand's pages are.


@pytest.mark.parametrize(
    ("slug", "start"),
    [
        ("default", PUBLIC_URL),
        ("acme", f"{PUBLIC_URL}/acme"),
        ("tea", "https://mail.tea.example"),
        ("both", "https://mail.both.example/club"),
    ],
)
def test_a_brands_links_begin_at_its_place_and_work_there(
    client: FlaskClient, services: Services, slug: str, start: str
) -> None:
    jane = add_contact(services)
    for url in (unsubscribe_url(services, jane, slug), manage_url(services, jane, slug)):
        assert url.startswith((f"{start}/u/", f"{start}/p/"))
        page = at(client, url)
        assert (page.status_code, whose(page)) == (200, slug)
        forms = set(re.findall(r'<form [^>]*action="([^"?]*)', page.text))
        assert forms
        assert all(action.startswith(re.sub(r"https://[^/]*", "", start) + "/") for action in forms)
        assert stopped(services, jane) == set()

    answer = at(client, unsubscribe_url(services, jane, slug), "POST", data=ONE_CLICK)
    assert (answer.status_code, "Location" in answer.headers, "Set-Cookie" in answer.headers) == (200, False, False)
    assert stopped(services, jane) == {slug}


@pytest.mark.parametrize(
    ("url", "slug"),
    [
        (f"{PUBLIC_URL}/optout", "default"),
        (f"{PUBLIC_URL}/acme/optout", "acme"),
        (f"{PUBLIC_URL}/acme/optout?lang=es", "acme"),
        (f"{PUBLIC_URL}/acme", "acme"),
        (f"{PUBLIC_URL}/acme/", "acme"),
        (f"{PUBLIC_URL}:8443/acme/optout", "acme"),
        ("https://MAIL.Tea.Example/optout", "tea"),
        ("https://mail.tea.example:8443/", "tea"),
        ("https://mail.tea.example./", "tea"),
        ("https://mail.both.example/club/optout", "both"),
        ("https://mail.both.example/optout", "both"),
        ("https://mail.tea.example/acme/optout", "acme"),
        ("http://localhost/acme/optout", "acme"),
        ("http://localhost/optout", "default"),
    ],
)
def test_a_page_is_in_the_name_of_the_brand_whose_place_it_is(sqlite_app: Flask, url: str, slug: str) -> None:
    page = at(sqlite_app.test_client(), url)
    assert (page.status_code, whose(page)) == (200, slug)


@pytest.mark.parametrize("place", ["https://10.0.0.7:8000", "https://elsewhere.example"])
@pytest.mark.parametrize("path", ["/optout", "/acme/optout"])
def test_no_page_of_a_brand_is_served_under_a_foreign_host(sqlite_app: Flask, place: str, path: str) -> None:
    assert at(sqlite_app.test_client(), f"{place}{path}").status_code == 400


def test_brands_that_share_a_folder_are_told_apart_by_their_hosts(sqlite_app: Flask) -> None:
    services, client = services_of(sqlite_app), sqlite_app.test_client()
    services.database.save(save_brand, brand("other", host="mail.other.example", path="club"), datetime.now(UTC))
    services.database.save(save_brand, brand("bare", host="mail.both.example"), datetime.now(UTC))
    services.catalog.get("a topic that makes it read again")
    assert whose(at(client, "https://mail.both.example/club/optout")) == "both"
    assert whose(at(client, "https://mail.other.example/club/optout")) == "other"
    assert whose(at(client, "https://mail.both.example/optout")) == "bare"


def test_an_error_in_a_folder_is_the_brands_own_and_helps(sqlite_app: Flask) -> None:
    for path in ("/acme/u/not-a-link", "/acme/nothing-here", "/acme/p/not-a-link"):
        page = at(sqlite_app.test_client(), PUBLIC_URL + path)
        assert (page.status_code, whose(page)) == (404, "acme")
        assert 'action="/acme/optout"' in page.text


@pytest.mark.parametrize("path", ["/acmes/optout", "/Acme/optout", "/acme2", "/x/optout"])
def test_only_the_folder_itself_is_the_folder(sqlite_app: Flask, path: str) -> None:
    assert at(sqlite_app.test_client(), PUBLIC_URL + path).status_code == 404


def test_everything_a_page_loads_is_in_its_folder(sqlite_app: Flask) -> None:
    client = sqlite_app.test_client()
    page = at(client, f"{PUBLIC_URL}/acme/optout")
    sheets = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text)
    assert [sheet.partition("?")[0] for sheet in sheets] == ["/acme/static/style.css", "/acme/brand/acme.css"]
    for sheet in sheets:
        answer = at(client, PUBLIC_URL + sheet, buffered=True)
        assert (answer.status_code, answer.mimetype) == (200, "text/css")


def test_the_address_box_in_a_folder_stops_that_brand(client: FlaskClient, services: Services) -> None:
    jane = add_contact(services)
    answer = at(client, f"{PUBLIC_URL}/acme/optout", "POST", data={"address": JANE})
    assert (answer.status_code, whose(answer)) == (200, "acme")
    assert stopped(services, jane) == {"acme"}


@pytest.mark.parametrize("end", ["", "/", "?lang=es", "/?x=1", ".", "%3E", ")/"])
def test_one_click_in_a_folder_is_answered_without_a_redirect(
    sqlite_app: Flask, sqlite_site: Services, end: str
) -> None:
    jane = add_contact(sqlite_site)
    url = unsubscribe_url(sqlite_site, jane, "acme") + end
    answer = at(
        sqlite_app.test_client(), url.replace("preferences.example", "PREFERENCES.Example"), "POST", data=ONE_CLICK
    )
    assert answer.status_code == 200
    assert answer.text.startswith("You are unsubscribed from ")
    assert {"Location", "Set-Cookie"}.isdisjoint(answer.headers.keys())
    assert stopped(sqlite_site, jane) == {"acme"}


def test_a_link_in_an_old_mail_works_after_its_brand_has_moved(client: FlaskClient, services: Services) -> None:
    jane = add_contact(services)
    old = [unsubscribe_url(services, jane, slug) for slug in ("acme", "both")]
    for slug in ("acme", "both"):
        services.database.save(change_brand, slug, {"path": f"{slug}-moved"}, datetime.now(UTC))
    services.catalog.get("a topic that makes it read again")
    for url in old:
        page = at(client, url)
        action = re.search(r'<form method="post" action="([^"]+)"', page.text)
        assert page.status_code == 200
        assert action
        assert "-moved/u/" in action[1]
        assert at(client, url + ").").status_code == 200
        assert at(client, url, "POST", data=ONE_CLICK).status_code == 200
    assert stopped(services, jane) == {"acme", "both"}


def test_a_page_opened_at_a_host_its_brand_once_had_finds_its_forms(sqlite_app: Flask, sqlite_site: Services) -> None:
    jane, client = add_contact(sqlite_site), sqlite_app.test_client()
    url = unsubscribe_url(sqlite_site, jane, "both").replace("mail.both.example", "old.both.example")
    action = re.search(r'<form method="post" action="([^"]+)"', at(client, url).text)
    assert action
    answer = at(client, f"https://old.both.example{action[1]}", "POST", data={"intent": "all"})
    assert (answer.status_code, whose(answer)) == (200, "both")
    assert stopped(sqlite_site, jane) == {"both"}


def test_opening_any_page_of_a_folder_writes_nothing(sqlite_app: Flask, sqlite_site: Services) -> None:
    jane, client = add_contact(sqlite_site), sqlite_app.test_client()
    before = contents(sqlite_site.settings.database_url)
    for url in (unsubscribe_url(sqlite_site, jane, "acme"), manage_url(sqlite_site, jane, "acme")):
        for method in ("GET", "HEAD", "OPTIONS"):
            assert at(client, url, method).status_code == 200
    assert contents(sqlite_site.settings.database_url) == before


def test_the_short_way_and_flask_answer_the_same_in_a_folder(sqlite_app: Flask, sqlite_site: Services) -> None:
    url = unsubscribe_url(sqlite_site, add_contact(sqlite_site), "acme")
    path = url.removeprefix(f"{PUBLIC_URL}/acme")
    front = at(sqlite_app.test_client(), url)
    behind = Client(partial(Flask.wsgi_app, sqlite_app)).get(path, base_url=PUBLIC_URL)
    first, second = (re.sub(r'name="press" value="[^"]+"', "", page.text) for page in (front, behind))
    assert first == second


# A site under a path, behind a proxy, at a port.


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Any]:
    """The application with other settings, and the brands in it."""
    apps: list[Flask] = []

    def start(**settings: Any) -> tuple[FlaskClient, Services]:
        apps.append(app := new_app(new_sqlite(tmp_path), **settings))
        add_brands(services_of(app))
        return app.test_client(), services_of(app)

    yield start
    for app in apps:
        close(app)


@pytest.mark.parametrize("proxy_takes_it_off", [True, False])
def test_a_site_under_a_path_has_its_folders_below_it(elsewhere: Any, proxy_takes_it_off: bool) -> None:
    client, services = elsewhere(public_url="https://example.test/mail/prefs")
    jane = add_contact(services)
    for slug, start in (
        ("default", "https://example.test/mail/prefs/u/"),
        ("acme", "https://example.test/mail/prefs/acme/u/"),
        ("tea", "https://mail.tea.example/mail/prefs/u/"),
    ):
        url = unsubscribe_url(services, jane, slug)
        assert url.startswith(start)
        reached = url.replace("/mail/prefs", "", 1) if proxy_takes_it_off else url
        page = at(client, reached)
        assert (page.status_code, whose(page)) == (200, slug)
        assert f'action="{re.sub("https://[^/]*", "", url)}"' in page.text
        assert at(client, reached, "POST", data=ONE_CLICK).status_code == 200
    assert stopped(services, jane) == {"default", "acme", "tea"}


def test_behind_a_trusted_proxy_http_is_answered_like_https(elsewhere: Any) -> None:
    client, services = elsewhere(trusted_proxies=1)
    jane = add_contact(services)
    headers = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}
    for slug in ("acme", "tea", "both"):
        url = unsubscribe_url(services, jane, slug).replace("https://", "http://")
        assert whose(at(client, url, headers=headers)) == slug
        answer = at(client, url, "POST", data=ONE_CLICK, headers=headers)
        assert (answer.status_code, "Location" in answer.headers) == (200, False)
    assert stopped(services, jane) == {"acme", "tea", "both"}


def test_a_host_of_its_own_is_reached_at_the_sites_port(elsewhere: Any) -> None:
    client, services = elsewhere(public_url="http://localhost:8000")
    assert (services.url_of(TEA), services.url_of(ACME)) == (
        "http://mail.tea.example:8000",
        "http://localhost:8000/acme",
    )
    assert whose(at(client, "http://mail.tea.example:8000/optout")) == "tea"


# Links by call, by command, and imported rows.


def test_links_of_a_topic_are_of_its_brand(client: FlaskClient, services: Services) -> None:
    headers = api_headers(services)

    def starts(**question: str) -> tuple[str, str]:
        asked = {"channel": "email", "addresses": [JANE], **question}
        answer = client.post("/api/v1/links", json=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        (one,) = answer.json["links"]  # type: ignore[index]
        return one["unsubscribe_url"].partition("/u/")[0], one["manage_url"].partition("/p/")[0]

    assert starts(topic="acme-news") == (f"{PUBLIC_URL}/acme",) * 2
    assert starts(topic="tea-news", brand="tea") == ("https://mail.tea.example",) * 2
    assert starts(brand="both") == ("https://mail.both.example/club",) * 2
    assert starts(topic="*") == starts(brand="default") == (PUBLIC_URL,) * 2


@pytest.mark.parametrize("question", [{"brand": "nobody"}, {"topic": "acme-news", "brand": "tea"}])
def test_links_for_a_wrong_brand_are_refused_by_field(sqlite_app: Flask, question: dict[str, str]) -> None:
    asked = {"channel": "email", "addresses": [JANE], **question}
    headers = api_headers(services_of(sqlite_app))
    answer = sqlite_app.test_client().post("/api/v1/links", json=asked, headers=headers)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json["errors"]] == ["brand"]  # type: ignore[index]


def test_minted_links_are_the_brands_own(sqlite_site: Services, tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"address\n{JANE}\n")

    def minted(topic: str = "*", brand: str | None = None) -> str:
        out, scope = io.StringIO(), resolve(sqlite_site.catalog.get(), Channel.EMAIL, topic=topic, brand=brand)
        mint(sqlite_site, path, scope, options=MintOptions(), out=out, progress=lambda _: None)
        return out.getvalue()

    assert f"{PUBLIC_URL}/acme/u/" in minted(topic="acme-news")
    assert "https://mail.tea.example/u/" in minted(brand="tea")
    assert f"{PUBLIC_URL}/u/" in minted()
    for options in ({"brand": "nobody"}, {"topic": "acme-news", "brand": "tea"}):
        with pytest.raises(BadFields, match="brand"):
            minted(**options)


def bring_in(services: Services, path: Path, text: str) -> int:
    """Import a file. Returns how many entries changed something."""
    path.write_text(text)
    catalog = services.database.read(read_catalog)
    return import_file(
        path, catalog, database=services.database, fingerprints=services.fingerprints, progress=lambda _: None
    ).changed


def test_an_imported_no_to_everything_is_to_the_brand_that_the_row_names(services: Services, tmp_path: Path) -> None:
    jane, path = add_contact(services), tmp_path / "file.csv"
    head = "address,status,brand\n"
    assert bring_in(services, path, f"{head}{JANE},unsubscribed,tea\n{JANE},unsubscribed,acme\n") == 2
    assert stopped(services, jane) == {"tea", "acme"}
    assert bring_in(services, path, f"{head}{JANE},unsubscribed,acme\n") == 0
    assert bring_in(services, path, f"{head}{JANE},unsubscribed,\n") == 1
    assert stopped(services, jane) == {"tea", "acme", "default"}


def test_a_row_from_before_the_brand_column_is_the_same_row(services: Services, tmp_path: Path) -> None:
    add_contact(services)
    assert bring_in(services, tmp_path / "file.csv", f"address,status\n{JANE},unsubscribed\n") == 1
    assert bring_in(services, tmp_path / "file.csv", f"address,status,brand\n{JANE},unsubscribed,\n") == 0


@pytest.mark.parametrize(
    "row", [f"{JANE},unsubscribed,,nobody", f"{JANE},unsubscribed,acme-news,tea", f"{JANE},hard_bounce,,nobody"]
)
def test_a_row_of_a_wrong_brand_stops_the_file(sqlite_site: Services, tmp_path: Path, row: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"address,status,topic,brand\n{row}\n")
    with pytest.raises(BadRow, match="line 2, column brand"):
        check(path, sqlite_site.database.read(read_catalog))


# The look.


def test_a_brands_style_is_cached_only_under_its_colour(sqlite_app: Flask) -> None:
    client = sqlite_app.test_client()
    style = client.get("/brand/acme.css?colour=0b57d0")
    assert (style.status_code, style.mimetype) == (200, "text/css")
    assert style.text == '[data-brand="acme"] { --brand: #0b57d0 }\n'
    assert style.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Set-Cookie" not in style.headers
    for address in ("/brand/acme.css", "/brand/acme.css?colour=ffffff"):
        assert client.get(address).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("slug", ["tea", "nobody"])
def test_a_brand_without_a_colour_has_no_style_of_its_own(sqlite_app: Flask, slug: str) -> None:
    client = sqlite_app.test_client()
    assert client.get(f"/brand/{slug}.css").status_code == 404
    assert "/brand/" not in at(client, "https://mail.tea.example/optout").text


# A no to one brand, and to all of them.


def undo_fields(page: TestResponse) -> list[str]:
    return re.findall(r'name="undo" value="([^"]+)"', page.text)


@pytest.mark.parametrize("intent", ["all", "nonsense"])
def test_stopping_one_brand_leaves_the_others_alone(client: FlaskClient, services: Services, intent: str) -> None:
    jane = add_contact(services)
    url = unsubscribe_url(services, jane, "acme", "acme-news")
    at(client, url, "POST", data={"intent": intent})
    assert stopped(services, jane) == {"acme"}


def test_the_unsubscribe_page_offers_the_other_brands_once_one_is_stopped(
    client: FlaskClient, services: Services
) -> None:
    jane = add_contact(services)
    url = unsubscribe_url(services, jane, "acme")
    offer = 'name="intent" value="all-brands"'
    assert offer not in at(client, url).text
    assert offer in at(client, url, "POST", data={"intent": "all"}).text
    assert offer in at(client, url).text

    done = at(client, url, "POST", data={"intent": "all-brands"})
    assert done.status_code == 200
    assert offer not in done.text
    assert "All marketing email" in done.text
    for name in ("Maple &amp; Finch", "Acme", "Tea"):
        assert f"<bdi>{name}</bdi>" in done.text, "each brand is named"
    assert stopped(services, jane) == {"default", "acme", "tea", "both"}


def test_undoing_a_stop_of_all_brands_puts_all_of_it_back_or_nothing(client: FlaskClient, services: Services) -> None:
    jane = add_contact(services)
    url = unsubscribe_url(services, jane, "acme")
    done = at(client, url, "POST", data={"intent": "all-brands"})
    tokens = undo_fields(done)
    assert len(tokens) == 4
    undone = at(client, f"{url}/undo", "POST", data={"undo": tokens})
    assert undone.status_code == 200
    assert "so you may get marketing email from <bdi>" in undone.text
    assert stopped(services, jane) == set()

    tokens = undo_fields(at(client, url, "POST", data={"intent": "all-brands"}))
    assert at(client, f"{url}/undo", "POST", data={"undo": tokens[3:]}).status_code == 200
    assert at(client, f"{url}/undo", "POST", data={"undo": tokens}).status_code == 409
    assert len(stopped(services, jane)) == 3


def test_submitted_twice_it_can_still_be_undone(sqlite_app: Flask, sqlite_site: Services) -> None:
    client, jane = sqlite_app.test_client(), add_contact(sqlite_site)
    url = unsubscribe_url(sqlite_site, jane, "acme")
    form = {"intent": "all-brands", "press": "the-same-press-twice-over"}
    at(client, url, "POST", data=form)
    again = at(client, url, "POST", data=form)
    at(client, f"{url}/undo", "POST", data={"undo": undo_fields(again)})
    assert stopped(sqlite_site, jane) == set()


def test_the_link_of_one_person_does_not_undo_for_another(sqlite_app: Flask, sqlite_site: Services) -> None:
    client, jane, rosa = (
        sqlite_app.test_client(),
        add_contact(sqlite_site),
        add_contact(sqlite_site, email("r@x.example")),
    )
    mine = undo_fields(at(client, unsubscribe_url(sqlite_site, jane, "acme"), "POST", data={"intent": "all-brands"}))
    url = unsubscribe_url(sqlite_site, rosa, "acme")
    hers = undo_fields(at(client, url, "POST", data={"intent": "all-brands"}))
    assert at(client, f"{url}/undo", "POST", data={"undo": [*hers, mine[0]]}).status_code == 404
    assert len(stopped(sqlite_site, jane)) == len(stopped(sqlite_site, rosa)) == 4


@pytest.mark.parametrize("setting", ["everything", "topic"])
def test_one_click_never_stops_another_brand(sqlite_app: Flask, sqlite_site: Services, setting: str) -> None:
    client, jane = sqlite_app.test_client(), add_contact(sqlite_site)
    sqlite_site.database.save(change_brand, "acme", {"one_click": OneClick(setting)}, datetime.now(UTC))
    sqlite_site.catalog.get("a topic that makes it read again")
    url = unsubscribe_url(sqlite_site, jane, "acme", "acme-news")
    at(client, url, "POST", data=ONE_CLICK)
    at(client, url, "POST", data="List-Unsubscribe=One-Click&everywhere=1")
    assert stopped(sqlite_site, jane) <= {"acme"}


def test_the_preferences_page_stops_its_brand_or_all(client: FlaskClient, services: Services) -> None:
    jane, rosa = add_contact(services), add_contact(services, email("rosa@example.com"))
    assert at(client, manage_url(services, jane, "acme"), "POST", data={"intent": "all"}).status_code == 200
    assert stopped(services, jane) == {"acme"}
    page = at(client, manage_url(services, rosa, "acme"), "POST", data={"intent": "all-brands"})
    assert "You are unsubscribed from all our brands." in page.text
    assert stopped(services, rosa) == {"default", "acme", "tea", "both"}
    assert page.text.count('class="ref"') == 1, "one reference to keep"
    assert 'value="all-brands"' not in page.text, "what is done is not offered again"
    assert 'value="all-brands"' in at(client, manage_url(services, jane, "acme")).text


def test_a_link_offers_all_brands_until_all_are_stopped(client: FlaskClient, services: Services) -> None:
    url = unsubscribe_url(services, add_contact(services), "acme")
    at(client, url, "POST", data={"intent": "all"})
    assert 'value="all-brands"' in at(client, url).text
    at(client, url, "POST", data={"intent": "all-brands"})
    page = at(client, url)
    assert 'value="all-brands"' not in page.text
    assert "<bdi>Acme</bdi>" in page.text
    assert "<bdi>Tea</bdi>" in page.text


def test_the_address_box_offers_the_other_brands_and_stops_them_when_asked(
    client: FlaskClient, services: Services
) -> None:
    jane = add_contact(services)
    done = at(client, f"{PUBLIC_URL}/acme/optout", "POST", data={"address": JANE})
    form = re.search(r'<form method="post" action="/acme/optout">.*?</form>', done.text, re.DOTALL)
    assert form
    fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form[0]))
    assert fields == {"everywhere": "1", "address": JANE}
    again = at(client, f"{PUBLIC_URL}/acme/optout", "POST", data=fields)
    assert again.text.count("<bdi>") > 4, "each brand is named"
    assert 'name="everywhere"' not in again.text
    assert stopped(services, jane) == {"default", "acme", "tea", "both"}


def test_the_box_answers_the_same_for_an_unknown_address(sqlite_app: Flask, sqlite_site: Services) -> None:
    add_contact(sqlite_site)
    client, unknown = sqlite_app.test_client(), "nobody.here@example.com"
    for more in ({}, {"everywhere": "1"}):
        known = at(client, f"{PUBLIC_URL}/acme/optout", "POST", data={"address": JANE, **more})
        other = at(client, f"{PUBLIC_URL}/acme/optout", "POST", data={"address": unknown, **more})
        assert other.text == known.text.replace(JANE, unknown)


def test_where_there_is_one_brand_nobody_is_asked_about_others(tmp_path: Path) -> None:
    app = new_app(new_sqlite(tmp_path))
    services, client = services_of(app), app.test_client()
    link = link_for(services, add_contact(services))
    pages = [
        client.post(link, data={"intent": "all"}),
        client.get(link),
        client.post("/optout", data={"address": JANE}),
    ]
    close(app)
    assert all(page.status_code == 200 and "our brands" not in page.text for page in pages)


def test_a_stop_of_one_brand_reaches_its_own_provider_alone(client: FlaskClient, services: Services) -> None:
    acme, tea = (FakeConnector(FakeProvider(), {"*": "global"}, name=slug, brand=slug) for slug in ("acme", "tea"))
    for connector in (acme, tea):
        services.database.save(cursors.start, connector.name)
    at(client, unsubscribe_url(services, add_contact(services), "acme"), "POST", data=ONE_CLICK)
    for connector in (acme, tea):
        run_once(services.database, connector, owner="me", now=datetime.now(UTC))
    assert acme.provider.said == [(JANE, "global", "unsubscribed")]
    assert tea.provider.said == []
