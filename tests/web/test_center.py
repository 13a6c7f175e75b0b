"""The page behind a manage link: what a contact gets, and a way to stop each thing; never a way to be signed up."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.domain.acts import ImportedRow, imported
from preferences.domain.references import reference_of
from preferences.domain.terms import BLANKET, Basis, Brand, Channel, MessageClass, OneClick, Status, Topic, Verb
from preferences.links import ManageLink
from preferences.site import Site, site_of
from preferences.store import ledger, queries
from preferences.store.catalog import add_topic, save_brand
from preferences.store.queries import Wishes, WishesKey
from tests.processes import contents
from tests.support import add_contact, email, link_for

NOW = datetime.now(UTC)


def manage(site: Site, contact_id: UUID, channel: Channel = Channel.EMAIL, issued_at: datetime | None = None) -> str:
    """The path of a manage link."""
    return f"/p/{site.links.sign_manage(ManageLink(contact_id, channel, 'default', issued_at or datetime.now(UTC)))}"


def press(client: FlaskClient, path: str, **form: str) -> TestResponse:
    return client.post(path, data=form)


def wishes_of(site: Site, contact_id: UUID) -> Wishes:
    return site.reader.wishes(WishesKey(contact_id, Channel.EMAIL, "default"))


def buttons(page: TestResponse) -> list[tuple[str, str]]:
    """Intent and topic of each form, in order."""
    forms = re.findall(r"<form.*?</form>", page.text, re.DOTALL)
    return [
        (
            "".join(re.findall(r'name="intent" value="([^"]*)"', form)),
            "".join(re.findall(r'name="topic" value="([^"]*)"', form)),
        )
        for form in forms
    ]


def states(page: TestResponse) -> dict[str, str]:
    """What the page says of each topic."""
    names = re.findall(r"<h3>(.*?)</h3>", page.text)
    return dict(zip(names, re.findall(r'class="state (?:on|off)">(\w+):', page.text), strict=True))


def subscribe(site: Site, topic: str) -> None:
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
    site.database.write(ledger.record, [imported(row)], fingerprints=site.fingerprints, now=NOW)


@pytest.fixture
def contact_id(site: Site) -> UUID:
    return add_contact(site)


def test_the_page_shows_each_marketing_topic_and_its_state(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    page = client.get(manage(site, contact_id))

    assert page.status_code == 200
    assert states(page) == {"Product news": "On", "Offers": "Off"}, "nobody ever asked for the offers"
    assert "Receipts" not in page.text, "one cannot leave what is not marketing"
    assert "About twice a month" in page.text
    assert "You will still get messages about your orders and your account." in page.text


def test_what_somebody_asked_for_is_on(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    subscribe(site, "offers")
    page = client.get(manage(site, contact_id))
    assert states(page) == {"Product news": "On", "Offers": "On"}


def test_everything_can_be_stopped_from_the_top_and_from_the_bottom(
    client: FlaskClient, site: Site, contact_id: UUID
) -> None:
    offered = buttons(client.get(manage(site, contact_id)))
    assert offered[0] == offered[-1] == ("all", "")
    assert ("topic", "product-news") in offered


def test_stopping_everything_is_in_force_and_shown(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    path = manage(site, contact_id)

    page = press(client, path, intent="all")

    assert page.status_code == 200
    assert "Saved. We stopped marketing e-mail." in page.text
    assert "You are unsubscribed" in page.text
    assert buttons(page) == []
    (entry,) = site.database.read(queries.entries_after, 0, 10)
    assert reference_of(entry.hash) in page.text
    assert wishes_of(site, contact_id).choices[BLANKET].status is Status.UNSUBSCRIBED
    assert "You are unsubscribed" in client.get(path).text


def test_stopping_one_topic_leaves_the_others(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    subscribe(site, "offers")
    page = press(client, manage(site, contact_id), intent="topic", topic="product-news")

    assert "Saved. We stopped Product news." in page.text
    assert states(page) == {"Product news": "Off", "Offers": "On"}
    assert buttons(page) == [("all", ""), ("topic", "offers"), ("all", "")]
    choices = wishes_of(site, contact_id).choices
    assert {topic: choice.status for topic, choice in choices.items()} == {
        "product-news": Status.UNSUBSCRIBED,
        "offers": Status.SUBSCRIBED,
    }


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"intent": ""},
        {"intent": "topic"},
        {"intent": "topic", "topic": "no-such-topic"},
        {"intent": "topic", "topic": "receipts"},
        {"intent": "topic", "topic": "of-another-brand"},
        {"intent": "subscribe", "topic": "offers"},
        {"intent": "start", "topic": "*"},
        {"topic": "product-news"},
        {"intent": "topic", "topic": "offers\x00"},
        {"intent": "topic", "topic": "<script>alert(1)</script>"},
    ],
)
def test_a_form_that_asks_for_nothing_we_offer_changes_nothing(
    client: FlaskClient, site: Site, contact_id: UUID, form: dict[str, str]
) -> None:
    other = Brand(slug="other", name="Other", postal_address="", contact_email="", one_click=OneClick.EVERYTHING)
    site.database.save(save_brand, other, NOW)
    site.database.save(
        add_topic,
        Topic(
            slug="of-another-brand",
            brand="other",
            name="Of another brand",
            description="",
            frequency="",
            message_class=MessageClass.MARKETING,
            basis=Basis.CONSENT,
            channels=(Channel.EMAIL,),
        ),
        NOW,
    )
    before = contents(site.settings.database_url)

    page = press(client, manage(site, contact_id), **form)

    assert page.status_code == 200
    assert "Saved" not in page.text
    assert "<script" not in page.text
    assert contents(site.settings.database_url) == before


def test_the_page_shows_a_masked_address_and_never_the_whole(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    path = manage(site, contact_id)
    for page in (
        client.get(path),
        press(client, path, intent="topic", topic="offers"),
        press(client, path, intent="all"),
    ):
        assert "j•••@example.com" in page.text
        assert "jane" not in page.text


@pytest.mark.parametrize(("days", "status"), [(29, 200), (31, 410)])
def test_the_link_is_good_for_thirty_days(
    client: FlaskClient, site: Site, contact_id: UUID, days: int, status: int
) -> None:
    path = manage(site, contact_id)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=days)):
        assert client.get(path).status_code == status
        assert press(client, path, intent="all").status_code == status
    assert (BLANKET in wishes_of(site, contact_id).choices) is (status == 200)


def test_a_stale_link_still_leads_to_stopping_everything(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    page = client.get(manage(site, contact_id, issued_at=NOW - timedelta(days=400)))
    assert page.status_code == 410
    assert 'action="/optout"' in page.text


def test_a_link_for_text_messages_shows_what_goes_by_text_message(
    client: FlaskClient, site: Site, contact_id: UUID
) -> None:
    path = manage(site, contact_id, Channel.SMS)
    assert list(states(client.get(path))) == ["Product news"]

    press(client, path, intent="all")

    assert wishes_of(site, contact_id).choices == {}, "e-mail is another channel"
    on_sms = site.reader.wishes(WishesKey(contact_id, Channel.SMS, "default"))
    assert on_sms.choices[BLANKET].status is Status.UNSUBSCRIBED


def test_the_link_works_when_the_contacts_rows_are_gone(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    path = manage(site, contact_id)
    with site.database.engine.begin() as connection:
        for table in ("address", "contact"):
            connection.exec_driver_sql(f"DELETE FROM {table}")

    assert client.get(path).status_code == 200
    assert press(client, path, intent="all").status_code == 200
    assert wishes_of(site, contact_id).choices[BLANKET].status is Status.UNSUBSCRIBED


def test_what_was_stopped_here_is_what_the_mailed_link_shows(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    press(client, manage(site, contact_id), intent="topic", topic="product-news")
    assert "You will not get Product news any more" in client.get(link_for(site, contact_id)).text


def test_the_evidence_is_the_circumstances_and_no_more(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    client.post(
        manage(site, contact_id), data={"intent": "all"}, headers={"User-Agent": "Browser/1.0", "Cookie": "a=b"}
    )
    (row,) = contents(site.settings.database_url)["evidence"]
    assert '{"network": "127.0.0.0/24", "user_agent": "Browser/1.0"}' in row


def test_presses_that_come_at_once_are_all_kept(app: Flask) -> None:
    site = site_of(app)
    contact_id = add_contact(site)
    path = manage(site, contact_id)

    with ThreadPoolExecutor(16) as pool:
        topics = ["product-news", "offers"] * 8
        answers = list(pool.map(lambda topic: press(app.test_client(), path, intent="topic", topic=topic), topics))

    assert {answer.status_code for answer in answers} == {200}
    assert set(wishes_of(site, contact_id).choices) == {"product-news", "offers"}


def test_the_forms_lead_back_to_the_same_page(client: FlaskClient, site: Site, contact_id: UUID) -> None:
    path = manage(site, contact_id)
    page = client.get(path)
    assert set(re.findall(r'action="([^"]+)"', page.text)) == {path}
