"""Brevo: a secret in place of a signature, 429 in place of 503, two kinds of webhook, contacts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import pytest

from preferences.connectors.base import Connector, Listed
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadSignature, Misconfigured, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, Status
from tests.connectors.contract import JANE, Answer, Asked, ConnectorContract, Provider, push_of
from tests.support import email

SECRET: Final = "a-long-secret-for-brevo"
PHONE: Final = Address(Channel.SMS, "+12025550123")


class TestTheContract(ConnectorContract):
    kind = "brevo"
    busy_code = 429
    refused_code = 401
    own_settings: ClassVar[Mapping[str, Any]] = {"api_key": "xkeysib-1", "webhook_secrets": (SECRET,)}
    topics: ClassVar[Mapping[str, str]] = {"product-news": "list:17", "offers": "list:18", "*": "global"}
    signs_body = False
    nothing_to_do = frozenset({404})

    def sign(self, body: bytes) -> dict[str, str]:
        return {"authorization": f"Bearer {SECRET}"}


class Fake(Provider):
    """Contacts as Brevo keeps them: by address, with what each is on."""

    def __init__(self) -> None:
        super().__init__()
        self.contacts: dict[str, dict[str, Any]] = {}

    def add(self, address: str, **more: Any) -> None:
        self.contacts[address] = {
            "email": address,
            "emailBlacklisted": False,
            "smsBlacklisted": False,
            "listIds": [],
            "listUnsubscribed": None,
            "modifiedAt": "2026-05-31T16:00:00.000+02:00",
            "attributes": {},
            **more,
        }

    def answer(self, asked: Asked) -> Answer:
        told = super().answer(asked)
        if told.status != 200 or not asked.path.startswith("/contacts"):
            return told
        if asked.headers.get("api-key") != "xkeysib-1":
            return Answer(401, b'{"code":"unauthorized","message":"Key not found"}')
        if asked.method == "GET":
            offset, limit = int(asked.query["offset"]), int(asked.query["limit"])
            assert limit <= 1000
            page = list(self.contacts.values())[offset : offset + min(limit, 2)]
            return Answer(200, json.dumps({"contacts": page, "count": len(self.contacts)}).encode())
        return self._write(asked)

    def _write(self, asked: Asked) -> Answer:
        document = json.loads(asked.body)
        if asked.method == "POST":
            name = document.get("email") or document["attributes"]["SMS"]
            assert document.pop("updateEnabled") is True
            if name not in self.contacts:
                self.add(name)
        else:
            name = unquote(asked.path.removeprefix("/contacts/"))
            if name not in self.contacts:
                return Answer(404, b'{"code":"document_not_found","message":"Contact does not exist"}')
        contact = self.contacts[name]
        contact["listIds"] = sorted({*contact["listIds"], *document.pop("listIds", [])})
        unlinked = document.pop("unlinkListIds", [])
        contact["listIds"] = [list_id for list_id in contact["listIds"] if list_id not in unlinked]
        contact.update(document)
        return Answer(204)


@pytest.fixture
def world() -> Iterator[tuple[Fake, Connector]]:
    with Fake() as fake:
        yield fake, TestTheContract().connector(base_url=fake.url)


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


class TestProving:
    @pytest.mark.parametrize(
        ("headers", "query"),
        [
            ({"authorization": f"Bearer {SECRET}"}, ""),
            ({"authorization": "Basic " + "YnJldm86YS1sb25nLXNlY3JldC1mb3ItYnJldm8="}, ""),
            ({"x-webhook-secret": SECRET}, ""),
            ({}, f"?secret={SECRET}"),
        ],
    )
    def test_the_secret_may_stand_wherever_brevo_can_put_it(self, headers: dict[str, str], query: str) -> None:
        make().verify(headers, b"{}", url=f"https://p.example/webhooks/mailer{query}")

    @pytest.mark.parametrize("wrong", ["", SECRET[:-1], SECRET + "x", SECRET.upper(), "ü" * 20])
    def test_a_wrong_one_is_refused(self, wrong: str) -> None:
        with pytest.raises(BadSignature):
            make().verify({"authorization": f"Bearer {wrong}"}, b"{}")


class TestParsing:
    def test_the_clock_of_a_transactional_event_is_in_milliseconds(self) -> None:
        body = TestTheContract().payloads["unsubscribed.json"]
        (event,) = make().parse({}, body).events
        assert event.occurred_at is not None
        assert event.occurred_at.isoformat() == "2026-05-31T14:00:07+00:00"

    @pytest.mark.parametrize("epoch", [1780236007, 1780236007000, 1780236007.0, "1780236007"])
    def test_seconds_are_read_as_seconds(self, epoch: Any) -> None:
        body = json.dumps({"event": "unsubscribed", "email": JANE, "message-id": "<1@x>", "ts_epoch": epoch}).encode()
        (event,) = make().parse({}, body).events
        assert event.occurred_at == datetime(2026, 5, 31, 14, 0, 7, tzinfo=UTC)

    def test_the_account_s_own_time_of_a_transactional_event_is_no_clock(self) -> None:
        times = {"ts_event": 1780243207, "ts": 1780243207, "date": "2026-05-31 16:00:07"}
        body = json.dumps({"event": "unsubscribed", "email": JANE, "message-id": "<1@x>", **times}).encode()
        (event,) = make().parse({}, body).events
        assert event.occurred_at is None

    def test_a_marketing_event_counts_from_receipt(self) -> None:
        (event,) = make().parse({}, TestTheContract().payloads["marketing-unsubscribe-of-a-list.json"]).events
        assert event.occurred_at is None

    def test_the_local_date_is_no_clock(self) -> None:
        body = json.dumps({"event": "unsubscribe", "email": JANE, "date": "2026-05-31 16:00:07"}).encode()
        (event,) = make().parse({}, body).events
        assert event.occurred_at is None

    def test_the_same_event_is_the_same_and_another_is_not(self) -> None:
        one = json.dumps({"event": "spam", "email": JANE, "ts_event": 1780236007}).encode()
        again = json.dumps({"ts_event": 1780236007, "email": JANE, "event": "spam"}).encode()
        later = json.dumps({"event": "spam", "email": JANE, "ts_event": 1780236008}).encode()
        ids = [make().parse({}, body).events[0].event_id for body in (one, again, later)]
        assert ids[0] == ids[1] != ids[2]

    def test_an_unsubscribe_of_unmapped_lists_is_the_contact_s_blocklist(self) -> None:
        body = json.dumps({"event": "unsubscribe", "email": JANE, "list_id": [999]}).encode()
        assert [event.topic for event in make().parse({}, body).events] == ["*"]
        without = make(topics={"product-news": "list:17"}).parse({}, body)
        assert [event.topic for event in without.events] == ["*"]


class TestPushing:
    def test_everything_is_the_blocklist_and_makes_who_is_not_there(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.add(JANE, listIds=[17, 18])
        assert not connector.push([push_of(list_ref="global"), push_of("rosa@example.com", list_ref="global")])
        assert fake.contacts[JANE]["emailBlacklisted"] is True
        assert fake.contacts[JANE]["listIds"] == [17, 18]
        assert fake.contacts["rosa@example.com"]["emailBlacklisted"] is True

    def test_a_list_is_left_and_nothing_else(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.add(JANE, listIds=[17, 18])
        assert not connector.push([push_of(list_ref="list:17"), push_of("rosa@example.com", list_ref="list:17")])
        assert (fake.contacts[JANE]["listIds"], fake.contacts[JANE]["emailBlacklisted"]) == ([18], False)
        assert "rosa@example.com" not in fake.contacts

    def test_an_address_with_odd_signs_is_one_part_of_the_path(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.add("a+b/c?d#e%f@example.com", listIds=[17])
        connector.push([push_of(email("a+b/c?d#e%f@example.com"), list_ref="list:17")])
        assert fake.contacts["a+b/c?d#e%f@example.com"]["listIds"] == []

    def test_a_number_is_told_for_its_own_channel(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        connector.push([push_of(PHONE, list_ref="global")])
        assert (fake.contacts[PHONE.value]["smsBlacklisted"], fake.contacts[PHONE.value]["emailBlacklisted"]) == (
            True,
            False,
        )

    def test_who_comes_back_is_let_back(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.add(JANE, emailBlacklisted=True)
        connector.push([push_of(list_ref="global", status=Status.SUBSCRIBED)])
        connector.push([push_of(list_ref="list:18", status=Status.SUBSCRIBED)])
        assert (fake.contacts[JANE]["emailBlacklisted"], fake.contacts[JANE]["listIds"]) == (False, [18])

    def test_its_own_header_says_when_to_come_back(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.answers = [Answer(429, headers={"x-sib-ratelimit-reset": "41"})]
        with pytest.raises(TryLater) as caught:
            connector.push([push_of(list_ref="global")])
        assert caught.value.after == 41


class TestListing:
    def test_every_page_and_every_kind_of_no(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.add(JANE, emailBlacklisted=True)
        fake.add("rosa@example.com", listUnsubscribed=[17, 999])
        fake.add("fine@example.com", listIds=[17])
        fake.add("text@example.com", smsBlacklisted=True, attributes={"SMS": "12025550123"})
        fake.add("last@example.com", emailBlacklisted=True)
        found = [(row.address.value, row.list_ref) for row in connector.list_suppressed()]
        assert found == [
            (JANE, "global"),
            ("rosa@example.com", "list:17"),
            ("rosa@example.com", "list:999"),
            ("+12025550123", "global"),
            ("last@example.com", "global"),
        ]

    def test_a_row_says_when(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.add(JANE, emailBlacklisted=True)
        (row,) = connector.list_suppressed()
        assert isinstance(row, Listed)
        assert row.kind is EventKind.UNSUBSCRIBE
        assert row.occurred_at is not None
        assert row.occurred_at.isoformat() == "2026-05-31T14:00:00+00:00"

    def test_a_list_that_was_left_cannot_be_compared(self) -> None:
        connector = make()
        assert connector.can_compare(push_of(list_ref="global"))
        assert not connector.can_compare(push_of(list_ref="list:17"))


@pytest.mark.parametrize("topics", [{"product-news": "17"}, {"product-news": "global"}, {"*": "list:x"}])
def test_a_mapping_to_what_is_no_list_is_refused(topics: dict[str, str]) -> None:
    with pytest.raises(Misconfigured):
        make(topics=topics)


def test_a_dry_call_says_which_list_is_not_there() -> None:
    with Provider() as provider:
        provider.answers = [Answer(200, b'{"contacts":[]}'), Answer(404, b"{}")]
        provider.otherwise = Answer(200, b'{"id":18}')
        assert make(base_url=provider.url).probe() == ["there is no list:17"]
