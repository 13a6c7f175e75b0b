"""The confirm link: opening it changes nothing, its button counts once, and a newer no beats it."""

from __future__ import annotations

import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import delete, select, text
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.errors import StoreBusy
from preferences.domain.preference_form import Aspect, Change, Control, Provenance, edit_for
from preferences.domain.records import Entry
from preferences.domain.vocabulary import Basis, Channel, Origin, Relation, Status, Verb
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import contacts, feed, notices, sign_ins
from preferences.store.tables import address, contact
from preferences.tokens import ConfirmLink
from preferences.web.shared.limits import limiter
from tests.mail_sink import MailSink
from tests.processes import contents
from tests.support import PUBLIC_URL, add_contact, api_headers, email, link_for, manage_link_for, send_emails

JANE = "jane.doe@example.com"
OFFERS, NEWS = "email.offers.status=on", "email.product-news.status=on"
WORDING = "I want Offers by email from Maple & Finch. Reduced prices. Once a week. I can unsubscribe at any time."


def link(services: Services, *items: str, age: timedelta = timedelta(hours=1), contact_id: UUID | None = None) -> str:
    """The path of a confirm link that was asked for so long ago."""
    issued_at = datetime.now(UTC) - age
    asked = ConfirmLink(contact_id or add_contact(services), "default", items or (OFFERS,), issued_at)
    return f"/confirm/{services.links.sign_confirm(asked)}"


def entries(services: Services) -> list[Entry]:
    return services.database.read(feed.entries_after, 0, 100)


def allowed(app: Flask, topic: str = "offers") -> bool:
    question = {"channel": "email", "class": "marketing", "topic": topic, "addresses": [JANE]}
    headers = api_headers(services_of(app), secrets.token_hex(4))
    answer = app.test_client().post("/api/v1/decisions", json=question, headers=headers)
    assert answer.json is not None
    return bool(answer.json["decisions"][0]["allowed"])


def heading(page: TestResponse) -> str:
    return unescape(re.findall(r"<h1>(.*?)</h1>", page.text)[0])


def asked_for(page: TestResponse) -> list[str]:
    """The words in the page's list of what it is about."""
    return [unescape(one) for one in re.findall(r"<li>((?:I |Maple |Paused |No |At most ).*?)</li>", page.text)]


def reference(page: TestResponse) -> str:
    return re.findall(r'<bdi class="ref" dir="ltr">([^<]+)</bdi>', page.text)[0]


def stop_everything(app: Flask, contact_id: UUID) -> None:
    assert app.test_client().post(link_for(services_of(app), contact_id)).status_code == 200


# The way through.


def test_from_the_form_to_the_first_email_of_a_list(mailing_app: Flask, mail: MailSink) -> None:
    services, client = services_of(mailing_app), mailing_app.test_client()
    with mailing_app.app_context():
        limiter.reset()
    client.post("/sign-up", data={"address": JANE, "topic": ["offers"]})
    send_emails(services)
    path = mail.messages[0].url.removeprefix(PUBLIC_URL)
    assert not allowed(mailing_app)

    page = client.get(path)
    assert heading(page) == "Do you want this?"
    assert asked_for(page) == [WORDING]
    assert "Yes, send me this" in page.text
    assert "If you did not ask for this, you do not need to do anything." in page.text
    assert JANE not in page.text, "who forwards the letter does not tell the address"
    assert not allowed(mailing_app)

    done = client.post(re.findall(r'<form method="post" action="([^"]+)"', page.text)[0])

    assert done.status_code == 200
    assert "Location" not in done.headers
    assert "Set-Cookie" not in done.headers
    assert heading(done) == "Confirmed"
    assert asked_for(done) == [WORDING]
    assert "Every email has an unsubscribe link." in done.text
    assert allowed(mailing_app)
    (entry,) = entries(services)
    assert (entry.verb, entry.topic, entry.origin, entry.basis) == (
        Verb.SUBSCRIBE,
        "offers",
        Origin.CONFIRMATION,
        Basis.CONSENT,
    )
    assert entry.trusted
    assert entry.changed
    assert entry.notice is not None
    kept = services.database.read(notices.find, [entry.notice])[entry.notice]
    assert kept.notice.text == WORDING, "what is kept is what was shown"
    assert (kept.notice.slug, kept.notice.language) == ("default/email.offers.status", "en")


def test_the_done_page_leads_to_the_persons_own_choices(app: Flask) -> None:
    client = app.test_client()
    done = client.post(link(services_of(app)))
    own = client.get(re.findall(r'href="(/p/[^"]+)"', done.text)[0])
    assert own.status_code == 200
    assert "j•••@example.com" in own.text


def test_what_is_kept_is_in_the_language_that_was_shown(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    page = client.get(link(services), headers={"Accept-Language": "fr"})
    client.post(re.findall(r'<form method="post" action="([^"]+)"', page.text)[0], headers={"Accept-Language": "de"})
    (entry,) = entries(services)
    assert entry.notice is not None
    kept = services.database.read(notices.find, [entry.notice])[entry.notice].notice
    assert kept.language == "fr"
    assert asked_for(page)[:1] in ([kept.text], [])


def test_opening_the_link_any_number_of_times_writes_nothing(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    paths = [
        link(services),
        link(services, age=timedelta(days=8)),
        link(services, "email.retired.status=on"),
        "/confirm/x.y",
    ]
    before = contents(services.settings.database_url)
    for path in paths:
        for method in ("GET", "HEAD", "OPTIONS"):
            client.open(path, method=method)
    assert contents(services.settings.database_url) == before


@pytest.mark.parametrize("shape", [{"data": b"{}", "content_type": "application/json"}, {"data": {"a": "b"}}, {}])
def test_any_post_counts_whatever_its_body_cookies_or_origin(app: Flask, shape: dict[str, Any]) -> None:
    headers = {"Origin": "null", "Cookie": "session=somebody.elses", "Sec-Fetch-Site": "cross-site"}
    page = app.test_client(use_cookies=False).post(f"{link(services_of(app))}/", headers=headers, **shape)
    assert page.status_code == 200
    assert allowed(app)


def test_withdrawing_takes_no_more_submissions_than_giving(mailing_app: Flask, mail: MailSink) -> None:
    services, client = services_of(mailing_app), mailing_app.test_client()
    with mailing_app.app_context():
        limiter.reset()
    ticks, presses_to_give = 1, 0
    client.post("/sign-up", data={"address": JANE, "topic": ["offers"]})
    presses_to_give += ticks + 1
    send_emails(services)
    path = mail.messages[0].url.removeprefix(PUBLIC_URL)
    presses_to_give += client.get(path).text.count("<button")
    client.post(path)
    assert allowed(mailing_app)

    own = manage_link_for(services, add_contact(services))
    assert 'name="intent" value="all"' in client.get(own).text
    client.post(own, data={"intent": "all"})
    presses_to_withdraw = 1

    assert not allowed(mailing_app)
    assert presses_to_withdraw <= presses_to_give == 3


# Pressed again.


def test_submitted_twice_it_counts_once_and_says_when_it_was_confirmed(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    path = link(services)
    first = client.post(path)
    again = [client.post(path), client.get(path), client.post(f"{path}?lang=en")]
    again += [client.post(path + closing) for closing in (".", "%3E", ").")]

    assert len(entries(services)) == 1
    for page in again:
        assert page.status_code == 200
        assert heading(page) == "You have already confirmed this"
        assert reference(page) == reference(first)
        assert asked_for(page) == [WORDING]
        assert "stays off" not in page.text


def test_an_opt_in_stands_with_its_person_being_known_or_not_at_all(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, client = services_of(app), app.test_client()
    jane, now = email(JANE), datetime.now(UTC)
    found = services.database.write(contacts.find_or_create, [jane], services.fingerprints, now, strangers=[jane])
    path = link(services, contact_id=found[jane].contact_id)
    assert relation(services) == Relation.STRANGER

    def fail(*_arguments: Any) -> None:
        raise StoreBusy("the database went away")

    with monkeypatch.context() as away:
        away.setattr(contacts, "become_known", fail)
        assert client.post(path).status_code == 503
    assert entries(services) == [], "nothing of it stands"

    assert heading(client.post(path)) == "Confirmed"
    assert relation(services) == Relation.KNOWN


def relation(services: Services) -> str:
    return services.database.read(lambda read: read.execute(select(address.c.relation)).scalar_one())


def test_submitted_many_times_at_once_it_counts_once(app: Flask) -> None:
    services = services_of(app)
    path = link(services, OFFERS, NEWS)
    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(lambda _: app.test_client().post(path), range(8)))
    assert {page.status_code for page in pages} == {200}
    assert len({reference(page) for page in pages}) == 1
    assert sorted(entry.topic for entry in entries(services)) == ["offers", "product-news"]


def test_confirming_again_after_an_opt_out_restores_nothing(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    contact_id = add_contact(services)
    path = link(services, age=timedelta(days=6, hours=23))
    first = client.post(path)
    stop_everything(app, contact_id)

    for page in (client.post(path), client.get(path)):
        assert page.status_code == 200
        assert heading(page) == "You have already confirmed this"
        assert "Some of it has since been turned off, and stays off." in page.text
        assert asked_for(page) == ["I do not want Offers by email from Maple & Finch."]
        assert reference(page) == reference(first)
        assert 'href="/sign-up"' in page.text
    assert len(entries(services)) == 2
    assert not allowed(app)


# Something newer says no.


@pytest.mark.parametrize("how", ["one click", "address box", "own page", "this topic alone"])
def test_who_stopped_after_asking_stays_stopped(app: Flask, how: str) -> None:
    services, client = services_of(app), app.test_client()
    contact_id = add_contact(services)
    path = link(services, age=timedelta(minutes=5))
    if how == "address box":
        with app.app_context():
            limiter.reset()
        client.post("/optout", data={"address": JANE})
    elif how == "own page":
        client.post(manage_link_for(services, contact_id), data={"intent": "all"})
    else:
        topic, intent = ("offers", "topic") if how == "this topic alone" else ("product-news", "all")
        client.post(link_for(services, contact_id, topic), data={"intent": intent})
    before = len(entries(services))

    page = client.post(path)

    assert page.status_code == 409
    assert heading(page) == "You unsubscribed from this after you asked for it"
    assert asked_for(page) == [WORDING]
    assert 'href="/sign-up"' in page.text
    assert len(entries(services)) == before
    assert not allowed(app)


def test_who_stopped_one_thing_after_asking_gets_the_other(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    contact_id = add_contact(services)
    path = link(services, OFFERS, NEWS)
    client.post(link_for(services, contact_id, "product-news"), data={"intent": "topic"})

    page = client.post(path)

    assert page.status_code == 200
    assert heading(page) == "Confirmed"
    assert "You unsubscribed from this after you asked for it, so it stays off:" in page.text
    assert allowed(app)
    assert not allowed(app, "product-news")


def test_who_stopped_before_asking_is_believed_to_have_changed_their_mind(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    contact_id = add_contact(services)
    stop_everything(app, contact_id)
    with services.database.engine.begin() as connection:
        earlier = datetime.now(UTC) - timedelta(days=2)
        connection.execute(text("UPDATE preference SET at = :at, since = :at"), {"at": _stored(services, earlier)})

    assert client.post(link(services, age=timedelta(days=1))).status_code == 200

    assert allowed(app)
    assert not allowed(app, "product-news"), "what was not asked for stays stopped"


def _stored(services: Services, at: datetime) -> Any:
    return at.replace(tzinfo=None).isoformat(" ") if services.database.is_sqlite else at


def test_a_pause_from_before_ends_with_the_opt_in(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    contact_id, now = add_contact(services), datetime.now(UTC)
    until = (now + timedelta(days=30)).date().isoformat()
    asker = Provenance(contact_id=contact_id, brand="default", origin=Origin.PAGE, evidence={})
    pause = Change(Control(Channel.EMAIL, "product-news", Aspect.PAUSE), until)
    earlier = now - timedelta(days=2)
    edit = edit_for(pause, asker, more=False, notice=None, now=earlier, ref=None)
    services.database.write(ledger.record_edits, [edit], fingerprints=services.fingerprints, now=earlier)
    assert not allowed(app, "product-news")

    path = link(services, NEWS)
    assert "No longer paused: Product news by email." in client.get(path).text
    client.post(path)
    client.post(path)

    assert allowed(app, "product-news")
    assert [entry.verb for entry in entries(services)] == [Verb.PAUSE, Verb.SUBSCRIBE, Verb.PAUSE]


# Links that are too old, ended, forged, or about what is no more.


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_after_seven_days_it_offers_to_sign_up_once_more(app: Flask, method: str) -> None:
    services, client = services_of(app), app.test_client()
    page = client.open(link(services, age=timedelta(days=7)), method=method)
    assert page.status_code == 410
    assert heading(page) == "This link no longer works"
    assert 'href="/sign-up"' in page.text
    assert 'href="/optout"' in page.text
    assert entries(services) == []
    assert client.get(link(services, age=timedelta(days=7) - timedelta(minutes=1))).status_code == 200


def test_a_person_who_has_ended_their_links_has_ended_this_one(app: Flask) -> None:
    services = services_of(app)
    path = link(services)
    services.database.save(sign_ins.revoke, add_contact(services), datetime.now(UTC))
    assert app.test_client().post(path).status_code == 410
    assert entries(services) == []


def test_nothing_is_recorded_of_a_contact_that_no_longer_exists(app: Flask) -> None:
    services = services_of(app)
    path = link(services)
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address")
        connection.execute(delete(contact))
    for method in ("GET", "POST"):
        assert app.test_client().open(path, method=method).status_code == 410
    assert entries(services) == []


def test_what_is_offered_no_more_is_left_out(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    path = link(
        services, OFFERS, "email.retired.status=on", "sms.offers.status=on", "email.offers.colour=red", "nonsense"
    )
    assert asked_for(client.get(path)) == [WORDING]
    assert client.post(path).status_code == 200
    assert [entry.topic for entry in entries(services)] == ["offers"]


def test_where_nothing_is_left_it_says_so_and_shows_what_there_is(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    past = "email.offers.pause=2020-01-01"
    for items in (["email.retired.status=on"], ["nonsense"], [past]):
        for method in ("GET", "POST"):
            page = client.open(link(services, *items), method=method)
            assert page.status_code == 200
            assert heading(page) == "This is no longer offered"
            assert 'href="/sign-up"' in page.text
    assert entries(services) == []


def test_a_link_for_another_purpose_or_with_a_character_changed_is_none(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    contact_id = add_contact(services)
    path = link(services)
    changed = path[:-1] + ("A" if path[-1] != "A" else "B")
    others = [one.replace("/u/", "/confirm/").replace("/p/", "/confirm/") for one in _other_links(services, contact_id)]
    for wrong in (changed, "/confirm/junk", *others):
        assert client.post(wrong).status_code == 404
    assert entries(services) == []


def test_a_broken_confirm_link_offers_to_sign_up_again(app: Flask) -> None:
    page = app.test_client().get("/confirm/nonsense")
    assert page.status_code == 404
    assert 'href="/sign-up"' in page.text
    assert 'href="/optout"' in page.text


def _other_links(services: Services, contact_id: UUID) -> list[str]:
    return [link_for(services, contact_id), manage_link_for(services, contact_id)]


def test_an_opt_in_on_the_page_behind_a_link_is_confirmed_the_same_way(mailing_app: Flask, mail: MailSink) -> None:
    services, client = services_of(mailing_app), mailing_app.test_client()
    contact_id = add_contact(services)
    client.post(
        manage_link_for(services, contact_id),
        data={"set.email.@location.status": "on", "was.email.@location.status": "off", "set.email.offers.status": "on"},
    )
    assert entries(services) == [], "the link may have been forwarded"
    send_emails(services)

    path = mail.to(JANE)[0].url.removeprefix(PUBLIC_URL)
    page = client.get(path)
    assert "Yes, I want this" in page.text
    assert client.post(path).status_code == 200

    assert {entry.topic: entry.status for entry in entries(services)} == {
        "@location": Status.SUBSCRIBED,
        "offers": Status.SUBSCRIBED,
    }
    assert allowed(mailing_app)


def test_the_pages_are_small_and_need_no_script(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    path = link(services)
    for page in (
        client.get(path),
        client.post(path),
        client.get(path),
        client.get(link(services, age=timedelta(days=9))),
    ):
        assert len(page.data) < 50_000
        assert "<script" not in page.text
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "same-origin"
