"""SendGrid: its signature over the raw bytes, its events, and groups that must never become everything."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from prometheus_client import REGISTRY
from sendgrid.helpers.eventwebhook import EventWebhook
from structlog.testing import capture_logs

from preferences.connectors.base import Connector
from preferences.connectors.lifts import may_lift
from preferences.current import services_of
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadSignature, Misconfigured, Rejected, TryLater
from preferences.domain.vocabulary import Status, SuppressionReason
from preferences.store import feed
from tests.connectors.contract import JANE, NAME, Answer, Asked, ConnectorContract, Provider, provider_of
from tests.connectors.fake_sendgrid import Fake
from tests.connectors.fakes import Change
from tests.support import new_sqlite

SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"
GROUPS: Final = [{"id": number, "name": "a group", "description": "", "is_default": False} for number in (17, 18)]


@cache
def private_key(name: str, curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def shown(name: str, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> str:
    """The public key as SendGrid shows it."""
    der = private_key(name, curve).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def signed(body: bytes, *, key: str = "ours", age: float = 0) -> dict[str, str]:
    """The headers of a report: ECDSA on P-256 with SHA-256 over the time and the raw body, DER in base64."""
    stamp = str(int(datetime.now(UTC).timestamp() - age))
    signature = private_key(key, ec.SECP256R1).sign(stamp.encode() + body, ec.ECDSA(SHA256()))
    return {SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: stamp}


class TestTheContract(ConnectorContract):
    kind = "sendgrid"
    busy_code = 503
    refused_code = 401
    topics: ClassVar[Mapping[str, str]] = {"product-news": "asm:17", "offers": "asm:18", "*": "global"}
    own_settings: ClassVar[Mapping[str, Any]] = {"api_key": "SG.key", "webhook_secrets": (shown("ours"), shown("next"))}

    def sign(self, body: bytes) -> dict[str, str]:
        return signed(body)


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


@pytest.fixture
def world() -> Iterator[tuple[Provider, Connector]]:
    with provider_of(TestTheContract()) as both:
        yield both


def asked(provider: Provider) -> list[tuple[str, str, Any]]:
    """Method, path and JSON of what the provider was asked."""
    return [(one.method, one.path, json.loads(one.body) if one.body else None) for one in provider.asked]


def answer(document: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode())


def push(list_ref: str = "asm:17", address: str = JANE, **changes: Any) -> Any:
    return TestTheContract().push_of(address, list_ref=list_ref, **changes)


BODY: Final = TestTheContract().payloads["bounces.json"]


class TestSignature:
    def test_the_vendors_own_code_takes_what_we_take(self) -> None:
        for body in TestTheContract().genuine:
            headers = signed(body)
            make().verify(headers, body)
            theirs = EventWebhook(shown("ours"))
            assert theirs.verify_signature(body.decode(), headers[SIGNATURE], headers[TIMESTAMP])

    def test_the_line_end_and_the_letters_of_other_scripts_are_signed(self) -> None:
        assert BODY.endswith(b"\r\n")
        assert "ä".encode() in BODY
        for other in (BODY.rstrip(), BODY.replace(b"\r\n", b"\n"), json.dumps(json.loads(BODY)).encode()):
            with pytest.raises(BadSignature):
                make().verify(signed(BODY), other)

    def test_any_changed_bit_is_refused(self) -> None:
        headers = signed(BODY)
        signature = bytearray(base64.b64decode(headers[SIGNATURE]))
        for bit in range(0, len(signature) * 8, 3):
            changed = bytearray(signature)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(BadSignature):
                make().verify(headers | {SIGNATURE: base64.b64encode(changed).decode()}, BODY)
        for place in range(0, len(BODY), 7):
            with pytest.raises(BadSignature):
                make().verify(headers, BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :])

    def test_there_is_one_way_to_write_a_signature(self) -> None:
        headers = signed(BODY)
        text = headers[SIGNATURE]
        for other in (text + "\n", " " + text, text.rstrip("=") + "==", text.replace("A", "-"), text[:-1] + "*"):
            if other != text:
                with pytest.raises(BadSignature):
                    make().verify(headers | {SIGNATURE: other}, BODY)

    def test_the_next_key_may_stand_beside_this_one(self) -> None:
        make().verify(signed(BODY, key="next"), BODY)
        with pytest.raises(BadSignature):
            make().verify(signed(BODY, key="a stranger's"), BODY)

    @pytest.mark.parametrize("hours", [0.0, 0.2, 23.9])
    def test_a_retry_of_the_same_day_is_taken(self, hours: float) -> None:
        make().verify(signed(BODY, age=hours * 3600), BODY)

    @pytest.mark.parametrize("hours", [24.5, 300.0, -0.2])
    def test_an_older_one_and_one_from_the_future_are_not(self, hours: float) -> None:
        with pytest.raises(BadSignature):
            make().verify(signed(BODY, age=hours * 3600), BODY)

    @pytest.mark.parametrize("stamp", ["", "now", "1e9", "-1", "9" * 40, "1780236000.0", "١٧٨٠٢٣٦٠٠٠"])
    def test_a_time_that_is_none_is_refused(self, stamp: str) -> None:
        with pytest.raises(BadSignature):
            make().verify(signed(BODY) | {TIMESTAMP: stamp}, BODY)

    @pytest.mark.parametrize("key", ["", "not base64", base64.b64encode(b"no key").decode(), "curve"])
    def test_a_key_that_is_none_is_said_at_once(self, key: str) -> None:
        key = shown("other", ec.SECP384R1) if key == "curve" else key
        with pytest.raises(Misconfigured, match="webhook_secrets"):
            make(webhook_secrets=(key,))


class TestEvents:
    def test_an_event_bears_its_own_id_and_time(self) -> None:
        body = TestTheContract().payloads["unsubscribe-of-a-group.json"]
        (event,) = make().parse({}, body).events
        row = json.loads(body)[0]
        assert event.event_id == row["sg_event_id"]
        assert event.occurred_at == datetime.fromtimestamp(row["timestamp"], UTC)

    def test_without_an_id_the_same_event_is_the_same(self) -> None:
        rows = [{"event": "spamreport", "email": JANE, "timestamp": at} for at in (1_780_236_000, 1_780_236_001)]
        ids = [one.event_id for one in make().parse({}, json.dumps([*rows, *rows]).encode()).events]
        assert ids[:2] == ids[2:]
        assert len(set(ids)) == 2
        assert JANE not in str(ids)

    def test_one_that_cannot_be_read_does_not_take_the_others_with_it(self) -> None:
        rows: list[Any] = [
            7,
            None,
            {},
            {"event": []},
            {"event": "spamreport", "email": "no address"},
            {"event": "spamreport"},
        ]
        parsed = make().parse({}, json.dumps([*rows, {"event": "spamreport", "email": JANE}]).encode())
        assert [one.address.value for one in parsed.events] == [JANE]
        assert (parsed.ignored, parsed.unreadable) == (1, 5)

    @pytest.mark.parametrize(
        "odd",
        [b'"Empf\xe4nger"', b'"no\x01such\tuser"', b"9" * 5000, b'"\xed\xa0\x80"', b'"\\ud83d"', b"-1e999", b"NaN"],
        ids=["latin-1", "control characters", "endless number", "half a pair", "half an emoji", "huge", "no number"],
    )
    @pytest.mark.parametrize("name", ["reason", "timestamp", "sg_event_id", "email", "event", "mine"])
    def test_what_is_no_json_in_one_row_takes_no_other_with_it(self, odd: bytes, name: str) -> None:
        stop = {"event": "unsubscribe", "email": JANE, "timestamp": 1_780_236_000, "sg_event_id": "own"}
        other = json.dumps({"event": "bounce", "email": "ben@example.org", "type": "blocked", name: "@@"}).encode()
        body = b"[" + json.dumps(stop).encode() + b",\n" + other.replace(b'"@@"', odd) + b"]\r\n"
        first = make().parse({}, body).events[0]
        assert (first.address.value, first.kind, first.event_id) == (JANE, EventKind.UNSUBSCRIBE, "own")

    def test_without_a_list_for_everything_a_global_stop_is_one_all_the_same(self) -> None:
        connector = make(topics={"product-news": "asm:17"})
        (event,) = connector.parse({}, TestTheContract().payloads["unsubscribe-of-everything.json"]).events
        assert (event.kind, event.topic) == (EventKind.UNSUBSCRIBE, "*")

    @pytest.mark.parametrize("group", [None, "17", 17.0, True, [17], "global", ""])
    def test_a_group_that_is_not_named_as_documented_never_becomes_everything(self, group: Any) -> None:
        rows: list[Any] = [{"event": "group_unsubscribe", "email": JANE, "asm_group_id": group}, {"event": "open"}]
        assert {one.topic for one in make().parse({}, json.dumps(rows).encode()).events} <= {"product-news"}


CHANGED: Final[Sequence[Any]] = (
    {"event": "unsubscribe", "recipient": JANE},
    {"event": "group_unsubscribe", "email": JANE, "group": {"id": 17}},
    {"type": "unsubscribe", "email": JANE},
    [{"event": "unsubscribe", "email": JANE}],
)
"""An unsubscribe in formats that SendGrid does not have."""


def unreadable() -> float:
    labels = {"connector": NAME, "outcome": "unreadable"}
    return REGISTRY.get_sample_value("preferences_provider_events_total", labels) or 0


def test_rows_in_an_unknown_format_are_told_of_and_the_others_recorded(tmp_path: Path) -> None:
    rows = [*CHANGED, {"event": "spamreport", "email": JANE, "timestamp": 1_780_236_000}]
    body, before, contract = json.dumps(rows).encode(), unreadable(), TestTheContract()
    with contract.door(tmp_path, new_sqlite(tmp_path)) as client, capture_logs() as logged:
        assert contract.post(client, body, signed(body)) == 200
        entries = services_of(client.application).database.read(feed.entries_after, 0, 10)
    assert len(entries) == 1
    assert unreadable() == before + len(CHANGED)
    told = {"event": "webhook rows not understood", "connector": NAME, "rows": len(CHANGED), "log_level": "warning"}
    assert logged == [told]


@pytest.mark.parametrize("row", CHANGED)
def test_a_body_in_an_unknown_format_is_asked_for_again(tmp_path: Path, row: Any) -> None:
    body, contract = json.dumps([row, row]).encode(), TestTheContract()
    with contract.door(tmp_path, new_sqlite(tmp_path)) as client:
        assert contract.post(client, body, signed(body)) == contract.busy_code
        assert services_of(client.application).database.read(feed.entries_after, 0, 10) == []


def test_a_thousand_events_are_one_transaction(tmp_path: Path) -> None:
    spam = {"event": "spamreport", "timestamp": 1_780_236_000}
    rows = [spam | {"email": f"p{number}@example.com", "sg_event_id": f"e{number}"} for number in range(1_000)]
    body = json.dumps(rows).encode()
    contract = TestTheContract()
    with contract.door(tmp_path, new_sqlite(tmp_path)) as client:
        assert contract.post(client, body, signed(body)) == 200
        database = services_of(client.application).database
        entries = database.read(feed.entries_after, 0, 2_000)
    assert len(entries) == 1_000
    assert len({entry.recorded_at for entry in entries}) == 1


class TestGroups:
    @pytest.mark.parametrize(
        "topics", [{"offers": "global"}, {"offers": "18"}, {"offers": "asm:"}, {"*": "asm:0"}, {"*": "asm:1/../2"}]
    )
    def test_a_mapping_that_could_stop_more_than_it_says_is_refused(self, topics: dict[str, str]) -> None:
        with pytest.raises(Misconfigured, match="connector mailer"):
            make(topics=topics)

    def test_a_group_is_read_before_anybody_is_put_on_it(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.answers = [answer(GROUPS), answer({"recipient_emails": [JANE]}, 201)]
        assert connector.push([push(), push(address="ben@example.org")]) == []
        assert asked(provider) == [
            ("GET", "/v3/asm/groups", None),
            ("POST", "/v3/asm/groups/17/suppressions", {"recipient_emails": ["ben@example.org", JANE]}),
        ]
        assert {one.headers["authorization"] for one in provider.asked} == {"Bearer SG.key"}

    @pytest.mark.parametrize("groups", [[], GROUPS[1:], [{"id": "gone"}], [{}]])
    def test_nobody_is_put_on_a_group_that_is_gone(self, world: tuple[Provider, Connector], groups: Any) -> None:
        provider, connector = world
        provider.answers = [answer(groups)]
        with pytest.raises(Misconfigured, match="asm:17"):
            connector.push([push()])
        assert asked(provider) == [("GET", "/v3/asm/groups", None)]

    @pytest.mark.parametrize("answered", [Answer(500), Answer(200, b"{}"), Answer(200, b"[1]"), Answer(200)])
    def test_nobody_is_put_on_a_group_while_they_cannot_be_read(
        self, world: tuple[Provider, Connector], answered: Answer
    ) -> None:
        provider, connector = world
        provider.answers = [answered]
        with pytest.raises(TryLater):
            connector.push([push()])
        assert len(provider.asked) == 1

    def test_a_group_that_is_gone_keeps_nothing_else_from_being_told(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.answers = [answer(GROUPS[1:])]
        with pytest.raises(Misconfigured):
            connector.push([push("asm:17"), push("asm:18"), push("global", "ben@example.org")])
        assert [path for _, path, _ in asked(provider)[1:]] == [
            "/v3/asm/groups/18/suppressions",
            "/v3/asm/suppressions/global",
        ]

    def test_everything_is_stopped_without_a_look_at_groups(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        connector.push([push("global", reason=SuppressionReason.COMPLAINT)])
        assert asked(provider) == [("POST", "/v3/asm/suppressions/global", {"recipient_emails": [JANE]})]

    def test_a_return_lifts_one_address_from_the_global_list_alone(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.answers = [answer(GROUPS), Answer(404)]
        back = [push(one, "a/b+c@example.org", status=Status.SUBSCRIBED) for one in ("asm:17", "global")]
        (refusal,) = connector.push(back)
        assert refusal.contact_id == back[0].contact_id
        assert [(one.method, one.path) for one in provider.asked[1:]] == [
            ("DELETE", "/v3/asm/suppressions/global/a%2Fb%2Bc%40example.org"),
        ]

    def test_whoever_only_begins_with_the_address_is_somebody_else(self) -> None:
        with Fake() as fake:
            fake.happens(Change("jane.doe@example.com.au", "global"))
            connector = make(base_url=fake.url)
            lift = push("global", status=Status.SUBSCRIBED)
            assert not may_lift(lift, list(connector.held([lift])))
            fake.happens(Change(JANE, "global"))
            assert may_lift(lift, list(connector.held([lift])))

    def test_a_rejected_batch_is_halved_until_the_refused_address_is_found(
        self, world: tuple[Provider, Connector]
    ) -> None:
        provider, connector = world
        provider.answers = [answer({"errors": [{"message": "bad", "field": None}]}, 400)]
        with pytest.raises(Rejected):
            connector.push([push("global")])

    def test_its_own_header_says_when_to_come_back(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        at = int((datetime.now(UTC) + timedelta(seconds=40)).timestamp())
        provider.answers = [Answer(429, b"too many requests", {"X-RateLimit-Reset": str(at)})]
        with pytest.raises(TryLater) as caught:
            connector.push([push("global")])
        assert caught.value.after == pytest.approx(39, abs=2)


class TestListing:
    def test_reads_every_list_to_its_end(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        full = [{"created": 1_780_236_000 + number, "email": f"p{number}@example.com"} for number in range(500)]
        provider.answers = [
            answer([{"email": JANE, "group_id": 17, "group_name": "News", "created_at": 1_780_236_000}]),
            answer(full),
            answer([{"created": 1_780_236_999, "email": "ben@example.org"}]),
            answer([]),
            answer([{"created": 1_780_236_000, "email": "rosa@example.net", "reason": "550", "status": "5.1.1"}]),
            answer([]),
            answer([{"created": 1_780_236_000, "email": "mia@example.net", "ip": "192.0.2.1"}]),
            answer([]),
            answer([{"created": 1_780_236_000, "email": "x@nowhere.example", "reason": ""}, {"email": "none"}]),
            answer([]),
        ]
        rows = list(connector.list_suppressed())
        assert len(rows) == 505
        assert [(row.address.value, row.list_ref, row.kind) for row in [rows[0], *rows[-4:]]] == [
            (JANE, "asm:17", EventKind.UNSUBSCRIBE),
            ("ben@example.org", "global", EventKind.UNSUBSCRIBE),
            ("rosa@example.net", "global", EventKind.HARD_BOUNCE),
            ("mia@example.net", "global", EventKind.COMPLAINT),
            ("x@nowhere.example", "global", EventKind.INVALID),
        ]
        assert [one.query.get("offset") for one in provider.asked[1:4]] == ["0", "500", "501"]

    def test_a_list_that_goes_round_is_no_list(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.answers = [answer([])]
        provider.otherwise = answer([{"created": 1_780_236_000, "email": JANE}])
        with pytest.raises(TryLater):
            list(connector.list_suppressed())

    def test_where_nothing_is_mapped_to_everything_a_bounce_stands_on_each(self) -> None:
        assert set(make(topics={"offers": "asm:18", "product-news": "asm:17"}).everywhere) == {"asm:17", "asm:18"}


def test_a_dry_call_names_the_groups_that_are_not_there(world: tuple[Provider, Connector]) -> None:
    provider, connector = world
    provider.answers = [answer(GROUPS[:1])]
    assert connector.probe() == ["there is no unsubscribe group asm:18"]
    assert [(one.method, one.path) for one in provider.asked] == [("GET", "/v3/asm/groups")]


def test_every_call_is_one_that_can_be_repeated(world: tuple[Provider, Connector]) -> None:
    provider, connector = world
    provider.answers = [answer(GROUPS), Answer(201), answer(GROUPS), Answer(201)]
    batch = [push()]
    connector.push(batch)
    connector.push(batch)
    first, second = [one for one in provider.asked if one.method == "POST"]
    assert same(first) == same(second)


def same(one: Asked) -> tuple[str, str, bytes]:
    return one.method, one.path, one.body
