"""Postmark: no signature but a secret, a result for each address inside a 200, and streams that are lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import pytest

from preferences.connectors.base import Connector
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadSignature, Misconfigured, Rejected, TryLater
from preferences.domain.vocabulary import Status
from tests.connectors.contract import JANE, Answer, ConnectorContract, Provider, as_printed, provider_of

SECRET, NEXT = "a-long-secret-of-the-tests", "user:the-one-that-comes-after"


class TestTheContract(ConnectorContract):
    kind = "postmark"
    busy_code = 503
    refused_code = 401
    signs_body = False
    topics: ClassVar[Mapping[str, str]] = {"product-news": "broadcast", "offers": "deals", "*": "all"}
    own_settings: ClassVar[Mapping[str, Any]] = {"api_key": "server-token", "webhook_secrets": (SECRET, NEXT)}

    def sign(self, body: bytes) -> dict[str, str]:
        return {"authorization": f"Bearer {SECRET}"}


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


def payload(name: str) -> bytes:
    return TestTheContract().payloads[f"{name}.json"]


@pytest.fixture
def world() -> Iterator[tuple[Provider, Connector]]:
    with provider_of(TestTheContract()) as both:
        yield both


BODY: Final = payload("unsubscribe")
ADDRESS: Final = TestTheContract().url


def basic(pair: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


class TestSecret:
    @pytest.mark.parametrize(
        ("headers", "url"),
        [
            ({"authorization": f"Bearer {SECRET}"}, ADDRESS),
            ({"authorization": f"bearer {SECRET}"}, ADDRESS),
            (basic(f"anybody:{SECRET}"), ADDRESS),
            (basic(NEXT), ADDRESS),
            ({"x-webhook-secret": SECRET}, ADDRESS),
            ({}, f"{ADDRESS}?secret={SECRET}"),
            ({}, f"{ADDRESS}?a=b&secret={SECRET}"),
        ],
    )
    def test_may_stand_where_the_vendor_can_put_it(self, headers: dict[str, str], url: str) -> None:
        make().verify(headers, BODY, url=url)

    @pytest.mark.parametrize(
        ("headers", "url"),
        [
            ({}, ADDRESS),
            ({}, ""),
            ({}, f"{ADDRESS}?secret="),
            ({}, f"{ADDRESS}?secret={SECRET[:-1]}"),
            ({}, f"{ADDRESS}/{SECRET}"),
            ({}, "http://[" + SECRET),
            ({"authorization": SECRET}, ADDRESS),
            ({"authorization": f"Bearer {SECRET}x"}, ADDRESS),
            ({"authorization": "Bearer "}, ADDRESS),
            ({"authorization": "Basic !!!"}, ADDRESS),
            ({"authorization": "Basic /w=="}, ADDRESS),
            (basic(f"{SECRET}:"), ADDRESS),
            (basic("somebody:the-one-that-comes-after"), ADDRESS),
            ({"x-webhook-secret": "é\udcff"}, ADDRESS),
        ],
    )
    def test_anything_else_is_none(self, headers: dict[str, str], url: str) -> None:
        with pytest.raises(BadSignature):
            make().verify(headers, BODY, url=url)

    def test_an_empty_secret_opens_nothing(self) -> None:
        with pytest.raises(BadSignature):
            make(webhook_secrets=("",)).verify({"x-webhook-secret": ""}, BODY, url=f"{ADDRESS}?secret=")


class TestEvents:
    def test_all_tries_of_one_event_are_one(self) -> None:
        headers = {"x-pm-webhook-trace-id": "trace-1"}
        ids = [make().parse(one, BODY).events[0].event_id for one in (headers, headers, {}, {})]
        assert ids[0] == ids[1]
        assert ids[2] == ids[3]

    def test_two_events_are_never_one_whatever_their_trace(self) -> None:
        headers = {"x-pm-webhook-trace-id": "always the same"}
        others = [payload(name) for name in ("unsubscribe", "unsubscribe-of-another-stream", "complaint")]
        assert len({make().parse(headers, body).events[0].event_id for body in others}) == 3

    def test_what_its_id_is_made_of_cannot_be_read_from_it(self) -> None:
        ours = make().parse({}, BODY).events[0].event_id
        theirs = make(webhook_secrets=("another-secret",)).parse({}, BODY).events[0].event_id
        assert ours != theirs


def push(list_ref: str = "broadcast", address: str = JANE, **changes: Any) -> Any:
    return TestTheContract().push_of(address, list_ref=list_ref, **changes)


def results(**by_address: str) -> Answer:
    rows = [
        {"EmailAddress": address.replace("_at_", "@"), "Status": status, "Message": None}
        for address, status in by_address.items()
    ]
    return Answer(200, json.dumps({"Suppressions": rows}).encode())


class TestPush:
    def test_a_call_for_each_stream(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.otherwise = results(**{JANE: "Suppressed"})
        assert connector.push([push("broadcast"), push("deals")]) == []
        assert [(one.method, one.path, json.loads(one.body)) for one in provider.asked] == [
            ("POST", f"/message-streams/{stream}/suppressions", {"Suppressions": [{"EmailAddress": JANE}]})
            for stream in ("broadcast", "deals")
        ]
        assert provider.asked[0].headers["x-postmark-server-token"] == "server-token"
        assert connector.batch_size == 50

    def test_each_result_inside_a_200_is_looked_at(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.otherwise = results(**{"JANE.doe@example.com": "Failed", "ben@example.org": "Suppressed"})
        refused = push()
        refusals = connector.push([refused, push(address="ben@example.org")])
        assert [one.contact_id for one in refusals] == [refused.contact_id]
        assert "@" not in refusals[0].why

    @pytest.mark.parametrize("answer", [results(), results(**{"x@example.org": "Suppressed"}), Answer(200, b"{}")])
    def test_an_answer_that_leaves_one_out_has_not_taken_it(
        self, world: tuple[Provider, Connector], answer: Answer
    ) -> None:
        provider, connector = world
        provider.otherwise = answer
        with pytest.raises(TryLater):
            connector.push([push()])

    @pytest.mark.parametrize(("code", "failure"), [(1226, Misconfigured), (1410, Rejected), (300, Rejected)])
    def test_its_own_numbers_say_whose_fault_it_is(
        self, world: tuple[Provider, Connector], code: int, failure: type[Exception]
    ) -> None:
        provider, connector = world
        provider.otherwise = Answer(422, json.dumps({"ErrorCode": code, "Message": f"{JANE} is bad"}).encode())
        with pytest.raises(failure) as caught:
            connector.push([push()])
        assert "jane" not in as_printed(caught.value)

    def test_a_wrong_token_is_ours_to_mend(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.otherwise = Answer(401, b'{"ErrorCode": 10, "Message": "bad token"}')
        with pytest.raises(Misconfigured):
            connector.push([push()])


def row(reason: str = "ManualSuppression", address: str = JANE) -> dict[str, str]:
    return {
        "EmailAddress": address,
        "SuppressionReason": reason,
        "Origin": "Recipient",
        "CreatedAt": "2026-05-31T10:00:00-04:00",
    }


def dump(*rows: dict[str, str]) -> Answer:
    return Answer(200, json.dumps({"Suppressions": rows}).encode())


class TestLift:
    def test_takes_a_wish_off(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.answers = [dump(row()), results(**{JANE: "Deleted"})]
        assert connector.push([push(status=Status.SUBSCRIBED)]) == []
        assert [(one.method, one.path, one.query) for one in provider.asked] == [
            ("GET", "/message-streams/broadcast/suppressions/dump", {"EmailAddress": JANE}),
            ("POST", "/message-streams/broadcast/suppressions/delete", {}),
        ]

    @pytest.mark.parametrize("reason", ["HardBounce", "SpamComplaint", "of next year"])
    def test_leaves_a_bounce_and_a_complaint(self, world: tuple[Provider, Connector], reason: str) -> None:
        provider, connector = world
        provider.answers = [dump(row(reason))]
        assert len(connector.push([push(status=Status.SUBSCRIBED)])) == 1
        assert len(provider.asked) == 1

    def test_what_is_not_there_is_lifted(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.answers = [dump()]
        assert connector.push([push(status=Status.SUBSCRIBED)]) == []

    def test_what_the_vendor_keeps_is_a_refusal(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.answers = [dump(row()), results(**{JANE: "Failed"})]
        assert len(connector.push([push(status=Status.SUBSCRIBED)])) == 1


def test_reads_each_stream_that_is_mapped(world: tuple[Provider, Connector]) -> None:
    provider, connector = world
    provider.answers = [dump(row(), row("HardBounce", "ben@example.org")), dump(row("SpamComplaint")), dump()]
    rows = [(one.address.value, one.list_ref, one.kind) for one in connector.list_suppressed()]
    assert rows == [
        (JANE, "broadcast", EventKind.UNSUBSCRIBE),
        ("ben@example.org", "broadcast", EventKind.HARD_BOUNCE),
        (JANE, "deals", EventKind.COMPLAINT),
    ]


def test_a_dry_call_names_the_streams_that_are_not_there(world: tuple[Provider, Connector]) -> None:
    provider, connector = world
    provider.answers = [dump(), Answer(422, b'{"ErrorCode": 1226}'), dump()]
    assert [one.partition(":")[0] for one in connector.probe()] == ["stream deals"]


@pytest.mark.parametrize("stream", ["", "a/b", "Broad cast", "../x"])
def test_a_mapping_to_what_is_no_stream_is_refused(stream: str) -> None:
    with pytest.raises(Misconfigured, match="offers must map to"):
        make(topics={"offers": stream})
