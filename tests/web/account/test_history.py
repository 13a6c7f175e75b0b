"""A person's own history: everything that bears on them in plain words, the wording behind a yes, and its receipt."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import delete
from werkzeug.test import TestResponse

from preferences.domain.acts import EventKind, ImportedRow, ProviderEvent, imported, provider_event
from preferences.domain.records import Act, Entry
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import Basis, Channel, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.ledger import verify
from preferences.services import Services
from preferences.store import contacts, feed, notices
from preferences.store.catalog import add_topic, save_brand
from preferences.store.tables import address
from tests.signed_in import ACCOUNT, SignedIn
from tests.support import BRAND, TOPICS, add_contact, api_headers, close, email, link_for, manage_link_for, new_app

NOW = datetime.now(UTC)
HISTORY = "/account/history"


@pytest.fixture
def contact_id(services: Services) -> UUID:
    return add_contact(services)


@pytest.fixture
def jane(app: Flask, contact_id: UUID) -> SignedIn:
    return SignedIn(app, contact_id)


def record(services: Services, *acts: Act) -> list[Entry]:
    return services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=datetime.now(UTC))


def reported(kind: EventKind, event_id: str, who: str = "jane.doe@example.com") -> Act:
    event = ProviderEvent(
        kind=kind, address=email(who), event_id=event_id, occurred_at=datetime.now(UTC), brand="default"
    )
    return provider_event(event, "shop-mailer")


def from_file(ref: str, **changes: object) -> Act:
    values: dict[str, object] = {
        "address": email(),
        "verb": Verb.SUBSCRIBE,
        "brand": "default",
        "topic": "offers",
        "reason": None,
        "basis": Basis.CONSENT,
        "occurred_at": NOW - timedelta(days=100),
        "origin_ref": ref,
        "evidence": {"source": "a paper form"},
    }
    return imported(ImportedRow(**(values | changes)))  # type: ignore[arg-type]


def told(page: TestResponse) -> list[tuple[str, str]]:
    """What, and how, of each entry on the page, the newest first."""
    facts = re.findall(r'<h2 class="fact">(.*?)</h2>', page.text, re.DOTALL)
    ways = re.findall(r"</time>(?: · (.*?)(?: · .*?)?)?</p>", page.text)
    return [(plain(what), plain(how)) for what, how in zip(facts, ways, strict=True)]


def plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html)).strip()


def references(page: TestResponse) -> list[str]:
    return re.findall(r'<li id="([^"]+)">', page.text)


def newest(services: Services) -> Entry:
    return services.database.read(feed.entries_after, 0, 1_000)[-1]


# In plain words.


def test_each_origin_is_named_in_plain_words(jane: SignedIn, services: Services, contact_id: UUID) -> None:
    record(services, from_file("row-1"))
    jane.client.post(manage_link_for(services, contact_id), data={"intent": "all"})
    jane.save({"email.offers.status": "on"})
    jane.client.post(link_for(services, contact_id), data={"List-Unsubscribe": "One-Click"})
    jane.client.post("/optout", data={"address": "jane.doe@example.com"})
    record(services, reported(EventKind.UNSUBSCRIBE, "1"))

    assert told(jane.open(HISTORY)) == [
        ("Unsubscribed: All marketing email", "reported by the company that sends for us"),
        ("Unsubscribed: All marketing email", "by entering your address"),
        ("Unsubscribed: All marketing email", "in your mail app"),
        ("Subscribed: Offers by email", "here, signed in"),
        ("Unsubscribed: All marketing text messages", "through a link in a message"),
        ("Unsubscribed: All marketing email", "through a link in a message"),
        ("Subscribed: Offers by email", "from our earlier records"),
    ]


def test_bounces_and_complaints_are_listed(jane: SignedIn, services: Services) -> None:
    record(services, reported(EventKind.HARD_BOUNCE, "1"), reported(EventKind.COMPLAINT, "2"))
    assert [what for what, _ in told(jane.open(HISTORY))] == [
        "A message to jane.doe@example.com was reported as spam, so we stopped marketing there",
        "A message to jane.doe@example.com could not be delivered, so we stopped sending there",
    ]


def test_pauses_limits_and_purposes_are_listed(jane: SignedIn, services: Services) -> None:
    day = datetime.now(UTC) + timedelta(days=30)
    jane.save({"email.product-news.pause": day.date().isoformat(), "email.product-news.cap": "2"})
    jane.save({"email.product-news.pause": "", "email.@tracking.status": "off"})
    assert {what for what, _ in told(jane.open(HISTORY))} == {
        f"Paused until {day.day} {day:%B} {day.year}: Product news by email",
        "At most 2 messages a week: Product news by email",
        "Pause ended: Product news by email",
        "Turned off: Tracking of opens and clicks",
    }


@pytest.mark.parametrize("language", ["en", "es", "fr", "de", "pt", "ar"])
def test_the_history_exists_in_every_language(jane: SignedIn, services: Services, language: str) -> None:
    jane.save({"email.offers.status": "on"})
    page = jane.open(f"{HISTORY}?lang={language}")
    assert page.status_code == 200
    assert f'<html lang="{language}"' in page.text
    reference = references(page)[0]
    for kind in ("notices", "receipts"):
        assert jane.open(f"/account/{kind}/{reference}?lang={language}").status_code == 200


def test_an_entry_that_changed_nothing_says_so(jane: SignedIn, services: Services) -> None:
    jane.press(ACCOUNT, intent="all")
    assert "No change" not in jane.open(HISTORY).text
    record(services, from_file("row-1", occurred_at=NOW - timedelta(days=400)), from_file("row-2", occurred_at=None))
    page = jane.open(HISTORY)
    assert page.text.count("No change: this was already so, or a newer choice applied.") == 2
    assert page.text.count("We received this on") == 2, "for one nobody said when, for one it was long ago"


def test_an_empty_history_says_so(jane: SignedIn) -> None:
    assert "No entries yet." in jane.open(HISTORY).text


def test_a_removed_topic_is_still_listed(jane: SignedIn, services: Services) -> None:
    record(services, from_file("row-1", topic="old-magazine"))
    assert told(jane.open(HISTORY)) == [("Subscribed: old-magazine by email", "from our earlier records")]
    (reference,) = references(jane.open(HISTORY))
    assert jane.open(f"/account/receipts/{reference}.json").json["pii_processing"]["purpose"] == "old-magazine"  # type: ignore[index]


# Page by page.


def test_pages_have_fifty_entries_and_urls_reveal_no_count(jane: SignedIn, services: Services) -> None:
    record(services, *(reported(EventKind.COMPLAINT, str(number)) for number in range(120)))
    seen: list[str] = []
    path = HISTORY
    for length in (50, 50, 20):
        page = jane.open(path)
        assert len(references(page)) == length
        seen += references(page)
        following = re.findall(r'href="(/account/history\?before=[^"]+)"', page.text)
        assert all(re.fullmatch(r"/account/history\?before=[0-9A-Z]{4}-[0-9A-Z]{4}", link) for link in following)
        path = following[0] if following else ""
    assert path == ""
    entries = services.database.read(feed.entries_after, 0, 1_000)
    assert seen == [reference_of(entry.hash) for entry in reversed(entries)]


def test_the_language_is_kept_from_page_to_page(jane: SignedIn, services: Services) -> None:
    record(services, *(reported(EventKind.COMPLAINT, str(number)) for number in range(51)))
    page = jane.open(f"{HISTORY}?lang=fr")
    (following,) = re.findall(r'href="(/account/history\?before=[^"]+)"', page.text)
    assert following.endswith("&amp;lang=fr")
    older = jane.open(unescape(following))
    assert '<html lang="fr"' in older.text
    assert f'href="?before={references(page)[-1]}&amp;lang=de"' in older.text


# Nobody else's.


def test_nothing_of_another_contact_is_shown(app: Flask, jane: SignedIn, services: Services) -> None:
    john = SignedIn(app, add_contact(services, email("john.roe@example.com")))
    john.save({"email.offers.status": "on"})
    record(services, reported(EventKind.HARD_BOUNCE, "1", "john.roe@example.com"))
    assert "No entries yet." in jane.open(HISTORY).text
    assert len(told(john.open(HISTORY))) == 2


@pytest.mark.parametrize("path", ["history?before={}", "notices/{}", "receipts/{}", "receipts/{}.json"])
def test_the_reference_of_another_contacts_entry_is_not_found(
    app: Flask, jane: SignedIn, services: Services, path: str
) -> None:
    john = SignedIn(app, add_contact(services, email("john.roe@example.com")))
    john.save({"email.offers.status": "on"})
    reference = reference_of(newest(services).hash)
    assert john.open(f"/account/{path.format(reference)}").status_code == 200
    for other in (reference, "0000-0000", "junk", "%00"):
        assert jane.open(f"/account/{path.format(other)}").status_code == 404


def test_entries_of_an_address_stay_with_its_former_owner(jane: SignedIn, services: Services, contact_id: UUID) -> None:
    john = add_contact(services, email("john.roe@example.com"))
    record(services, reported(EventKind.COMPLAINT, "1", "john.roe@example.com"))
    with services.database.engine.begin() as connection:
        connection.execute(delete(address).where(address.c.contact_id == john))
    services.database.write(
        contacts.attach, contact_id, email("john.roe@example.com"), services.fingerprints, datetime.now(UTC)
    )
    assert told(jane.open(HISTORY)) == [("You added john.roe@example.com", "")]
    record(services, reported(EventKind.COMPLAINT, "2", "john.roe@example.com"))
    assert len(told(jane.open(HISTORY))) == 2


def test_an_added_address_is_listed_by_its_time(jane: SignedIn, services: Services, contact_id: UUID) -> None:
    jane.press(ACCOUNT, intent="all")
    services.database.write(
        contacts.attach, contact_id, email("new@example.com"), services.fingerprints, datetime.now(UTC)
    )
    jane.save({"email.offers.status": "on"})
    assert [what for what, _ in told(jane.open(HISTORY))][:2] == [
        "Subscribed: Offers by email",
        "You added new@example.com",
    ]


def test_an_address_added_by_a_system_is_not_attributed_to_the_contact(
    app: Flask, jane: SignedIn, services: Services
) -> None:
    put = [{"address": "jane.doe@example.com"}, {"address": "thief@example.com"}]
    put.append({"channel": "sms", "address": "+12025550123"})
    body = {"contacts": [{"addresses": put}]}
    assert app.test_client().put("/api/v1/contacts", json=body, headers=api_headers(services)).status_code == 200
    assert {what for what, _ in told(jane.open(HISTORY))} == {
        "Maple & Finch added thief@example.com, not confirmed yet",
        "Maple & Finch added +12025550123",
    }


def test_a_key_rotation_hides_no_entry(jane: SignedIn, services: Services, contact_id: UUID) -> None:
    record(services, reported(EventKind.HARD_BOUNCE, "1"))
    keys = (*services.settings.fingerprint_keys, "another-key-of-the-tests")
    rotated = new_app(services.settings.database_url, fingerprint_keys=keys)
    assert told(SignedIn(rotated, contact_id).open(HISTORY)) == told(jane.open(HISTORY))
    close(rotated)


def test_with_two_brands_each_entry_names_its_brand(jane: SignedIn, services: Services) -> None:
    jane.press(ACCOUNT, intent="all")
    assert "· <bdi>Maple &amp; Finch</bdi>" not in jane.open(HISTORY).text
    services.database.save(save_brand, replace(BRAND, slug="acme", name="Acme"), datetime.now(UTC))
    services.database.save(add_topic, replace(TOPICS[0], slug="acme-news", brand="acme"), datetime.now(UTC))
    services.catalog.get("acme-news")
    jane.press(f"{ACCOUNT}?brand=acme", intent="all")
    page = jane.open(HISTORY)
    assert page.text.count("· <bdi>Acme</bdi>") == page.text.count("· <bdi>Maple &amp; Finch</bdi>") == 2


def test_no_evidence_is_shown(jane: SignedIn, services: Services) -> None:
    record(services, from_file("row-1"))
    jane.save({"email.offers.status": "on"})
    page = jane.open(HISTORY)
    assert "paper form" not in page.text
    assert "127.0.0.0" not in page.text


# The wording.


def test_the_wording_is_shown_exactly_as_it_was(jane: SignedIn, services: Services) -> None:
    jane.save({"email.offers.status": "on"}, path=f"{ACCOUNT}?lang=de")
    entry = newest(services)
    (kept,) = services.database.read(notices.find, [entry.notice or ""]).values()

    page = jane.open(f"/account/notices/{reference_of(entry.hash)}?lang=en")

    assert f'<blockquote class="wording" lang="de" dir="auto"><p>{kept.notice.text}</p>' in page.text.replace(
        "&amp;", "&"
    )
    assert kept.notice.hash in page.text
    assert "the English text prevails" in page.text


def test_an_entry_without_a_wording_has_none_to_show(jane: SignedIn, services: Services) -> None:
    jane.press(ACCOUNT, intent="all")
    assert "What you agreed to" not in jane.open(HISTORY).text
    assert jane.open(f"/account/notices/{reference_of(newest(services).hash)}").status_code == 404


# Receipts.


def test_each_consent_has_a_receipt_to_print_and_to_download(jane: SignedIn, services: Services) -> None:
    jane.save({"email.offers.status": "on"})
    reference = reference_of(newest(services).hash)
    assert f'href="/account/receipts/{reference}"' in jane.open(HISTORY).text

    page = jane.open(f"/account/receipts/{reference}")
    file = jane.open(f"/account/receipts/{reference}.json")

    assert "Receipt of your consent" in page.text
    assert "You gave this consent, and can withdraw it at any time." in page.text
    assert file.headers["Content-Type"] == "application/json"
    assert file.headers["Content-Disposition"] == f'attachment; filename="receipt-{reference}.json"'
    told = json.loads(file.data)
    for said in (
        told["header"]["receipt_id"],
        told["pii_processing"]["privacy_notice"]["text"],
        told["pii_processing"]["privacy_notice"]["sha256"],
        told["pii_processing"]["storage_locations"][0],
        told["pii_processing"]["withdrawal_method"]["url"],
        told["party_identification"][0]["party_name"],
        told["party_identification"][0]["party_address"],
        told["party_identification"][0]["party_contact"],
    ):
        assert said in unescape(page.text)


def test_the_withdrawal_link_of_a_receipt_withdraws_the_consent(jane: SignedIn, services: Services) -> None:
    jane.save({"email.offers.status": "on"})
    path = f"/account/receipts/{reference_of(newest(services).hash)}"
    url = json.loads(jane.open(f"{path}.json").data)["pii_processing"]["withdrawal_method"]["url"]

    answer = jane.client.post(url, data={"intent": "topic"}, headers={"Accept": "text/html"})

    assert answer.status_code == 200
    assert [newest(services).verb, newest(services).topic] == ["unsubscribe", "offers"]
    events = json.loads(jane.open(f"{path}.json").data)["events"]
    assert [event["event_state"] for event in events] == ["consent given", "consent withdrawn"]
    assert "You gave this consent, and it has ended." in jane.open(path).text


def test_only_a_consent_has_a_receipt(jane: SignedIn, services: Services) -> None:
    record(services, from_file("row-1", basis=Basis.SOFT_OPT_IN))
    record(services, from_file("row-2", verb=Verb.SUPPRESS, reason=SuppressionReason.HARD_BOUNCE, basis=None))
    jane.press(ACCOUNT, intent="all")
    page = jane.open(HISTORY)
    assert len(references(page)) == 4
    assert "/account/receipts/" not in page.text
    for reference in references(page):
        assert jane.open(f"/account/receipts/{reference}").status_code == 404
        assert jane.open(f"/account/receipts/{reference}.json").status_code == 404


def test_a_receipt_says_what_is_not_on_record(jane: SignedIn, services: Services) -> None:
    record(services, from_file("row-1"))
    path = f"/account/receipts/{reference_of(newest(services).hash)}"
    assert "shown elsewhere; we have no copy" in jane.open(path).text
    assert json.loads(jane.open(f"{path}.json").data)["pii_processing"]["privacy_notice"] == {"on_record": False}


def test_consent_to_a_purpose_is_withdrawn_on_the_preference_page(jane: SignedIn, services: Services) -> None:
    jane.save({"email.@location.status": "on"})
    path = f"/account/receipts/{reference_of(newest(services).hash)}"
    told = json.loads(jane.open(f"{path}.json").data)["pii_processing"]
    assert told["purpose"] == "Offers from nearby, by where the person is"
    assert told["withdrawal_method"]["url"] == "https://preferences.example.test/account/"


def test_the_ledger_verifies_afterwards(jane: SignedIn, services: Services, contact_id: UUID) -> None:
    record(services, from_file("row-1"), reported(EventKind.HARD_BOUNCE, "1"))
    jane.save({"email.offers.status": "on", "sms.product-news.status": "off", "email.product-news.cap": "1"})
    jane.press(ACCOUNT, intent="all")
    report = services.database.snapshot(verify.verify, lambda _entries: None)
    assert report.entries == len(references(jane.open(HISTORY)))
    assert report.problems == []
    assert {entry.channel for entry in services.database.read(feed.entries_after, 0, 99)} == {
        Channel.EMAIL,
        Channel.SMS,
    }
