"""Mailgun: a signature that leaves the body out, tags that are topics, and lists of one domain."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from preferences.connectors.base import Connector
from preferences.current import services_of
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadSignature, Misconfigured, TryLater
from preferences.domain.vocabulary import Status, SuppressionReason
from preferences.store import feed, webhook_tokens
from tests.connectors.contract import JANE, NAME, Answer, ConnectorContract, Provider, as_toml, provider_of
from tests.support import close, new_app, new_sqlite

KEY, NEXT, STRANGER = "signing-key-of-the-tests", "the-one-that-comes-after", "somebody-else's"
DOMAIN: Final = "news.maple-and-finch.example"


def sealed(body: bytes, *, key: str = KEY, age: float = 0, token: str = "") -> bytes:
    """The body with a signature of now: by Mailgun's text, hexadecimal HMAC-SHA256 over time and token."""
    try:
        message = json.loads(body)
        block = message["signature"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return body
    block["timestamp"] = str(int(datetime.now(UTC).timestamp() - age))
    block["token"] = token or block["token"]
    signed = (block["timestamp"] + block["token"]).encode()
    block["signature"] = hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()
    return json.dumps(message, ensure_ascii=False).encode()


class TestTheContract(ConnectorContract):
    proof_stands_apart = False
    kind = "mailgun"
    busy_code = 503
    refused_code = 406
    signs_body = False
    topics: ClassVar[Mapping[str, str]] = {"product-news": "news", "offers": "deals", "*": "*"}
    own_settings: ClassVar[Mapping[str, Any]] = {
        "api_key": "key-1",
        "webhook_secrets": (KEY, NEXT),
        "options": {"domain": DOMAIN},
    }

    def sign(self, body: bytes) -> dict[str, str]:
        return {}

    def travelling(self, body: bytes) -> bytes:
        return sealed(body)


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


def payload(name: str) -> bytes:
    return TestTheContract().payloads[f"{name}.json"]


@pytest.fixture
def world() -> Iterator[tuple[Provider, Connector]]:
    with provider_of(TestTheContract()) as both:
        yield both


BODY: Final = payload("unsubscribe-of-a-tag")


class TestSignature:
    @pytest.mark.parametrize("key", [KEY, NEXT])
    def test_either_key_counts(self, key: str) -> None:
        make().verify({}, sealed(BODY, key=key))

    def test_a_strangers_does_not(self) -> None:
        with pytest.raises(BadSignature):
            make().verify({}, sealed(BODY, key=STRANGER))

    @pytest.mark.parametrize("name", ["timestamp", "token", "signature"])
    def test_any_changed_letter_of_it_is_refused(self, name: str) -> None:
        message = json.loads(sealed(BODY))
        text = message["signature"][name]
        for place in range(len(text)):
            other = text[:place] + ("1" if text[place] == "0" else "0") + text[place + 1 :]
            changed = {**message, "signature": message["signature"] | {name: other}}
            with pytest.raises(BadSignature):
                make().verify({}, json.dumps(changed).encode())

    @pytest.mark.parametrize("hours", [0.0, 1.0, 8.0])
    def test_a_retry_bears_its_first_signature_for_eight_hours(self, hours: float) -> None:
        make().verify({}, sealed(BODY, age=hours * 3600))

    @pytest.mark.parametrize("hours", [9.5, 24 * 365, -0.1])
    def test_an_older_one_and_one_from_the_future_are_refused(self, hours: float) -> None:
        with pytest.raises(BadSignature):
            make().verify({}, sealed(BODY, age=hours * 3600))

    def test_its_tokens_are_kept_longer_than_it_is_fresh(self) -> None:
        assert make().freshness + timedelta(hours=1) < webhook_tokens.KEPT_FOR


class TestToken:
    """Whoever has one signed triple could put any body with it: the door takes the first, and no other."""

    def test_the_same_body_again_is_a_retry_and_another_is_refused(self, tmp_path: Path) -> None:
        contract = TestTheContract()
        first = sealed(payload("delivered"), token="t" * 50)
        message = json.loads(first)
        forged = {"signature": message["signature"], "event-data": json.loads(payload("complaint"))["event-data"]}
        with contract.door(tmp_path, new_sqlite(tmp_path)) as client:
            codes = [contract.post(client, body, {}) for body in (first, first, json.dumps(forged).encode(), first)]
            entries = services_of(client.application).database.read(feed.head_seq)
        assert codes == [200, 200, 406, 200]
        assert entries == 0

    def test_a_token_used_at_one_connector_is_used_at_all_that_have_its_key(self, tmp_path: Path) -> None:
        contract = TestTheContract()
        twin, apart = (
            as_toml(contract.settings(**changes)).replace("connectors.mailer", f"connectors.{name}")
            for name, changes in (("twin", {}), ("apart", {"webhook_secrets": (STRANGER,)}))
        )
        config_file = tmp_path / "connectors.toml"
        config_file.write_text("\n".join([as_toml(contract.settings()), twin, apart]))
        app = new_app(new_sqlite(tmp_path), config_file=config_file)
        client, body = app.test_client(), sealed(BODY)
        own = sealed(BODY, key=STRANGER)
        places = [("mailer", body), ("twin", body), ("mailer", body), ("apart", body), ("apart", own)]
        codes = [client.post(f"/webhooks/{name}", data=sent).status_code for name, sent in places]
        close(app)
        assert codes == [200, 406, 200, 406, 200]

    def test_a_token_that_another_domain_used_is_another(self, tmp_path: Path) -> None:
        contract = TestTheContract()
        with contract.door(tmp_path, new_sqlite(tmp_path)) as client:
            database, now = services_of(client.application).database, datetime.now(UTC)
            taken = [
                database.save(webhook_tokens.bind, name, "token", digest=digest, now=now)
                for name, digest in itertools.product((NAME, "other"), ("a", "b"))
            ]
            database.save(webhook_tokens.forget_old, now + timedelta(days=4))
            again = database.save(webhook_tokens.bind, NAME, "token", digest="b", now=now)
        assert [*taken, again] == [True, False, True, False, True]


class TestEvents:
    def test_the_token_is_the_events_identity(self) -> None:
        parsed = make().parse({}, BODY)
        token = json.loads(BODY)["signature"]["token"]
        assert parsed.token == token
        assert [one.event_id for one in parsed.events] == [f"{token}:product-news"]
        assert parsed.events[0].occurred_at == datetime(2026, 5, 31, 14, 0, 1, 125000, UTC)

    def test_where_no_topic_is_a_tag_a_stop_is_of_everything(self) -> None:
        connector = make(topics={"*": "*"})
        (event,) = connector.parse({}, payload("unsubscribe-of-a-tag-of-theirs")).events
        assert (event.kind, event.topic) == (EventKind.UNSUBSCRIBE, "*")

    def test_where_topics_are_tags_one_of_another_tag_never_becomes_everything(self) -> None:
        assert make().parse({}, payload("unsubscribe-of-a-tag-of-theirs")).ignored == 1


def asked(provider: Provider) -> list[tuple[str, str, Any]]:
    return [(one.method, one.path, json.loads(one.body) if one.body else None) for one in provider.asked]


def push(list_ref: str = "news", address: str = JANE, **changes: Any) -> Any:
    return TestTheContract().push_of(address, list_ref=list_ref, **changes)


class TestPush:
    def test_one_row_for_each_address_with_each_of_its_tags_and_no_time_of_ours(
        self, world: tuple[Provider, Connector]
    ) -> None:
        provider, connector = world
        since = datetime(2026, 5, 31, 14, tzinfo=UTC)
        assert connector.push([push(one, since=since) for one in ("news", "*")]) == []
        assert asked(provider) == [
            (
                "POST",
                f"/v3/{DOMAIN}/unsubscribes",
                [{"address": JANE, "tags": ["news", "*"]}],
            )
        ]
        assert provider.asked[0].headers["authorization"] == "Basic YXBpOmtleS0x"

    @pytest.mark.parametrize(
        ("reason", "table"),
        [
            (SuppressionReason.HARD_BOUNCE, "bounces"),
            (SuppressionReason.INVALID, "bounces"),
            (SuppressionReason.COMPLAINT, "complaints"),
            (SuppressionReason.LEGAL, "unsubscribes"),
        ],
    )
    def test_a_suppression_goes_to_its_own_list(
        self, world: tuple[Provider, Connector], reason: SuppressionReason, table: str
    ) -> None:
        provider, connector = world
        connector.push([push("*", reason=reason)])
        assert [(one[0], one[1]) for one in asked(provider)] == [("POST", f"/v3/{DOMAIN}/{table}")]

    def test_a_return_lifts_one_tag_of_one_address(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.otherwise = Answer(404, b'{"message": "Unsubscribe event for this tag does not exist"}')
        back = [push(one, "a/b+c@example.org", status=Status.SUBSCRIBED) for one in ("news", "*")]
        assert connector.push(back) == []
        assert [(one.method, one.path, one.query) for one in provider.asked] == [
            ("DELETE", f"/v3/{DOMAIN}/unsubscribes/a%2Fb%2Bc%40example.org", {"tag": tag}) for tag in ("news", "*")
        ]

    def test_its_own_header_says_when_to_come_back(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        at = int((datetime.now(UTC) + timedelta(seconds=40)).timestamp())
        provider.answers = [Answer(429, b"{}", {"X-RateLimit-Reset": str(at)})]
        with pytest.raises(TryLater) as caught:
            connector.push([push()])
        assert caught.value.after == pytest.approx(39, abs=2)


class TestListing:
    def page(self, provider: Provider, rows: list[dict[str, Any]], query: str) -> Answer:
        following = f"https://elsewhere.example/v3/{query}"
        return Answer(200, json.dumps({"items": rows, "paging": {"next": following}}).encode())

    def test_reads_each_list_to_its_first_empty_page(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        date = "Sun, 31 May 2026 14:00:00 UTC"
        provider.answers = [
            self.page(provider, [{"address": JANE, "tags": ["news", "spring"], "created_at": date}], "?page=next&n=1"),
            self.page(provider, [{"address": "ben@example.org", "created_at": date}], "?page=next&n=2"),
            self.page(provider, [], "?page=next&n=2"),
            self.page(provider, [{"address": "rosa@example.net", "code": "550", "created_at": "?"}], "?page=next"),
            self.page(provider, [], "?page=next"),
            self.page(provider, [], "?page=next"),
        ]
        rows = [(row.address.value, row.list_ref, row.kind) for row in connector.list_suppressed()]
        assert rows == [
            (JANE, "news", EventKind.UNSUBSCRIBE),
            (JANE, "spring", EventKind.UNSUBSCRIBE),
            ("ben@example.org", "*", EventKind.UNSUBSCRIBE),
            ("rosa@example.net", "*", EventKind.HARD_BOUNCE),
        ]
        assert [one.query.get("n") for one in provider.asked[:3]] == [None, "1", "2"]
        assert {one.query["limit"] for one in provider.asked} == {"1000"}

    def test_reads_the_vendors_dates(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        row = {"address": JANE, "tags": ["news"], "created_at": "Sun, 31 May 2026 14:00:00 UTC"}
        provider.answers = [self.page(provider, [row], "?page=next")]
        assert next(iter(connector.list_suppressed())).occurred_at == datetime(2026, 5, 31, 14, tzinfo=UTC)

    def test_of_several_tags_none_has_a_time(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        row = {"address": JANE, "tags": ["news", "deals"], "created_at": "Sun, 31 May 2026 14:00:00 UTC"}
        provider.answers = [self.page(provider, [row], "?page=next"), *[self.page(provider, [], "?page=next")] * 3]
        assert [(one.list_ref, one.occurred_at) for one in connector.list_suppressed()] == [
            ("news", None),
            ("deals", None),
        ]

    def test_a_tag_in_capitals_is_the_list_of_the_settings(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        row = {"address": JANE, "tags": ["News"], "created_at": "Sun, 31 May 2026 14:00:00 UTC"}
        provider.answers = [self.page(provider, [row], "?page=next"), *[self.page(provider, [], "?page=next")] * 3]
        assert [one.list_ref for one in connector.list_suppressed()] == ["news"]

    def test_a_list_that_goes_round_is_no_list(self, world: tuple[Provider, Connector]) -> None:
        provider, connector = world
        provider.otherwise = self.page(provider, [{"address": JANE}], "?page=next")
        with pytest.raises(TryLater):
            list(connector.list_suppressed())


@pytest.mark.parametrize("options", [{}, {"domain": ""}, {"domain": "a/b"}, {"domain": DOMAIN, "region": "eu"}])
def test_an_option_that_is_missing_or_unknown_is_named(options: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match=r"connector mailer: options\.(domain|region)"):
        make(options=options)


def test_two_topics_by_tags_that_are_the_same_to_mailgun_are_refused() -> None:
    with pytest.raises(Misconfigured, match=r"connector mailer: .*the same"):
        make(topics={"offers": "Deals", "product-news": "deals"})


def test_the_domain_of_the_settings_may_be_in_capitals() -> None:
    connector = make(options={"domain": DOMAIN.upper()})
    assert connector.parse({}, payload("unsubscribe-at-our-domain")).events


def test_an_event_of_another_domain_leaves_its_token_to_that_domain() -> None:
    parsed = make().parse({}, payload("unsubscribe-at-another-domain"))
    assert (parsed.ignored, parsed.token) == (1, None)


@pytest.mark.parametrize("topics", [{"offers": "*"}, {"offers": ""}, {"offers": "a\nb"}])
def test_a_mapping_that_could_stop_more_than_it_says_is_refused(topics: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="connector mailer: offers"):
        make(topics=topics)


def test_no_token_is_like_another() -> None:
    assert sealed(BODY, token=secrets.token_hex(25)) != sealed(BODY, token=secrets.token_hex(25))
