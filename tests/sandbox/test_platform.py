"""The pretend platform: its list, its faults and its webhooks, over HTTP as the preference center sees them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest
import requests

from sandbox.app import SandboxServer
from tests.sandbox.conftest import Client, config_for
from tests.sandbox.stub import API_KEY, SIGNING_SECRET, StubCenter, change, push, signed_headers
from tests.servers import free_port

ADA = "ada@example.com"
OTHER_SECRET = "whsec_c29tZS1vdGhlci1zZWNyZXQtZW50aXJlbHk="


def wait_for(condition: Callable[[], object], seconds: float = 8) -> None:
    """Return when it holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def states(sandbox: Client) -> list[str]:
    return [webhook["state"] for webhook in sandbox.get("/api/webhooks")["webhooks"]]


class TestPush:
    def test_adds_and_a_repeat_changes_nothing(self, sandbox: Client) -> None:
        for _ in range(3):
            answer = push(sandbox.url, change(ADA), change(ADA, list="global"))
            assert (answer.status_code, answer.json()) == (200, {"rejected": []})
        assert sandbox.listed() == {(ADA, "product-news", "unsubscribe"), (ADA, "global", "unsubscribe")}

    def test_subscribed_removes_from_that_list_alone(self, sandbox: Client) -> None:
        push(sandbox.url, change(ADA), change(ADA, list="offers"))
        push(sandbox.url, change(ADA, status="subscribed"))
        push(sandbox.url, change(ADA, status="subscribed"))
        assert sandbox.listed() == {(ADA, "offers", "unsubscribe")}

    @pytest.mark.parametrize(
        ("reason", "kind"),
        [
            ("hard_bounce", "bounce.hard"),
            ("complaint", "complaint"),
            ("invalid", "invalid"),
            ("erased", "unsubscribe"),
            ("legal", "unsubscribe"),
        ],
    )
    def test_reason_becomes_a_kind_of_the_platform(self, sandbox: Client, reason: str, kind: str) -> None:
        push(sandbox.url, change(ADA, list="global", status="suppressed", reason=reason))
        assert sandbox.listed() == {(ADA, "global", kind)}

    def test_a_bounce_of_its_own_outlives_an_unsubscribe(self, sandbox: Client) -> None:
        sandbox.post("/api/events", kind="bounce.hard", address=ADA, list="global")
        push(sandbox.url, change(ADA, list="global"))
        assert sandbox.listed() == {(ADA, "global", "bounce.hard"), (ADA, "global", "unsubscribe")}

    def test_unknown_status_is_rejected_for_that_contact_alone(self, sandbox: Client) -> None:
        answer = push(sandbox.url, change(ADA, status="undecided"), change("ben@example.org"))
        assert [item["contact"] for item in answer.json()["rejected"]] == [f"id-of-{ADA}"]
        assert sandbox.listed() == {("ben@example.org", "product-news", "unsubscribe")}

    def test_either_secret_of_a_rotation_is_enough(self, sandbox: Client) -> None:
        assert push(sandbox.url, change(ADA), secrets=[OTHER_SECRET, SIGNING_SECRET]).status_code == 200
        assert push(sandbox.url, change(ADA), secrets=[SIGNING_SECRET, OTHER_SECRET]).status_code == 200
        assert push(sandbox.url, change(ADA), secrets=[OTHER_SECRET]).status_code == 401

    @pytest.mark.parametrize("signature", ["", "v1", "v1,", "v1,!!!!!", "nonsense", "v1,a v1,b,c", "v2,AAAA", "v1,ü"])
    def test_malformed_signature_is_401(self, sandbox: Client, signature: str) -> None:
        headers = signed_headers("{}") | {"webhook-signature": signature}
        answer = requests.post(
            f"{sandbox.url}/platform-api/preferences",
            data=b"{}",
            headers={name: value.encode() for name, value in headers.items()},
            timeout=10,
        )
        assert answer.status_code == 401

    @pytest.mark.parametrize("age", [400, -400])
    def test_old_and_future_signatures_are_401(self, sandbox: Client, age: float) -> None:
        headers = signed_headers("{}", age=age)
        url = f"{sandbox.url}/platform-api/preferences"
        assert requests.post(url, data="{}", headers=headers, timeout=10).status_code == 401

    @pytest.mark.parametrize(
        "body",
        ["", "nonsense", "[]", "{}", '{"data": {"changes": [1]}}', '{"data": {"changes": [{"contact": "x"}]}}']
        + [json.dumps({"data": {"changes": [change(ADA, since=since)]}}) for since in ("yesterday", None, 7)],
    )
    def test_authentic_nonsense_is_400(self, sandbox: Client, body: str) -> None:
        url = f"{sandbox.url}/platform-api/preferences"
        assert requests.post(url, data=body, headers=signed_headers(body), timeout=10).status_code == 400
        assert sandbox.get("/api/pushes")["pushes"][0]["status"] == 400

    def test_pushes_are_shown(self, sandbox: Client) -> None:
        push(sandbox.url, change(ADA))
        (shown,) = sandbox.get("/api/pushes")["pushes"]
        assert (shown["webhook_id"], shown["status"], shown["outcome"]) == ("msg_1", 200, "taken")
        assert shown["changes"][0]["address"] == ADA


class TestReturn:
    def test_an_unsubscribe_that_came_later_stays(self, sandbox: Client) -> None:
        sandbox.post("/api/events", kind="unsubscribe", address=ADA, list="offers", occurred_at="2026-10-03T09:00:00Z")
        push(sandbox.url, change(ADA, list="offers", status="subscribed", since="2026-01-15T09:00:00+00:00"))
        assert sandbox.listed() == {(ADA, "offers", "unsubscribe")}

    def test_what_is_held_against_one_address_can_be_asked_for(self, sandbox: Client) -> None:
        push(sandbox.url, change(ADA), change(ADA, list="offers"), change("ben@example.org"))
        body = {"addresses": [{"channel": "email", "address": ADA}]}
        url, key = f"{sandbox.url}/platform-api/suppressions/search", {"Authorization": f"Bearer {API_KEY}"}
        rows = requests.post(url, json=body, headers=key, timeout=10).json()["suppressions"]
        assert {(row["address"], row["list"]) for row in rows} == {(ADA, "product-news"), (ADA, "offers")}
        assert requests.post(url, json=body, timeout=10).status_code == 401
        assert requests.post(url, data="[]", headers=key, timeout=10).status_code == 400


class TestList:
    def page(self, sandbox: Client, **query: str) -> requests.Response:
        return requests.get(
            f"{sandbox.url}/platform-api/suppressions",
            params=query,
            headers={"Authorization": f"Bearer {API_KEY}"},
            timeout=10,
        )

    def test_pages_hold_everything_once(self, sandbox: Client) -> None:
        push(sandbox.url, *(change(f"p{number}@example.com") for number in range(7)))
        seen, after = [], "0"
        while after is not None:
            page = self.page(sandbox, after=after, limit="3").json()
            assert len(page["suppressions"]) <= 3
            seen += [row["address"] for row in page["suppressions"]]
            after = page["next"]
        assert seen == [f"p{number}@example.com" for number in range(7)]

    def test_row_says_what_the_contract_says(self, sandbox: Client) -> None:
        sandbox.post(
            "/api/events", kind="complaint", address=" Ada@Example.com ", occurred_at="2026-05-01T12:00:00+02:00"
        )
        (row,) = self.page(sandbox).json()["suppressions"]
        assert row == {
            "channel": "email",
            "address": ADA,
            "list": "global",
            "kind": "complaint",
            "occurred_at": "2026-05-01T10:00:00.000+00:00",
        }

    def test_newest_instant_counts(self, sandbox: Client) -> None:
        for day in ("2026-05-02", "2026-05-03", "2026-05-01"):
            sandbox.post("/api/events", kind="unsubscribe", address=ADA, occurred_at=f"{day}T00:00:00Z")
        (row,) = self.page(sandbox).json()["suppressions"]
        assert row["occurred_at"].startswith("2026-05-03")

    def test_key_is_needed(self, sandbox: Client) -> None:
        url = f"{sandbox.url}/platform-api/suppressions"
        assert requests.get(url, timeout=10).status_code == 401
        assert requests.get(url, headers={"Authorization": "Bearer x"}, timeout=10).status_code == 401


class TestWebhooks:
    def test_what_happens_is_reported_and_kept(self, sandbox: Client, center: StubCenter) -> None:
        sandbox.post("/api/events", kind="unsubscribe", address=ADA, list="product-news")
        wait_for(lambda: center.webhooks)
        assert center.webhooks[0]["type"] == "unsubscribe"
        assert center.webhooks[0]["data"] == {"channel": "email", "address": ADA, "list": "product-news"}
        assert sandbox.listed() == {(ADA, "product-news", "unsubscribe")}
        wait_for(lambda: states(sandbox) == ["done"])

    def test_delivered_suppresses_nobody(self, sandbox: Client, center: StubCenter) -> None:
        sandbox.post("/api/events", kind="delivered", address=ADA)
        wait_for(lambda: center.webhooks)
        assert sandbox.listed() == set()

    def test_repeats_until_heard_with_the_same_id(self, sandbox: Client, center: StubCenter) -> None:
        center.webhook_answers = [(503, {}), (500, {}), (302, {"Location": "/elsewhere"}), (404, {})]
        sandbox.post("/api/events", kind="complaint", address=ADA)
        wait_for(lambda: states(sandbox) == ["done"])
        (shown,) = sandbox.get("/api/webhooks")["webhooks"]
        assert [answer["status"] for answer in shown["answers"]] == [503, 500, 302, 404, 200]
        assert {webhook["headers"]["webhook-id"] for webhook in center.webhooks} == {shown["id"]}
        waits = [later["at"] - earlier["at"] for earlier, later in pairwise(center.webhooks)]
        assert all(wait >= timedelta(seconds=0.05 * 2**turn) for turn, wait in enumerate(waits))

    def test_each_attempt_is_signed_afresh(self, sandbox: Client, center: StubCenter) -> None:
        center.webhook_answers = [(503, {"Retry-After": "1"})]
        sandbox.post("/api/events", kind="complaint", address=ADA)
        wait_for(lambda: len(center.webhooks) == 2)
        first, second = (webhook["headers"] for webhook in center.webhooks)
        assert first["webhook-timestamp"] < second["webhook-timestamp"]
        assert first["webhook-signature"] != second["webhook-signature"]

    def test_retry_after_is_kept(self, sandbox: Client, center: StubCenter) -> None:
        center.webhook_answers = [(429, {"Retry-After": "1"})]
        sandbox.post("/api/events", kind="complaint", address=ADA)
        wait_for(lambda: len(center.webhooks) == 2)
        assert center.webhooks[1]["at"] - center.webhooks[0]["at"] >= timedelta(seconds=1)

    def test_one_that_waits_holds_up_no_other(self, sandbox: Client, center: StubCenter) -> None:
        center.webhook_answers = [(503, {"Retry-After": "60"})]
        sandbox.post("/api/events", kind="complaint", address=ADA)
        wait_for(lambda: center.webhooks)
        sandbox.post("/api/events", kind="complaint", address="ben@example.org")
        wait_for(lambda: states(sandbox) == ["done", "waiting"])

    def test_wrong_secret_is_shown_and_can_be_tried_again(self, sandbox: Client, center: StubCenter) -> None:
        center.webhook_answers = [(401, {})]
        webhook_id = sandbox.post("/api/events", kind="complaint", address=ADA)["id"]
        wait_for(lambda: states(sandbox) == ["refused"])
        assert "SANDBOX_WEBHOOK_SECRET" in requests.get(f"{sandbox.url}/platform", timeout=10).text
        sandbox.post(f"/api/webhooks/{webhook_id}/retry")
        wait_for(lambda: states(sandbox) == ["done"])

    def test_waits_for_a_center_that_is_away(self) -> None:
        port = free_port()
        with SandboxServer(config_for(f"http://127.0.0.1:{port}"), free_port()) as server:
            sandbox = Client(server)
            sandbox.post("/api/events", kind="complaint", address=ADA)
            wait_for(lambda: sandbox.get("/api/webhooks")["webhooks"][0]["answers"])
            with StubCenter(port) as center:
                wait_for(lambda: states(sandbox) == ["done"])
                assert len(center.webhooks) == 1

    def test_what_waits_survives_a_restart(self, center: StubCenter, tmp_path_factory: pytest.TempPathFactory) -> None:
        database = str(tmp_path_factory.mktemp("sandbox") / "sandbox.db")
        config = config_for(center.url, database=database)
        with SandboxServer(config, free_port()) as server:
            Client(server).post("/api/faults", down=True)
            Client(server).post("/api/events", kind="complaint", address=ADA)
        assert center.webhooks == []
        with SandboxServer(config, free_port()):
            wait_for(lambda: center.webhooks)


class TestFaults:
    def test_down(self, sandbox: Client, center: StubCenter) -> None:
        sandbox.post("/api/faults", down=True)
        assert push(sandbox.url, change(ADA)).status_code == 503
        sandbox.post("/api/events", kind="complaint", address=ADA)
        time.sleep(0.2)
        assert center.webhooks == []
        sandbox.post("/api/faults", down=False)
        wait_for(lambda: center.webhooks)
        assert push(sandbox.url, change(ADA)).status_code == 200

    def test_busy(self, sandbox: Client) -> None:
        sandbox.post("/api/faults", busy_seconds=7)
        answer = push(sandbox.url, change(ADA))
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
        assert sandbox.listed() == set()

    def test_slow(self, sandbox: Client) -> None:
        sandbox.post("/api/faults", slow_seconds=0.3)
        started = time.monotonic()
        assert push(sandbox.url, change(ADA)).status_code == 200
        assert time.monotonic() - started >= 0.3

    def test_slow_does_not_delay_the_end(self, center: StubCenter) -> None:
        with SandboxServer(config_for(center.url), free_port()) as server:
            Client(server).post("/api/faults", slow_seconds=100)
            waiting = threading.Thread(target=push, args=(server.url, change(ADA)))
            waiting.start()
            time.sleep(0.1)
            started = time.monotonic()
        waiting.join()
        assert time.monotonic() - started < 5

    def test_lossy_loses_both_ways(self, sandbox: Client, center: StubCenter) -> None:
        sandbox.post("/api/faults", lossy=True)
        assert push(sandbox.url, change(ADA)).status_code == 200
        assert sandbox.listed() == set()
        sandbox.post("/api/events", kind="complaint", address=ADA)
        assert states(sandbox) == ["lost"]
        assert sandbox.listed() == {(ADA, "global", "complaint")}
        time.sleep(0.2)
        assert center.webhooks == []

    def test_repeating(self, sandbox: Client, center: StubCenter) -> None:
        sandbox.post("/api/faults", repeating=True)
        webhook_id = sandbox.post("/api/events", kind="complaint", address=ADA)["id"]
        wait_for(lambda: states(sandbox) == ["done"])
        assert [webhook["headers"]["webhook-id"] for webhook in center.webhooks] == [webhook_id] * 3

    def test_reordering(self, sandbox: Client, center: StubCenter) -> None:
        sandbox.post("/api/faults", reordering=True)
        ids = [sandbox.post("/api/events", kind="complaint", address=f"p{n}@example.com")["id"] for n in range(4)]
        wait_for(lambda: len(center.webhooks) == 4)
        assert [webhook["headers"]["webhook-id"] for webhook in center.webhooks] == ids[::-1]

    def test_reject(self, sandbox: Client) -> None:
        sandbox.post("/api/faults", reject=[ADA.upper(), " "])
        answer = push(sandbox.url, change(ADA), change("ben@example.org"))
        assert [item["contact"] for item in answer.json()["rejected"]] == [f"id-of-{ADA}"]
        assert sandbox.listed() == {("ben@example.org", "product-news", "unsubscribe")}

    @pytest.mark.parametrize(
        "wish",
        [
            {"up": True},
            {"down": "yes"},
            {"slow_seconds": -1},
            {"slow_seconds": "1"},
            {"slow_seconds": True},
            {"busy_seconds": 1e9},
            {"reject": "x"},
            {"reject": [1]},
        ],
    )
    def test_wrong_wish_is_400_and_changes_nothing(self, sandbox: Client, wish: dict[str, object]) -> None:
        before = sandbox.get("/api/faults")
        answer = requests.post(f"{sandbox.url}/api/faults", json=wish, timeout=10)
        assert answer.status_code == 400
        assert sandbox.get("/api/faults") == before

    def test_reset(self, sandbox: Client) -> None:
        sandbox.post("/api/faults", down=True)
        sandbox.post("/api/events", kind="complaint", address=ADA)
        sandbox.post("/api/reset")
        assert sandbox.listed() == set()
        assert states(sandbox) == []
        assert sandbox.get("/api/faults")["down"] is False


class TestPages:
    PATHS = ("/", "/mailbox", "/mailbox?person=1", "/platform", "/mailbox/1", "/mailbox/1?view=text")

    def test_opening_a_page_changes_nothing(self, sandbox: Client) -> None:
        sandbox.post("/api/send", topic="product-news")
        before = sandbox.get("/api/version")
        for path in (*self.PATHS, "/mailbox/1?view=source", "/mailbox/1/body", "/api/mails", "/api/mails/1/raw"):
            answer = requests.get(sandbox.url + path, timeout=10)
            assert answer.status_code == 200, path
            assert "Set-Cookie" not in answer.headers
        assert sandbox.get("/api/version") == before

    def test_what_is_shown_is_escaped(self, sandbox: Client) -> None:
        push(sandbox.url, change("<b>x</b>@example.com"))
        assert "<b>x" not in requests.get(f"{sandbox.url}/platform", timeout=10).text

    def test_what_is_not_there_is_404(self, sandbox: Client) -> None:
        assert requests.get(f"{sandbox.url}/mailbox/99", timeout=10).status_code == 404
        answer = requests.post(f"{sandbox.url}/api/mails/99/one-click", json={}, timeout=10)
        assert (answer.status_code, answer.json()["status"]) == (404, 404)

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/api/send", {}),
            ("/api/send", {"topic": "gossip"}),
            ("/api/send", {"topic": "offers", "addresses": "all"}),
            ("/api/events", {"kind": "complaint"}),
            ("/api/events", {"kind": "complaint", "address": ADA, "occurred_at": "soon"}),
        ],
    )
    def test_wrong_calls_are_400(self, sandbox: Client, path: str, body: dict[str, object]) -> None:
        assert requests.post(sandbox.url + path, json=body, timeout=10).status_code == 400

    def test_a_form_of_another_site_does_nothing(self, sandbox: Client) -> None:
        for path in ("/api/reset", "/api/send", "/api/mails/1/one-click"):
            assert requests.post(sandbox.url + path, data={"topic": "offers"}, timeout=10).status_code == 415


def test_leaving_ends_every_thread_and_frees_the_port(center: StubCenter) -> None:
    port = free_port()
    before = set(threading.enumerate())
    for _ in range(3):
        with SandboxServer(config_for(center.url), port) as server:
            assert Client(server).get("/api/version")
    wait_for(lambda: not set(threading.enumerate()) - before)
