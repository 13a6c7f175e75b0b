"""Klaviyo: jobs that never name a list, profiles read page by page, and webhooks where the plan has them."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar, Final

import pytest

from preferences.connectors import klaviyo
from preferences.connectors.base import Connector
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadSignature, Misconfigured, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, SuppressionReason
from tests.connectors.contract import JANE, Answer, ConnectorContract, Provider, push_of
from tests.connectors.fake_klaviyo import Fake
from tests.connectors.fakes import Change, Fault
from tests.support import email

SECRET: Final = "a-secret-of-sixteen-or-more"
WEBHOOK: Final = "01HKAB5SV5TAM2SNHS4JAR5V6A"
PHONE: Final = Address(Channel.SMS, "+12025550123")


def signed(body: bytes, *, secret: str = SECRET, age: float = 0, webhook: str = WEBHOOK) -> dict[str, str]:
    """By the text: the HMAC of the body with the time behind it, as it is written in the header."""
    stamp = format_datetime(datetime.fromtimestamp(datetime.now(UTC).timestamp() - age, UTC), usegmt=True)
    digest = hmac.new(secret.encode(), body, hashlib.sha256)
    digest.update(stamp.encode())
    return {"klaviyo-signature": digest.hexdigest(), "klaviyo-timestamp": stamp, "klaviyo-webhook-id": webhook}


def sent(body: bytes, *, age: float = 0) -> bytes:
    """The body with the time at which it is sent."""
    document = json.loads(body)
    at = datetime.now(UTC) - timedelta(seconds=age)
    return json.dumps(document | {"meta": document["meta"] | {"timestamp": at.isoformat()}}).encode()


class TestTheContract(ConnectorContract):
    kind = "klaviyo"
    proof_stands_apart = False
    busy_code = 503
    refused_code = 401
    own_settings: ClassVar[Mapping[str, Any]] = {"api_key": "pk_1", "webhook_secrets": ("older" * 4, SECRET)}
    topics: ClassVar[Mapping[str, str]] = {"product-news": "list:Y6nRLr", "offers": "list:Xy12Za", "*": "global"}

    def travelling(self, body: bytes) -> bytes:
        return sent(body)

    def sign(self, body: bytes) -> dict[str, str]:
        return signed(body)

    def with_junk(self, document: Any, junk: Sequence[Any]) -> Any:
        return document | {"data": [*junk, *document["data"]]}


@pytest.fixture
def world() -> Iterator[tuple[Fake, Connector]]:
    with Fake() as fake:
        yield fake, TestTheContract().connector(base_url=fake.url)


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


class TestProving:
    def test_either_secret_fits_and_a_stranger_s_does_not(self) -> None:
        body = sent(TestTheContract().payloads["a-batch.json"])
        for secret in ("older" * 4, SECRET):
            make().verify(signed(body, secret=secret), body)
        with pytest.raises(BadSignature):
            make().verify(signed(body, secret="stranger" * 3), body)

    def test_what_another_tool_made_of_the_documented_text_fits(self) -> None:
        # openssl dgst -sha256 -hmac "klaviyo-test-secret" over the body and the time behind it
        body = b'{"data":[{"external_id":"1","topic":"event:klaviyo.sent_sms"}],"meta":{"klaviyo_webhook_id":"hook"}}'
        stamp = format_datetime(datetime.now(UTC), usegmt=True)
        made = hmac.digest(b"klaviyo-test-secret", body + stamp.encode(), "sha256").hex()
        headers = {"klaviyo-signature": made, "klaviyo-timestamp": stamp, "klaviyo-webhook-id": "hook"}
        make(webhook_secrets=["klaviyo-test-secret"]).verify(headers, body)

    @pytest.mark.parametrize("tail", [b"", b"\r\n", b"\n  "])
    def test_the_bytes_are_verified_as_they_came(self, tail: bytes) -> None:
        body = (
            sent(TestTheContract().payloads["a-batch.json"]).replace(b"klaviyo_account_id", "kläviyo".encode()) + tail
        )
        headers = signed(body)
        make().verify(headers, body)
        for at in range(0, len(body), 17):
            with pytest.raises(BadSignature):
                make().verify(headers, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])

    def test_the_header_names_the_webhook_that_the_body_is_of(self) -> None:
        body = sent(TestTheContract().payloads["a-batch.json"])
        for other in ("", "another", WEBHOOK.lower()):
            with pytest.raises(BadSignature):
                make().verify(signed(body, webhook=other), body)

    @pytest.mark.parametrize(
        ("age", "fine"), [(0, True), (47 * 3600, True), (49 * 3600, False), (-240, True), (-400, False)]
    )
    def test_two_days_are_fresh_and_the_future_is_not(self, age: float, *, fine: bool) -> None:
        body = sent(TestTheContract().payloads["a-batch.json"], age=age)
        if fine:
            make().verify(signed(body), body)
        else:
            with pytest.raises(BadSignature):
                make().verify(signed(body), body)

    @pytest.mark.parametrize("hours", [-14, -5, 5, 12])
    def test_a_header_with_local_time_that_says_gmt_refuses_nothing(self, hours: float) -> None:
        body = sent(TestTheContract().payloads["a-batch.json"])
        make().verify(signed(body, age=hours * 3600), body)

    def test_without_a_time_in_the_body_the_header_s_counts(self) -> None:
        document = json.loads(TestTheContract().payloads["a-batch.json"])
        body = json.dumps(document | {"meta": {"klaviyo_webhook_id": WEBHOOK}}).encode()
        make().verify(signed(body), body)
        with pytest.raises(BadSignature):
            make().verify(signed(body, age=49 * 3600), body)

    def test_the_name_that_some_have_for_its_header_is_wrong(self) -> None:
        body = sent(TestTheContract().payloads["a-batch.json"])
        headers = signed(body)
        headers["webhook-signature"] = headers.pop("klaviyo-signature")
        with pytest.raises(BadSignature):
            make().verify(headers, body)


class TestParsing:
    def test_an_event_has_its_own_id_and_time(self) -> None:
        (event,) = make().parse({}, TestTheContract().payloads["marked-as-spam.json"]).events
        assert event.event_id == "4L3cwQ00018"
        assert event.occurred_at == datetime(2026, 5, 31, 14, 0, 7, tzinfo=UTC)

    def nameless(self, fake: Fake, *addresses: str, kind: str = "unsubscribed_from_email_marketing") -> bytes:
        rows = [
            {
                "external_id": f"e{number}",
                "topic": f"event:klaviyo.{kind}",
                "payload": {"data": {"relationships": {"profile": {"data": {"type": "profile", "id": fake.add(one)}}}}},
            }
            for number, one in enumerate(addresses)
        ]
        return json.dumps({"data": rows, "meta": {"klaviyo_webhook_id": WEBHOOK}}).encode()

    def test_whom_an_event_names_by_id_alone_is_looked_up(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        parsed = connector.parse({}, self.nameless(fake, JANE, "rosa@example.com", "kim@example.com"))
        assert [event.address.value for event in parsed.events] == [JANE, "rosa@example.com", "kim@example.com"]

    def test_who_is_gone_there_is_counted(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        body = self.nameless(fake, JANE)
        fake.known.clear()
        assert connector.parse({}, body).ignored == 1

    def test_while_nobody_can_be_looked_up_the_report_is_not_acknowledged(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        body = self.nameless(fake, JANE)
        fake.faults = [Fault.DOWN]
        with pytest.raises(TryLater):
            connector.parse({}, body)

    @pytest.mark.parametrize(
        "kind", ["opened_email", "bounced_email", "dropped_email", "subscribed_to_email_marketing"]
    )
    def test_nobody_is_looked_up_for_what_is_not_recorded(self, world: tuple[Fake, Connector], kind: str) -> None:
        fake, connector = world
        assert connector.parse({}, self.nameless(fake, JANE, kind=kind)).ignored == 1
        assert fake.asked == []

    def test_nobody_is_looked_up_who_is_named_in_the_event_itself(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        document = json.loads(self.nameless(fake, JANE))
        document["data"][0]["payload"]["data"]["attributes"] = {"event_properties": {"email_address": JANE}}
        (event,) = connector.parse({}, json.dumps(document).encode()).events
        assert (event.address.value, fake.asked) == (JANE, [])

    @pytest.mark.parametrize(
        ("method", "kind"),
        [
            ("PREFERENCE_PAGE", EventKind.UNSUBSCRIBE),
            ("one_click_unsubscribe", EventKind.UNSUBSCRIBE),
            ("mailbox provider", EventKind.UNSUBSCRIBE),
            (None, EventKind.UNSUBSCRIBE),
            ("API", EventKind.SUPPRESSION_ADDED),
            ("PROFILE_PAGE", EventKind.SUPPRESSION_ADDED),
            ("manual import", EventKind.SUPPRESSION_ADDED),
        ],
    )
    def test_only_what_the_person_did_is_theirs(self, method: str | None, kind: EventKind) -> None:
        document = json.loads(TestTheContract().payloads["unsubscribed-from-email.json"])
        document["data"][0]["payload"]["data"]["attributes"]["event_properties"] = {"method": method}
        (event,) = make().parse({}, json.dumps(document).encode()).events
        assert event.kind is kind

    def test_a_no_to_everything_is_one_also_where_everything_maps_to_nothing(self) -> None:
        body = TestTheContract().payloads["unsubscribed-from-email.json"]
        (event,) = make(topics={"product-news": "list:Y6nRLr"}).parse({}, body).events
        assert event.topic == "*"


class TestPushing:
    def test_everything_is_a_job_for_the_account(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        assert not connector.push([push_of(list_ref="global"), push_of(PHONE, list_ref="global")])
        assert fake.rows.keys() == {(JANE, "global", "unsubscribe"), (PHONE.value, "global", "unsubscribe")}

    def test_a_list_is_left_and_nothing_else(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.add(JANE)
        pushes = [push_of(list_ref="list:Y6nRLr"), push_of("rosa@example.com", list_ref="list:Y6nRLr")]
        for _ in range(3):
            assert not connector.push(pushes)
        assert fake.rows.keys() == {(push.address.value, "list:Y6nRLr", "left") for push in pushes}

    def test_a_job_that_names_a_list_would_take_who_is_not_on_it_off_everything(self) -> None:
        """What the vendor documents, and why no job of ours can name one."""
        job = {
            "attributes": {
                "profiles": {
                    "data": [
                        {
                            "attributes": {
                                "email": JANE,
                                "subscriptions": {"email": {"marketing": {"consent": "UNSUBSCRIBED"}}},
                            }
                        }
                    ]
                }
            },
            "relationships": {"list": {"data": {"type": "list", "id": "Y6nRLr"}}},
        }
        fake = Fake()
        first = fake._unsubscribed(job)
        fake.happens(first[0])
        assert [first[0].list_ref, fake._unsubscribed(job)[0].list_ref] == ["list:Y6nRLr", "global"]
        assert '"relationships": {' not in inspect.getsource(klaviyo)
        assert list(inspect.signature(klaviyo.Klaviyo._job).parameters) == ["self", "kind", "profiles"]

    @pytest.mark.parametrize("fault", [Fault.LOST, Fault.DOWN, Fault.NO_JSON, Fault.BUSY])
    def test_a_lost_answer_and_another_try_never_make_a_list_s_no_global(
        self, world: tuple[Fake, Connector], fault: Fault
    ) -> None:
        fake, connector = world
        for position in range(3):
            fake.faults = [None] * position + [fault]
            try:
                connector.push([push_of(f"a{position}@example.com", list_ref="list:Y6nRLr")])
            except TryLater:
                connector.push([push_of(f"a{position}@example.com", list_ref="list:Y6nRLr")])
        assert {list_ref for _, list_ref, _ in fake.rows} == {"list:Y6nRLr"}

    def test_a_suppression_is_one_for_the_address_on_every_channel_it_can_be(
        self, world: tuple[Fake, Connector]
    ) -> None:
        fake, connector = world
        bounced, angry = SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT
        connector.push(
            [push_of(list_ref="list:Y6nRLr", reason=bounced), push_of(list_ref="list:Xy12Za", reason=bounced)]
        )
        connector.push([push_of(PHONE, list_ref="global", reason=angry)])
        assert fake.rows.keys() == {(JANE, "global", "manual"), (PHONE.value, "global", "unsubscribe")}

    def test_a_hundred_at_a_time(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        assert connector.batch_size == 100
        connector.push([push_of(email(f"a{number}@example.com"), list_ref="list:Y6nRLr") for number in range(100)])
        assert len(fake.rows) == 100

    def test_no_yes_ever_travels(self) -> None:
        assert not make().can_lift


class TestListing:
    def test_every_page_with_each_row_s_meaning(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        words = ("unsubscribe", "manual", "bounce", "invalid", "complaint")
        for word in words:
            fake.happens(Change(f"{word}@example.com", "global", word))
        fake.happens(Change("list@example.com", "list:Y6nRLr"))
        fake.happens(Change("theirs@example.com", "list:Zzzzzz"))
        fake.happens(Change(PHONE.value, "global"))
        fake.add("fine@example.com")
        found = {(row.address.value.partition("@")[0], row.list_ref, row.kind) for row in connector.list_suppressed()}
        assert found == {
            ("unsubscribe", "global", EventKind.UNSUBSCRIBE),
            ("manual", "global", EventKind.UNSUBSCRIBE),
            ("bounce", "global", EventKind.HARD_BOUNCE),
            ("invalid", "global", EventKind.INVALID),
            ("complaint", "global", EventKind.COMPLAINT),
            ("list", "list:Y6nRLr", EventKind.UNSUBSCRIBE),
        }

    def test_a_link_to_elsewhere_is_never_followed(self) -> None:
        page = {"data": [], "links": {"next": "https://elsewhere.example/api/profiles?page%5Bcursor%5D=n"}}
        with Provider() as provider:
            provider.answers = [Answer(200, json.dumps(page).encode())] + [Answer(200, b'{"data":[]}')] * 3
            assert list(make(base_url=provider.url).list_suppressed()) == []
            assert provider.asked[1].query["page[cursor]"] == "n"

    def test_only_everything_by_mail_can_be_compared(self) -> None:
        assert make().can_compare(push_of(list_ref="global"))
        assert not make().can_compare(push_of(list_ref="list:Y6nRLr"))
        assert not make().can_compare(push_of(PHONE, list_ref="global"))


@pytest.mark.parametrize("topics", [{"*": "Y6nRLr"}, {"product-news": "global"}, {"product-news": "list:a/b"}])
def test_a_mapping_to_what_is_no_list_is_refused(topics: dict[str, str]) -> None:
    with pytest.raises(Misconfigured):
        make(topics=topics)


def test_a_dry_call_says_which_list_is_not_there() -> None:
    with Provider() as provider:
        found = Answer(200, b'{"data":[]}')
        provider.answers = [found, found, found, Answer(404, b"{}")]
        provider.otherwise = Answer(200, b'{"data":{"type":"list","id":"Xy12Za"}}')
        assert make(base_url=provider.url).probe() == ["there is no list:Y6nRLr"]
