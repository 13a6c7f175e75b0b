"""Contacts by API: brought in once however often, completed, refused one by one, and looked up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
import time_machine
from flask.testing import FlaskClient
from sqlalchemy import delete, event

from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import Actor, Channel, Origin, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.ledger.group_commit import BLOCK
from preferences.sending.reported_acts import MOST_SHARED
from preferences.services import Services
from preferences.store import contacts, outbox
from preferences.store.tables import contact
from tests.support import add_contact, api_headers, email, link_for

CONTACTS = "/api/v1/contacts"
JANE, PHONE = "jane.doe@example.com", "+12025550123"


@pytest.fixture
def headers(services: Services) -> dict[str, str]:
    return api_headers(services)


def put(client: FlaskClient, headers: dict[str, str], *groups: list[tuple[str, str]]) -> list[dict[str, Any]]:
    body = {"contacts": [{"addresses": [{"channel": c, "address": a} for c, a in group]} for group in groups]}
    answer = client.put(CONTACTS, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return answer.json["contacts"]


def erase(services: Services, address: Address) -> None:
    """Only the fingerprint stays."""
    act = Act(
        verb=Verb.SUPPRESS,
        channel=address.channel,
        who=address,
        reason=SuppressionReason.ERASED,
        origin=Origin.IMPORT,
        actor=Actor.STAFF,
        occurred_at=datetime.now(UTC),
    )
    services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=datetime.now(UTC))
    shred = delete(contact).where(contact.c.id == owner(services, address))
    services.database.save(lambda save: save.execute(shred))


def owner(services: Services, address: Address) -> UUID | None:
    found = services.database.read(contacts.find_addresses, [address], services.fingerprints)
    return found[address].contact_id if address in found else None


def test_bringing_a_contact_in_twice_is_the_same_as_once(client: FlaskClient, headers: dict[str, str]) -> None:
    (first,) = put(client, headers, [("email", " Jane.Doe@Example.com ")])
    (again,) = put(client, headers, [("email", JANE)])
    assert (first["outcome"], again["outcome"]) == ("created", "unchanged")
    assert first["id"] == again["id"]
    assert first["why"] is None


def test_a_further_address_goes_to_the_contact_who_has_the_other(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    jane = add_contact(services)
    (one,) = put(client, headers, [("email", JANE), ("sms", PHONE)])
    assert (one["outcome"], one["id"]) == ("updated", str(jane))
    assert owner(services, Address(Channel.SMS, PHONE)) == jane


def test_two_items_of_one_call_about_the_same_person_make_one_contact(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    first, second = put(client, headers, [("email", JANE)], [("sms", PHONE), ("email", JANE)])
    assert (first["outcome"], second["outcome"]) == ("created", "updated")
    assert first["id"] == second["id"]


def test_contacts_are_never_made_one_and_the_rest_goes_in(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    add_contact(services)
    add_contact(services, email("other@example.com"))
    refused, made = put(client, headers, [("email", JANE), ("email", "other@example.com")], [("sms", PHONE)])
    assert refused == {
        "id": None,
        "outcome": "refused",
        "why": "its addresses belong to different contacts",
        "unsubscribe_url": None,
    }
    assert made["outcome"] == "created"
    assert made["unsubscribe_url"] is None


def test_an_erased_address_is_never_stored_again(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    gone = email("gone@example.com")
    erase(services, gone)
    (one,) = put(client, headers, [("email", gone.value), ("sms", PHONE)])
    assert one["outcome"] == "refused"
    assert "erased" in one["why"]
    assert gone.value not in str(one)
    assert owner(services, Address(Channel.SMS, PHONE)) is None


def test_a_wrong_address_names_its_place_and_nothing_is_made(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    body = {"contacts": [{"addresses": [{"address": JANE}]}, {"addresses": [{"address": PHONE}]}]}
    answer = client.put(CONTACTS, json=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json is not None
    assert [one["field"] for one in answer.json["errors"]] == ["contacts[1].addresses[0].address"]
    assert PHONE not in answer.text
    assert owner(services, email()) is None


def test_ten_thousand_contacts_go_in_with_one_call(client: FlaskClient, headers: dict[str, str]) -> None:
    made = put(client, headers, *([("email", f"person-{number}@example.com")] for number in range(10_000)))
    assert len({one["id"] for one in made}) == 10_000
    assert {one["outcome"] for one in made} == {"created"}


def test_the_link_to_keep_as_a_merge_field_stops_everything_years_later(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    (one,) = put(client, headers, [("email", JANE)])
    path = urlsplit(one["unsubscribe_url"]).path
    with time_machine.travel(datetime.now(UTC) + timedelta(days=5 * 365), tick=True):
        assert client.post(path).status_code == 200
        asked = {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": [JANE]}
        answer = client.post("/api/v1/decisions", json=asked, headers=headers).json
    assert answer is not None
    assert answer["decisions"][0]["reason"] == "unsubscribed_all"


def test_a_contact_with_email_gets_the_lasting_link(client: FlaskClient, headers: dict[str, str]) -> None:
    (both,) = put(client, headers, [("email", JANE), ("sms", PHONE)])
    known, unknown = put(client, headers, [("sms", PHONE)], [("sms", "+12025550124")])
    assert known["unsubscribe_url"] == both["unsubscribe_url"]
    assert unknown["unsubscribe_url"] is None


# However many.


def test_no_call_takes_more_statements_for_more_of_the_same(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    few, many = (_statements(client, services, headers, count) for count in (1, 100))
    assert few == many


def _statements(client: FlaskClient, services: Services, headers: dict[str, str], count: int) -> dict[str, int]:
    names = [f"person-{count}-{number}" for number in range(count)]
    people = [{"addresses": [{"address": f"{name}@example.com"}]} for name in names]
    acts = [
        {"address": f"{name}@example.com", "verb": "unsubscribe", "origin_ref": f"{name}-{again}"}
        for name in names
        for again in range(MOST_SHARED + 1)
    ]
    topics = [{"slug": name, "name": name, "class": "marketing", "basis": "consent"} for name in names]
    calls: dict[str, dict[str, Any]] = {
        "contacts": {"method": "PUT", "json": {"contacts": people}},
        "topics": {"method": "PUT", "json": {"topics": topics}},
        "acts": {"method": "POST", "json": acts[:BLOCK]},
        "suppressions": {"query_string": {"channel": "email", "limit": count}},
        "entries": {"query_string": {"limit": count}},
    }
    services.catalog.get()
    return {name: _count(client, services, f"/api/v1/{name}", headers=headers, **call) for name, call in calls.items()}


def _count(client: FlaskClient, services: Services, path: str, **call: Any) -> int:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    event.listen(services.database.engine, "before_cursor_execute", note)
    answer = client.open(path, **call)
    event.remove(services.database.engine, "before_cursor_execute", note)
    assert answer.status_code == 200, answer.text
    return len(seen)


MOST_STATEMENTS: Final = 20
"""For a block of contacts, whatever is done to them: the ledger is locked meanwhile, and clicks wait."""


def test_clicks_do_not_wait_for_a_letter_to_each_of_many_contacts(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    few, many = (_statements_of_additions(client, services, headers, count) for count in (1, 200))
    assert few == many
    assert many <= MOST_STATEMENTS
    assert services.database.read(outbox.count_waiting, datetime.now(UTC)) == 201, "and each is warned"


def _statements_of_additions(client: FlaskClient, services: Services, headers: dict[str, str], count: int) -> int:
    people = [
        [{"address": f"{kind}-{count}-{number}@example.com"} for kind in ("old", "new")] for number in range(count)
    ]
    put(client, headers, *([("email", old["address"])] for old, _ in people))
    body = {"contacts": [{"addresses": both} for both in people]}
    return _count(client, services, CONTACTS, method="PUT", headers=headers, json=body)


# Looking up.


def test_a_contact_is_found_by_an_address_and_by_its_id(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    jane = add_contact(services)
    client.post(link_for(services, jane))
    by_address = client.get(CONTACTS, query_string={"address": JANE.upper()}, headers=headers).json
    by_id = client.get(f"{CONTACTS}/{jane}", headers=headers).json
    assert by_address == by_id
    assert by_id is not None
    assert by_id["id"] == str(jane)
    assert [(one["channel"], one["address"], one["suppressed"]) for one in by_id["addresses"]] == [("email", JANE, [])]
    (choice,) = by_id["choices"]
    assert (choice["topic"], choice["status"], choice["entry"]) == ("*", "unsubscribed", 1)
    assert by_id["paces"] == []


def test_whoever_is_unknown_is_not_found(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get(f"{CONTACTS}/{uuid4()}", headers=headers).status_code == 404
    answer = client.get(CONTACTS, query_string={"address": "nobody@example.com"}, headers=headers)
    assert answer.status_code == 404
    assert "nobody" not in answer.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "address"),
        ({"address": "nobody"}, "address"),
        ({"address": JANE, "channel": "fax"}, "channel"),
        ({"address": [JANE, JANE]}, "address"),
        ({"address": JANE, "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_question_names_its_parameter(
    client: FlaskClient, headers: dict[str, str], query: dict[str, Any], field: str
) -> None:
    answer = client.get(CONTACTS, query_string=query, headers=headers)
    assert answer.status_code == 422
    assert answer.json is not None
    assert [one["field"] for one in answer.json["errors"]] == [field]
