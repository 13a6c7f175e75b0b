"""The preferences page of somebody who is signed in: the same as by link, a yes at once, nobody else's hand."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select

from preferences.domain.acts import unsubscribe
from preferences.domain.notices import Notice
from preferences.domain.records import Brand, Entry, Topic
from preferences.domain.vocabulary import BLANKET, Basis, Channel, MessageClass, OneClick, Origin
from preferences.ledger import verify
from preferences.services import Services
from preferences.store import feed, notices, sign_ins
from preferences.store.catalog import add_topic, save_brand
from preferences.store.tables import evidence
from tests.processes import contents
from tests.signed_in import ACCOUNT, SignedIn, filled_in, moves, state
from tests.support import add_contact, api_headers, email, manage_link_for

IN_A_DAY = timedelta(days=1)

ACME = Brand(
    slug="acme",
    name="Acme",
    postal_address="1 Road",
    contact_email="hello@acme.example",
    one_click=OneClick.EVERYTHING,
)
ACME_NEWS = Topic(
    slug="acme-news",
    brand="acme",
    name="Acme news",
    description="What Acme makes.",
    frequency="Once a month",
    message_class=MessageClass.MARKETING,
    basis=Basis.CONSENT,
    channels=(Channel.EMAIL,),
)


@pytest.fixture
def contact_id(services: Services) -> UUID:
    return add_contact(services)


@pytest.fixture
def jane(app: Flask, contact_id: UUID) -> SignedIn:
    return SignedIn(app, contact_id)


def entries(services: Services) -> list[Entry]:
    return services.database.read(feed.entries_after, 0, 500)


def proven(services: Services) -> bool:
    report = services.database.snapshot(verify.verify, lambda _entries: None)
    return report.entries == len(entries(services)) and report.problems == []


def with_acme(services: Services) -> None:
    services.database.save(save_brand, ACME, datetime.now(UTC))
    services.database.save(add_topic, ACME_NEWS, datetime.now(UTC))
    services.catalog.get("acme-news")


# What it shows.


def test_the_page_equals_the_linked_one_with_the_full_address(
    jane: SignedIn, services: Services, contact_id: UUID
) -> None:
    page = jane.open()

    by_link = jane.client.get(manage_link_for(services, contact_id))
    ours = {name: value for name, value in filled_in(page).items() if name not in {"csrf_token", "brand"}}
    assert ours == filled_in(by_link)
    assert "jane.doe@example.com" in page.text
    assert "jane.doe@example.com" not in by_link.text


def test_the_footer_says_that_there_is_one_cookie(jane: SignedIn) -> None:
    for path in (ACCOUNT, "/account/history", "/account/addresses"):
        page = jane.open(path)
        assert "One cookie keeps you signed in for 30 minutes. No tracking." in page.text
        assert "sets no cookies" not in page.text


def test_each_page_links_the_others_and_signs_out(jane: SignedIn) -> None:
    for path in (ACCOUNT, "/account/history", "/account/addresses"):
        page = jane.open(f"{path}?lang=de")
        links = re.findall(r'<nav class="rooms".*?</nav>', page.text, re.DOTALL)[0]
        assert re.findall(r'(?:href|action)="([^"]+)"', links) == [
            "/account/?lang=de",
            "/account/history?lang=de",
            "/account/addresses?lang=de",
            "/sign-in/out?lang=de",
        ]
        assert f'href="{path}?lang=de" aria-current="page"' in links


def test_without_a_session_the_sign_in_is_shown(app: Flask, services: Services) -> None:
    client = app.test_client()
    for path in (ACCOUNT, "/account/history", "/account/addresses", "/account/receipts/ABCD-EFGH"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")


@pytest.mark.parametrize("minutes", [31, 24 * 60])
def test_a_session_expires(jane: SignedIn, services: Services, minutes: int) -> None:
    page = jane.open()
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes)):
        assert jane.open().status_code == 303
        assert jane.save({"email.offers.status": "on"}, page=page).status_code == 303
    assert entries(services) == []


def test_revoking_access_ends_this_session(jane: SignedIn, services: Services, contact_id: UUID) -> None:
    services.database.save(sign_ins.revoke, contact_id, datetime.now(UTC))
    assert jane.open().status_code == 303


# What it does.


def test_an_opt_in_is_immediate_and_kept_with_its_wording(
    app: Flask, jane: SignedIn, services: Services, contact_id: UUID
) -> None:
    page = jane.save({"email.offers.status": "on"}, path=f"{ACCOUNT}?lang=en")

    text = "I want Offers by email from Maple & Finch. Reduced prices. Once a week. I can unsubscribe at any time."
    assert text.replace("&", "&amp;") in page.text
    assert "Saved. This takes effect immediately." in page.text
    assert state(page, "email.offers.status") == "on"
    (entry,) = entries(services)
    assert (entry.origin, entry.basis, entry.changed, entry.contact_id) == ("account", "consent", True, contact_id)
    wording = Notice("default/email.offers.status", "en", text)
    assert entry.notice == wording.hash
    kept = services.database.read(notices.find, [wording.hash])[wording.hash]
    assert (kept.notice, kept.version) == (wording, 1)
    assert decision(app, services) == "ok"
    assert proven(services)


def decision(app: Flask, services: Services) -> str:
    asked = {"channel": "email", "class": "marketing", "topic": "offers", "addresses": ["jane.doe@example.com"]}
    answer = app.test_client().post("/api/v1/decisions", json=asked, headers=api_headers(services, str(uuid4())))
    return str(answer.json["decisions"][0]["reason"]) if answer.json else ""


def test_the_wording_is_kept_in_the_language_shown(jane: SignedIn, services: Services) -> None:
    jane.save({"email.offers.status": "on"}, path=f"{ACCOUNT}?lang=de")
    (entry,) = entries(services)
    (kept,) = services.database.read(notices.find, [entry.notice or ""]).values()
    assert kept.notice.language == "de"


def test_the_evidence_names_the_way_of_the_sign_in(jane: SignedIn, services: Services) -> None:
    jane.save({"email.offers.status": "on"})
    details = services.database.read(lambda read: read.execute(select(evidence.c.details)).scalars().all())
    assert ['"signed_in_by": "hand_off"' in row for row in details] == [True]


def test_no_email_is_sent_for_a_saved_preference(jane: SignedIn, services: Services) -> None:
    jane.save({"email.offers.status": "on", "email.@location.status": "on"})
    assert contents(services.settings.database_url)["letter"] == []


def test_stopping_everything_stops_every_channel(jane: SignedIn, services: Services) -> None:
    page = jane.press(ACCOUNT, intent="all")
    assert "<h1>You are unsubscribed from everything</h1>" in page.text
    assert {(entry.channel, entry.topic) for entry in entries(services)} == {("email", BLANKET), ("sms", BLANKET)}
    assert "You are unsubscribed" in jane.open().text
    assert proven(services)


def test_withdrawing_consent_takes_no_more_steps_than_giving_it(jane: SignedIn) -> None:
    given, taken = "on", "off"
    assert state(jane.save({"email.offers.status": given}), "email.offers.status") == "on"
    assert state(jane.save({"email.offers.status": taken}), "email.offers.status") == "off"


def test_an_invalid_value_is_explained_and_nothing_is_saved(jane: SignedIn, services: Services) -> None:
    page = jane.save({"email.product-news.pause": "1999-01-01"})
    assert page.status_code == 400
    assert "<title>Error:" in page.text
    assert 'href="#email.product-news.pause"' in page.text
    assert entries(services) == []


def test_each_brand_has_its_page_and_all_can_be_stopped_at_once(jane: SignedIn, services: Services) -> None:
    with_acme(services)
    assert 'href="/account/?brand=acme"' in jane.open().text

    acme = f"{ACCOUNT}?brand=acme"
    page = jane.save({"email.acme-news.status": "on"}, path=acme)
    assert state(page, "email.acme-news.status") == "on"
    assert 'href="/account/?brand=acme&amp;lang=fr"' in page.text, "the switch of languages stays with the brand"
    (entry,) = entries(services)
    assert (entry.brand, entry.topic) == ("acme", "acme-news")

    jane.press(acme, intent="all-brands")
    assert {entry.brand for entry in entries(services) if entry.topic == BLANKET} == {"default", "acme"}
    assert proven(services)


def test_a_form_acts_on_the_brand_of_its_page(jane: SignedIn, services: Services) -> None:
    with_acme(services)
    page = jane.open(f"{ACCOUNT}?brand=acme")
    jane.send(ACCOUNT, filled_in(page) | {"csrf_token": jane.token, "intent": "all"})
    assert {entry.brand for entry in entries(services)} == {"acme"}


def test_an_unknown_brand_is_not_found(jane: SignedIn) -> None:
    assert jane.open(f"{ACCOUNT}?brand=nobody").status_code == 404


# What it never does.


def test_two_tabs_do_not_overwrite_each_other(jane: SignedIn, services: Services) -> None:
    first, second = jane.open(), jane.open()
    jane.save({"email.offers.status": "on"}, page=first)
    page = jane.save({"email.@tracking.status": "off"}, page=second)
    assert state(page, "email.offers.status") == "on"
    assert state(page, "email.@tracking.status") == "off"


def test_an_old_tab_does_not_restore_what_was_stopped_meanwhile(
    jane: SignedIn, services: Services, contact_id: UUID
) -> None:
    jane.save({"email.offers.status": "on"})
    stale = jane.open()
    jane.save({"email.product-news.status": "off", "email.offers.status": "off"})

    # In the old tab both still stand at "on"; they switch one off and on again before they save.
    page = jane.send(
        ACCOUNT,
        filled_in(stale) | {"was.email.offers.status": "off", "set.email.offers.status": "on"},
    )

    assert "This was changed elsewhere after you opened the page" in page.text
    assert state(page, "email.offers.status") == "off"
    assert state(page, "email.product-news.status") == "off"


def test_a_page_open_for_a_day_does_not_overwrite_newer_preferences(
    app: Flask, jane: SignedIn, services: Services, contact_id: UUID
) -> None:
    page = jane.open()
    now = datetime.now(UTC)
    no = unsubscribe(
        contact_id,
        Channel.EMAIL,
        brand="default",
        topic=BLANKET,
        origin=Origin.ONE_CLICK,
        now=now + timedelta(hours=1),
        evidence={},
    )
    with time_machine.travel(now + timedelta(hours=1)):
        services.writer.record([no])
    with time_machine.travel(now + IN_A_DAY):
        again = SignedIn(app, contact_id)
        again.open()
        answer = again.send(
            ACCOUNT, filled_in(page) | {"csrf_token": again.token} | moves({"email.offers.status": "on"})
        )

        assert "This was changed elsewhere after you opened the page" in answer.text
        assert {state(answer, f"email.{topic}.status") for topic in ("offers", "product-news")} == {"off"}
    assert [entry.verb for entry in entries(services)] == ["unsubscribe"]


def test_a_post_without_the_sessions_token_is_refused(app: Flask, jane: SignedIn, services: Services) -> None:
    john = SignedIn(app, add_contact(services, email("john.roe@example.com")))
    john.open()
    fields = filled_in(jane.open()) | moves({"email.offers.status": "on"})
    for token in ("", "forged", john.token):
        for form in (fields, {"intent": "all"}):
            page = jane.client.post(ACCOUNT, data=form | {"csrf_token": token})
            assert page.status_code == 400
            assert "<title>Error:" in page.text
            assert "There is a problem" in page.text
            assert state(page, "email.offers.status") == "off", "a stranger's wish is not put into the form either"
    assert entries(services) == []


def test_opening_the_pages_writes_nothing(jane: SignedIn, services: Services) -> None:
    jane.save({"email.offers.status": "on"})
    url = services.settings.database_url
    before = contents(url)
    paths = re.findall(
        r'href="(/account/[^"]+)"', jane.open("/account/history").text + jane.open("/account/addresses").text
    )
    assert len(set(paths)) >= 7
    for path in {
        ACCOUNT,
        f"{ACCOUNT}?brand=default",
        *paths,
        *(f"{path}.json" for path in paths if "receipts" in path),
    }:
        for method in ("GET", "HEAD", "OPTIONS"):
            assert jane.client.open(path, method=method).status_code == 200, path
    assert contents(url) == before


def test_every_page_is_small_and_loads_nothing_external(jane: SignedIn) -> None:
    jane.save({"email.offers.status": "on"})
    for path in (ACCOUNT, "/account/history", "/account/addresses", "/account/addresses/add"):
        page = jane.open(path)
        assert len(page.data) < 50_000
        assert "<script" not in page.text
        assert re.findall(r'(?:src|rel="stylesheet" href)="(?!/static/)', page.text) == []
