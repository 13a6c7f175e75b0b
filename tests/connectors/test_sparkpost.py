"""SparkPost: batches of events, ten thousand rows a call, and a DELETE that always names its level."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from preferences.connectors import sparkpost
from preferences.connectors.base import Connector
from preferences.domain.errors import BadSignature, Misconfigured, Rejected, TryLater
from preferences.domain.vocabulary import Status, SuppressionReason
from tests.connectors.contract import JANE, NAME, Answer, ConnectorContract, Provider, push_of
from tests.connectors.fake_sparkpost import Fake
from tests.connectors.fakes import Change
from tests.support import new_sqlite

SECRET: Final = "a-long-secret-for-sparkpost"


class TestTheContract(ConnectorContract):
    kind = "sparkpost"
    busy_code = 503
    refused_code = 401
    own_settings: ClassVar[Mapping[str, Any]] = {"api_key": "key-1", "webhook_secrets": (SECRET,)}
    topics: ClassVar[Mapping[str, str]] = {
        "product-news": "list:news.example.com",
        "offers": "list:offers.example.com",
        "*": "global",
    }
    signs_body = False

    def sign(self, body: bytes) -> dict[str, str]:
        return {"authorization": f"Bearer {SECRET}"}


@pytest.fixture
def world() -> Iterator[tuple[Fake, Connector]]:
    with Fake() as fake:
        yield fake, TestTheContract().connector(base_url=fake.url)


def make(**changes: Any) -> Connector:
    return TestTheContract().connector(**changes)


def test_its_ping_is_answered_200_and_nothing_else_is(tmp_path: Path) -> None:
    contract = TestTheContract()
    with contract.door(tmp_path, new_sqlite(tmp_path)) as client:
        for body in contract.payloads.values():
            assert client.post(f"/webhooks/{NAME}", data=body, headers=contract.sign(body)).status_code == 200


def test_an_event_has_its_own_id_and_time() -> None:
    event = make().parse({}, TestTheContract().payloads["list-unsubscribe.json"]).events[0]
    assert event.event_id is not None
    assert event.event_id.startswith("92356927693813")
    assert event.occurred_at is not None
    assert event.occurred_at.isoformat() == "2026-05-31T14:00:07+00:00"


def test_a_no_to_everything_is_one_also_where_everything_maps_to_nothing() -> None:
    body = TestTheContract().payloads["list-unsubscribe.json"]
    (event,) = make(topics={"product-news": "list:news.example.com"}).parse({}, body).events
    assert event.topic == "*"


def test_a_wrong_secret_is_refused() -> None:
    with pytest.raises(BadSignature):
        make().verify({"authorization": "Bearer other"}, b"[]")


class TestPushing:
    def test_a_wish_stops_marketing_and_nothing_else(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        pushes = [push_of(list_ref="global"), push_of("rosa@example.com", list_ref="list:news.example.com")]
        assert not connector.push(pushes)
        assert fake.rows.keys() == {
            (JANE, "global", "manual"),
            ("rosa@example.com", "list:news.example.com", "manual"),
        }

    def test_an_address_that_cannot_be_reached_gets_no_mail_of_any_kind(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        connector.push([push_of(list_ref="global", reason=SuppressionReason.HARD_BOUNCE)])
        assert {list_ref for _, list_ref, _ in fake.rows} == {"global", "transactional"}
        fake.rows.clear()
        connector.push([push_of(list_ref="global", reason=SuppressionReason.COMPLAINT)])
        assert {list_ref for _, list_ref, _ in fake.rows} == {"global"}

    def test_ten_thousand_go_in_one_call_and_the_rest_in_another(self) -> None:
        with Provider() as provider:
            connector = make(base_url=provider.url)
            bounced = SuppressionReason.HARD_BOUNCE
            pushes = [push_of(f"a{number}@example.com", list_ref="global", reason=bounced) for number in range(6_000)]
            connector.push(pushes)
            sizes = [len(json.loads(asked.body)["recipients"]) for asked in provider.asked]
        assert sizes == [10_000, 2_000]
        assert connector.batch_size == 10_000

    def test_a_5xx_may_have_taken_some_and_all_are_sent_again(self) -> None:
        pushes = [push_of(list_ref="global"), push_of("rosa@example.com", list_ref="global")]
        with Provider() as provider:
            provider.answers = [Answer(500)]
            half = make(base_url=provider.url)
            with pytest.raises(TryLater):
                half.push(pushes)
            half.push(pushes)
            assert provider.asked[0].body == provider.asked[1].body

    def test_a_bad_address_refuses_the_batch_which_sync_then_halves(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.refused = {JANE}
        with pytest.raises(Rejected) as caught:
            connector.push([push_of(list_ref="global"), push_of("rosa@example.com", list_ref="global")])
        assert "jane" not in str(caught.value)


class TestDeleting:
    """Leaving `list_id` out removes every entry of an address."""

    def test_each_delete_names_its_level(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        for list_ref in ("global", "list:news.example.com", "list:offers.example.com"):
            fake.happens(Change(JANE, list_ref, "manual"))
        connector.push([push_of(list_ref="list:news.example.com", status=Status.SUBSCRIBED)])
        assert fake.rows.keys() == {(JANE, "global", "manual"), (JANE, "list:offers.example.com", "manual")}
        connector.push([push_of(list_ref="global", status=Status.SUBSCRIBED)])
        assert fake.rows.keys() == {(JANE, "list:offers.example.com", "manual")}
        deletes = [asked for asked in fake.asked if asked.method == "DELETE"]
        assert [asked.query for asked in deletes] == [{"list_id": "news.example.com"}, {"list_id": ""}]
        assert {asked.body for asked in deletes} == {b'{"type":"non_transactional"}'}

    def test_there_is_no_way_to_say_it_without(self) -> None:
        tree = ast.parse(inspect.getsource(sparkpost))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        deleting = [one for one in functions if any(getattr(node, "value", "") == "DELETE" for node in ast.walk(one))]
        (function,) = deleting
        assert [one.arg for one in function.args.args] == ["self", "recipient", "list_id"]
        assert function.args.defaults == []
        assert "?list_id=" in ast.unparse(function)

    @pytest.mark.parametrize("word", ["bounce", "complaint"])
    def test_what_a_bounce_or_a_complaint_put_there_stays(self, world: tuple[Fake, Connector], word: str) -> None:
        fake, connector = world
        fake.happens(Change(JANE, "global", word))
        (refusal,) = connector.push([push_of(list_ref="global", status=Status.SUBSCRIBED)])
        assert "by hand" in refusal.why
        assert fake.rows

    def test_its_own_compliance_entry_stays(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        fake.happens(Change(JANE, "global", "compliance"))
        (refusal,) = connector.push([push_of(list_ref="global", status=Status.SUBSCRIBED)])
        assert "compliance" in refusal.why

    def test_who_is_on_no_list_is_left_alone(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        assert not connector.push([push_of(list_ref="global", status=Status.SUBSCRIBED)])
        assert [asked.method for asked in fake.asked] == ["GET"]


class TestListing:
    def test_every_page_with_each_row_s_meaning(self, world: tuple[Fake, Connector]) -> None:
        fake, connector = world
        rows = [("a", "bounce"), ("b", "complaint"), ("c", "manual"), ("d", "unsubscribe"), ("e", "compliance")]
        for name, word in rows:
            fake.happens(Change(f"{name}@example.com", "global", word))
        fake.happens(Change("f@example.com", "list:news.example.com"))
        fake.happens(Change("g@example.com", "transactional", "manual"))
        found = [(row.address.value[0], row.list_ref, row.kind.value) for row in connector.list_suppressed()]
        assert found == [
            ("a", "global", "bounce.hard"),
            ("b", "global", "complaint"),
            ("c", "global", "unsubscribe"),
            ("d", "global", "unsubscribe"),
            ("e", "global", "unsubscribe"),
            ("f", "list:news.example.com", "unsubscribe"),
        ]

    @pytest.mark.parametrize("href", ["https://x.example/?page=2", "", None, "https://[bad"])
    def test_a_next_page_without_its_cursor_is_not_the_end(self, href: Any) -> None:
        with Provider() as provider:
            provider.otherwise = Answer(
                200, json.dumps({"results": [], "links": [{"rel": "next", "href": href}]}).encode()
            )
            with pytest.raises(TryLater):
                list(make(base_url=provider.url).list_suppressed())

    def test_a_list_that_goes_round_ends(self) -> None:
        page = {"results": [], "links": [{"rel": "next", "href": "/?cursor=again"}]}
        with Provider() as provider:
            provider.otherwise = Answer(200, json.dumps(page).encode())
            with pytest.raises(TryLater):
                list(make(base_url=provider.url).list_suppressed())


@pytest.mark.parametrize("topics", [{"*": "non_transactional"}, {"product-news": "global"}, {"product-news": "list:"}])
def test_a_mapping_to_what_is_no_list_is_refused(topics: dict[str, str]) -> None:
    with pytest.raises(Misconfigured):
        make(topics=topics)
