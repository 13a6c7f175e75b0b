"""Resend: Standard Webhooks under Svix's names, contacts, topics, and suppressions where they are open."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from standardwebhooks.webhooks import Webhook

from preferences.connectors.base import Connector
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured
from preferences.domain.vocabulary import Status, SuppressionReason
from tests.connectors.contract import JANE, ConnectorContract, push_of
from tests.connectors.fake_resend import Fake
from tests.connectors.fakes import Change

NEWS, OFFERS = "b6d24b8e-af0b-4c3c-be0c-359bbd97381e", "07d84122-7224-4881-9c31-1c048e204602"
OLD, NEW = ("whsec_" + base64.b64encode(word * 24).decode() for word in (b"o", b"n"))


def signed(body: bytes, *, secret: str = NEW, message_id: str = "", age: float = 0) -> dict[str, str]:
    """The headers of a report, by the text of Svix: `id.timestamp.body`."""
    message_id = message_id or f"msg_{hashlib.sha256(body).hexdigest()[:20]}"
    at = datetime.fromtimestamp(datetime.now(UTC).timestamp() - age, UTC)
    signature = Webhook(secret).sign(message_id, at, body.decode("utf-8", "surrogateescape") if body else "")
    return {"svix-id": message_id, "svix-timestamp": str(int(at.timestamp())), "svix-signature": signature}


class TestTheContract(ConnectorContract):
    kind = "resend"
    busy_code = 503
    refused_code = 401
    own_settings: ClassVar[Mapping[str, Any]] = {"api_key": "re_1", "webhook_secrets": (OLD, NEW)}
    topics: ClassVar[Mapping[str, str]] = {"product-news": f"topic:{NEWS}", "offers": f"topic:{OFFERS}", "*": "global"}
    nothing_to_do = frozenset({404})

    def sign(self, body: bytes) -> dict[str, str]:
        try:
            return signed(body)
        except UnicodeError:  # no text, which the library does not sign
            return signed(b"x")

    def with_junk(self, document: Any, junk: Sequence[Any]) -> Any:
        topics = document["data"].get("topics")
        return None if topics is None else document | {"data": document["data"] | {"topics": [*junk, *topics]}}


@pytest.fixture
def world() -> Iterator[tuple[Fake, Connector]]:
    with Fake() as fake:
        yield fake, TestTheContract().connector(base_url=fake.url)


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


class TestProving:
    def test_either_secret_fits_and_a_stranger_s_does_not(self) -> None:
        body = TestTheContract().payloads["complained.json"]
        for secret in (OLD, NEW):
            make().verify(signed(body, secret=secret), body)
        with pytest.raises(BadSignature):
            make().verify(signed(body, secret="whsec_" + base64.b64encode(b"s" * 24).decode()), body)

    @pytest.mark.parametrize("age", [301, -302, 86_400])
    def test_five_minutes_either_way(self, age: float) -> None:
        body = TestTheContract().payloads["complained.json"]
        make().verify(signed(body, age=age / abs(age) * 290), body)
        with pytest.raises(BadSignature):
            make().verify(signed(body, age=age), body)

    def test_the_names_are_svix_s_and_no_others(self) -> None:
        body = TestTheContract().payloads["complained.json"]
        other = {name.replace("svix", "webhook"): value for name, value in signed(body).items()}
        with pytest.raises(BadSignature):
            make().verify(other, body)

    @pytest.mark.parametrize("tail", [b"", b"\r\n", b" \n", "é🌻".encode()])
    def test_what_is_made_by_the_text_alone_fits_and_no_byte_may_change(self, tail: bytes) -> None:
        body = TestTheContract().payloads["contact-unsubscribed.json"] + tail
        stamp = str(int(datetime.now(UTC).timestamp()))
        key = base64.b64decode(NEW.removeprefix("whsec_"))
        made = base64.b64encode(hmac.digest(key, b"msg_1." + stamp.encode() + b"." + body, "sha256")).decode()
        headers = {"svix-id": "msg_1", "svix-timestamp": stamp, "svix-signature": f"v1a,AAAA v1,{made}"}
        make().verify(headers, body)
        for at in range(0, len(body), 5):
            with pytest.raises(BadSignature):
                make().verify(headers, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])


class TestParsing:
    def test_several_choices_in_one_message_have_an_identity_each(self) -> None:
        events = make().parse({"svix-id": "msg_1"}, TestTheContract().payloads["topics-updated.json"]).events
        assert [event.event_id for event in events] == ["msg_1", "msg_1/1"]

    def test_a_message_to_several_says_nothing_of_any(self) -> None:
        parsed = make().parse({"svix-id": "msg_1"}, TestTheContract().payloads["bounced-for-one-of-two.json"])
        assert (list(parsed.events), parsed.ignored) == ([], 1)

    def test_an_event_counts_from_when_it_happened(self) -> None:
        (event,) = make().parse({"svix-id": "m"}, TestTheContract().payloads["complained.json"]).events
        assert event.occurred_at == datetime(2026, 5, 31, 14, 0, 7, 126_000, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("bounce", "kind"),
        [
            ({"message": "The recipient's email provider sent a hard bounce message"}, EventKind.HARD_BOUNCE),
            ({"message": "Resend has suppressed sending to this address"}, EventKind.HARD_BOUNCE),
            ({"message": "sent a bounce message because the recipient's inbox was full."}, EventKind.SOFT_BOUNCE),
            ({"message": "sent a general bounce message."}, EventKind.SOFT_BOUNCE),
            ({}, EventKind.HARD_BOUNCE),
            (None, EventKind.HARD_BOUNCE),
            ({"type": "Undetermined"}, EventKind.SOFT_BOUNCE),
        ],
    )
    def test_a_bounce_without_a_type_is_one_for_good_unless_it_says_otherwise(
        self, bounce: Any, kind: EventKind
    ) -> None:
        data = {"to": [f"Jane Doe <{JANE}>"], "from": "Shop <news@example.org>"} | (
            {} if bounce is None else {"bounce": bounce}
        )
        (event,) = make().parse({"svix-id": "m"}, json.dumps({"type": "email.bounced", "data": data}).encode()).events
        assert (event.kind, event.address.value) == (kind, JANE)

    @pytest.mark.parametrize("field", ["to", "cc", "bcc"])
    def test_a_message_with_a_copy_says_nothing_of_any(self, field: str) -> None:
        data = {"to": [JANE], "bounce": {"type": "Permanent"}} | {field: [f"Jane <{JANE}>", "rosa@example.com"]}
        parsed = make().parse({"svix-id": "m"}, json.dumps({"type": "email.bounced", "data": data}).encode())
        assert (list(parsed.events), parsed.ignored) == ([], 1)

    @pytest.mark.parametrize(
        "body", [b"[]", b"{}", b'{"type":5,"data":{}}', b'{"type":"email.bounced","data":{"to":[]}}']
    )
    def test_what_is_not_as_documented_is_refused_or_counted(self, body: bytes) -> None:
        try:
            assert make().parse({"svix-id": "m"}, body).ignored == 1
        except BadPayload as error:
            assert error.__cause__ is None  # noqa: PT017 - it may also be readable

    def test_a_no_to_everything_is_one_also_where_everything_maps_to_nothing(self) -> None:
        body = TestTheContract().payloads["contact-unsubscribed.json"]
        (event,) = make(topics={"product-news": f"topic:{NEWS}"}).parse({"svix-id": "m"}, body).events
        assert event.topic == "*"


class TestPushing:
    def test_everything_is_the_contact_s_switch(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.contacts.add(JANE)
        assert not connector.push([push_of(list_ref="global"), push_of("new@example.com", list_ref="global")])
        assert fake.rows.keys() == {(JANE, "global", "told"), ("new@example.com", "global", "told")}

    @pytest.mark.parametrize("takes_lists", [False, True])
    def test_a_topic_is_left_in_either_shape(self, world: tuple[Fake, Connector], *, takes_lists: bool) -> None:
        fake, connector = world
        fake.takes_lists = takes_lists
        fake.contacts.add(JANE)
        pushes = [push_of(address, list_ref=f"topic:{NEWS}") for address in (JANE, "new@example.com")]
        assert not connector.push(pushes)
        assert fake.rows.keys() == {(push.address.value, f"topic:{NEWS}", "told") for push in pushes}

    def test_nobody_is_let_back_since_nothing_says_since_when_they_are_out(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.happens(Change(JANE, "global"))
        fake.happens(Change(JANE, f"topic:{NEWS}", "told"))
        rows = dict(fake.rows)
        for address in (JANE, "new@example.com"):
            for list_ref in ("global", f"topic:{NEWS}"):
                assert len(connector.push([push_of(address, list_ref=list_ref, status=Status.SUBSCRIBED)])) == 1
        assert (fake.rows, fake.contacts, fake.asked) == (rows, {JANE}, [])

    def test_the_suppression_list_is_changed_only_for_unreachable_addresses(self) -> None:
        bounced = push_of(list_ref="global", reason=SuppressionReason.HARD_BOUNCE)
        angry = push_of("rosa@example.com", list_ref="global", reason=SuppressionReason.COMPLAINT)
        for is_open, suppressed in ((False, {}), (True, {JANE: "manual"})):
            with Fake() as fake:
                make(base_url=fake.url, options={"suppressions": is_open}).push([bounced, angry])
                assert fake.suppressed == suppressed
                assert ("rosa@example.com", "global", "told") in fake.rows


class TestListing:
    def test_every_page_of_both(self) -> None:
        with Fake() as fake:
            for number in range(3):
                fake.happens(Change(f"gone{number}@example.com", "global"))
            fake.contacts |= {JANE, "rosa@example.com"}
            fake.suppressed = {
                "angry@example.com": "complaint",
                "bounced@example.com": "bounce",
                "us@example.com": "manual",
            }
            connector = make(base_url=fake.url, options={"suppressions": True})
            found = [
                (row.address.value.partition("@")[0], row.list_ref, row.kind) for row in connector.list_suppressed()
            ]
        assert found == [
            *((f"gone{number}", "global", EventKind.UNSUBSCRIBE) for number in range(3)),
            ("angry", "global", EventKind.COMPLAINT),
            ("bounced", "global", EventKind.HARD_BOUNCE),
            ("us", "global", EventKind.UNSUBSCRIBE),
        ]

    def test_a_topic_cannot_be_compared(self) -> None:
        assert make().can_compare(push_of(list_ref="global"))
        assert not make().can_compare(push_of(list_ref=f"topic:{NEWS}"))


@pytest.mark.parametrize("topics", [{"*": NEWS}, {"product-news": "global"}, {"product-news": "topic:"}])
def test_a_mapping_to_what_is_no_list_is_refused(topics: dict[str, str]) -> None:
    with pytest.raises(Misconfigured):
        make(topics=topics)


def test_what_only_this_kind_has_is_checked() -> None:
    with pytest.raises(Misconfigured, match="suppressions"):
        make(options={"suppressions": "perhaps"})
