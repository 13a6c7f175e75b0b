"""The `webhook` connector: Standard Webhooks both ways, and our own two bodies (docs/connectors.md)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar, Final

import pytest
import time_machine
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from preferences.connectors import http
from preferences.connectors.base import Connector, Listed
from preferences.connectors.lifts import may_lift
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, TryLater
from preferences.domain.vocabulary import Channel, Status, SuppressionReason
from tests.connectors.contract import (
    JANE,
    Answer,
    Asked,
    ConnectorContract,
    Provider,
    provider_of,
    push_of,
)
from tests.servers import free_port
from tests.support import email


def secret(word: str) -> str:
    return "whsec_" + base64.b64encode(word.ljust(32, ".").encode()).decode()


OLD, NEW, STRANGER = secret("old"), secret("new"), secret("stranger")
API_KEY: Final = "key-of-the-platform"


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """By the text of Standard Webhooks, "Signature scheme", and without its library.

    HMAC-SHA256 over `id.timestamp.payload`, keyed with the decoded secret, in base64 behind `v1,`.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, b".".join([message_id.encode(), timestamp.encode(), body]), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def signed(body: bytes, *secrets: str, message_id: str = "msg_1", age: float = 0) -> dict[str, str]:
    """The headers of a webhook to us, made by the text as well."""
    timestamp = str(int(datetime.now(UTC).timestamp() - age))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signature(one, message_id, timestamp, body) for one in secrets or (NEW,)),
    }


def report(kind: str = "unsubscribe", **data: Any) -> bytes:
    """What the other system reports."""
    message = {"type": kind, "timestamp": "2026-05-31T14:00:00+00:00"}
    return json.dumps(message | {"data": {"channel": "email", "address": JANE, "list": "list-17"} | data}).encode()


class TestTheContract(ConnectorContract):
    kind = "webhook"
    busy_code = 503
    refused_code = 401
    own_settings: ClassVar[Mapping[str, Any]] = {
        "api_key": API_KEY,
        "signing_secrets": (OLD, NEW),
        "webhook_secrets": (OLD, NEW),
    }

    def sign(self, body: bytes) -> dict[str, str]:
        return signed(body, NEW, message_id=f"msg_{hashlib.sha256(body).hexdigest()[:20]}")


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


@pytest.fixture
def world() -> Iterator[tuple[Provider, Connector]]:
    with provider_of(TestTheContract()) as both:
        yield both


@pytest.fixture
def provider(world: tuple[Provider, Connector]) -> Provider:
    return world[0]


@pytest.fixture
def connector(world: tuple[Provider, Connector]) -> Connector:
    return world[1]


def signatures(asked: Asked) -> list[str]:
    return asked.headers["webhook-signature"].split(" ")


class TestSigning:
    @pytest.mark.parametrize("secret", [OLD, NEW])
    def test_while_a_secret_is_changed_the_receiver_may_hold_either(
        self, provider: Provider, connector: Connector, secret: str
    ) -> None:
        connector.push([push_of()])
        (asked,) = provider.asked
        Webhook(secret).verify(asked.body, dict(asked.headers))
        by_the_text = signature(secret, asked.headers["webhook-id"], asked.headers["webhook-timestamp"], asked.body)
        assert by_the_text in signatures(asked)

    def test_a_stranger_s_secret_does_not_fit(self, provider: Provider, connector: Connector) -> None:
        connector.push([push_of()])
        (asked,) = provider.asked
        assert len(signatures(asked)) == 2
        with pytest.raises(WebhookVerificationError):
            Webhook(STRANGER).verify(asked.body, dict(asked.headers))

    def test_each_try_of_a_message_bears_its_id_and_is_signed_anew(
        self, provider: Provider, connector: Connector
    ) -> None:
        pushes = [push_of(), push_of("rosa@example.com")]
        provider.answers = [Answer(503), Answer(503)]
        with time_machine.travel(datetime(2026, 5, 31, 14, tzinfo=UTC), tick=False) as clock:
            for _ in range(3):
                with suppress(TryLater):
                    connector.push(pushes)
                Webhook(NEW).verify(provider.asked[-1].body, dict(provider.asked[-1].headers))
                clock.shift(timedelta(minutes=6))
        assert len({asked.headers["webhook-id"] for asked in provider.asked}) == 1
        assert len({asked.body for asked in provider.asked}) == 1
        assert len({asked.headers["webhook-timestamp"] for asked in provider.asked}) == 3
        assert len({asked.headers["webhook-signature"] for asked in provider.asked}) == 3

    def test_another_message_bears_another_id(self, provider: Provider, connector: Connector) -> None:
        stop = push_of()
        connector.push([stop])
        connector.push([push_of(contact_id=stop.contact_id, since=stop.since, status=Status.SUBSCRIBED)])
        assert len({asked.headers["webhook-id"] for asked in provider.asked}) == 2

    def test_a_name_in_other_letters_is_signed_as_it_travels(self, provider: Provider, connector: Connector) -> None:
        connector.push([push_of("žofie@exämple.com")])
        (asked,) = provider.asked
        Webhook(NEW).verify(asked.body, dict(asked.headers))
        assert json.loads(asked.body)["data"]["changes"][0]["address"] == "žofie@xn--exmple-cua.com"

    def test_without_a_secret_nothing_is_sent(self, provider: Provider) -> None:
        with pytest.raises(Misconfigured, match="signing_secrets"):
            make(base_url=provider.url, signing_secrets=[]).push([push_of()])
        assert provider.asked == []

    def test_a_secret_that_is_none_is_named_and_not_shown(self, provider: Provider) -> None:
        with pytest.raises(Misconfigured, match="signing_secrets") as caught:
            make(base_url=provider.url, signing_secrets=["whsec_a"]).push([push_of()])
        assert "whsec_a" not in str(caught.value)
        assert provider.asked == []


class TestVerifying:
    def test_the_published_example_passes(self) -> None:
        # From the tests of the reference implementations: github.com/standard-webhooks/standard-webhooks/libraries
        headers = {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
        receiver = make(webhook_secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
        with time_machine.travel(datetime.fromtimestamp(1614265330, UTC)):
            receiver.verify(headers, b'{"test": 2432232314}')
            with pytest.raises(BadSignature):
                receiver.verify(headers, b'{"test":2432232314}')

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(report() + b"\r\n", id="ends in CRLF"),
            pytest.param(report().replace(b", ", b",\r\n  "), id="CRLF inside"),
            pytest.param(b"\n" + report(), id="begins with a line"),
            pytest.param(json.dumps(json.loads(report(name="Žofie 🌻")), ensure_ascii=False).encode(), id="not ASCII"),
            pytest.param(report(name="\u017dofie"), id="escaped"),
        ],
    )
    def test_the_bytes_are_verified_as_they_came(self, body: bytes) -> None:
        make().verify(signed(body), body)
        assert make().parse(signed(body), body).events
        with pytest.raises(BadSignature):
            make().verify(signed(body), json.dumps(json.loads(body), separators=(",", ":")).encode())

    @pytest.mark.parametrize("secrets", [(OLD,), (NEW,), (STRANGER, OLD), (NEW, STRANGER)])
    def test_while_a_secret_is_changed_either_is_taken(self, secrets: tuple[str, ...]) -> None:
        make().verify(signed(report(), *secrets), report())

    def test_names_of_headers_may_be_written_in_any_case(self) -> None:
        headers = {name.title(): value for name, value in signed(report()).items()}
        make().verify(headers, report())

    @pytest.mark.parametrize("age", [-290, 0, 290])
    def test_five_minutes_either_way_are_fresh(self, age: float) -> None:
        make().verify(signed(report(), age=age), report())

    @pytest.mark.parametrize("age", [-310, 310, 86_400])
    def test_more_than_five_minutes_are_not(self, age: float) -> None:
        with pytest.raises(BadSignature):
            make().verify(signed(report(), age=age), report())

    def test_signatures_of_other_schemes_do_not_disturb(self) -> None:
        headers = signed(report())
        headers["webhook-signature"] = f"v1a,{'A' * 88} {headers['webhook-signature']} v2,QUJD"
        make().verify(headers, report())

    def test_authentic_bytes_that_are_no_json_are_authentic_and_unreadable(self) -> None:
        body = b"not JSON"
        make().verify(signed(body), body)
        with pytest.raises(BadPayload):
            make().parse(signed(body), body)


class TestParsing:
    def parse(self, body: bytes, message_id: str = "msg_1") -> list[ProviderEvent]:
        return list(make().parse(signed(body, message_id=message_id), body).events)

    @pytest.mark.parametrize(
        ("list_ref", "topic"), [("list-17", "product-news"), ("list-18", "offers"), ("global", "*")]
    )
    def test_an_opt_out_of_a_list_is_one_of_its_topic(self, list_ref: str, topic: str) -> None:
        (event,) = self.parse(report(list=list_ref), "msg_abc")
        assert event == ProviderEvent(
            kind=EventKind.UNSUBSCRIBE,
            address=email(JANE),
            event_id="msg_abc",
            occurred_at=datetime(2026, 5, 31, 14, tzinfo=UTC),
            brand="default",
            topic=topic,
        )

    @pytest.mark.parametrize("list_ref", ["list-99", "", "GLOBAL", "*", "product-news"])
    def test_an_opt_out_of_an_unmapped_list_is_counted_and_never_global(self, list_ref: str) -> None:
        parsed = make().parse(signed(b""), report(list=list_ref))
        assert (list(parsed.events), parsed.ignored) == ([], 1)

    @pytest.mark.parametrize("kind", ["bounce.hard", "complaint", "invalid"])
    def test_what_is_about_the_address_needs_no_list(self, kind: str) -> None:
        (event,) = self.parse(report(kind, list="list-99"))
        assert (event.kind.value, event.topic) == (kind, "")

    @pytest.mark.parametrize("kind", ["delivered", "bounce.soft", "subscribe", "resubscribe", "", "UNSUBSCRIBE"])
    def test_whatever_else_is_counted_and_not_recorded(self, kind: str) -> None:
        parsed = make().parse(signed(b""), report(kind))
        assert (list(parsed.events), parsed.ignored) == ([], 1)

    def test_the_address_is_brought_into_its_normal_form(self) -> None:
        (event,) = self.parse(report(address="  Jane.Doe@EXAMPLE.com "))
        assert event.address == email(JANE)

    def test_a_telephone_number_is_one_of_its_channel(self) -> None:
        (event,) = self.parse(report("invalid", channel="sms", address="+1 202 555 0123"))
        assert (event.address.channel, event.address.value) == (Channel.SMS, "+12025550123")

    @pytest.mark.parametrize(
        "timestamp",
        [None, "", "yesterday", 1780236000, "2026-05-31T14:00:00", "0001-01-01T00:00:00+14:00", ["2026"]],
    )
    def test_an_instant_that_is_none_counts_from_receipt(self, timestamp: object) -> None:
        body = json.dumps(json.loads(report()) | {"timestamp": timestamp}).encode()
        (event,) = self.parse(body)
        assert event.occurred_at is None

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"null",
            b"{}",
            b'{"type": []}',
            b'{"type": "unsubscribe"}',
            b'{"type": "unsubscribe", "data": null}',
            b'{"type": "unsubscribe", "data": {"list": {}, "address": "jane@example.com"}}',
            report(address="nobody"),
            report(address=None),
            report(address=17),
            report(channel="fax"),
            report("complaint", channel="post", address="12 Harbour Lane \ud800"),
        ],
    )
    def test_what_is_not_as_described_is_bad(self, body: bytes) -> None:
        with pytest.raises(BadPayload):
            self.parse(body)


class TestPushing:
    def test_says_what_is_so(self, provider: Provider, connector: Connector) -> None:
        since = datetime(2026, 5, 31, 14, tzinfo=UTC)
        stop = push_of(since=since, entry=7)
        bounce = push_of("rosa@example.com", list_ref="global", reason=SuppressionReason.HARD_BOUNCE)
        back = push_of("ben@example.com", status=Status.SUBSCRIBED)
        assert list(connector.push([stop, bounce, back])) == []
        (asked,) = provider.asked
        assert (asked.method, asked.path) == ("POST", "/preferences")
        message = json.loads(asked.body)
        assert message["type"] == "preferences.changed"
        assert message["data"]["changes"][0] == {
            "contact": str(stop.contact_id),
            "channel": "email",
            "address": JANE,
            "list": "list-17",
            "status": "unsubscribed",
            "reason": None,
            "entry": 7,
            "since": "2026-05-31T14:00:00+00:00",
        }
        said = [(change["list"], change["status"], change["reason"]) for change in message["data"]["changes"]]
        assert said == [
            ("list-17", "unsubscribed", None),
            ("global", "suppressed", "hard_bounce"),
            ("list-17", "subscribed", None),
        ]

    def test_is_authentic_by_its_signature_and_carries_no_key(self, provider: Provider, connector: Connector) -> None:
        connector.push([push_of()])
        assert API_KEY not in str(provider.asked)

    @pytest.mark.parametrize("answer", [Answer(200), Answer(204), Answer(202, b"{}"), Answer(200, b"[]")])
    def test_any_2xx_is_taken(self, provider: Provider, connector: Connector, answer: Answer) -> None:
        provider.otherwise = answer
        assert list(connector.push([push_of()])) == []

    def test_names_those_that_the_other_side_cannot_take(self, provider: Provider, connector: Connector) -> None:
        pushes = [push_of(f"person{number}@example.com") for number in range(3)]
        refused = {"contact": str(pushes[1].contact_id), "why": "no such list"}
        provider.otherwise = Answer(200, json.dumps({"rejected": [refused, {"contact": "a stranger"}]}).encode())
        (refusal,) = connector.push(pushes)
        assert (refusal.contact_id, refusal.why) == (pushes[1].contact_id, "no such list")

    @pytest.mark.parametrize(
        "rejected", [None, 7, "everybody", {"contact": "x"}, ["x"], [None], [[]], [{"contact": []}, 3]]
    )
    def test_an_answer_that_is_not_as_described_is_asked_for_again(
        self, provider: Provider, connector: Connector, rejected: object
    ) -> None:
        provider.otherwise = Answer(200, json.dumps({"rejected": rejected}).encode())
        with pytest.raises(TryLater):
            connector.push([push_of()])

    @pytest.mark.parametrize("body", [b"OK", b"<html>200</html>", b'{"rejected": [', b"\xff\xfe", b"[" * 100_000])
    def test_an_answer_that_is_no_json_is_not_taken_for_a_yes(
        self, provider: Provider, connector: Connector, body: bytes
    ) -> None:
        provider.otherwise = Answer(200, body)
        with pytest.raises(TryLater):
            connector.push([push_of()])
        with pytest.raises(TryLater):
            list(connector.list_suppressed())


CLASSES: Final = {
    TryLater: (408, 425, 429, 500, 502, 503, 504, 599),
    Rejected: (400, 409, 413, 422),
    Misconfigured: (301, 302, 303, 307, 308, 401, 403, 404, 405, 410),
}


class TestFailing:
    @pytest.mark.parametrize(
        ("status", "failure"), [(status, failure) for failure, many in CLASSES.items() for status in many]
    )
    def test_each_status_has_its_class(
        self, provider: Provider, connector: Connector, status: int, failure: type[Exception]
    ) -> None:
        provider.otherwise = Answer(status, b"why not")
        with pytest.raises(failure, match=str(status)):
            connector.push([push_of()])
        with pytest.raises(failure, match=str(status)):
            list(connector.list_suppressed())

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, provider: Provider, connector: Connector, status: int) -> None:
        provider.answers = [Answer(status, headers={"Location": f"{provider.url}/elsewhere"})] * 2
        with pytest.raises(Misconfigured):
            connector.push([push_of()])
        with pytest.raises(Misconfigured):
            list(connector.list_suppressed())
        assert [asked.path for asked in provider.asked] == ["/preferences", "/suppressions"]

    @pytest.mark.parametrize(
        ("retry_after", "seconds"),
        [("0", 0), ("17", 17), ("1.5", 1.5), ("-3", 0), ("86400", 3600), ("inf", 3600)],
    )
    @pytest.mark.parametrize("status", [429, 503])
    def test_the_wait_in_seconds_is_told(
        self, provider: Provider, connector: Connector, status: int, retry_after: str, seconds: float
    ) -> None:
        provider.otherwise = Answer(status, headers={"Retry-After": retry_after})
        with pytest.raises(TryLater) as caught:
            connector.push([push_of()])
        assert caught.value.after == seconds

    @pytest.mark.parametrize(("ahead", "least", "most"), [(90, 85, 90), (-90, 0, 0), (86_400, 3600, 3600)])
    def test_the_wait_as_a_date_is_told(
        self, provider: Provider, connector: Connector, ahead: int, least: float, most: float
    ) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
        provider.otherwise = Answer(429, headers={"Retry-After": date})
        with pytest.raises(TryLater) as caught:
            connector.push([push_of()])
        assert caught.value.after is not None
        assert least <= caught.value.after <= most

    @pytest.mark.parametrize("retry_after", ["", "soon", "Sun, 31 Feb 2026 00:00:00 GMT", "1;2"])
    def test_a_wait_that_is_none_is_left_to_us(
        self, provider: Provider, connector: Connector, retry_after: str
    ) -> None:
        provider.otherwise = Answer(503, headers={"Retry-After": retry_after})
        with pytest.raises(TryLater) as caught:
            connector.push([push_of()])
        assert caught.value.after is None

    def test_an_answer_that_does_not_come_means_later(
        self, provider: Provider, connector: Connector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "TIMEOUT", (1.0, 0.1))
        provider.otherwise = Answer(200, seconds=30)
        with pytest.raises(TryLater, match="ReadTimeout"):
            connector.push([push_of()])
        with pytest.raises(TryLater, match="ReadTimeout"):
            list(connector.list_suppressed())

    def test_an_answer_that_breaks_off_means_later(self, provider: Provider, connector: Connector) -> None:
        provider.otherwise = Answer(200, b'{"rejected": []}', cut=True)
        with pytest.raises(TryLater):
            connector.push([push_of()])

    def test_nobody_at_the_other_end_means_later(self) -> None:
        with pytest.raises(TryLater, match="ConnectionError"):
            make(base_url=f"http://127.0.0.1:{free_port()}").push([push_of()])


def row(number: int, **changes: Any) -> dict[str, Any]:
    values = {
        "channel": "email",
        "address": f"person{number}@example.com",
        "list": "list-17",
        "kind": "unsubscribe",
        "occurred_at": "2026-05-31T14:00:00+00:00",
    }
    return values | changes


def page(*rows: dict[str, Any], following: object = None) -> Answer:
    return Answer(200, json.dumps({"suppressions": rows, "next": following}).encode())


class TestHeld:
    """What a receiver holds against one address, before it is told that its owner came back."""

    BACK: Final = push_of("person1@example.com", list_ref="list-17", status=Status.SUBSCRIBED)

    def test_is_looked_for_in_its_list_and_the_rows_of_others_are_left_out(
        self, provider: Provider, connector: Connector
    ) -> None:
        provider.answers = [page(row(1), row(2), following="b"), page(row(1, list="global", kind="complaint"))]
        held = connector.held([self.BACK])
        assert [(one.address.value, one.list_ref, one.kind.value) for one in held] == [
            ("person1@example.com", "list-17", "unsubscribe"),
            ("person1@example.com", "global", "complaint"),
        ]

    def test_nothing_is_lifted_where_its_list_is_too_long_to_look_through(
        self, provider: Provider, connector: Connector
    ) -> None:
        provider.answers = [page(row(1), following=str(number)) for number in range(20)]
        assert not may_lift(self.BACK, list(connector.held([self.BACK])))
        assert len(provider.asked) == 11

    @pytest.mark.parametrize("status", [401, 404, 405])
    def test_nothing_is_lifted_and_nothing_paused_where_it_has_no_list(
        self, provider: Provider, connector: Connector, status: int
    ) -> None:
        provider.otherwise = Answer(status)
        assert list(connector.held([self.BACK])) == []

    def test_is_asked_about_in_a_body_where_the_receiver_can_search(self, provider: Provider) -> None:
        provider.otherwise = page(row(1), row(7))
        held = make(base_url=provider.url, options={"search": True}).held([self.BACK])
        assert [one.address.value for one in held] == ["person1@example.com"]
        (asked,) = provider.asked
        assert (asked.method, asked.path, asked.query) == ("POST", "/suppressions/search", {})
        assert json.loads(asked.body) == {"addresses": [{"channel": "email", "address": "person1@example.com"}]}
        assert asked.headers["authorization"] == f"Bearer {API_KEY}"


class TestListing:
    def test_asks_for_page_after_page_until_there_is_no_next(self, provider: Provider, connector: Connector) -> None:
        provider.answers = [page(row(1), row(2), following="b"), page(following=17), page(row(3))]
        addresses = [one.address.value for one in connector.list_suppressed()]
        assert addresses == ["person1@example.com", "person2@example.com", "person3@example.com"]
        assert [asked.query.get("after") for asked in provider.asked] == [None, "b", "17"]
        assert {(asked.method, asked.path, asked.query["limit"]) for asked in provider.asked} == {
            ("GET", "/suppressions", "1000")
        }
        assert {asked.headers["authorization"] for asked in provider.asked} == {f"Bearer {API_KEY}"}

    def test_a_page_that_says_it_is_its_own_next_is_the_last(self, provider: Provider, connector: Connector) -> None:
        provider.otherwise = page(row(1), following="b")
        assert len(list(connector.list_suppressed())) == 2

    def test_a_failure_on_a_later_page_is_no_end_of_the_list(self, provider: Provider, connector: Connector) -> None:
        provider.answers = [page(row(1), following="b"), Answer(503)]
        with pytest.raises(TryLater):
            list(connector.list_suppressed())

    def test_a_row_says_who_where_why_and_when(self, provider: Provider, connector: Connector) -> None:
        provider.answers = [page(row(1, kind="complaint", list="global", address="Jane.Doe@Example.com"))]
        assert list(connector.list_suppressed()) == [
            Listed(
                address=email(JANE),
                list_ref="global",
                kind=EventKind.COMPLAINT,
                occurred_at=datetime(2026, 5, 31, 14, tzinfo=UTC),
            )
        ]

    @pytest.mark.parametrize("when", [None, "", "2026-05-31", "9999-12-31T23:59:59-14:00", 5])
    def test_a_row_that_does_not_say_when_is_a_row(
        self, provider: Provider, connector: Connector, when: object
    ) -> None:
        provider.answers = [page(row(1, occurred_at=when))]
        (listed,) = connector.list_suppressed()
        assert listed.occurred_at is None

    def test_rows_that_we_cannot_hold_are_passed_over(self, provider: Provider, connector: Connector) -> None:
        provider.answers = [page(row(1, kind="bounce.soft"), row(2, address="nobody"), row(3))]
        (listed,) = connector.list_suppressed()
        assert listed.address.value == "person3@example.com"

    @pytest.mark.parametrize(
        "body",
        [
            b"[]",
            b"null",
            b'{"next": null}',
            b'{"suppressions": 3}',
            b'{"suppressions": {}}',
            b'{"suppressions": [[]]}',
            b'"x"',
            b"",
        ],
    )
    def test_a_list_that_is_not_as_described_is_asked_for_again(
        self, provider: Provider, connector: Connector, body: bytes
    ) -> None:
        provider.otherwise = Answer(200, body)
        with pytest.raises(TryLater):
            list(connector.list_suppressed())
