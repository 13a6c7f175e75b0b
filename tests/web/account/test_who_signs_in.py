"""Who may sign in, and what with: addresses that a system told, hand-offs, codes that were ended or guessed at."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.checks import doctor
from preferences.current import services_of
from preferences.domain.addresses import mailbox_of
from preferences.domain.vocabulary import DEFAULT_SCOPES, Channel, KeyScope, Status
from preferences.sending.mint import MintOptions, mint
from preferences.sending.scope import resolve
from preferences.services import Services
from preferences.store import contact_state, contacts, sign_ins
from preferences.store.api_keys import create_key, find_named
from preferences.store.sign_ins import MAX_TRIES_PER_DAY
from preferences.tokens import Ticket
from preferences.web.shared.limits import limiter
from tests.mail_sink import MailSink
from tests.support import PUBLIC_URL, add_contact, api_headers, email, manage_link_for, send_emails

JANE = "jane.doe@example.com"
THIEF = "thief@evil.example"
_names = count(1)


@pytest.fixture
def app(mailing_app: Flask) -> Iterator[Flask]:
    """With a mail server, on both engines, and nothing counted yet."""
    with mailing_app.app_context():
        limiter.reset()
        yield mailing_app


@pytest.fixture
def services(app: Flask) -> Services:
    return services_of(app)


@pytest.fixture
def jane(services: Services) -> UUID:
    return add_contact(services, email(JANE))


def put(client: FlaskClient, services: Services, *addresses: str) -> dict[str, Any]:
    """Tell of a contact with a key that may do that alone."""
    headers = api_headers(services, f"crm-{next(_names)}", scopes={KeyScope.CONTACTS})
    told = {"contacts": [{"addresses": [{"address": address} for address in addresses]}]}
    answer = client.put("/api/v1/contacts", json=told, headers=headers)
    assert answer.json is not None
    done: dict[str, Any] = answer.json["contacts"][0]
    return done


def hand_off(client: FlaskClient, services: Services, *scopes: KeyScope, address: str = JANE) -> TestResponse:
    headers = api_headers(services, f"shop-{next(_names)}", scopes={KeyScope.HAND_OFFS, *scopes})
    return client.post("/api/v1/hand-offs", json={"address": address}, headers=headers)


def path_from(answer: TestResponse) -> str:
    assert answer.json is not None
    url: str = answer.json["url"]
    return url.removeprefix(PUBLIC_URL)


def emails_to(services: Services, mail: MailSink, address: str) -> int:
    """The number of emails that this address has received."""
    send_emails(services)
    return len(mail.to(address))


def order_code(client: FlaskClient, address: str) -> str:
    """Ask for a code. Returns the path of the page on which it is typed."""
    with client.application.app_context():
        limiter.reset()
    return client.post("/sign-in", data={"address": address}).headers["Location"]


def code_in(mail: MailSink, address: str) -> str:
    found = re.search(r"\b(\d{3}) (\d{3})\b", mail.to(address)[-1].text)
    assert found
    return found[1] + found[2]


def link_in(mail: MailSink, address: str) -> str:
    found = re.search(r"/sign-in/link/[^\s?]+", mail.to(address)[-1].text)
    assert found
    return found[0]


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/account/").status_code == 200


def csrf(client: FlaskClient, path: str = "/account/") -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found
    return found[1]


def opt_in(client: FlaskClient) -> TestResponse:
    """Switch offers on, on the page of somebody who is signed in."""
    form = {"csrf_token": csrf(client), "set.email.offers.status": "on", "was.email.offers.status": "off"}
    return client.post("/account/", data=form)


def status_of(services: Services, contact_id: UUID) -> Status | None:
    choices = services.database.read(contact_state.state_of, contact_id).preferences
    return next((choice.status for (_, _, topic), choice in choices.items() if topic == "offers"), None)


# Addresses that a system told.


def test_an_address_added_by_a_system_signs_nobody_in(
    client: FlaskClient, services: Services, jane: UUID, mail: MailSink
) -> None:
    assert put(client, services, JANE, THIEF)["id"] == str(jane)
    for ask in ("/sign-in", "/link"):
        assert client.post(ask, data={"address": THIEF}, follow_redirects=True).status_code == 200
    assert client.post("/sign-up", data={"address": THIEF, "topic": "offers"}).status_code == 200
    assert emails_to(services, mail, THIEF) == 0
    assert services.database.read(contacts.find_owner, email(THIEF), services.fingerprints) is None
    assert hand_off(client, services, address=THIEF).status_code == 422


def test_the_contacts_earlier_addresses_are_warned(
    client: FlaskClient, services: Services, jane: UUID, mail: MailSink
) -> None:
    put(client, services, JANE, THIEF)
    assert (emails_to(services, mail, JANE), emails_to(services, mail, THIEF)) == (1, 0)
    warning = mail.to(JANE)[0].text
    assert "t…f@evil.example" in warning or "evil.example" in warning
    assert THIEF not in warning
    put(client, services, JANE, THIEF)
    assert emails_to(services, mail, JANE) == 1, "told again, it is no news"


def test_the_owner_still_signs_in_and_can_confirm_the_address(
    client: FlaskClient, services: Services, jane: UUID, mail: MailSink
) -> None:
    put(client, services, JANE, "jane@new.example")
    order_code(client, JANE)
    send_emails(services)
    assert client.post(link_in(mail, JANE)).status_code == 303
    form = {"csrf_token": csrf(client, "/account/addresses/add"), "address": "jane@new.example"}
    client.post("/account/addresses/add", data=form)
    send_emails(services)
    found = re.search(r"/confirm/address/[^\s?]+", mail.to("jane@new.example")[-1].text)
    assert found
    assert client.post(found[0]).status_code == 200
    assert services.database.read(contacts.find_owner, email("jane@new.example"), services.fingerprints) == jane
    assert emails_to(services, mail, JANE) == 3, "the warning, the code, and that it was added"


def test_only_the_first_mailbox_of_a_new_contact_signs_in(client: FlaskClient, services: Services) -> None:
    put(client, services, JANE, "second@example.com")
    owner = services.database.read(contacts.find_owner, email(JANE), services.fingerprints)
    assert owner is not None
    assert services.database.read(contacts.find_owner, email("second@example.com"), services.fingerprints) is None
    known = services.database.read(contact_state.state_of, owner).addresses
    assert {entry.address.value: entry.confirmed for entry in known} == {JANE: True, "second@example.com": False}


def test_an_opt_in_is_confirmed_from_the_own_mailbox_alone(
    client: FlaskClient, services: Services, mail: MailSink
) -> None:
    put(client, services, JANE, THIEF)
    owner = services.database.read(contacts.find_owner, email(JANE), services.fingerprints)
    assert owner
    client.post(
        manage_link_for(services, owner), data={"set.email.offers.status": "on", "was.email.offers.status": "off"}
    )
    assert (emails_to(services, mail, JANE), emails_to(services, mail, THIEF)) == (1, 0)


@pytest.mark.parametrize("topic", ["product-news", "receipts", "*"])
def test_an_added_address_gets_no_manage_link_until_confirmed(
    client: FlaskClient, services: Services, jane: UUID, topic: str
) -> None:
    put(client, services, JANE, THIEF)
    body = {"channel": "email", "topic": topic, "addresses": [THIEF, JANE]}
    headers = api_headers(services, "mailer", scopes={KeyScope.LINKS})
    added, own = client.post("/api/v1/links", json=body, headers=headers).get_json()["links"]
    assert added["manage_url"] is None
    assert own["manage_url"]
    assert bool(added["unsubscribe_url"]) is bool(own["unsubscribe_url"])
    assert added["headers"].keys() == own["headers"].keys()
    prints = services.database.read(contacts.find_addresses, [email(THIEF)], services.fingerprints)
    services.database.write(contacts.confirm, prints[email(THIEF)].fingerprint)
    confirmed, _ = client.post("/api/v1/links", json=body, headers=headers).get_json()["links"]
    assert confirmed["manage_url"]


def test_a_file_of_links_has_no_manage_link_for_an_added_address(
    client: FlaskClient, services: Services, jane: UUID, tmp_path: Path
) -> None:
    put(client, services, JANE, THIEF)
    path, out = tmp_path / "contacts.csv", StringIO()
    path.write_text(f"address\n{THIEF}\n{JANE}\n")
    scope = resolve(services.catalog.get(), Channel.EMAIL, topic="product-news")
    mint(services, path, scope, options=MintOptions(), out=out, progress=lambda _: None)
    added, own = csv.DictReader(StringIO(out.getvalue()))
    assert (added["manage_url"], bool(own["manage_url"])) == ("", True)
    assert added["unsubscribe_url"]
    assert added["list_unsubscribe"] == f"<{added['unsubscribe_url']}>"


# Hand-offs.


def test_a_key_needs_the_sign_in_scope_by_name(client: FlaskClient, services: Services) -> None:
    assert KeyScope.HAND_OFFS not in DEFAULT_SCOPES
    answer = client.post("/api/v1/hand-offs", json={"address": JANE}, headers=api_headers(services))
    assert answer.status_code == 403


@pytest.mark.parametrize(("scopes", "status"), [((), None), ((KeyScope.RETURNS,), Status.SUBSCRIBED)])
def test_a_hand_off_opts_in_at_once_only_if_its_key_may(
    client: FlaskClient,
    services: Services,
    jane: UUID,
    mail: MailSink,
    scopes: tuple[KeyScope, ...],
    status: Status | None,
) -> None:
    client.post(path_from(hand_off(client, services, *scopes)))
    assert opt_in(client).status_code == 200
    assert status_of(services, jane) is status
    assert emails_to(services, mail, JANE) == (0 if status else 1), "otherwise the person's own mailbox is asked"


def test_a_hand_off_opts_out_at_once(client: FlaskClient, services: Services, jane: UUID) -> None:
    client.post(path_from(hand_off(client, services)))
    client.post("/account/", data={"csrf_token": csrf(client), "intent": "all"})
    choices = services.database.read(contact_state.state_of, jane).preferences
    assert {choice.status for choice in choices.values()} == {Status.UNSUBSCRIBED}


@pytest.mark.parametrize("scopes", [(), (KeyScope.RETURNS,)])
def test_a_hand_off_adds_an_address_only_if_its_key_may_opt_in(
    client: FlaskClient, services: Services, jane: UUID, mail: MailSink, scopes: tuple[KeyScope, ...]
) -> None:
    put(client, services, JANE, "unconfirmed@example.com")
    client.post(path_from(hand_off(client, services, *scopes)))
    own = services.database.read(contact_state.state_of, jane).addresses[0]
    token = csrf(client)
    page = client.get("/account/addresses").text
    assert (">Sign in with a code to change your addresses</a>" in page) is not bool(scopes)
    for path in ("/account/addresses/add", f"/account/addresses/{own.id}/change"):
        assert (path in page) is bool(scopes)
        asked = client.get(path)
        sent = client.post(path, data={"csrf_token": token, "address": THIEF})
        for answer in (asked, sent):
            assert answer.status_code == (200 if scopes else 403)
            assert ("Sign in with a code to change your addresses" in answer.text) is not bool(scopes)
    assert emails_to(services, mail, THIEF) == (2 if scopes else 0)
    if not scopes:
        assert client.get("/sign-in").status_code == 200


def test_an_old_hand_off_signs_in_and_may_not_opt_in(services: Services, jane: UUID) -> None:
    now = datetime.now(UTC)
    token = services.links.sign_hand_off(Ticket(jane, now), may_opt_in=True)
    assert services.links.read_hand_off(token, now).may_opt_in
    old = services.links._hand_off.sign(jane.bytes + int(now.timestamp()).to_bytes(5, "big") + b"four")
    assert (services.links.read_hand_off(old, now).id, services.links.read_hand_off(old, now).may_opt_in) == (
        jane,
        False,
    )


def test_doctor_reports_a_key_with_every_scope(services: Services) -> None:
    services.database.save(create_key, "usual", datetime.now(UTC))
    services.database.save(create_key, "old", datetime.now(UTC), DEFAULT_SCOPES | {KeyScope.HAND_OFFS})
    warned = [finding.text for finding in doctor.examine(services) if finding.rule == "KEY-SCOPES"]
    assert len(warned) == 1
    assert "old" in warned[0]
    found = services.database.read(find_named, "usual")
    assert found is not None
    assert found.scopes == DEFAULT_SCOPES


# What was ended stays ended.


@pytest.mark.parametrize("end", ["out-everywhere", "revoke"])
@pytest.mark.parametrize("way", ["code", "link", "hand-off"])
def test_revoking_access_ends_codes_links_and_hand_offs(
    app: Flask, services: Services, jane: UUID, mail: MailSink, end: str, way: str
) -> None:
    client, thief = app.test_client(), app.test_client()
    with time_machine.travel(datetime.now(UTC) - timedelta(seconds=3), tick=True):
        page = order_code(thief, JANE)
        send_emails(services)
        handed = path_from(hand_off(thief, services))
    code, link = code_in(mail, JANE), link_in(mail, JANE)
    if end == "revoke":
        assert client.post(f"{manage_link_for(services, jane)}/revoke").status_code == 200
    else:
        client.post(path_from(hand_off(client, services)))
        assert client.post("/sign-in/out-everywhere", data={"csrf_token": csrf(client)}).status_code == 200
    if way == "code":
        thief.post(page, data={"code": code})
    else:
        thief.post(link if way == "link" else handed)
    assert not is_signed_in(thief)


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_post_from_another_site_signs_nobody_in(
    client: FlaskClient, services: Services, jane: UUID, headers: dict[str, str]
) -> None:
    handed = path_from(hand_off(client, services))
    paths = (handed, order_code(client, JANE), "/sign-in/with/shop")
    assert {client.post(path, headers=headers).status_code for path in paths} == {400}
    assert (
        client.post(handed, headers={"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}).status_code == 303
    )


# Unrequested email.


@pytest.mark.parametrize(
    ("typed", "mailbox"),
    [
        ("jane+a@example.com", "jane@example.com"),
        ("jane+a+b@example.com", "jane@example.com"),
        ("j.a.n.e+x@gmail.com", "jane@gmail.com"),
        ("jane@googlemail.com", "jane@gmail.com"),
        ("j.ane@example.com", "j.ane@example.com"),
        ("+tag@example.com", "+tag@example.com"),
    ],
)
def test_limits_count_by_mailbox(typed: str, mailbox: str) -> None:
    assert mailbox_of(email(typed)).value == mailbox


def test_a_mailbox_is_limited_in_any_spelling_and_on_any_page(
    client: FlaskClient, app: Flask, services: Services, mail: MailSink
) -> None:
    spelled = [
        f"{dots}+{tag}@{domain}"
        for tag in range(8)
        for dots in ("jane", "j.ane")
        for domain in ("gmail.com", "googlemail.com")
    ]
    for spelling in spelled:
        add_contact(services, email(spelling))
        for path in ("/sign-in", "/link", "/sign-up"):
            with app.app_context():
                limiter.reset()
            data = {"address": spelling, "topic": "offers"}
            assert client.post(path, data=data, follow_redirects=True).status_code == 200
    send_emails(services)
    assert len(mail.messages) <= 12


def test_a_warning_is_sent_regardless_of_other_emails(
    client: FlaskClient, app: Flask, services: Services, jane: UUID, mail: MailSink
) -> None:
    for number in range(20):
        order_code(client, f"jane.doe+{number}@example.com")
        order_code(client, JANE)
    before = emails_to(services, mail, JANE)
    put(client, services, JANE, THIEF)
    assert emails_to(services, mail, JANE) == before + 1


@pytest.mark.parametrize("known_by", ["address box", "sign-up"])
def test_an_address_that_was_only_typed_gets_no_code_and_no_link(
    client: FlaskClient, services: Services, mail: MailSink, known_by: str
) -> None:
    if known_by == "address box":
        client.post("/optout", data={"address": JANE})
    else:
        client.post("/sign-up", data={"address": JANE, "topic": "offers"})
    before = emails_to(services, mail, JANE)
    doors = ("/sign-in", "/link")
    pages = {client.post(path, data={"address": JANE}, follow_redirects=True).status_code for path in doors}
    assert (pages, emails_to(services, mail, JANE)) == ({200}, before)


@pytest.mark.parametrize("then", ["confirms", "is told by a system", "gets a link minted", "is imported"])
def test_a_typed_address_becomes_known_by_a_later_act(
    client: FlaskClient, services: Services, mail: MailSink, then: str
) -> None:
    if then == "confirms":
        client.post("/sign-up", data={"address": JANE, "topic": "offers"})
        send_emails(services)
        found = re.search(r"/confirm/[^\s?]+", mail.to(JANE)[-1].text)
        assert found
        client.post(found[0])
    else:
        client.post("/optout", data={"address": JANE})
    if then == "is told by a system":
        put(client, services, JANE)
    elif then == "gets a link minted":
        body = {"channel": "email", "topic": "product-news", "addresses": [JANE]}
        assert client.post("/api/v1/links", json=body, headers=api_headers(services)).status_code == 200
    elif then == "is imported":
        services.database.write(contacts.find_or_create, [email(JANE)], services.fingerprints, datetime.now(UTC))
    before = emails_to(services, mail, JANE)
    order_code(client, JANE)
    assert emails_to(services, mail, JANE) == before + 1


def test_the_tries_of_one_contact_are_limited_per_day(services: Services, jane: UUID) -> None:
    fingerprint = services.fingerprints.of(email(JANE))
    now, outcomes = datetime.now(UTC), []
    for hour in range(MAX_TRIES_PER_DAY):
        at = now + timedelta(minutes=hour)
        sign_in_id = services.database.save(sign_ins.begin, fingerprint, at)
        services.database.save(sign_ins.set_code, sign_in_id, "right", fingerprint)
        outcomes += [services.database.save(sign_ins.try_code, sign_in_id, "wrong", at) for _ in range(2)]
    assert [outcome.left for outcome in outcomes[:MAX_TRIES_PER_DAY]] == [2, 1] * (MAX_TRIES_PER_DAY // 2)
    assert {outcome.outcome for outcome in outcomes[MAX_TRIES_PER_DAY:]} == {sign_ins.CodeOutcome.OVER}
    last = services.database.save(sign_ins.begin, fingerprint, now)
    assert services.database.save(sign_ins.use_link, last, now).fingerprint == fingerprint, (
        "the link in the email still works"
    )
