"""A person's addresses: nothing changes before the new mailbox's owner agrees, and nothing learned by asking."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from uuid import UUID, uuid4

import pytest
import time_machine
from flask import Flask
from werkzeug.test import TestResponse

from preferences.domain.acts import EventKind, ProviderEvent, provider_event
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel
from preferences.ledger import record as ledger
from preferences.ledger import verify
from preferences.services import Services
from preferences.store import contact_state, contacts, feed, sign_ins
from preferences.tokens import ManageLink, Ticket
from tests.mail_sink import MailSink, Received
from tests.processes import contents
from tests.signed_in import ACCOUNT, SignedIn
from tests.support import PUBLIC_URL, add_contact, api_headers, email, send_emails

ADDRESSES = "/account/addresses"
ADD = f"{ADDRESSES}/add"
OLD, NEW, JOHNS = "jane.doe@example.com", "jane@new.example", "john.roe@example.com"


@pytest.fixture
def app(mailing_app: Flask) -> Flask:
    """Every test here has a mail server."""
    return mailing_app


@pytest.fixture
def contact_id(services: Services) -> UUID:
    return add_contact(services)


@pytest.fixture
def jane(app: Flask, contact_id: UUID) -> SignedIn:
    return SignedIn(app, contact_id)


def used(services: Services, contact_id: UUID) -> list[str]:
    known = services.database.read(contact_state.addresses_of, contact_id)
    return [entry.address.value for entry in known if not entry.replaced]


def door(page: TestResponse, name: str, address: str) -> str:
    """The link beside an address to change or to remove it."""
    (entry,) = [li for li in re.findall(r"<li>.*?</li>", page.text, re.DOTALL) if f">{address}</bdi></h3>" in li]
    found = re.findall(rf'href="([^"]+/{name})"', entry)
    return found[0] if found else ""


def emails_to(services: Services, mail: MailSink, address: str) -> list[Received]:
    send_emails(services)
    return [message for message in mail.messages if message.recipients == [address]]


def path_in(received: Received) -> str:
    return received.url.removeprefix(PUBLIC_URL)


def ask(jane: SignedIn, services: Services, mail: MailSink, path: str, address: str = NEW) -> str:
    """Request an address, and return the path of the link in the email."""
    assert jane.press(path, address=address).status_code == 200
    return path_in(emails_to(services, mail, address)[-1])


def changed(jane: SignedIn, services: Services, mail: MailSink, old: str = OLD, new: str = NEW) -> TestResponse:
    """Change an address, all the way."""
    return jane.client.post(ask(jane, services, mail, door(jane.open(ADDRESSES), "change", old), new))


def count(services: Services) -> int:
    return services.database.read(feed.head_seq)


def decisions(app: Flask, services: Services, topic: str, message_class: str = "marketing") -> dict[str, str]:
    """What may be sent to the old and to the new address."""
    asked = {"channel": "email", "class": message_class, "topic": topic, "addresses": [OLD, NEW]}
    answer = app.test_client().post("/api/v1/decisions", json=asked, headers=api_headers(services, str(uuid4())))
    assert answer.json is not None
    return {decision["address"]: decision["reason"] for decision in answer.json["decisions"]}


# What there is.


def test_the_page_shows_every_address_with_its_date(jane: SignedIn, services: Services, contact_id: UUID) -> None:
    attach(services, contact_id, Address(Channel.SMS, "+12025550123"))
    page = jane.open(ADDRESSES)
    assert f'<h3><bdi dir="ltr">{OLD}</bdi></h3>' in page.text
    assert '<h3><bdi dir="ltr">+12025550123</bdi></h3>' in page.text
    assert page.text.count("Since <time") == 2
    assert "To change this, write to" in page.text, "a telephone number cannot be confirmed yet"
    assert door(page, "change", "+12025550123") == ""


def test_an_address_added_by_a_system_is_marked_until_confirmed(
    app: Flask, jane: SignedIn, services: Services, mail: MailSink
) -> None:
    body = {"contacts": [{"addresses": [{"address": OLD}, {"address": NEW}]}]}
    assert app.test_client().put("/api/v1/contacts", json=body, headers=api_headers(services)).status_code == 200
    hint = "Maple &amp; Finch added this address. Until you confirm it, no one can sign in with it."
    page = jane.open(ADDRESSES)
    assert page.text.count(hint) == page.text.count("Confirm by email") == 1
    (action, address) = re.findall(
        r'<form method="post" action="([^"]+/add)">.*?name="address" value="([^"]+)"', page.text, re.DOTALL
    )[0]
    assert address == NEW
    jane.client.post(ask(jane, services, mail, action, address))
    assert hint not in jane.open(ADDRESSES).text


def attach(services: Services, contact_id: UUID, address: Address) -> None:
    services.database.write(contacts.attach, contact_id, address, services.fingerprints, datetime.now(UTC))


def test_the_only_address_of_a_channel_cannot_be_removed(jane: SignedIn, services: Services, contact_id: UUID) -> None:
    page = jane.open(ADDRESSES)
    assert door(page, "remove", OLD) == ""
    path = door(page, "change", OLD).replace("/change", "/remove")
    assert jane.open(path).status_code == 404
    assert jane.send(path, {}).status_code == 409
    assert used(services, contact_id) == [OLD]


# Adding and changing.


def test_a_new_address_is_added_when_its_owner_confirms(
    jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID
) -> None:
    path = ask(jane, services, mail, ADD)
    stranger = jane.client.application.test_client()
    assert used(services, contact_id) == [OLD]

    page = stranger.get(path)
    assert page.status_code == 200
    assert "Is this your address?" in page.text
    assert "Set-Cookie" not in page.headers
    assert OLD not in page.text
    assert used(services, contact_id) == [OLD], "opening the link changes nothing"

    page = stranger.post(path)
    assert page.status_code == 200
    assert "Your new address is confirmed" in page.text
    assert "Set-Cookie" not in page.headers
    assert used(services, contact_id) == [OLD, NEW]
    assert NEW in jane.open(ADDRESSES).text


def test_the_email_does_not_say_who_requested_it(jane: SignedIn, services: Services, mail: MailSink) -> None:
    jane.press(ADD, address=NEW)
    (received,) = emails_to(services, mail, NEW)
    assert received.message["Subject"] == "Please confirm your new address"
    assert received.message["Auto-Submitted"] == "auto-generated"
    assert OLD.encode() not in received.raw
    assert emails_to(services, mail, OLD) == []


def test_a_changed_address_replaces_the_old_one_and_notifies_it(
    jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID
) -> None:
    page = changed(jane, services, mail)

    assert "We have sent a note to your old address." in page.text
    assert used(services, contact_id) == [NEW]
    (received,) = emails_to(services, mail, OLD)
    assert received.message["Subject"] == "Your address was changed"
    assert "•••@new.example" in received.text
    assert NEW not in received.text, "whoever reads the old mailbox is not told the new address"
    assert told(jane.open("/account/history"))[0] == f"You stopped using {OLD}"
    assert verified(services)


def told(page: TestResponse) -> list[str]:
    facts = re.findall(r'<h2 class="fact">(.*?)</h2>', page.text, re.DOTALL)
    return [unescape(re.sub(r"<[^>]+>", "", fact)).strip() for fact in facts]


def verified(services: Services) -> bool:
    report = services.database.snapshot(verify.verify, lambda _entries: None)
    return report.entries == count(services) and report.problems == []


def test_an_address_is_normalised(jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID) -> None:
    jane.press(ADD, address="  Jane@NEW.example ")
    (received,) = emails_to(services, mail, NEW)
    jane.client.post(path_in(received))
    assert used(services, contact_id) == [OLD, NEW]


@pytest.mark.parametrize("typed", ["", "nobody", "a@b@c", "x" * 2_000, "jane@new.example\x00"])
def test_an_invalid_address_is_explained_and_kept_in_the_field(jane: SignedIn, services: Services, typed: str) -> None:
    page = jane.press(ADD, address=typed)
    assert page.status_code == 400
    assert "<title>Error:" in page.text
    assert "There is a problem" in page.text
    assert 'href="#address"' in page.text
    assert page.text.count("Enter an email address, like name@example.com") == 2
    assert contents(services.settings.database_url)["address_request"] == []


# The decisions.


def test_preferences_carry_over_and_the_old_address_gets_nothing(
    app: Flask, jane: SignedIn, services: Services, mail: MailSink
) -> None:
    jane.save({"email.offers.status": "on"})
    changed(jane, services, mail)
    assert decisions(app, services, "offers") == {OLD: "replaced", NEW: "ok"}
    assert decisions(app, services, "receipts", "transactional") == {OLD: "ok", NEW: "ok"}


def test_an_opt_out_holds_for_the_new_address_too(
    app: Flask, jane: SignedIn, services: Services, mail: MailSink
) -> None:
    jane.press(ACCOUNT, intent="all")
    changed(jane, services, mail)
    assert decisions(app, services, "product-news") == {OLD: "replaced", NEW: "unsubscribed_all"}
    assert decisions(app, services, "receipts", "transactional") == {OLD: "ok", NEW: "ok"}


def test_a_bounce_of_the_old_address_does_not_suppress_the_new(
    app: Flask, jane: SignedIn, services: Services, mail: MailSink
) -> None:
    changed(jane, services, mail)
    bounced(services, OLD)
    assert decisions(app, services, "product-news") == {OLD: "hard_bounce", NEW: "ok"}
    assert decisions(app, services, "receipts", "transactional") == {OLD: "hard_bounce", NEW: "ok"}


def bounced(services: Services, address: str) -> None:
    event = ProviderEvent(
        kind=EventKind.HARD_BOUNCE, address=email(address), event_id="1", occurred_at=datetime.now(UTC)
    )
    act = provider_event(event, "shop-mailer")
    services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=datetime.now(UTC))


def test_changing_back_lifts_the_replaced_suppression_alone(
    app: Flask, jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID
) -> None:
    changed(jane, services, mail)
    bounced(services, OLD)
    changed(jane, services, mail, old=NEW, new=OLD)
    assert used(services, contact_id) == [OLD]
    assert decisions(app, services, "product-news") == {OLD: "hard_bounce", NEW: "replaced"}
    assert verified(services)


def test_an_old_unsubscribe_link_still_works_after_the_change(
    app: Flask, jane: SignedIn, services: Services, mail: MailSink
) -> None:
    changed(jane, services, mail)
    jane.client.post("/optout", data={"address": OLD})
    assert decisions(app, services, "product-news") == {OLD: "replaced", NEW: "unsubscribed_all"}


# Removing.


def test_one_of_two_addresses_can_be_removed_and_is_notified(
    jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID
) -> None:
    jane.client.post(ask(jane, services, mail, ADD))
    path = door(jane.open(ADDRESSES), "remove", OLD)
    assert "Remove this address?" in jane.open(path).text
    assert used(services, contact_id) == [OLD, NEW], "it is a question"

    page = jane.press(path)

    assert "Saved. We no longer use" in page.text
    assert used(services, contact_id) == [NEW]
    assert door(page, "remove", NEW) == "", "now it is the last one"
    _added, received = emails_to(services, mail, OLD)
    assert "•••@new.example" in received.text
    assert jane.press(path).status_code == 404
    assert verified(services)


def test_an_address_lost_to_a_thief_can_be_taken_back(
    jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID
) -> None:
    changed(jane, services, mail)
    (received,) = emails_to(services, mail, OLD)
    victim = jane.client.application.test_client()
    page = victim.get(path_in(received))
    assert "Take your address back?" in page.text
    assert "Close this page" not in page.text, "whoever obeyed would leave the address with the thief"
    assert "You have your address back" in victim.post(path_in(received)).text
    assert used(services, contact_id) == [OLD, NEW]

    jane.press(door(jane.open(ADDRESSES), "remove", NEW))
    thiefs = emails_to(services, mail, NEW)[-1]
    assert "If it was not you, please reply to this email." in thiefs.text
    assert "https://" not in thiefs.text, "the thief has no way back"
    assert used(services, contact_id) == [OLD]


# The link in the email.


def test_an_address_of_another_contact_is_revealed_to_its_owner_alone(
    jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID
) -> None:
    john = add_contact(services, email(JOHNS))
    path = ask(jane, services, mail, ADD, JOHNS)
    page = jane.client.post(path)
    assert page.status_code == 200
    assert "This address has preferences of its own" in page.text
    assert 'href="/sign-in?lang=en"' in page.text
    assert (used(services, contact_id), used(services, john)) == ([OLD], [JOHNS])
    assert count(services) == 0


def test_a_known_and_an_unknown_address_get_the_same_answer(
    jane: SignedIn, services: Services, contact_id: UUID
) -> None:
    add_contact(services, email("known@example.com"))
    with time_machine.travel(datetime.now(UTC), tick=False):
        known = jane.press(ADD, address="known@example.com")
        other = jane.press(ADD, address="other@example.com")
    assert known.status_code == other.status_code == 200
    assert known.data == other.data.replace(b"other@", b"known@")
    assert known.headers == other.headers


def test_the_fourth_email_of_a_day_is_silently_not_sent(jane: SignedIn, services: Services, mail: MailSink) -> None:
    with time_machine.travel(datetime.now(UTC), tick=False):
        answers = [jane.press(ADD, address=NEW).data for _ in range(4)]
    assert len(set(answers)) == 1
    assert len(emails_to(services, mail, NEW)) == 3


def test_one_contact_cannot_send_to_many_addresses(jane: SignedIn, services: Services) -> None:
    statuses = [jane.press(ADD, address=f"stranger{number}@example.com").status_code for number in range(21)]
    assert statuses == [200] * 20 + [429]
    assert len(contents(services.settings.database_url)["letter"]) == 20


def test_a_used_link_explains_itself(jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID) -> None:
    path = ask(jane, services, mail, ADD)
    jane.client.post(path)
    before = contents(services.settings.database_url)
    for page in (jane.client.get(path), jane.client.post(path)):
        assert page.status_code == 409
        assert "This link was already used" in page.text
        assert "If not, sign in and add it again." in page.text
    assert contents(services.settings.database_url) == before


def test_an_expired_link_explains_itself(jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID) -> None:
    path = ask(jane, services, mail, ADD)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1, minutes=1)):
        for page in (jane.client.get(path), jane.client.post(path)):
            assert page.status_code == 410
            assert "This link has expired" in page.text
    assert used(services, contact_id) == [OLD]


def test_revoking_access_voids_a_thiefs_requests(
    jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID
) -> None:
    path = ask(jane, services, mail, ADD)
    with later(seconds=5):
        services.database.save(sign_ins.revoke, contact_id, datetime.now(UTC))
        assert jane.client.get(path).status_code == 409
        assert jane.client.post(path).status_code == 409
    assert used(services, contact_id) == [OLD]


@contextmanager
def later(seconds: int) -> Iterator[None]:
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds)):
        yield


def test_no_other_kind_of_link_confirms_an_address(
    jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID
) -> None:
    ask(jane, services, mail, ADD)
    now = datetime.now(UTC)
    tokens = [
        services.links.sign_manage(ManageLink(contact_id, Channel.EMAIL, "default", now)),
        services.links.sign_hand_off(Ticket(contact_id, now)),
        services.links.sign_sign_in(Ticket(contact_id, now)),
        "junk",
    ]
    for token in tokens:
        assert jane.client.get(f"/confirm/address/{token}").status_code == 404
        assert jane.client.post(f"/confirm/address/{token}").status_code == 404
    assert used(services, contact_id) == [OLD]


# Nobody else's hand.


def test_a_post_without_the_sessions_token_changes_nothing(
    jane: SignedIn, services: Services, mail: MailSink, contact_id: UUID
) -> None:
    jane.client.post(ask(jane, services, mail, ADD))
    page = jane.open(ADDRESSES)
    before = contents(services.settings.database_url)
    for path in (ADD, door(page, "change", OLD), door(page, "remove", OLD)):
        for token in ("", "forged"):
            form = {"csrf_token": token, "address": "thief@example.com"}
            assert jane.client.post(path, data=form).status_code == 400
    assert contents(services.settings.database_url) == before


def test_another_contacts_address_is_not_found(app: Flask, jane: SignedIn, services: Services) -> None:
    john = SignedIn(app, add_contact(services, email(JOHNS)))
    path = door(john.open(ADDRESSES), "change", JOHNS)
    for name in ("change", "remove"):
        theirs = path.replace("change", name)
        assert jane.open(theirs).status_code == 404
        jane.open(ADD)
        assert jane.send(theirs, {"address": NEW}).status_code == 404
    assert contents(services.settings.database_url)["address_request"] == []


def test_opening_any_of_these_pages_writes_nothing(jane: SignedIn, services: Services, mail: MailSink) -> None:
    jane.client.post(ask(jane, services, mail, ADD))
    pending = ask(jane, services, mail, ADD, "third@example.com")
    page = jane.open(ADDRESSES)
    before = contents(services.settings.database_url)
    for path in (ADDRESSES, ADD, door(page, "change", OLD), door(page, "remove", OLD), pending):
        for method in ("GET", "HEAD", "OPTIONS"):
            assert jane.client.open(path, method=method).status_code == 200
    assert contents(services.settings.database_url) == before


@pytest.mark.parametrize("language", ["es", "fr", "de", "pt", "ar"])
def test_the_language_is_kept_through_all_steps(
    jane: SignedIn, services: Services, mail: MailSink, language: str
) -> None:
    path = ask(jane, services, mail, f"{ADD}?lang={language}")
    assert path.endswith(f"?lang={language}")
    page = jane.client.get(path)
    assert f'<html lang="{language}"' in page.text
    (action,) = re.findall(r'<form method="post" action="([^"]+)"', page.text)
    assert action == path
    assert f'<html lang="{language}"' in jane.client.post(action).text
