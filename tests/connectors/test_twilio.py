"""Twilio: a signature over our address and the form, the words that stop, and consents by twenty-five."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, parse_qsl, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from preferences.connectors import twilio
from preferences.connectors.base import Connector
from preferences.connectors.twilio import expected_signature, read_word
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, Status
from tests.connectors.contract import NAME, Answer, Asked, ConnectorContract, Provider, examples, push_of
from tests.profiles import scaled
from tests.support import PUBLIC_URL, new_sqlite

TOKEN: Final = "0123456789abcdef0123456789abcdef"
SERVICE: Final = "MG0123456789abcdef0123456789abcdef"
NUMBER: Final = "+12025550199"
PHONE: Final = Address(Channel.SMS, "+12025550123")
OTHER: Final = Address(Channel.SMS, "+442071838750")

WORDS: Final = sorted({*twilio.STOP, *twilio.FILLERS, *twilio.PHRASES, "opt", "un", "subscribe", "Stop", "help", "bus"})
GAPS: Final = (" ", "", "-", "_", ", ", " - ", "\n", "!")


def signature(url: str, body: bytes, token: str = TOKEN) -> str:
    """By Twilio's own library."""
    pairs = MultiDict(parse_qsl(body.decode("latin-1"), keep_blank_values=True))
    made: str = RequestValidator(token).compute_signature(url, pairs)
    return made


class TestTheContract(ConnectorContract):
    kind = "twilio"
    proof_stands_apart = False
    busy_code = 503
    refused_code = 403
    own_settings: ClassVar[Mapping[str, Any]] = {
        "api_key": TOKEN,
        "webhook_secrets": (TOKEN, "f" * 32),
        "options": {"account_sid": "AC00000000000000000000000000000001"},
    }
    topics: ClassVar[Mapping[str, str]] = {"product-news": SERVICE, "offers": NUMBER, "*": "12345"}
    form = True

    def sign(self, body: bytes) -> dict[str, str]:
        return {"x-twilio-signature": signature(self.url, body)}

    def push_of(self, address: str | Address = PHONE, **changes: Any) -> Any:
        return push_of(address, **{"list_ref": SERVICE, **changes})


class Fake(Provider):
    """Consents as Twilio keeps them, which nobody can read there."""

    def __init__(self) -> None:
        super().__init__()
        self.consents: dict[tuple[str, str], str] = {}
        self.refused: set[str] = set()

    def answer(self, asked: Asked) -> Answer:
        told = super().answer(asked)
        if told.status != 200 or told.body:
            return told
        assert (asked.method, asked.path) == ("POST", "/v1/Consents/Bulk")
        assert asked.headers["authorization"].startswith("Basic ")
        items = [json.loads(item) for item in parse_qs(asked.body.decode())["Items"]]
        assert len(items) <= 25
        return Answer(201, json.dumps({"items": [self._take(item) for item in items]}).encode())

    def _take(self, item: dict[str, str]) -> dict[str, Any]:
        assert item["status"] in {"opt-in", "opt-out"}
        assert item["source"] in {"website", "offline", "opt-in-message", "opt-out-message", "others"}
        assert len(item["correlation_id"]) == 32
        datetime.fromisoformat(item["date_of_consent"])
        failed = item["contact_id"] in self.refused
        if not failed:
            self.consents[item["contact_id"], item["sender_id"]] = item["status"]
        errors = ["INVALID_CONTACT_ID", f"about {item['contact_id']}"] if failed else []
        return {
            "correlation_id": item["correlation_id"],
            "error_code": 30646 if failed else 0,
            "error_messages": errors,
        }


@pytest.fixture
def world() -> Iterator[tuple[Fake, Connector]]:
    with Fake() as fake:
        yield fake, TestTheContract().connector(base_url=fake.url)


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


class TestProving:
    @given(
        pairs=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=8),
        query=st.sampled_from(["", "?a=b", "?secret=1&x="]),
    )
    @examples
    def test_the_vendor_s_own_library_says_the_same(self, pairs: list[tuple[str, str]], query: str) -> None:
        body = urlencode(pairs).encode()
        url = f"https://preferences.example.com/webhooks/sms{query}"
        theirs = RequestValidator(TOKEN).compute_signature(url, MultiDict(pairs))
        assert expected_signature(TOKEN, url, pairs) == theirs.encode()
        make().verify({"x-twilio-signature": theirs}, body, url=url)

    def test_the_address_is_ours_from_the_settings_with_or_without_its_port(self) -> None:
        body = TestTheContract().payloads["stop.txt"]
        for signed_url in ("https://p.example:443/webhooks/mailer", "https://p.example/webhooks/mailer"):
            headers = {"x-twilio-signature": signature(signed_url, body)}
            for url in ("https://p.example/webhooks/mailer", "https://p.example:443/webhooks/mailer"):
                make().verify(headers, body, url=url)
            for url in ("http://p.example/webhooks/mailer", "https://p.example/webhooks/other", "https://p.example"):
                with pytest.raises(BadSignature):
                    make().verify(headers, body, url=url)

    def test_another_address_may_be_named(self) -> None:
        body = TestTheContract().payloads["stop.txt"]
        options = {"account_sid": "AC1", "webhook_url": "https://sms.example/in"}
        for query in ("", "?a=b"):
            headers = {"x-twilio-signature": signature(f"https://sms.example/in{query}", body)}
            make(options=options).verify(headers, body, url=f"https://p.example/webhooks/mailer{query}")

    def test_while_the_token_is_changed_either_fits_and_a_stranger_s_does_not(self) -> None:
        contract = TestTheContract()
        body = contract.payloads["stop.txt"]
        for token in (TOKEN, "f" * 32):
            contract.connector().verify(
                {"x-twilio-signature": signature(contract.url, body, token)}, body, url=contract.url
            )
        headers = {"x-twilio-signature": signature(contract.url, body, "e" * 32)}
        with pytest.raises(BadSignature):
            contract.connector().verify(headers, body, url=contract.url)

    def test_a_flipped_byte_is_noticed(self) -> None:
        contract = TestTheContract()
        body = contract.payloads["stop-in-other-words.txt"]
        headers = contract.sign(body)
        for at in range(len(body)):
            flipped = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
            with pytest.raises(BadSignature):
                contract.connector().verify(headers, flipped, url=contract.url)

    def test_a_shared_key_signs_with_another_algorithm(self) -> None:
        contract = TestTheContract()
        body = contract.payloads["stop.txt"]
        pairs = MultiDict(parse_qsl(body.decode(), keep_blank_values=True))
        settings = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
        made = RequestValidator(TOKEN).compute_signature(contract.url, pairs, "HMAC_SHA256")
        headers = {"x-twilio-signature": made, "x-twilio-webhooks-signature-settings": settings}
        contract.connector().verify(headers, body, url=contract.url)
        for other in ("", "algorithm=HMAC_SHA1", "algorithm=HMAC_MD5", "algorithm"):
            changed = headers | {"x-twilio-webhooks-signature-settings": other}
            with pytest.raises(BadSignature):
                contract.connector().verify(changed, body, url=contract.url)

    def test_what_is_signed_in_json_is_none_of_this(self) -> None:
        with pytest.raises(BadSignature):
            make().verify({"x-twilio-signature": "x"}, b'{"a": 1}', url=PUBLIC_URL)


class TestTheWords:
    @pytest.mark.parametrize(
        "text",
        [
            *("STOP", "stop", " Stop ", "Stop.", "S T O P", "s.t.o.p", " stop all ", "STOPALL", "Stop!!!", "“stop”"),
            *(
                "quit",
                "END",
                "Revoke",
                "OPT-OUT",
                "opt out",
                "optout",
                "Opt Out.",
                "Opt-out please",
                "please opt out",
                "i want to opt out",
                "opt – out, thanks",
                "please un-subscribe me",
                "STOP ALL please",
                "opt out of all texts",
                "cancel",
                "Unsubscribe",
                "REMOVE",
            ),
            *("ARRET", "ARRÊT", "alto", "PARAR", "ＳＴＯＰ", "Stop\n", "stop 🙏", "unsub-scribe"),
            *("stop please", "please stop", "STOP texting me", "please stop sending me these messages", "stop now"),
            *(
                "I want to unsubscribe",
                "please leave me alone",
                "Don’t text me again",
                "take me off your list",
                "remove me",
            ),
            *("no more texts please", "opt me out"),
        ],
    )
    def test_these_stop(self, text: str) -> None:
        assert read_word({"Body": text}) is EventKind.UNSUBSCRIBE

    @given(parts=st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(GAPS)), min_size=1, max_size=5))
    @settings(max_examples=scaled(500))
    @example(parts=[("Stop", " "), ("out", "")])
    @example(parts=[("stop", "-"), ("out", "")])
    @example(parts=[("stop", " "), ("subscribe", "")])
    def test_what_stopped_without_joining_words_stops_with_it(self, parts: list[tuple[str, str]]) -> None:
        text = "".join(word + gap for word, gap in parts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(twilio, "PARTED", re.compile("(?!)"))
            stopped = read_word({"Body": text}) is EventKind.UNSUBSCRIBE
        assert not stopped or read_word({"Body": text}) is EventKind.UNSUBSCRIBE

    @pytest.mark.parametrize("text", ["start", "START", "yes", "Unstop", "YES!"])
    def test_these_come_back(self, text: str) -> None:
        assert read_word({"Body": text}) is EventKind.RESUBSCRIBE

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                "help",
                "INFO",
                "Hello",
                "🙏",
                "thanks",
                "Is this the bus stop?",
                "I'll stop by on Sunday",
                "the end of May",
            ),
            *("can I cancel my order 1234", "please", "stopp", "nonstop"),
        ],
    )
    def test_these_do_neither(self, text: str) -> None:
        assert read_word({"Body": text}) is None

    def test_what_twilio_says_itself_goes_first(self) -> None:
        assert read_word({"Body": "hello", "OptOutType": "STOP"}) is EventKind.UNSUBSCRIBE
        assert read_word({"Body": "STOP", "OptOutType": "HELP"}) is None
        assert read_word({"Body": "STOP", "OptOutType": "START"}) is EventKind.RESUBSCRIBE
        assert read_word({"Body": "STOP", "OptOutType": ""}) is EventKind.UNSUBSCRIBE
        assert read_word({"Body": "STOP", "OptOutType": "NEW"}) is EventKind.UNSUBSCRIBE

    def test_a_stop_to_one_sender_stops_all_marketing_of_the_brand(self) -> None:
        body = TestTheContract().payloads["stop.txt"]
        (event,) = make(topics={"product-news": SERVICE}, brand="acme").parse({}, body).events
        assert (event.topic, event.brand, event.address) == ("*", "acme", PHONE)
        assert event.event_id == f"SM{1:032x}"
        assert event.occurred_at is None

    @pytest.mark.parametrize("body", [b"", b"From=%2B12025550123", b"MessageSid=SM1", b"{}", b"\xff=1"])
    def test_what_is_no_message_is_refused(self, body: bytes) -> None:
        with pytest.raises(BadPayload):
            make().parse({}, body)


class TestTheDoor:
    def test_the_answer_is_never_a_message_to_the_person(self, tmp_path: Path) -> None:
        contract = TestTheContract()
        with contract.door(tmp_path, new_sqlite(tmp_path)) as client:
            for body in contract.genuine:
                own = {"content-type": "application/x-www-form-urlencoded", **contract.sign(body)}
                answer = client.post(f"/webhooks/{NAME}", data=body, headers=own)
                assert (answer.status_code, answer.text, answer.mimetype) == (200, "<Response/>", "text/xml")


class TestPushing:
    def test_consents_are_told_by_sender_with_their_time(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        since = datetime(2026, 5, 31, 14, 0, 7, 412000, tzinfo=UTC)
        pushes = [push_of(PHONE, list_ref=SERVICE, since=since), push_of(OTHER, list_ref=NUMBER, since=since)]
        assert not connector.push(pushes)
        assert fake.consents == {(PHONE.value, SERVICE): "opt-out", (OTHER.value, NUMBER): "opt-out"}
        items = [json.loads(item) for item in parse_qs(fake.asked[0].body.decode())["Items"]]
        assert {item["date_of_consent"] for item in items} == {"2026-05-31T14:00:07Z"}

    def test_the_same_push_bears_the_same_number_at_each_try(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        push = push_of(PHONE, list_ref=SERVICE)
        connector.push([push])
        connector.push([push])
        assert fake.asked[0].body == fake.asked[1].body

    def test_who_is_not_taken_is_named_inside_a_201(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.refused = {OTHER.value}
        pushes = [push_of(PHONE, list_ref=SERVICE), push_of(OTHER, list_ref=SERVICE)]
        (refusal,) = connector.push(pushes)
        assert (refusal.contact_id, refusal.why) == (pushes[1].contact_id, "error 30646: INVALID_CONTACT_ID")
        assert fake.consents == {(PHONE.value, SERVICE): "opt-out"}

    def test_no_opt_in_is_told_since_what_twilio_holds_cannot_be_read(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        connector.push([push_of(PHONE, list_ref=SERVICE)])
        assert len(connector.push([push_of(PHONE, list_ref=SERVICE, status=Status.SUBSCRIBED)])) == 1
        assert fake.consents == {(PHONE.value, SERVICE): "opt-out"}

    def test_it_takes_twenty_five_at_a_time_a_hundred_times_a_minute(self) -> None:
        assert make().batch_size == 25
        assert TestTheContract().connector().__class__.calls_per_second == pytest.approx(100 / 60)

    def test_it_is_told_of_telephones_only_and_cannot_be_read(self) -> None:
        connector = make()
        assert connector.channels == {Channel.SMS}
        assert not connector.can_list
        assert not connector.can_compare(push_of(PHONE, list_ref=SERVICE))
        assert list(connector.list_suppressed()) == []

    def test_too_many_means_later(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.answers = [Answer(429, b'{"code":20429}', {"Retry-After": "3"})]
        with pytest.raises(TryLater) as caught:
            connector.push([push_of(PHONE, list_ref=SERVICE)])
        assert caught.value.after == 3

    def test_without_an_account_nothing_is_sent(self, world: tuple[Fake, Connector]) -> None:
        fake, _ = world
        with pytest.raises(Misconfigured, match="account_sid"):
            make(base_url=fake.url, options={}).push([push_of(PHONE, list_ref=SERVICE)])
        assert fake.asked == []


@pytest.mark.parametrize("ref", ["global", "MG12", "sender", "+1 202"])
def test_a_mapping_to_what_is_no_sender_is_refused(ref: str) -> None:
    with pytest.raises(Misconfigured):
        make(topics={"product-news": ref})
