"""The feed: every entry of every door is at the receiver, in order, whatever the receiver did meanwhile."""

from __future__ import annotations

import base64
import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from preferences.config import FeedSettings, read_feeds
from preferences.connectors import http
from preferences.connectors.webhook import signed_headers
from preferences.current import services_of
from preferences.domain.consent import effective
from preferences.domain.errors import Misconfigured, NotAllowed
from preferences.domain.records import Act, Entry
from preferences.domain.vocabulary import (
    BLANKET,
    Actor,
    Basis,
    Channel,
    Origin,
    Purpose,
    SuppressionReason,
    Verb,
    api_origin,
)
from preferences.ledger import record as ledger
from preferences.ledger.verify import verify
from preferences.services import Services
from preferences.store import cursors
from preferences.store.contact_state import address_states
from preferences.store.feed import feed_page, head_seq
from preferences.store.tables import connector_cursor
from preferences.store.transactions import Save
from preferences.sync.feeds import BATCH, Feed, replay
from preferences.sync.push import Outcome
from preferences.sync.worker import Worker
from tests.support import add_contact, api_headers, close, email, link_for, new_app, new_sqlite

OLD, NEW = (
    f"whsec_{base64.b64encode(text).decode()}" for text in (b"the-old-secret-of-the-feed", b"the-new-secret-of-it-all")
)
NOW: Final = datetime.now(UTC)


@dataclass
class Receiver:
    """A warehouse: answers as told, one answer a message, and 204 after that. Keeps what it took."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    refused: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def entries(self) -> list[dict[str, Any]]:
        return [entry for _, body in self.taken for entry in json.loads(body)["entries"]]

    def seqs(self) -> list[int]:
        return [entry["seq"] for entry in self.entries()]


DIES, DIES_AFTER, HANGS = -1, -2, -3


class _Door(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        receiver = self.receiver
        headers = {name.lower(): value for name, value in self.headers.items()}
        message = (headers, self.rfile.read(int(headers["content-length"])))
        answer = receiver.answers.pop(0) if receiver.answers else 204
        if answer in {204, 200, DIES_AFTER}:
            receiver.taken.append(message)
        else:
            receiver.refused.append(message)
        if answer in {DIES, DIES_AFTER}:
            return  # the connection closes without an answer
        if answer == HANGS:
            threading.Event().wait(0.4)
            return
        self.send_response(answer)
        for name, value in receiver.headers.items():
            self.send_header(name, value)
        body = b"taken, thank you" if answer == 200 else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Door", (_Door,), {"receiver": one}))
    one.url = f"http://127.0.0.1:{server.server_address[1]}/entries"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield one
    server.shutdown()
    server.server_close()


def feed_of(services: Services, receiver: Receiver, owner: str = "worker-1") -> Feed:
    settings = FeedSettings(name="warehouse", url=receiver.url, signing_secrets=(OLD, NEW))
    return Feed(services.database, settings, owner)


def cursor_of(services: Services) -> cursors.Cursor:
    cursor = services.database.read(cursors.find_cursor, "feed.warehouse")
    assert cursor is not None
    return cursor


def wait_no_longer(services: Services) -> None:
    """The back-off is over."""

    def free(save: Save) -> None:
        save.execute(update(connector_cursor).values(due_at=None, lease_until=None))

    services.database.save(free)


def run_until_idle(services: Services, feed: Feed) -> list[Outcome]:
    outcomes = []
    while True:
        outcomes.append(feed.run_once(datetime.now(UTC)))
        if outcomes[-1] is Outcome.IDLE:
            return outcomes
        wait_no_longer(services)


def stop_topics(services: Services, count: int, name: str = "one") -> None:
    acts = [
        Act(
            verb=Verb.UNSUBSCRIBE,
            channel=Channel.EMAIL,
            who=email(f"{name}{number}@example.com"),
            brand="default",
            topic="*",
            origin=Origin.IMPORT,
            origin_ref=f"{name}-{number}",
            actor=Actor.STAFF,
            occurred_at=NOW,
        )
        for number in range(count)
    ]
    services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=datetime.now(UTC))


def head(services: Services) -> int:
    return services.database.read(head_seq)


# Whatever the door.


def acts_of_every_door(services: Services) -> None:
    """One act by each origin there is, a second no that changes nothing, and every verb."""
    ways: list[tuple[str, Verb, dict[str, Any]]] = [
        (Origin.ONE_CLICK, Verb.UNSUBSCRIBE, {"topic": "*"}),
        (Origin.ONE_CLICK, Verb.UNSUBSCRIBE, {"topic": "*"}),
        (Origin.PAGE, Verb.PAUSE, {"topic": "offers", "until": NOW + timedelta(days=9)}),
        (Origin.ADDRESS_BOX, Verb.UNSUBSCRIBE, {"topic": "offers"}),
        (Origin.ACCOUNT, Verb.CAP, {"topic": "product-news", "per_week": 2}),
        (Origin.CONFIRMATION, Verb.SUBSCRIBE, {"topic": "offers", "basis": Basis.CONSENT, "trusted": True}),
        (Origin.IMPORT, Verb.UNSUBSCRIBE, {"topic": "product-news", "origin_ref": "line-1"}),
        ("connector.mailer", Verb.SUPPRESS, {"reason": SuppressionReason.HARD_BOUNCE, "origin_ref": "event-1"}),
        (api_origin("crm"), Verb.SUPPRESS, {"reason": SuppressionReason.INVALID, "origin_ref": "crm-1"}),
        (Origin.ADDRESS_CHANGE, Verb.LIFT, {"reason": SuppressionReason.REPLACED, "trusted": True}),
        (Origin.COMMAND, Verb.LIFT, {"reason": SuppressionReason.HARD_BOUNCE, "trusted": True}),
        (Origin.SOFT_BOUNCES, Verb.SUPPRESS, {"reason": SuppressionReason.SOFT_BOUNCES}),
    ]
    acts = [
        Act(
            verb=verb,
            channel=Channel.EMAIL,
            who=email("rosa@example.com"),
            brand="" if "reason" in more else "default",
            origin=origin,
            actor=Actor.RECIPIENT,
            occurred_at=datetime.now(UTC),
            **more,
        )
        for origin, verb, more in ways
    ]
    services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=datetime.now(UTC))


def acts_over_the_web(services: Services, client: FlaskClient) -> None:
    """A click, its undo, the address box, and a system that tells."""
    jane = add_contact(services, email())
    assert client.post(link_for(services, jane)).status_code == 200
    undone = head(services)
    services.database.write(ledger.undo, undone, contact_id=jane, now=datetime.now(UTC), details={})
    assert client.post("/optout", data={"address": "ben@example.com"}).status_code == 200
    act = {
        "address": "ida@example.com",
        "channel": "email",
        "topic": "offers",
        "verb": "unsubscribe",
        "origin_ref": "a-1",
    }
    answer = client.post("/api/v1/acts", json=[act], headers=api_headers(services, "tester"))
    if answer.status_code >= 300:
        answer = client.post("/api/v1/acts", json={"acts": [act]}, headers=api_headers(services, "tester-2"))
    assert answer.status_code < 300


def test_every_entry_of_every_door_is_told_and_its_signature_verifies(
    services: Services, client: FlaskClient, receiver: Receiver
) -> None:
    feed = feed_of(services, receiver)
    assert feed.run_once(datetime.now(UTC)) is Outcome.IDLE
    acts_over_the_web(services, client)
    acts_of_every_door(services)
    assert run_until_idle(services, feed) == [Outcome.DONE, Outcome.IDLE]
    told = receiver.entries()
    assert [entry["seq"] for entry in told] == list(range(1, head(services) + 1))
    assert {entry["origin"].partition(".")[0] for entry in told} == {*map(str, Origin), "connector", "api"}
    assert not all(entry["changed"] for entry in told)
    assert told == services.database.read(feed_page, 0, 1_000)
    for headers, body in receiver.taken:
        for secret in (OLD, NEW):
            assert Webhook(secret).verify(body, headers) == json.loads(body)


def test_what_the_webhook_tells_is_what_the_api_answers(
    services: Services, client: FlaskClient, receiver: Receiver
) -> None:
    feed_of(services, receiver).run_once(datetime.now(UTC))
    acts_of_every_door(services)
    run_until_idle(services, feed_of(services, receiver))
    answer = client.get("/api/v1/entries?after=0", headers=api_headers(services))
    assert receiver.entries() == answer.get_json()["entries"]


def test_a_message_says_where_it_begins_and_where_to_go_on(services: Services, receiver: Receiver) -> None:
    feed = feed_of(services, receiver)
    feed.run_once(datetime.now(UTC))
    stop_topics(services, BATCH + 3)
    run_until_idle(services, feed)
    bodies = [json.loads(body) for _, body in receiver.taken]
    assert [(body["after"], body["next"], len(body["entries"])) for body in bodies] == [
        (0, BATCH, BATCH),
        (BATCH, BATCH + 3, 3),
    ]
    assert [headers["webhook-id"] for headers, _ in receiver.taken] == [
        f"warehouse-1-{BATCH}",
        f"warehouse-{BATCH + 1}-{BATCH + 3}",
    ]


def test_a_new_feed_begins_with_what_comes_next(services: Services, receiver: Receiver) -> None:
    stop_topics(services, 3)
    feed = feed_of(services, receiver)
    assert run_until_idle(services, feed) == [Outcome.IDLE]
    stop_topics(services, 2, "later")
    run_until_idle(services, feed)
    assert receiver.seqs() == [4, 5]


# Whatever the receiver.


@pytest.mark.parametrize("fault", [500, 503, 429, 408, 400, 413, 422, DIES, HANGS])
def test_a_receiver_that_cannot_take_it_gets_the_same_message_again(
    sqlite_app: Flask, receiver: Receiver, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "TIMEOUT", (1.0, 0.2 if fault == HANGS else 5.0))
    services = services_of(sqlite_app)
    feed = feed_of(services, receiver)
    feed.run_once(datetime.now(UTC))
    stop_topics(services, 3)
    receiver.answers = [fault, fault]
    assert run_until_idle(services, feed) == [Outcome.POSTPONED, Outcome.POSTPONED, Outcome.DONE, Outcome.IDLE]
    assert receiver.seqs() == [1, 2, 3]
    assert {body for _, body in receiver.refused} == {receiver.taken[0][1]}
    assert {headers["webhook-id"] for headers, _ in receiver.refused} == {receiver.taken[0][0]["webhook-id"]}
    assert cursor_of(services).failures == 0
    assert cursor_of(services).failed == 2


def test_a_message_not_acknowledged_comes_again_with_the_same_id(sqlite_app: Flask, receiver: Receiver) -> None:
    services = services_of(sqlite_app)
    feed = feed_of(services, receiver)
    feed.run_once(datetime.now(UTC))
    stop_topics(services, 2)
    receiver.answers = [DIES_AFTER]
    run_until_idle(services, feed)
    assert receiver.seqs() == [1, 2, 1, 2]
    assert len({headers["webhook-id"] for headers, _ in receiver.taken}) == 1


def test_the_receivers_wish_to_be_left_alone_is_heeded(sqlite_app: Flask, receiver: Receiver) -> None:
    services = services_of(sqlite_app)
    feed = feed_of(services, receiver)
    feed.run_once(datetime.now(UTC))
    stop_topics(services, 1)
    receiver.answers, receiver.headers = [429], {"Retry-After": "900"}
    now = datetime.now(UTC)
    assert feed.run_once(now) is Outcome.POSTPONED
    assert feed.run_once(now + timedelta(seconds=890)) is Outcome.IDLE
    assert receiver.taken == []
    assert feed.run_once(now + timedelta(seconds=901)) is Outcome.DONE


@pytest.mark.parametrize("answer", [410, 401, 403, 404, 302])
def test_a_receiver_that_is_gone_pauses_its_feed_until_somebody_resumes_it(
    sqlite_app: Flask, receiver: Receiver, answer: int
) -> None:
    services = services_of(sqlite_app)
    feed = feed_of(services, receiver)
    feed.run_once(datetime.now(UTC))
    stop_topics(services, 2)
    receiver.answers = [answer]
    assert run_until_idle(services, feed) == [Outcome.PAUSED, Outcome.IDLE]
    assert (cursor_of(services).position, receiver.taken) == (0, [])
    services.database.save(cursors.resume, "feed.warehouse")
    run_until_idle(services, feed)
    assert receiver.seqs() == [1, 2]


def test_any_answer_of_success_will_do(sqlite_app: Flask, receiver: Receiver) -> None:
    services = services_of(sqlite_app)
    feed = feed_of(services, receiver)
    feed.run_once(datetime.now(UTC))
    stop_topics(services, 1)
    receiver.answers = [200]  # with a text that is not JSON
    assert run_until_idle(services, feed) == [Outcome.DONE, Outcome.IDLE]


def test_through_every_kind_of_fault_nothing_is_lost_and_nothing_overtakes(
    services: Services, receiver: Receiver
) -> None:
    feeds = [feed_of(services, receiver, owner) for owner in ("worker-1", "worker-2")]
    feeds[0].run_once(datetime.now(UTC))
    receiver.answers = [500, 204, 429, DIES, 200, DIES_AFTER, 410, 503, 204, DIES_AFTER, 422]
    for number in range(12):
        stop_topics(services, 3, f"round{number}-")
        feeds[number % 2].run_once(datetime.now(UTC))
        wait_no_longer(services)
        services.database.save(cursors.resume, "feed.warehouse")
    run_until_idle(services, feeds[0])
    first_seen = list(dict.fromkeys(receiver.seqs()))
    assert first_seen == list(range(1, head(services) + 1))


def test_a_worker_that_lost_its_lease_moves_nothing(sqlite_app: Flask, receiver: Receiver) -> None:
    services = services_of(sqlite_app)
    feed = feed_of(services, receiver)
    feed.run_once(datetime.now(UTC))
    stop_topics(services, 2)
    services.database.save(cursors.claim, "feed.warehouse", "worker-2", datetime.now(UTC))
    assert feed.run_once(datetime.now(UTC)) is Outcome.IDLE
    assert receiver.taken == []


# Again from the beginning.


def test_a_replay_tells_everything_again_also_what_came_before_the_feed(services: Services, receiver: Receiver) -> None:
    stop_topics(services, 4)
    feed = feed_of(services, receiver)
    run_until_idle(services, feed)
    settings = FeedSettings(name="warehouse", url=receiver.url, signing_secrets=(NEW,))
    assert replay(services.database, settings, 1) == 3
    run_until_idle(services, feed)
    assert receiver.seqs() == [2, 3, 4]
    with pytest.raises(NotAllowed, match="newest entry is 4"):
        replay(services.database, settings, 5)


def test_a_replay_is_not_undone_by_a_message_that_is_on_its_way(sqlite_app: Flask) -> None:
    services = services_of(sqlite_app)
    stop_topics(services, 3)
    services.database.save(cursors.start, "feed.warehouse", 2)
    assert services.database.save(cursors.claim, "feed.warehouse", "worker-1", datetime.now(UTC))
    services.database.save(cursors.restart, "feed.warehouse", 0)
    assert not services.database.save(cursors.advance, "feed.warehouse", "worker-1", 3, datetime.now(UTC))
    assert cursor_of(services).position == 0


# In the worker, for the operator.


def test_a_slow_feed_keeps_no_provider_waiting(sqlite_app: Flask) -> None:
    services = services_of(sqlite_app)
    began, let_go, passed = threading.Event(), threading.Event(), threading.Event()

    def slow() -> bool:
        began.set()
        let_go.wait(10)
        return False

    class Watched(Worker):
        def pass_over_all(self) -> bool:
            if began.is_set():
                passed.set()
                self.stop()
            return False

    worker = Watched(services.database, [], services.fingerprints, tasks=[slow])
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert passed.wait(10)
    let_go.set()
    thread.join(10)


CONFIG = """
[feeds.warehouse]
url = "{url}"
signing_secrets = ["{secret}"]
"""


@pytest.fixture
def fed(tmp_path: Path, receiver: Receiver) -> Iterator[Flask]:
    """The application with a feed."""
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONFIG.format(url=receiver.url, secret=NEW))
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    yield app
    close(app)


@pytest.fixture
def run(fed: Flask) -> Callable[..., Result]:
    return lambda *arguments: fed.test_cli_runner().invoke(args=list(arguments))


def test_the_operator_sees_how_a_feed_fares_and_starts_it_again(
    fed: Flask, run: Callable[..., Result], receiver: Receiver
) -> None:
    services = services_of(fed)
    assert "warehouse: never ran" in run("feed", "list").stdout
    assert "feed warehouse never ran" in run("doctor").stdout
    feed = feed_of(services, receiver)
    feed.run_once(datetime.now(UTC))
    stop_topics(services, 2)
    receiver.answers = [410]
    feed()
    assert "paused (answer 410" in run("feed", "list").stdout
    assert "`flask feed resume warehouse`" in run("doctor").stdout
    scraped = fed.test_client().get("/metrics").get_data(as_text=True)
    assert 'preferences_connector_lag_entries{connector="feed.warehouse"} 2.0' in scraped
    assert run("feed", "resume", "warehouse").exit_code == 0
    assert feed()
    assert "running; at entry 2, 0 behind" in run("feed", "list").stdout
    assert "told the 2 entries after 0" in run("feed", "replay", "warehouse").stdout
    assert feed()
    assert receiver.seqs() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("feed", "resume", "nobody"), "there is no feed nobody"),
        (("feed", "replay", "nobody"), "there are: warehouse"),
        (("feed", "replay", "warehouse", "--after", "9"), "the newest entry is 0"),
        (("feed", "replay", "warehouse", "--after", "-1"), "--after"),
    ],
)
def test_a_feed_that_is_not_there_is_one_line(
    run: Callable[..., Result], arguments: tuple[str, ...], words: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('url = "http://warehouse.example.com/in"', "must be https"),
        ('url = "ftp://warehouse.example.com"', "must be an address such as https"),
        ("", "url: Field required"),
        ('url = "https://w.example.com"\nsigning_secrets = []', "signing_secrets"),
        ('url = "https://w.example.com"\nsigning_secrets = ["secret"]', "must be whsec_ and"),
        ('url = "https://w.example.com"\nsigning_secrets = ["whsec_c2hvcnQ="]', "16 octets"),
        ('url = "https://w.example.com"\nother = 1', "other"),
        ('url = "https://w.example.com"\nsigning_secrets = [{ env = "NO_SUCH" }]', "NO_SUCH"),
    ],
)
def test_a_feed_that_is_set_up_wrong_is_refused_by_name(tmp_path: Path, table: str, words: str) -> None:
    path = tmp_path / "config.toml"
    more = "" if "signing_secrets" in table else f'\nsigning_secrets = ["{NEW}"]'
    path.write_text(f"[feeds.warehouse]\n{table}{more}\n")
    with pytest.raises(Misconfigured, match="feed warehouse") as error:
        read_feeds(path, {})
    assert words in str(error.value)
    assert NEW not in str(error.value)


@pytest.mark.parametrize("secrets", [(), ("whsec_*",), ("whsec_",)])
def test_signing_without_a_right_secret_is_ours_to_mend(secrets: tuple[str, ...]) -> None:
    with pytest.raises(Misconfigured, match="signing_secrets"):
        signed_headers(secrets, "id", b"{}", now=NOW)


# The guide.


def test_the_receiver_in_the_guide_takes_each_entry_once_and_no_forgery(services: Services, receiver: Receiver) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "feed.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n([^`]*def take.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    stored: dict[int, Any] = {}
    names: dict[str, Any] = {"SECRET": NEW, "save": lambda entry: stored.setdefault(entry["seq"], entry)}
    exec(compile(code, "docs/feed.md", "exec"), names)
    feed = feed_of(services, receiver)
    assert feed.run_once(datetime.now(UTC)) is Outcome.IDLE
    stop_topics(services, 3)
    run_until_idle(services, feed)
    for headers, body in receiver.taken * 2:
        names["take"](headers, body)
    assert list(stored.values()) == receiver.entries()
    assert len(stored) == 3
    headers, body = receiver.taken[0]
    with pytest.raises(WebhookVerificationError):
        names["take"](headers, body.replace(b"unsubscribe", b"subscribe"))


def follow() -> Callable[[list[dict[str, Any]]], dict[str, str]]:
    """What the guide lets a follower compute from the entries that it has kept."""
    guide = (Path(__file__).parents[2] / "docs" / "feed.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n([^`]*def wishes.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/feed.md", "exec"), names)
    wishes: Callable[[list[dict[str, Any]]], dict[str, str]] = names["wishes"]
    return wishes


def said(who: UUID, verb: Verb, topic: str, **more: Any) -> Act:
    values: dict[str, Any] = {"origin": Origin.PAGE, "actor": Actor.RECIPIENT, "occurred_at": datetime.now(UTC)} | more
    return Act(verb=verb, channel=Channel.EMAIL, who=who, brand="default", topic=topic, **values)


def record_one(services: Services, act: Act) -> Entry:
    (entry,) = services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=datetime.now(UTC))
    return entry


def undo(services: Services, entry: Entry) -> None:
    assert entry.contact_id is not None
    services.database.write(ledger.undo, entry.seq, contact_id=entry.contact_id, now=datetime.now(UTC), details={})


def told_of(services: Services, who: UUID) -> list[dict[str, Any]]:
    """As a follower has kept it, in no order."""
    page = services.database.read(feed_page, 0, 1_000)
    return [entry for entry in reversed(json.loads(json.dumps(page))) if entry["contact"] == str(who)]


def here(services: Services, who: UUID) -> dict[str, str]:
    """What counts here, topic by topic."""
    (state,) = services.database.read(address_states, [who])
    choices = {topic: choice for (_, topic), choice in state.preferences.items()}
    counting = {
        topic: choice if topic.startswith("@") else effective(choice, choices.get(BLANKET))
        for topic, choice in choices.items()
    }
    return {topic: choice.status.value for topic, choice in counting.items() if choice}


def test_a_feed_shows_a_topic_still_opted_out_after_a_blanket_undo(services: Services) -> None:
    who = add_contact(services)
    everything = record_one(services, said(who, Verb.UNSUBSCRIBE, BLANKET))
    assert not record_one(services, said(who, Verb.UNSUBSCRIBE, "offers", origin="api.shop")).changed
    undo(services, everything)
    assert follow()(told_of(services, who)) == here(services, who) == {"offers": "unsubscribed"}


def test_a_follower_learns_of_a_topic_that_an_undo_gives_back(services: Services) -> None:
    who = add_contact(services)
    record_one(services, said(who, Verb.SUBSCRIBE, "offers", trusted=True, basis=Basis.CONSENT))
    everything = record_one(services, said(who, Verb.UNSUBSCRIBE, BLANKET))
    record_one(services, said(who, Verb.UNSUBSCRIBE, "offers", origin="connector.mailer", actor=Actor.SYSTEM))
    undo(services, everything)
    assert follow()(told_of(services, who)) == here(services, who) == {"offers": "subscribed"}


def anything(chance: random.Random, who: UUID) -> Act:
    """A wish by any door and of any time, in ties and echoes too."""
    verb = chance.choice([Verb.SUBSCRIBE, Verb.UNSUBSCRIBE])
    topics = ["product-news", "offers", Purpose.TRACKING.value, *([BLANKET] * 2 if verb is Verb.UNSUBSCRIBE else [])]
    is_echo = verb is Verb.UNSUBSCRIBE and chance.random() < 0.4
    return said(
        who,
        verb,
        chance.choice(topics),
        origin="connector.mailer" if is_echo else chance.choice([Origin.PAGE, "api.shop", Origin.IMPORT]),
        actor=Actor.SYSTEM if is_echo else Actor.RECIPIENT,
        trusted=chance.random() < 0.6,
        basis=Basis.CONSENT if verb is Verb.SUBSCRIBE else None,
        occurred_at=chance.choice(
            [None, *[datetime.now(UTC)] * 3, NOW.replace(microsecond=0), NOW - timedelta(days=chance.randrange(3))]
        ),
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_follower_of_the_guide_decides_as_we_do_whatever_happened(services: Services, seed: int) -> None:
    chance, wishes, who = random.Random(seed), follow(), add_contact(services)
    undone = 0
    for _ in range(12):
        entries = [record_one(services, anything(chance, who)) for _ in range(chance.randrange(1, 4))]
        pressed = chance.choice(entries)
        if pressed.verb is Verb.UNSUBSCRIBE and chance.random() < 0.7:
            topics = ["product-news", "offers", BLANKET] if pressed.topic == BLANKET else [pressed.topic]
            echo = said(who, Verb.UNSUBSCRIBE, chance.choice(topics), origin="connector.mailer", actor=Actor.SYSTEM)
            record_one(services, echo)
        with suppress(NotAllowed):
            undo(services, pressed)
            undone += 1
        assert wishes(told_of(services, who)) == here(services, who)
    assert undone
    assert services.database.snapshot(verify, lambda _rows: None).problems == []
