"""Mailchimp: forms without a signature, audiences by the batch, interests one by one, and never 410."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

import pytest

from preferences.connectors.base import Connector
from preferences.connectors.http import with_version
from preferences.connectors.mailchimp import member_id
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, TryLater
from preferences.domain.vocabulary import Status, SuppressionReason
from tests.connectors.contract import JANE, NAME, Answer, Asked, ConnectorContract, Provider, push_of
from tests.servers import free_port
from tests.support import new_sqlite

SECRET: Final = "a-long-secret-for-mailchimp"
AUDIENCE, OTHER, ALL = "a6b5da1054", "c7c7c7c7c7", "b1b1b1b1b1"
INTEREST: Final = "9143cf3bd1"


class TestTheContract(ConnectorContract):
    kind = "mailchimp"
    busy_code = 503
    refused_code = 403
    own_settings: ClassVar[Mapping[str, Any]] = {"api_key": "key-us6", "webhook_secrets": (SECRET,)}
    topics: ClassVar[Mapping[str, str]] = {
        "product-news": f"list:{AUDIENCE}",
        "offers": f"list:{OTHER}",
        "*": f"list:{ALL}",
    }
    signs_body = False
    form = True
    query = f"?secret={SECRET}"

    def sign(self, body: bytes) -> dict[str, str]:
        return {}

    def test_verify_knows_no_other_way_to_say_no(self) -> None:
        """No header bears the secret here, so it is the address that is garbled."""
        for query in (
            "",
            "?secret=",
            f"?secret={SECRET[:-1]}",
            f"?secrets={SECRET}",
            "?secret=%ff%fe",
            "?secret=\ud800",
        ):
            with pytest.raises(BadSignature):
                self.connector().verify({}, self.genuine[0], url=self.url.partition("?")[0] + query)

    def test_verify_reads_any_bytes_or_says_that_they_are_not_authentic(self) -> None:
        for body in (b"", b"\xff", b"x" * 10_000):
            self.connector().verify({}, body, url=self.url)


class Fake(Provider):
    """Audiences as Mailchimp keeps them: members by the MD5 of their address."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[str, dict[str, dict[str, Any]]] = {AUDIENCE: {}, OTHER: {}, ALL: {}}
        self.compliance: set[str] = set()
        """Who left by themselves: only their own confirmation brings them back."""

    def add(self, address: str, status: str = "subscribed", *, audience: str = AUDIENCE, **more: Any) -> None:
        self.lists[audience][hashlib.md5(address.encode()).hexdigest()] = {
            "email_address": address,
            "status": status,
            "last_changed": "2026-05-31T14:00:00+00:00",
            "interests": {INTEREST: False, "other": True},
            **more,
        }

    def status(self, address: str, audience: str = AUDIENCE) -> str | None:
        member = self.lists[audience].get(hashlib.md5(address.encode()).hexdigest())
        return member["status"] if member else None

    def answer(self, asked: Asked) -> Answer:
        told = super().answer(asked)
        if told.status != 200 or told.body:
            return told
        assert asked.headers["authorization"] == "Basic YW55OmtleS11czY="
        _, kind, audience, *rest = asked.path.split("/")
        assert kind == "lists"
        if audience not in self.lists:
            return Answer(404, b'{"title":"Resource Not Found"}')
        members = self.lists[audience]
        if asked.method == "GET":
            found = [member for member in members.values() if member["status"] == asked.query["status"]]
            offset = int(asked.query["offset"])
            return Answer(200, json.dumps({"members": found[offset : offset + 2], "total_items": len(found)}).encode())
        document = json.loads(asked.body)
        if asked.method == "PUT":
            return self._upsert(audience, rest[1], document)
        return self._batch(audience, document)

    def _upsert(self, audience: str, name: str, document: dict[str, Any]) -> Answer:
        assert name == hashlib.md5(document["email_address"].encode()).hexdigest()
        if name not in self.lists[audience]:
            self.add(document["email_address"], document["status_if_new"], audience=audience)
        self.lists[audience][name]["interests"].update(document.get("interests", {}))
        return Answer(200, json.dumps(self.lists[audience][name]).encode())

    def _batch(self, audience: str, document: dict[str, Any]) -> Answer:
        assert document["update_existing"] is True
        assert len(document["members"]) <= 500
        errors = []
        for member in document["members"]:
            address = member["email_address"]
            if "fake" in address or (member["status"] == "subscribed" and address in self.compliance):
                errors.append({"email_address": address, "error": f"{address} is odd", "error_code": "ERROR_GENERIC"})
            else:
                self.add(address, member["status"], audience=audience)
        return Answer(200, json.dumps({"new_members": [], "updated_members": [], "errors": errors}).encode())


@pytest.fixture
def world() -> Iterator[tuple[Fake, Connector]]:
    with Fake() as fake:
        yield fake, TestTheContract().connector(base_url=fake.url)


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


def form(**fields: str) -> bytes:
    names = {name: f"data[{name}]" for name in fields if name not in {"type", "fired_at"}}
    return urlencode({names.get(name, name): value for name, value in fields.items()}).encode()


class TestTheDoor:
    def test_a_get_is_answered_when_the_webhook_is_made(self, tmp_path: Path) -> None:
        with TestTheContract().door(tmp_path, new_sqlite(tmp_path)) as client:
            assert client.get(f"/webhooks/{NAME}?secret={SECRET}").status_code == 200

    def test_410_is_never_answered(self, tmp_path: Path) -> None:
        contract = TestTheContract()
        codes = set()
        away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
        bodies = [
            *contract.payloads.values(),
            b"",
            b"\xff",
            b"type",
            b"type=unsubscribe&data[email]=%ff",
            b"x" * 9_000_000,
        ]
        for name, url in (("here", new_sqlite(tmp_path)), ("away", away)):
            (tmp_path / name).mkdir()
            with contract.door(tmp_path / name, url) as client:
                for query in (contract.query, "", "?secret=wrong"):
                    codes |= {client.post(f"/webhooks/{NAME}{query}", data=body).status_code for body in bodies}
                    codes |= {client.get(f"/webhooks/{NAME}{query}").status_code}
                codes |= {client.post("/webhooks/gone", data=bodies[0]).status_code}
        assert codes == {200, 403, 404, 503}


class TestParsing:
    def test_there_is_no_time_that_can_be_used(self) -> None:
        for body in TestTheContract().genuine:
            assert all(event.occurred_at is None for event in make().parse({}, body).events)

    def test_the_same_report_is_the_same_and_another_is_not(self) -> None:
        fields = {"type": "unsubscribe", "action": "unsub", "reason": "manual", "email": JANE, "list_id": AUDIENCE}
        bodies = [form(**fields, fired_at="2026-05-31 14:00:07"), form(**fields, fired_at="2026-05-31 14:00:08")]
        ids = [make().parse({}, body).events[0].event_id for body in [*bodies, bodies[0]]]
        assert ids[0] == ids[2] != ids[1]
        assert JANE not in str(ids)

    @pytest.mark.parametrize("campaign_id", ["cb398d21d2", ""])
    def test_who_leaves_an_audience_leaves_every_topic_inside_it(self, campaign_id: str) -> None:
        topics = {
            "product-news": f"list:{AUDIENCE}",
            "offers": f"interest:{AUDIENCE}/{INTEREST}",
            "events": f"interest:{OTHER}/{INTEREST}",
        }
        fields = {"type": "unsubscribe", "action": "unsub", "reason": "manual", "email": JANE, "list_id": AUDIENCE}
        body = form(**fields, campaign_id=campaign_id)
        events = make(topics=topics).parse({}, body).events
        kind = EventKind.UNSUBSCRIBE if campaign_id else EventKind.SUPPRESSION_ADDED
        assert [(event.kind, event.topic) for event in events] == [(kind, "product-news"), (kind, "offers")]
        assert len({event.event_id for event in events}) == 2

    def test_who_leaves_an_audience_that_has_interests_alone_leaves_those(self) -> None:
        connector = make(topics={"offers": f"interest:{AUDIENCE}/{INTEREST}"})
        (event,) = connector.parse({}, TestTheContract().payloads["unsubscribe.txt"]).events
        assert event.topic == "offers"

    def test_who_joins_an_audience_has_chosen_none_of_its_interests(self) -> None:
        topics = {"product-news": f"list:{AUDIENCE}", "offers": f"interest:{AUDIENCE}/{INTEREST}"}
        events = make(topics=topics).parse({}, TestTheContract().payloads["subscribe.txt"]).events
        assert [(event.kind, event.topic) for event in events] == [(EventKind.RESUBSCRIBE, "product-news")]

    def test_both_addresses_of_a_change_are_told(self) -> None:
        (event,) = make().parse({}, TestTheContract().payloads["upemail.txt"]).events
        assert event.kind is EventKind.ADDRESS_CHANGED
        assert event.new_address is not None
        assert (event.address.value, event.new_address.value) == (JANE, "jane.roe@example.com")

    @pytest.mark.parametrize("body", [b"", b"type", b"a=b", b"type=%ff", b"\xff=1", b"type=" + b"&a=b" * 600])
    def test_what_is_no_such_form_is_refused(self, body: bytes) -> None:
        with pytest.raises(BadPayload):
            make().parse({}, body)


class TestPushing:
    def test_an_audience_is_told_in_one_call(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.add(JANE)
        pushes = [push_of(list_ref=f"list:{AUDIENCE}"), push_of("rosa@example.com", list_ref=f"list:{AUDIENCE}")]
        assert not connector.push(pushes)
        assert [fake.status(push.address.value) for push in pushes] == ["unsubscribed", "unsubscribed"]
        assert len(fake.asked) == 1
        assert fake.status(JANE, OTHER) is None

    def test_who_is_not_taken_is_named_inside_a_200(self, world: tuple[Fake, Connector]) -> None:
        _, connector = world
        pushes = [push_of("fake@example.com", list_ref=f"list:{AUDIENCE}"), push_of(list_ref=f"list:{AUDIENCE}")]
        (refusal,) = connector.push(pushes)
        assert (refusal.contact_id, refusal.why) == (pushes[0].contact_id, "ERROR_GENERIC")

    def test_an_unreachable_address_is_cleaned_and_a_complaint_is_not(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        connector.push([push_of(list_ref=f"list:{AUDIENCE}", reason=SuppressionReason.HARD_BOUNCE)])
        connector.push([push_of("rosa@example.com", list_ref=f"list:{AUDIENCE}", reason=SuppressionReason.COMPLAINT)])
        assert (fake.status(JANE), fake.status("rosa@example.com")) == ("cleaned", "unsubscribed")

    def test_an_interest_is_stopped_and_the_audience_s_status_is_not_touched(
        self, world: tuple[Fake, Connector]
    ) -> None:
        fake, connector = world
        fake.add(JANE, interests={INTEREST: True, "other": True})
        pushes = [push_of(address, list_ref=f"interest:{AUDIENCE}/{INTEREST}") for address in (JANE, "new@example.com")]
        assert not connector.push(pushes)
        assert fake.status(JANE) == "subscribed"
        assert fake.lists[AUDIENCE][member_id(JANE)]["interests"] == {INTEREST: False, "other": True}
        assert fake.status("new@example.com") == "transactional"
        assert "status" not in json.loads(fake.asked[0].body)

    def test_who_left_by_themselves_comes_back_by_confirming_there(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.compliance = {JANE}
        lifts = [
            push_of(address, list_ref=f"list:{AUDIENCE}", status=Status.SUBSCRIBED)
            for address in (JANE, "rosa@example.com")
        ]
        assert not connector.push(lifts)
        assert (fake.status(JANE), fake.status("rosa@example.com")) == ("pending", "subscribed")

    def test_nobody_is_ever_deleted(self) -> None:
        source = Path(__file__).parents[2] / "preferences" / "connectors" / "mailchimp.py"
        assert '"DELETE"' not in source.read_text()
        assert "delete-permanent" not in source.read_text()

    def test_an_audience_that_is_gone_stops_the_connector(self) -> None:
        with Fake() as fake, pytest.raises(Misconfigured):
            make(base_url=fake.url, topics={"*": "list:0000000000"}).push([push_of(list_ref="list:0000000000")])

    def test_ten_at_once_are_too_many(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.answers = [Answer(429, b'{"title":"TooManyRequests"}', {"Retry-After": "7"})]
        with pytest.raises(TryLater) as caught:
            connector.push([push_of(list_ref=f"list:{AUDIENCE}")])
        assert caught.value.after == 7

    def test_a_member_s_name_is_that_of_the_vendor_s_guide(self) -> None:
        assert member_id("Urist.McVankab@freddiesjokes.com") == "62eeb292278cc15f5817cb78f7790b08"

    def test_batches_are_small_where_each_takes_a_call(self) -> None:
        assert make().batch_size == 500
        assert make(topics={"offers": f"interest:{AUDIENCE}/{INTEREST}", "*": f"list:{ALL}"}).batch_size == 25


class TestListing:
    def test_every_page_of_every_audience(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        for number in range(5):
            fake.add(f"gone{number}@example.com", "unsubscribed")
        fake.add("bounced@example.com", "cleaned")
        fake.add("fine@example.com")
        fake.add(JANE, "unsubscribed", audience=ALL)
        fake.add("other@example.com", "unsubscribed", audience=OTHER)
        rows = list(connector.list_suppressed())
        assert [(row.address.value, row.list_ref, row.kind.value) for row in rows] == [
            *((f"gone{number}@example.com", f"list:{AUDIENCE}", "unsubscribe") for number in range(5)),
            ("bounced@example.com", f"list:{AUDIENCE}", "bounce.hard"),
            ("other@example.com", f"list:{OTHER}", "unsubscribe"),
            (JANE, f"list:{ALL}", "unsubscribe"),
        ]

    def test_an_interest_cannot_be_compared(self) -> None:
        assert make().can_compare(push_of(list_ref=f"list:{AUDIENCE}"))
        assert not make().can_compare(push_of(list_ref=f"interest:{AUDIENCE}/{INTEREST}"))


@pytest.mark.parametrize("ref", ["a6b5da1054", "list:", "interest:a6b5da1054", "interest:/x", "segment:1", "list:a/b"])
def test_a_mapping_to_what_is_no_list_is_refused(ref: str) -> None:
    with pytest.raises(Misconfigured):
        make(topics={"product-news": ref})


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        ("https://us6.api.mailchimp.com/3.0", "https://us6.api.mailchimp.com/3.0"),
        ("https://us6.api.mailchimp.com", "https://us6.api.mailchimp.com/3.0"),
        ("http://127.0.0.1:4010", "http://127.0.0.1:4010"),
    ],
)
def test_the_version_stands_in_the_address(base_url: str, root: str) -> None:
    assert with_version(base_url, ".api.mailchimp.com", "/3.0") == root


def test_a_dry_call_says_which_audience_is_not_there() -> None:
    with Provider() as provider:
        provider.answers = [Answer(200, b'{"id":"a6b5da1054"}'), Answer(404, b"{}")]
        provider.otherwise = Answer(200, b'{"id":"c7c7c7c7c7"}')
        assert make(base_url=provider.url).probe() == [f"there is no audience {ALL}"]
