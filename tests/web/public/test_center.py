"""The preferences page behind a manage link: stops at once, never overwrites, lets nothing more through by itself."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.acts import EventKind, ImportedRow, ProviderEvent, imported, provider_event
from preferences.domain.records import Topic
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import BLANKET, Basis, Channel, MessageClass, Status, Verb
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import contact_state, feed
from preferences.store.catalog import add_topic
from preferences.store.contact_state import ChannelKey, ChannelPreferences, ContactState
from preferences.tokens import ManageLink
from tests.mail_sink import MailSink
from tests.processes import contents
from tests.signed_in import filled_in, state
from tests.support import BRAND, add_contact, api_headers, email, link_for, manage_link_for, send_emails

NOW = datetime.now(UTC)
IN_A_MONTH = (date.today() + timedelta(days=30)).isoformat()  # noqa: DTZ011 - any day a month away


def manage(services: Services, contact_id: UUID, issued_at: datetime) -> str:
    """The path of a manage link of that age."""
    return f"/p/{services.links.sign_manage(ManageLink(contact_id, Channel.EMAIL, 'default', issued_at))}"


def press(client: FlaskClient, path: str, **form: str) -> TestResponse:
    return client.post(path, data=form)


def save(client: FlaskClient, path: str, page: TestResponse | None = None, /, **moved: str) -> TestResponse:
    """Open the page, or take one that was opened before, move some controls, and save."""
    fields = filled_in(page or client.get(path))
    named = {f"set.{name.replace('__', '.').replace('_', '-')}": value for name, value in moved.items()}
    return client.post(path, data=fields | named)


def channel_preferences(services: Services, contact_id: UUID) -> ChannelPreferences:
    return services.reader.channel_preferences(ChannelKey(contact_id, Channel.EMAIL, "default"))


def state_of(services: Services, contact_id: UUID) -> ContactState:
    return services.database.read(contact_state.state_of, contact_id)


def seqs(services: Services) -> list[Any]:
    return services.database.read(feed.entries_after, 0, 100)


def subscribe(services: Services, topic: str) -> None:
    """Our contact asked for a topic, and there is evidence."""
    row = ImportedRow(
        address=email(),
        verb=Verb.SUBSCRIBE,
        brand="default",
        topic=topic,
        reason=None,
        basis=Basis.CONSENT,
        occurred_at=NOW - timedelta(days=100),
        origin_ref=f"sign-up-{topic}",
        evidence={"source": "the shop's form"},
    )
    services.database.write(ledger.record, [imported(row)], fingerprints=services.fingerprints, now=NOW)


@pytest.fixture
def contact_id(services: Services) -> UUID:
    return add_contact(services)


@pytest.fixture
def path(services: Services, contact_id: UUID) -> str:
    return manage_link_for(services, contact_id)


# What it shows.


def test_the_page_shows_each_topic_on_each_of_its_channels(client: FlaskClient, path: str) -> None:
    page = client.get(path)

    assert page.status_code == 200
    assert state(page, "email.product-news.status") == state(page, "sms.product-news.status") == "on"
    assert state(page, "email.offers.status") == "off", "nobody ever asked for the offers"
    assert "set.sms.offers.status" not in page.text, "they are not sent that way"
    assert "About twice a month" in page.text


def test_transactional_kinds_are_listed_as_always_sent_with_the_reason(client: FlaskClient, path: str) -> None:
    page = client.get(path)
    always = page.text[page.text.index('id="always"') :]
    assert "Receipts" in always
    assert "cannot be turned off" in always
    assert "set.email.receipts.status" not in page.text


def test_what_was_asked_for_is_on(client: FlaskClient, services: Services, path: str) -> None:
    subscribe(services, "offers")
    assert state(client.get(path), "email.offers.status") == "on"


def test_tracking_profiling_and_places_are_choices_of_their_own(client: FlaskClient, path: str) -> None:
    page = client.get(path)
    assert state(page, "email.@tracking.status") == state(page, "email.@profiling.status") == "on"
    assert state(page, "email.@location.status") == "off", "where somebody is needs a yes"


def test_the_question_about_new_kinds_of_mail_starts_unanswered(client: FlaskClient, path: str) -> None:
    page = client.get(path)
    assert "New kinds of messages" in page.text
    assert "set.email.@new-topics.status" not in filled_in(page), "neither answer is ticked"

    page = client.post(path, data={"set.email.@new-topics.status": "off", "was.email.@new-topics.status": ""})
    assert "may not send me new kinds of messages" in page.text
    assert state(page, "email.@new-topics.status") == "off"


def test_the_page_says_what_holds_until_the_question_is_answered(client: FlaskClient, path: str) -> None:
    """Whoever never answered is sent new kinds of messages: the decision says yes."""
    assert "Until you say no, we may." in client.get(path).text
    press(client, path, intent="all")
    assert "Until you say no, we may." not in client.get(path).text


def test_the_button_for_everything_says_on_which_channels(client: FlaskClient, path: str) -> None:
    assert "from Maple &amp; Finch by <bdi>email</bdi> and <bdi>text message</bdi>." in client.get(path).text


def test_a_date_that_cannot_be_is_answered_with_dates_in_words(client: FlaskClient, path: str) -> None:
    page = save(client, path, None, email__product_news__pause="2020-01-01")
    assert re.search(r"Choose a date from \d{1,2} [A-Z][a-z]+ \d{4} to \d{1,2} [A-Z][a-z]+ \d{4},", page.text)


def test_everything_can_be_stopped_first_and_last(client: FlaskClient, path: str) -> None:
    intents = re.findall(r'name="intent" value="([^"]*)"', client.get(path).text)
    assert intents == ["all", "save", "all"]


def test_the_page_shows_a_masked_address_and_never_the_whole(client: FlaskClient, path: str) -> None:
    for page in (
        client.get(path),
        save(client, path, email__product_news__status="off"),
        press(client, path, intent="all"),
    ):
        assert "•••@example.com" in page.text
        assert "jane" not in page.text


# Less is done at once.


def test_stopping_everything_stops_every_channel_and_says_so(
    client: FlaskClient, services: Services, contact_id: UUID, path: str
) -> None:
    page = press(client, path, intent="all")

    assert page.status_code == 200
    assert "Saved. This takes effect immediately." in page.text, "the heading says what was stopped"
    assert "<h1>You are unsubscribed from everything</h1>" in page.text
    choices = state_of(services, contact_id).preferences
    assert set(choices) == {(Channel.EMAIL, "default", BLANKET), (Channel.SMS, "default", BLANKET)}
    assert all(reference_of(entry.hash) in page.text for entry in seqs(services)[-1:])
    again = client.get(path)
    assert "<h1>You are unsubscribed from everything</h1>" in again.text
    assert state(again, "email.product-news.status") == state(again, "email.@profiling.status") == "off"


def test_stopping_one_topic_on_one_channel_leaves_all_else(
    client: FlaskClient, services: Services, contact_id: UUID, path: str
) -> None:
    subscribe(services, "offers")
    page = save(client, path, email__product_news__status="off")

    assert "I do not want Product news by email from" in page.text
    assert state(page, "email.product-news.status") == "off"
    assert state(page, "sms.product-news.status") == state(page, "email.offers.status") == "on"
    assert state_of(services, contact_id).preferences.keys() == {
        (Channel.EMAIL, "default", "product-news"),
        (Channel.EMAIL, "default", "offers"),
    }


def test_what_was_stopped_here_is_what_the_mailed_link_shows(
    client: FlaskClient, services: Services, contact_id: UUID, path: str
) -> None:
    save(client, path, email__product_news__status="off")
    assert "You are unsubscribed from Product news" in client.get(link_for(services, contact_id)).text


def test_a_pause_and_a_cap_are_kept_and_shown_and_hold(client: FlaskClient, services: Services, path: str) -> None:
    page = save(client, path, email__product_news__pause=IN_A_MONTH, sms__product_news__cap="2")

    assert "Paused until" in page.text
    assert "At most 2 messages a week: Product news by text message." in page.text
    assert state(page, "email.product-news.pause") == IN_A_MONTH
    assert state(page, "sms.product-news.cap") == "2"
    question = {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": [email().value]}
    answer = client.post("/api/v1/decisions", json=question, headers=api_headers(services)).get_json()
    assert answer["decisions"][0]["reason"] == "paused"


def test_a_pause_that_a_system_told_of_is_shortened_only_by_confirmation(
    client: FlaskClient, services: Services, contact_id: UUID, path: str
) -> None:
    day = date.fromisoformat(IN_A_MONTH)
    until = datetime.combine(day, time(23, 30), UTC)
    told = [{"address": email().value, "channel": "email", "verb": "pause", "topic": "product-news"}]
    told[0] |= {"until": until.isoformat(), "occurred_at": datetime.now(UTC).isoformat(), "origin_ref": "p1"}
    assert client.post("/api/v1/acts", json=told, headers=api_headers(services)).status_code == 200
    key = (Channel.EMAIL, "default", "product-news", Verb.PAUSE)
    shown = state(client.get(path), "email.product-news.pause")
    assert shown == (day + timedelta(days=1)).isoformat(), "the day with whose start it is over"

    for asked in (day, day - timedelta(days=1)):
        form = {"set.email.product-news.pause": asked.isoformat(), "was.email.product-news.pause": ""}
        assert "One more step" in press(client, path, intent="save", **form).text
        assert state_of(services, contact_id).limits[key].until == until
    press(client, path, intent="save", **{"set.email.product-news.pause": shown, "was.email.product-news.pause": shown})
    assert state_of(services, contact_id).limits[key].until == until, "what was not moved stays"
    press(client, path, intent="save", **{"set.email.product-news.pause": shown, "was.email.product-news.pause": ""})
    kept = state_of(services, contact_id).limits[key].until
    assert kept is not None
    assert kept >= until, "chosen again, the day that is shown ends it no earlier"


def test_a_pause_ends_by_itself_on_its_day(client: FlaskClient, path: str) -> None:
    save(client, path, email__product_news__pause=(datetime.now(UTC) + timedelta(days=3)).date().isoformat())
    with time_machine.travel(datetime.now(UTC) + timedelta(days=4)):
        assert state(client.get(path), "email.product-news.pause") == ""


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("pause", "2020-01-01"),
        ("pause", "9999-12-31"),
        ("pause", "tomorrow"),
        ("pause", "2026-02-30"),
        ("cap", "0"),
        ("cap", "8"),
        ("cap", "-1"),
        ("cap", "many"),
        ("status", "maybe"),
        ("status", ""),
        ("status", "<script>alert(1)</script>"),
    ],
)
def test_a_value_that_cannot_be_is_explained_and_nothing_is_saved(
    client: FlaskClient, services: Services, path: str, control: str, value: str
) -> None:
    before = contents(services.settings.database_url)
    moved = {"sms__product_news__status": "off", f"email__product_news__{control}": value}
    page = save(client, path, None, **moved)

    assert page.status_code == 400
    assert "There is a problem" in page.text
    assert "<title>Error: " in page.text
    assert "<script" not in page.text
    assert state(page, "sms.product-news.status") == "off", "what was chosen is kept"
    assert contents(services.settings.database_url) == before


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"intent": ""},
        {"intent": "subscribe"},
        {"intent": "start", "topic": "*"},
        {"set.email.no-such-topic.status": "off", "was.email.no-such-topic.status": "on"},
        {"set.email.receipts.status": "off", "was.email.receipts.status": "on"},
        {"set.email.*.status": "on", "was.email.*.status": "off"},
        {"set.voice.offers.status": "off", "was.voice.offers.status": "on"},
        {"set.email.offers\x00.status": "off"},
        {"set.email.offers.status": "off", "was.email.offers.status": "off"},
    ],
)
def test_a_form_that_moves_nothing_of_ours_changes_nothing(
    client: FlaskClient, services: Services, path: str, form: dict[str, str]
) -> None:
    before = contents(services.settings.database_url)
    page = press(client, path, **form)
    assert page.status_code == 200
    assert "Nothing was changed." in page.text
    assert contents(services.settings.database_url) == before


# Only what was touched.


def test_two_tabs_do_not_overwrite_each_other(
    client: FlaskClient, services: Services, contact_id: UUID, path: str
) -> None:
    first, second = client.get(path), client.get(path)

    save(client, path, first, email__product_news__status="off")
    page = save(client, path, second, sms__product_news__status="off")

    assert state(page, "email.product-news.status") == state(page, "sms.product-news.status") == "off"
    assert len(seqs(services)) == 2


def test_a_page_left_open_for_a_day_restores_no_newer_opt_out(
    client: FlaskClient, services: Services, contact_id: UUID, path: str
) -> None:
    subscribe(services, "offers")
    old = client.get(path)
    press(client, path, intent="all")
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1)):
        page = save(client, path, old, email__product_news__cap="3")
    assert state(page, "email.product-news.status") == state(page, "email.offers.status") == "off"
    assert channel_preferences(services, contact_id).preferences[BLANKET].status is Status.UNSUBSCRIBED


def test_saving_twice_is_the_same_as_once(client: FlaskClient, services: Services, path: str) -> None:
    page = client.get(path)
    save(client, path, page, email__product_news__status="off")
    again = save(client, path, page, email__product_news__status="off")
    assert again.status_code == 200
    assert [entry.changed for entry in seqs(services)] == [True, False]


# More is asked for by mail.


def test_an_opt_in_by_link_is_recorded_only_when_it_is_confirmed_by_mail(mailing_app: Flask, mail: MailSink) -> None:
    services, client = services_of(mailing_app), mailing_app.test_client()
    contact_id = add_contact(services)
    path = manage_link_for(services, contact_id)

    page = save(client, path, email__offers__status="on")

    assert "One more step: check your email at j•••@example.com." in page.text
    assert state(page, "email.offers.status") == "off", "nothing has changed yet"
    assert seqs(services) == []
    send_emails(services)
    letter = mail.wait_for(email().value)
    assert "Offers by email" in letter.text
    confirm = letter.url.partition("example.test")[2]
    assert client.get(confirm).status_code == 200
    assert seqs(services) == [], "opening the link changes nothing"

    assert client.post(confirm).status_code == 200

    (entry,) = seqs(services)
    assert (entry.verb, entry.topic, entry.origin, entry.basis) == ("subscribe", "offers", "confirmation", "consent")
    assert entry.notice is not None
    assert state(client.get(path), "email.offers.status") == "on"


@pytest.mark.parametrize(("before", "after"), [("2", ""), ("2", "5")])
def test_a_looser_cap_lets_more_through_so_it_is_asked_for_by_mail(
    client: FlaskClient, path: str, before: str, after: str
) -> None:
    save(client, path, email__product_news__cap=before)
    page = save(client, path, email__product_news__cap=after)
    assert "One more step" in page.text
    assert state(page, "email.product-news.cap") == before


def test_the_same_page_can_stop_one_thing_and_ask_for_another(
    client: FlaskClient, services: Services, path: str
) -> None:
    page = save(client, path, email__product_news__status="off", email__offers__status="on")
    assert "Saved. This takes effect immediately." in page.text
    assert "One more step" in page.text
    assert [entry.topic for entry in seqs(services)] == ["product-news"]


def test_without_a_mailbox_nothing_more_can_be_asked_for(
    client: FlaskClient, services: Services, contact_id: UUID
) -> None:
    path = manage_link_for(services, contact_id)
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address")
    page = save(client, path, email__offers__status="on")
    assert "We cannot turn this on from here." in page.text
    assert seqs(services) == []


def test_a_forwarded_link_cannot_flood_its_owners_mailbox(mailing_app: Flask, mail: MailSink) -> None:
    services, client = services_of(mailing_app), mailing_app.test_client()
    path = manage_link_for(services, add_contact(services))
    for _ in range(20):
        assert save(client, path, email__offers__status="on").status_code == 200
    send_emails(services)
    assert len(mail.to(email().value)) == 5


# The link.


@pytest.mark.parametrize(("days", "status"), [(29, 200), (31, 410)])
def test_the_link_is_good_for_thirty_days(
    client: FlaskClient, services: Services, contact_id: UUID, path: str, days: int, status: int
) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(days=days)):
        assert client.get(path).status_code == status
        assert press(client, path, intent="all").status_code == status
    assert (BLANKET in channel_preferences(services, contact_id).preferences) is (status == 200)


def test_a_stale_link_still_leads_to_stopping_everything(
    client: FlaskClient, services: Services, contact_id: UUID
) -> None:
    page = client.get(manage(services, contact_id, NOW - timedelta(days=400)))
    assert page.status_code == 410
    assert 'action="/optout"' in page.text
    assert 'href="/link"' in page.text, "and to a fresh link"


def test_an_unreachable_contact_is_told_so(client: FlaskClient, services: Services, path: str) -> None:
    assert "Our email does not reach you at the moment." not in client.get(path).text
    complaint = ProviderEvent(kind=EventKind.COMPLAINT, address=email(), event_id="c-1", occurred_at=NOW)
    services.writer.record([provider_event(complaint, "platform")])
    assert "Our email does not reach you at the moment." in client.get(path).text


def test_a_revoked_link_is_replaced_by_a_new_one(mailing_app: Flask, mail: MailSink) -> None:
    services, client = services_of(mailing_app), mailing_app.test_client()
    contact_id = add_contact(services)
    path, unsubscribe = manage_link_for(services, contact_id), link_for(services, contact_id)

    assert "Link disabled" in client.post(f"{path}/revoke").text

    assert client.get(path).status_code == 410
    assert press(client, path, intent="all").status_code == 410
    assert client.get(unsubscribe).status_code == 200, "a link that stops mail goes on working"
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=3)):
        send_emails(services)
        fresh = mail.wait_for(email().value).url.partition("example.test")[2]
        assert client.get(fresh).status_code == 200


def test_the_link_works_when_the_contacts_rows_are_gone(
    client: FlaskClient, services: Services, contact_id: UUID
) -> None:
    path = manage_link_for(services, contact_id)
    with services.database.engine.begin() as connection:
        for table in ("address", "contact"):
            connection.exec_driver_sql(f"DELETE FROM {table}")

    assert client.get(path).status_code == 200
    assert press(client, path, intent="all").status_code == 200
    assert channel_preferences(services, contact_id).preferences[BLANKET].status is Status.UNSUBSCRIBED


def test_the_evidence_is_the_circumstances_and_no_more(client: FlaskClient, services: Services, path: str) -> None:
    client.post(path, data={"intent": "all"}, headers={"User-Agent": "Browser/1.0", "Cookie": "a=b"})
    rows = contents(services.settings.database_url)["evidence"]
    assert len(rows) == 2
    assert all('{"network": "127.0.0.0/24", "user_agent": "Browser/1.0"}' in row for row in rows)


def test_submissions_that_come_at_once_are_all_kept(app: Flask) -> None:
    services = services_of(app)
    contact_id = add_contact(services)
    path = manage_link_for(services, contact_id)
    page = app.test_client().get(path)

    def stop(channel: str) -> TestResponse:
        return save(app.test_client(), path, page, **{f"{channel}__product_news__status": "off"})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(stop, ["email", "sms"] * 8))

    assert {answer.status_code for answer in answers} == {200}
    assert len(state_of(services, contact_id).preferences) == 2


def test_the_forms_lead_back_to_the_same_page(client: FlaskClient, path: str) -> None:
    page = client.get(path)
    assert set(re.findall(r'action="([^"]+)"', page.text)) == {path, f"{path}/revoke"}


def test_a_long_catalogue_still_makes_a_small_page(client: FlaskClient, services: Services, path: str) -> None:
    for number in range(8):
        topic = Topic(
            slug=f"topic-{number}",
            brand=BRAND.slug,
            name=f"Topic {number}",
            description="A line that says in plain words what there is in it.",
            frequency="About twice a month",
            message_class=MessageClass.MARKETING,
            basis=Basis.LEGITIMATE_INTEREST,
            channels=(Channel.EMAIL, Channel.SMS),
        )
        services.database.save(add_topic, topic, NOW)
    services.catalog.get("topic-7")
    assert len(client.get(path).data) < 50_000
