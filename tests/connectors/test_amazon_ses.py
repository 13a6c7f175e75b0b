"""Amazon SES: SNS messages and their certificates in, the suppression list and contact lists out."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from preferences.connectors.amazon_ses import AmazonSes
from preferences.connectors.sns import host_of
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, TryLater
from preferences.domain.vocabulary import Status, SuppressionReason
from tests.connectors.contract import (
    ANY_JSON,
    JANE,
    NAME,
    Answer,
    Asked,
    ConnectorContract,
    Provider,
    examples,
    push_of,
)
from tests.connectors.sns import (
    AMAZON,
    ARN,
    CERTIFICATE,
    HOST,
    NOTIFICATION,
    certificate,
    seal,
)
from tests.servers import free_port
from tests.support import new_sqlite

TOPICS: Final = {
    "product-news": "list:Customers/ProductNews",
    "offers": "list:Customers/Offers",
    "*": "list:Customers",
}


@pytest.fixture(autouse=True, scope="module")
def _amazon() -> Iterator[None]:
    with AMAZON:
        yield


class TestTheContract(ConnectorContract):
    kind = "amazon_ses"
    busy_code = 503
    refused_code = 403
    own_settings: ClassVar[Mapping[str, Any]] = {"api_key": "secret"}
    topics: ClassVar[Mapping[str, str]] = TOPICS
    signs_body = False  # what is signed are the fields, however the JSON around them is written
    proof_stands_apart = False

    def settings(self, **changes: Any) -> Any:
        options = {
            "region": "eu-west-1",
            "access_key_id": "AKIA",
            "topic_arns": [ARN],
            "sns_url": AMAZON.url,
            **changes.pop("options", {}),
        }
        if changes.get("webhook_secrets") == []:
            options["topic_arns"] = []  # what takes a secret's place here
        return super().settings(**changes, options=options)

    def travelling(self, body: bytes) -> bytes:
        return seal(json.loads(body))

    def sign(self, body: bytes) -> dict[str, str]:
        return {"x-amz-sns-message-type": "Notification"}

    def with_junk(self, document: Any, junk: Sequence[Any]) -> Any:
        message = json.loads(document["Message"])
        for holder, rows in (
            ("bounce", "bouncedRecipients"),
            ("complaint", "complainedRecipients"),
            ("mail", "destination"),
        ):
            if isinstance(message.get(holder, {}).get(rows), list):
                message[holder][rows] = [*junk, *message[holder][rows]]
        preferences = message.get("subscription", {}).get("newTopicPreferences", {})
        if "topicSubscriptionStatus" in preferences:
            preferences["topicSubscriptionStatus"] = [*junk, *preferences["topicSubscriptionStatus"]]
        return document | {"Message": json.dumps(message)}


def make(**changes: Any) -> AmazonSes:
    made = TestTheContract().connector(**changes)
    assert isinstance(made, AmazonSes)
    return made


def message(name: str = "bounce-permanent.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TestTheContract().payloads[name])
    return found


def confirmation(**changes: Any) -> dict[str, Any]:
    return {
        "Type": "SubscriptionConfirmation",
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "2336412f37",
        "TopicArn": ARN,
        "Message": f"You have chosen to subscribe to the topic {ARN}.",
        "SubscribeURL": f"{HOST}/?Action=ConfirmSubscription&TopicArn={ARN}&Token=2336412f37",
        "SignatureVersion": "1",
        "SigningCertURL": HOST + CERTIFICATE,
        **changes,
    }


class TestProving:
    @pytest.mark.parametrize("version", ["1", "2"])
    @pytest.mark.parametrize("name", ["bounce-permanent.json", "send-without-a-subject.json"])
    def test_both_versions_of_signatures_fit(self, version: str, name: str) -> None:
        make().verify({}, seal(message(name), SignatureVersion=version))

    def test_what_is_not_ascii_fits(self) -> None:
        make().verify({}, seal(message(), Message='{"eventType":"Bounce","ä":"é🌻\r\n"}'))

    @pytest.mark.parametrize("version", ["3", "", 1, None, ["1"]])
    def test_another_version_is_none(self, version: Any) -> None:
        with pytest.raises(BadSignature):
            make().verify({}, seal(message(), SignatureVersion=version))

    def test_a_signature_of_one_version_is_none_of_the_other(self) -> None:
        whole = json.loads(seal(message(), SignatureVersion="2"))
        with pytest.raises(BadSignature):
            make().verify({}, json.dumps(whole | {"SignatureVersion": "1"}).encode())

    @pytest.mark.parametrize("name", [*NOTIFICATION, "Signature"])
    def test_each_signed_field_is_covered(self, name: str) -> None:
        whole = json.loads(seal(message()))
        others: list[Any] = [whole[name] + " ", whole[name][:-1], "", None, 5, ["x"], {}]
        for changed in others:
            with pytest.raises(BadSignature):
                make().verify({}, json.dumps(whole | {name: changed}).encode())
        whole.pop(name)
        with pytest.raises(BadSignature):
            make().verify({}, json.dumps(whole).encode())

    def test_every_flipped_byte_of_the_signature_is_noticed(self) -> None:
        whole = json.loads(seal(message()))
        signature = base64.b64decode(whole["Signature"])
        for at in range(0, len(signature), 7):
            flipped = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
            with pytest.raises(BadSignature):
                make().verify({}, json.dumps(whole | {"Signature": base64.b64encode(flipped).decode()}).encode())

    def test_another_key_does_not_fit(self) -> None:
        with pytest.raises(BadSignature):
            make().verify({}, seal(message(), key="other"))

    def test_a_topic_that_is_not_allowed_is_refused_though_amazon_signed_it(self) -> None:
        connector, before = make(), len(AMAZON.asked)
        for arn in ("arn:aws:sns:eu-west-1:999999999999:mail-events", ARN + "x", ARN.upper(), "", None):
            with pytest.raises(BadSignature, match="topic"):
                connector.verify({}, seal(message(), TopicArn=arn))
        assert len(AMAZON.asked) == before, "and nothing is fetched for it"

    @pytest.mark.parametrize(
        "url",
        [
            "http://sns.eu-west-1.amazonaws.com" + CERTIFICATE,
            "https://sns.eu-west-1.amazonaws.com.evil.example" + CERTIFICATE,
            "https://evil.example/sns.eu-west-1.amazonaws.com" + CERTIFICATE,
            "https://evil.example#.sns.eu-west-1.amazonaws.com" + CERTIFICATE,
            "https://sns.eu-west-1.amazonaws.com@evil.example" + CERTIFICATE,
            "https://a@sns.eu-west-1.amazonaws.com" + CERTIFICATE,
            "https://evilsns.eu-west-1.amazonaws.com" + CERTIFICATE,
            "https://s3.eu-west-1.amazonaws.com" + CERTIFICATE,
            "https://sns.eu-west-1.amazonaws.com:8443" + CERTIFICATE,
            "https://sns.eu-west-1.amazonaws.com/../x.pem",
            "https://sns.eu-west-1.amazonaws.com/x.pem?y=.pem",
            "https://sns.eu-west-1.amazonaws.com/x.pem#.pem",
            "https://sns.eu-west-1.amazonaws.com/x.txt",
            "https://sns.eu-west-1.amazonaws.com\n" + CERTIFICATE,
            "https://sns.eu-west-1.amazonaws.com" + CERTIFICATE + "\n",
            "https://SNS.eu-west-1.amazonaws.com" + CERTIFICATE,
            "//sns.eu-west-1.amazonaws.com" + CERTIFICATE,
            "file:///etc/passwd.pem",
            "",
            None,
            7,
        ],
    )
    def test_a_certificate_is_fetched_from_sns_hosts_of_amazon_alone(self, url: Any) -> None:
        connector, before = make(), len(AMAZON.asked)
        with pytest.raises(BadSignature):
            connector.verify({}, seal(message(), SigningCertURL=url))
        assert len(AMAZON.asked) == before

    @pytest.mark.parametrize(
        ("partition", "host"),
        [
            ("aws-us-gov", "us-gov-west-1.amazonaws.com"),
            ("aws-cn", "cn-north-1.amazonaws.com.cn"),
            ("aws-eusc", "eusc-de-east-1.amazonaws.eu"),
            ("aws-iso", "us-iso-east-1.c2s.ic.gov"),
            ("aws-iso-b", "us-isob-east-1.sc2s.sgov.gov"),
            ("aws-iso-e", "eu-isoe-west-1.cloud.adc-e.uk"),
            ("aws-iso-f", "us-isof-south-1.csp.hci.ic.gov"),
        ],
    )
    def test_a_topic_of_any_partition_is_heard_by_its_own_host(self, partition: str, host: str) -> None:
        arn = f"arn:{partition}:sns:{host.partition('.')[0]}:123456789012:mail-events"
        connector = make(options={"topic_arns": [arn]})
        connector.verify({}, seal(message(), TopicArn=arn, SigningCertURL=f"https://sns.{host}{CERTIFICATE}"))

    def test_the_hosts_are_those_that_botocore_has_for_each_partition(self) -> None:
        session = boto3.session.Session(region_name="eu-west-1")
        for partition in session.get_available_partitions():
            for region in session.get_available_regions("sns", partition, allow_non_regional=False):
                client = session.client("sns", region_name=region, aws_access_key_id="x", aws_secret_access_key="x")
                assert host_of(f"arn:{partition}:sns:{region}:123456789012:x") == client.meta.endpoint_url

    @pytest.mark.parametrize(
        "host", ["eu-west-2.amazonaws.com", "eu-west-1.amazonaws.com.cn", "eu-west-1.amazonaws.eu"]
    )
    def test_a_certificate_of_another_region_than_the_topic_s_is_not_fetched(self, host: str) -> None:
        connector, before = make(), len(AMAZON.asked)
        with pytest.raises(BadSignature):
            connector.verify({}, seal(message(), SigningCertURL=f"https://sns.{host}{CERTIFICATE}"))
        assert len(AMAZON.asked) == before

    @pytest.mark.parametrize(
        "arn", ["mail-events", "arn:aws:sns:eu-west-1:123:x", "arn:azure:sns:eu-west-1:123456789012:x"]
    )
    def test_what_names_no_topic_is_refused_in_the_settings(self, arn: str) -> None:
        with pytest.raises(Misconfigured, match="topic_arns"):
            make(options={"topic_arns": [arn]})

    def test_a_key_that_has_fitted_is_kept_whatever_certificates_strangers_name(self) -> None:
        connector = make()
        connector.verify({}, seal(message()))
        for number in range(50):
            AMAZON.files[f"/real-{number}.pem"] = certificate("other")
            with pytest.raises(BadSignature):
                connector.verify({}, seal(message(), SigningCertURL=f"{HOST}/real-{number}.pem"))
        before = len(AMAZON.asked)
        connector.verify({}, seal(message()))
        assert len(AMAZON.asked) == before

    @pytest.mark.parametrize("path", ["/junk.pem", "/curve.pem", "/none.pem", "/other.pem"])
    def test_what_is_no_fitting_certificate_is_refused(self, path: str) -> None:
        with pytest.raises(BadSignature):
            make().verify({}, seal(message(), SigningCertURL=HOST + path))

    def test_a_certificate_is_fetched_once(self) -> None:
        connector, before = make(), len(AMAZON.asked)
        for _ in range(3):
            connector.verify({}, seal(message()))
        assert len(AMAZON.asked) == before + 1

    @pytest.mark.parametrize("path", ["/none.pem", "/junk.pem"])
    def test_a_certificate_that_was_not_there_is_not_asked_for_again_at_once(self, path: str) -> None:
        connector, before = make(), len(AMAZON.asked)
        for _ in range(5):
            with pytest.raises(BadSignature):
                connector.verify({}, seal(message(), SigningCertURL=HOST + path))
        assert len(AMAZON.asked) == before + 1
        connector.verify({}, seal(message()))

    def test_a_certificate_that_could_not_be_had_is_when_sns_comes_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connector, now = make(options={"sns_url": f"http://127.0.0.1:{free_port()}"}), time.monotonic()
        monkeypatch.setattr("preferences.connectors.sns.time.monotonic", lambda: now)
        body = seal(message())
        with pytest.raises(TryLater):
            connector.verify({}, body)
        connector._certificates._sns_url = AMAZON.url
        with pytest.raises(TryLater):
            connector.verify({}, body)
        now += 20
        connector.verify({}, body)

    def test_forged_reports_cause_few_certificate_fetches_a_minute(self) -> None:
        connector = make()
        connector.verify({}, seal(message()))
        before = len(AMAZON.asked)
        for number in range(100):
            with pytest.raises((BadSignature, TryLater)):
                connector.verify({}, seal(message(), SigningCertURL=f"{HOST}/{number}.pem"))
        assert len(AMAZON.asked) <= before + 60
        connector.verify({}, seal(message()))

    @pytest.mark.parametrize(
        "changes",
        [
            {"SignatureVersion": "3"},
            {"Signature": "AAAA"},
            {"Signature": "no base64"},
            {"Type": "Something"},
            {"MessageId": 7},
        ],
    )
    def test_nothing_is_fetched_for_what_can_be_seen_to_be_wrong(self, changes: Mapping[str, Any]) -> None:
        whole, before = json.loads(seal(message())), len(AMAZON.asked)
        with pytest.raises(BadSignature):
            make().verify({}, json.dumps(whole | changes).encode())
        with pytest.raises(BadSignature):
            make().verify({}, seal(message(), age=9 * 3600))
        assert len(AMAZON.asked) == before

    def test_a_certificate_that_cannot_be_fetched_is_answered_as_busy(self) -> None:
        away = make(options={"sns_url": f"http://127.0.0.1:{free_port()}"})
        with pytest.raises(TryLater):
            away.verify({}, seal(message()))

    @pytest.mark.parametrize(
        ("age", "fine"), [(0, True), (7 * 3600, True), (9 * 3600, False), (-240, True), (-400, False)]
    )
    def test_retries_of_an_hour_are_fresh_and_the_future_is_not(self, age: float, fine: bool) -> None:
        if fine:
            make().verify({}, seal(message(), age=age))
        else:
            with pytest.raises(BadSignature):
                make().verify({}, seal(message(), age=age))

    def test_that_a_topic_works_is_no_event_and_no_failure(self, tmp_path: Path) -> None:
        text = "Successfully validated SNS topic for Amazon SES event publishing."
        body = seal(message(), Message=text)
        with TestTheContract().door(tmp_path, new_sqlite(tmp_path)) as client:
            assert TestTheContract().post(client, body, {}) == 200
        parsed = make().parse({}, body)
        assert (list(parsed.events), parsed.ignored) == ([], 1)

    def test_raw_delivery_without_an_envelope_is_refused(self) -> None:
        with pytest.raises(BadSignature):
            make().verify({}, message()["Message"].encode())

    @given(document=ANY_JSON, name=st.sampled_from([*NOTIFICATION, "Signature", "SigningCertURL", "SignatureVersion"]))
    @examples
    def test_it_knows_no_other_way_to_say_no(self, document: Any, name: str) -> None:
        whole = json.loads(seal(message()))
        with pytest.raises(BadSignature):
            make().verify({}, json.dumps(whole | {name: [document]}).encode())


class TestTheHandshake:
    def post(self, folder: Path, body: bytes) -> int:
        with TestTheContract().door(folder, new_sqlite(folder)) as client:
            return client.post(f"/webhooks/{NAME}", data=body, headers={"content-type": "text/plain"}).status_code

    def confirmed(self) -> list[Asked]:
        return [asked for asked in AMAZON.asked if asked.path == "/"]

    def test_a_topic_that_is_allowed_is_confirmed(self, tmp_path: Path) -> None:
        before = len(self.confirmed())
        assert self.post(tmp_path, seal(confirmation())) == 200
        (asked,) = self.confirmed()[before:]
        assert asked.query == {"Action": "ConfirmSubscription", "TopicArn": ARN, "Token": "2336412f37"}

    @pytest.mark.parametrize(
        "changes",
        [
            {"TopicArn": "arn:aws:sns:eu-west-1:999999999999:mail-events"},
            {"SubscribeURL": "https://evil.example/?Action=ConfirmSubscription&TopicArn=x"},
            {"SubscribeURL": "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x"},
            {"SubscribeURL": f"{HOST}/?Action=DeleteTopic&TopicArn={ARN}"},
            {"SubscribeURL": f"{HOST}/"},
            {"Signature": "AAAA"},
        ],
    )
    def test_anything_else_is_refused_and_nothing_is_confirmed(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        before = len(self.confirmed())
        assert self.post(tmp_path, seal(confirmation(), **changes)) == 403
        assert len(self.confirmed()) == before

    def test_while_amazon_cannot_be_reached_it_is_asked_for_again(self, tmp_path: Path) -> None:
        with TestTheContract().door(tmp_path, new_sqlite(tmp_path)) as client:
            body = seal(confirmation())
            assert client.post(f"/webhooks/{NAME}", data=seal(message())).status_code == 200
            AMAZON.answers = [Answer(503)]
            assert client.post(f"/webhooks/{NAME}", data=body).status_code == 503
            assert client.post(f"/webhooks/{NAME}", data=body).status_code == 200

    def test_the_end_of_a_subscription_is_acknowledged(self, tmp_path: Path) -> None:
        before = len(self.confirmed())
        assert self.post(tmp_path, seal(confirmation(Type="UnsubscribeConfirmation"))) == 200
        assert len(self.confirmed()) == before


class TestParsing:
    def test_the_message_id_is_the_identity_of_all_that_is_in_it(self) -> None:
        body = seal(message())
        events = make().parse({}, body).events
        assert [event.event_id for event in events] == [f"{message()['MessageId']}/{n}" for n in range(2)]

    def test_a_no_to_everything_is_one_also_where_everything_maps_to_nothing(self) -> None:
        body = seal(message("subscription-unsubscribe-all.json"))
        (event,) = make(topics={"product-news": TOPICS["product-news"]}).parse({}, body).events
        assert event.topic == "*"

    def test_an_event_counts_from_when_it_happened(self) -> None:
        event = make().parse({}, seal(message())).events[0]
        assert event.occurred_at == datetime(2026, 5, 31, 14, 0, 3, tzinfo=UTC)

    @pytest.mark.parametrize(
        "text", ["", "[]", "null", "{", '{"eventType":"Bounce"}', '{"eventType":"Bounce","bounce":5}']
    )
    def test_a_message_that_is_no_event_is_refused(self, text: str) -> None:
        with pytest.raises(BadPayload):
            make().parse({}, seal(message(), Message=text))

    def test_amazon_s_own_words_in_a_topic_are_counted(self) -> None:
        parsed = make().parse({}, seal(message(), Message='{"eventType":"New kind","mail":{}}'))
        assert (list(parsed.events), parsed.ignored) == ([], 1)


class Ses(Provider):
    """The account's suppression list and its contact lists. An update forgets every preference that it leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.suppressed: dict[str, str] = {}
        self.contacts: dict[str, dict[str, Any]] = {}
        self.page = 2

    def add(self, address: str, *, unsubscribed: bool = False, attributes: str = "", **topics: str) -> None:
        self.contacts[address] = {
            "EmailAddress": address,
            "TopicPreferences": [{"TopicName": name, "SubscriptionStatus": status} for name, status in topics.items()],
            "UnsubscribeAll": unsubscribed,
            "AttributesData": attributes,
            "LastUpdatedTimestamp": 1780236007,
        }

    def topics(self, address: str) -> dict[str, str]:
        return {topic["TopicName"]: topic["SubscriptionStatus"] for topic in self.contacts[address]["TopicPreferences"]}

    def answer(self, asked: Asked) -> Answer:
        told = super().answer(asked)
        if told.status != 200:
            return told
        assert "/eu-west-1/ses/aws4_request" in asked.headers["authorization"]
        document = json.loads(asked.body) if asked.body else {}
        parts = [unquote(part) for part in asked.path.strip("/").split("/")]
        if parts[2] == "suppression":
            return self._suppression(asked, document)
        assert parts[2:5] == ["contact-lists", "Customers", "contacts"]
        return self._contact(asked, parts[5] if len(parts) > 5 else "", document)

    def _suppression(self, asked: Asked, document: dict[str, Any]) -> Answer:
        if asked.method == "PUT":
            assert document["Reason"] in {"BOUNCE", "COMPLAINT"}
            self.suppressed[document["EmailAddress"]] = document["Reason"]
            return Answer(200, b"{}")
        rows = [
            {"EmailAddress": address, "Reason": reason, "LastUpdateTime": 1780236007}
            for address, reason in self.suppressed.items()
        ]
        return self._paged("SuppressedDestinationSummaries", rows, asked.query.get("NextToken"))

    def _contact(self, asked: Asked, address: str, document: dict[str, Any]) -> Answer:
        if address == "list" or (asked.method == "GET" and not address):
            token = document.get("NextToken") or asked.query.get("NextToken")
            return self._paged("Contacts", list(self.contacts.values()), token)
        if asked.method == "POST":
            self.add(document["EmailAddress"])
            return self._update(document["EmailAddress"], document)
        if address not in self.contacts:
            return Answer(404, b'{"message":"gone"}', {"x-amzn-ErrorType": "NotFoundException"})
        if asked.method == "GET":
            return Answer(200, json.dumps(self.contacts[address]).encode())
        return self._update(address, document)

    def _update(self, address: str, document: dict[str, Any]) -> Answer:
        self.contacts[address]["TopicPreferences"] = document.get("TopicPreferences", [])
        self.contacts[address]["UnsubscribeAll"] = document.get("UnsubscribeAll", False)
        self.contacts[address]["AttributesData"] = document.get("AttributesData", "")
        return Answer(200, b"{}")

    def _paged(self, key: str, rows: list[Any], token: str | None) -> Answer:
        start = int(token or 0)
        more = {"NextToken": str(start + self.page)} if start + self.page < len(rows) else {}
        return Answer(200, json.dumps({key: rows[start : start + self.page], **more}).encode())


@pytest.fixture
def world() -> Iterator[tuple[Ses, AmazonSes]]:
    with Ses() as fake:
        yield fake, make(base_url=fake.url)


class TestPushing:
    def test_an_update_carries_every_topic_that_was_there(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        fake.add(JANE, attributes='{"name":"Jane"}', ProductNews="OPT_IN", Surveys="OPT_OUT", Events="OPT_IN")
        assert not connector.push([push_of(list_ref=TOPICS["product-news"])])
        assert fake.topics(JANE) == {"ProductNews": "OPT_OUT", "Surveys": "OPT_OUT", "Events": "OPT_IN"}
        assert fake.contacts[JANE]["AttributesData"] == '{"name":"Jane"}'
        assert fake.contacts[JANE]["UnsubscribeAll"] is False
        assert fake.suppressed == {}

    def test_a_no_to_everything_stays_when_a_topic_changes(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        fake.add(JANE, unsubscribed=True, Offers="OPT_IN")
        connector.push([push_of(list_ref=TOPICS["product-news"])])
        assert fake.contacts[JANE]["UnsubscribeAll"] is True
        assert fake.topics(JANE) == {"Offers": "OPT_IN", "ProductNews": "OPT_OUT"}

    def test_who_is_on_no_list_is_put_there_with_the_no_alone(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        connector.push([push_of(list_ref=TOPICS["product-news"]), push_of("rosa@example.com", list_ref=TOPICS["*"])])
        assert fake.topics(JANE) == {"ProductNews": "OPT_OUT"}
        assert fake.contacts[JANE]["UnsubscribeAll"] is False
        assert fake.contacts["rosa@example.com"]["UnsubscribeAll"] is True

    def test_many_nos_of_one_contact_are_one_update(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        fake.add(JANE, Surveys="OPT_IN")
        connector.push([push_of(list_ref=ref) for ref in TOPICS.values()])
        assert [asked.method for asked in fake.asked] == ["GET", "PUT"]
        assert fake.topics(JANE) == {"Surveys": "OPT_IN", "ProductNews": "OPT_OUT", "Offers": "OPT_OUT"}

    def test_what_is_so_already_is_not_written(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        for _ in range(2):
            connector.push([push_of(list_ref=TOPICS["*"])])
        assert [asked.method for asked in fake.asked] == ["GET", "POST", "GET"]

    @pytest.mark.parametrize("reason", [SuppressionReason.HARD_BOUNCE, SuppressionReason.INVALID])
    def test_an_address_that_cannot_be_reached_is_suppressed_for_the_account(
        self, world: tuple[Ses, AmazonSes], reason: SuppressionReason
    ) -> None:
        fake, connector = world
        connector.push([push_of(list_ref=TOPICS["*"], reason=reason)])
        assert (fake.suppressed, fake.contacts) == ({JANE: "BOUNCE"}, {})

    @pytest.mark.parametrize("reason", [None, SuppressionReason.COMPLAINT, SuppressionReason.ERASED])
    def test_a_marketing_no_never_stops_transactional_mail(
        self, world: tuple[Ses, AmazonSes], reason: SuppressionReason | None
    ) -> None:
        fake, connector = world
        connector.push([push_of(list_ref=TOPICS["*"], reason=reason)])
        assert fake.suppressed == {}
        assert fake.contacts[JANE]["UnsubscribeAll"] is True

    def test_unless_the_account_s_list_is_what_everything_maps_to(self) -> None:
        with Ses() as fake:
            connector = make(base_url=fake.url, topics={"*": "suppression-list"})
            connector.push([push_of(list_ref="suppression-list")])
            assert fake.suppressed == {JANE: "COMPLAINT"}
            (refusal,) = connector.push([push_of(list_ref="suppression-list", status=Status.SUBSCRIBED)])
            assert "by hand" in refusal.why
            assert fake.suppressed == {JANE: "COMPLAINT"}
            assert [row.kind for row in connector.list_suppressed()] == [EventKind.UNSUBSCRIBE]

    def test_who_comes_back_to_one_topic_comes_back_to_that_alone(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        fake.add(JANE, unsubscribed=True, ProductNews="OPT_OUT", Offers="OPT_OUT")
        connector.push([push_of(list_ref=TOPICS["offers"], status=Status.SUBSCRIBED)])
        assert fake.topics(JANE) == {"ProductNews": "OPT_OUT", "Offers": "OPT_IN"}
        assert fake.contacts[JANE]["UnsubscribeAll"] is True

    @pytest.mark.parametrize(
        ("code", "status"),
        [("TooManyRequestsException", 429), ("LimitExceededException", 400), ("ConcurrentModificationException", 500)],
    )
    def test_what_passes_means_later(self, world: tuple[Ses, AmazonSes], code: str, status: int) -> None:
        fake, connector = world
        fake.answers = [Answer(status, b'{"message":"slower"}', {"x-amzn-ErrorType": code, "Retry-After": "9"})]
        with pytest.raises(TryLater) as caught:
            connector.push([push_of(list_ref=TOPICS["*"])])
        assert caught.value.after == 9

    def test_a_list_that_is_not_there_stops_the_connector(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        gone = Answer(404, b'{"message":"no list"}', {"x-amzn-ErrorType": "NotFoundException"})
        fake.answers = [gone, gone]
        with pytest.raises(Misconfigured):
            connector.push([push_of(list_ref=TOPICS["*"])])

    def test_one_that_is_refused_does_not_stop_the_others(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        bad = Answer(400, b'{"message":"bad address"}', {"x-amzn-ErrorType": "BadRequestException"})
        fake.answers = [bad]
        pushes = [push_of(list_ref=TOPICS["*"]), push_of("rosa@example.com", list_ref=TOPICS["*"])]
        assert [refusal.contact_id for refusal in connector.push(pushes)] == [pushes[0].contact_id]
        assert "rosa@example.com" in fake.contacts

    def test_a_call_is_tried_once(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        fake.otherwise = Answer(500, b"{}")
        with pytest.raises(TryLater):
            connector.push([push_of(list_ref=TOPICS["*"])])
        assert len(fake.asked) == 1

    def test_an_html_page_in_place_of_a_contact_is_no_empty_contact(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        fake.contacts[JANE] = {}  # all that boto3 makes of such a page
        with pytest.raises(TryLater):
            connector.push([push_of(list_ref=TOPICS["product-news"])])
        assert [asked.method for asked in fake.asked] == ["GET"], "nothing was written over what stands there"

    def test_amazon_s_own_model_takes_every_call(self) -> None:
        client = boto3.client(
            "sesv2", region_name="eu-west-1", aws_access_key_id="AKIA", aws_secret_access_key="secret"
        )
        connector = make()
        vars(connector)["_client"] = client
        contact = {"ContactListName": "Customers", "EmailAddress": JANE}
        surveys = [{"TopicName": "Surveys", "SubscriptionStatus": "OPT_IN"}]
        held = {**contact, "TopicPreferences": surveys, "UnsubscribeAll": False}
        told = [
            {"TopicName": "Surveys", "SubscriptionStatus": "OPT_IN"},
            {"TopicName": "ProductNews", "SubscriptionStatus": "OPT_OUT"},
        ]
        with Stubber(client) as stub:
            stub.add_response("get_contact", held, contact)
            stub.add_response("update_contact", {}, {**contact, "TopicPreferences": told, "UnsubscribeAll": False})
            connector.push([push_of(list_ref=TOPICS["product-news"])])
            stub.add_client_error("get_contact", "NotFoundException", expected_params=contact)
            stub.add_response("create_contact", {}, {**contact, "TopicPreferences": [], "UnsubscribeAll": True})
            connector.push([push_of(list_ref=TOPICS["*"])])
            stub.add_response("put_suppressed_destination", {}, {"EmailAddress": JANE, "Reason": "BOUNCE"})
            connector.push([push_of(list_ref=TOPICS["*"], reason=SuppressionReason.HARD_BOUNCE)])
            row = {"EmailAddress": JANE, "Reason": "BOUNCE", "LastUpdateTime": datetime.now(UTC)}
            first = {"SuppressedDestinationSummaries": [row], "NextToken": "2"}
            stub.add_response("list_suppressed_destinations", first, {"PageSize": 1000})
            second: dict[str, Any] = {"SuppressedDestinationSummaries": []}
            stub.add_response("list_suppressed_destinations", second, {"PageSize": 1000, "NextToken": "2"})
            stub.add_response("list_contacts", {"Contacts": []}, {"PageSize": 1000, "ContactListName": "Customers"})
            assert [listed.address.value for listed in connector.list_suppressed()] == [JANE]
            stub.assert_no_pending_responses()


class TestListing:
    def test_a_dry_call_says_which_list_or_topic_is_not_there(self) -> None:
        nothing = Answer(200, b'{"SuppressedDestinationSummaries":[]}')
        contacts = Answer(200, b'{"Contacts":[]}')
        topics = Answer(200, b'{"ContactListName":"Customers","Topics":[{"TopicName":"Offers"}]}')
        with Provider() as provider:
            provider.answers = [nothing, contacts]
            provider.otherwise = topics
            assert make(base_url=provider.url).probe() == ["there is no list:Customers/ProductNews"]

    def test_every_page_of_both(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        fake.suppressed = {f"gone{number}@example.com": "BOUNCE" for number in range(3)} | {
            "angry@example.com": "COMPLAINT"
        }
        fake.add(JANE, ProductNews="OPT_OUT", Offers="OPT_IN")
        fake.add("rosa@example.com", unsubscribed=True)
        fake.add("theirs@example.com", Surveys="OPT_OUT")
        rows = [(row.address.value, row.list_ref, row.kind.value) for row in connector.list_suppressed()]
        assert rows == [
            *((f"gone{number}@example.com", "list:Customers", "bounce.hard") for number in range(3)),
            ("angry@example.com", "list:Customers", "complaint"),
            (JANE, "list:Customers/ProductNews", "unsubscribe"),
            ("rosa@example.com", "list:Customers", "unsubscribe"),
            ("theirs@example.com", "list:Customers/Surveys", "unsubscribe"),
        ]

    def test_a_list_that_goes_round_ends(self, world: tuple[Ses, AmazonSes]) -> None:
        fake, connector = world
        fake.otherwise = Answer(500)
        page = Answer(299, json.dumps({"SuppressedDestinationSummaries": [], "NextToken": "same"}).encode())
        fake.answers = [page, page, page]
        with pytest.raises(TryLater):
            list(connector.list_suppressed())


def test_amazon_s_library_is_loaded_only_for_calls() -> None:
    program = (
        "import sys; from preferences.connectors import find_kind; find_kind('amazon_ses');"
        "print(sorted({'boto3', 'botocore', 'cryptography', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "topics",
    [{"*": "global"}, {"*": "list:"}, {"*": "list:a/b/c"}, {"product-news": "suppression-list"}, {"*": "list:a b"}],
)
def test_a_mapping_to_what_is_no_list_is_refused(topics: dict[str, str]) -> None:
    with pytest.raises(Misconfigured):
        make(topics=topics)


def test_the_longest_message_of_quotation_marks_is_read() -> None:
    assert len(json.dumps({"Message": '"' * 262_144})) < AmazonSes.longest_body
