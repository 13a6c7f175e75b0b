"""Limits: whoever does whatever, however often, an opt-out that would change something is taken."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from standardwebhooks.webhooks import Webhook

from preferences.current import services_of
from preferences.domain.consent import effective, is_stopped
from preferences.domain.records import Act, Preference
from preferences.domain.vocabulary import BLANKET, Actor, Basis, Channel, Origin, Purpose, Status, Verb
from preferences.people.rate_limits import NewAddressLimit
from preferences.services import Services
from preferences.store import feed
from preferences.store.contact_state import ChannelKey
from preferences.web.proxies import read_address
from preferences.web.shared.evidence import shorten_ip
from preferences.web.shared.limits import limiter
from tests.processes import contents
from tests.support import add_contact, close, email, link_for, manage_link_for, new_app, new_sqlite

BROWSER = {"Accept": "text/html"}
JANE = "jane.doe@example.com"
FLOOD = 130
"""More than any limit of a minute."""


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite alone: limits are counted in the process, and never in the database."""
    return new_sqlite(tmp_path)


@pytest.fixture(autouse=True)
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a test happens in the same minute, however long it takes."""
    monkeypatch.setattr("preferences.people.rate_limits.time.monotonic", lambda: 6_000.0)


@pytest.fixture
def jane(services: Services) -> UUID:
    return add_contact(services, email(JANE))


def press(client: FlaskClient, path: str, intent: str) -> int:
    return client.post(path, data={"intent": intent}, headers=BROWSER).status_code


def choices_of(services: Services, contact_id: UUID) -> Mapping[str, Preference]:
    return services.reader.channel_preferences(ChannelKey(contact_id, Channel.EMAIL, "default")).preferences


def count_entries(services: Services) -> int:
    return len(services.database.read(feed.entries_after, 0, 10_000))


def test_an_owner_s_click_is_taken_after_any_number_of_posts_about_a_topic(
    client: FlaskClient, services: Services, jane: UUID
) -> None:
    path = link_for(services, jane)
    assert {press(client, path, "topic") for _ in range(FLOOD)} == {200, 429}
    assert client.post(path).status_code == 200
    assert is_stopped(choices_of(services, jane), BLANKET)


def test_a_click_that_changes_nothing_is_never_answered_as_failed(
    client: FlaskClient, services: Services, jane: UUID
) -> None:
    path = link_for(services, jane)
    answers = [client.post(path) for _ in range(FLOOD)]
    assert {answer.status_code for answer in answers} == {200}
    assert count_entries(services) < FLOOD, "and it does not fill the ledger"
    assert "Reference" in answers[-1].text


@pytest.mark.parametrize("topic", ["product-news", Purpose.TRACKING.value])
@pytest.mark.parametrize("door", ["one-click", "address box", "page"])
def test_an_opt_out_after_a_flood_and_a_return_counts(
    client: FlaskClient, services: Services, jane: UUID, topic: str, door: str
) -> None:
    path = link_for(services, jane)
    leave = {
        "one-click": partial(client.post, path),
        "address box": partial(client.post, "/optout", data={"address": JANE}),
        "page": partial(client.post, manage_link_for(services, jane), data={"intent": "all"}),
    }[door]
    for _ in range(FLOOD):
        client.post(path)
        leave()
    services.writer.record([yes(jane, topic)])
    assert counting(services, jane, topic) is Status.SUBSCRIBED
    assert leave().status_code == 200
    assert counting(services, jane, topic) is Status.UNSUBSCRIBED


def counting(services: Services, contact_id: UUID, topic: str) -> Status | None:
    choices = choices_of(services, contact_id)
    choice = effective(choices.get(topic), choices.get(BLANKET))
    return choice.status if choice else None


@pytest.mark.parametrize("junk", ["", "nobody", "junk.{}@example.com"], ids=["empty", "no address", "addresses"])
def test_posts_of_junk_do_not_use_up_the_address_box(
    client: FlaskClient, services: Services, jane: UUID, junk: str
) -> None:
    statuses = {client.post("/optout", data={"address": junk.format(number)}).status_code for number in range(70)}
    assert statuses <= {200, 400}
    assert client.post("/optout", data={"address": JANE}).status_code == 200
    assert is_stopped(choices_of(services, jane), BLANKET)


def test_an_address_typed_repeatedly_does_not_fill_the_ledger(client: FlaskClient, services: Services) -> None:
    answers = [client.post("/optout", data={"address": JANE}) for _ in range(FLOOD)]
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1
    assert count_entries(services) < FLOOD


STRANGERS: Final = 20
"""The ceiling of these tests: the real one is 600."""


def type_strangers(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preferences.people.rate_limits._minute", lambda: 7)
    monkeypatch.setattr("preferences.people.opt_outs.new_addresses", NewAddressLimit(per_minute=STRANGERS))
    for number in range(STRANGERS + 10):
        client.post("/optout", data={"address": f"nobody.{number}@example.com"})


def test_new_addresses_do_not_fill_the_database(
    client: FlaskClient, services: Services, jane: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_strangers(client, monkeypatch)
    assert count_entries(services) == STRANGERS
    assert len(contents(services.settings.database_url)["contact"]) == STRANGERS + 1, "and Jane"


def test_who_is_known_stops_mail_however_many_new_ones_are_typed(
    client: FlaskClient, services: Services, jane: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_strangers(client, monkeypatch)
    known = client.post("/optout", data={"address": JANE})
    assert is_stopped(choices_of(services, jane), BLANKET)
    unknown = client.post("/optout", data={"address": "nobody@example.com"})
    assert (known.status_code, known.text) == (unknown.status_code, unknown.text), "nor does it tell who is known"
    assert unknown.status_code == 429
    assert "try again in a minute, or write to" in unknown.text
    assert "hello@maple-and-finch.example" in unknown.text


def test_a_new_address_is_accepted_again_in_the_next_minute(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_strangers(client, monkeypatch)
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1)):
        assert client.post("/optout", data={"address": "nobody@example.com"}).status_code == 429, "a clock can be set"
    monkeypatch.setattr("preferences.people.rate_limits._minute", lambda: 8)
    assert client.post("/optout", data={"address": "nobody@example.com"}).status_code == 200
    assert count_entries(services) == STRANGERS + 1


@pytest.mark.parametrize("intent", ["all", "all-brands", "save"])
def test_a_manage_link_stops_mail_after_any_number_of_its_posts(
    client: FlaskClient, services: Services, jane: UUID, intent: str
) -> None:
    path = manage_link_for(services, jane)
    off = {"intent": "save", "set.email.product-news.status": "off", "was.email.product-news.status": "on"}
    for _ in range(FLOOD):
        client.post(path, data=off)
    assert count_entries(services) < FLOOD
    client.post(path, data={"intent": intent, "set.email.offers.status": "off", "was.email.offers.status": "on"})
    assert is_stopped(choices_of(services, jane), "offers" if intent == "save" else BLANKET)


def yes(contact_id: UUID, topic: str) -> Act:
    """A trusted yes to a topic or a purpose, newer than everything."""
    return Act(
        verb=Verb.SUBSCRIBE,
        channel=Channel.EMAIL,
        who=contact_id,
        brand="default",
        topic=topic,
        basis=Basis.CONSENT,
        origin=Origin.ACCOUNT,
        actor=Actor.RECIPIENT,
        occurred_at=datetime.now(UTC),
        trusted=True,
        evidence={"user_agent": "test"},
    )


# Where a request comes from.


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4123", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:DB8::1]:443"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        *(
            (text, "")
            for text in ("", "unknown", "_hidden", "203.0.113.7.8", "203.0.113.07:1", "[", "[]:1", "::1::", "a:b")
        ),
    ],
)
def test_an_address_is_read_as_proxies_write_it(written: str, read: str) -> None:
    assert read_address(written) == read


def test_ipv4_by_ipv6_is_its_own_network() -> None:
    assert shorten_ip("::ffff:203.0.113.7") == shorten_ip("::ffff:cb00:7107") == "203.0.113.0/24"
    assert shorten_ip("2001:db8:1:2::3") == "2001:db8:1::/48"


PROXY = "192.0.2.1"


def sign_up_until_refused(app: Flask, forwarded: str, peer: str = PROXY) -> int:
    """How many sign-ups are taken when each comes with another client port."""
    client = app.test_client()
    limiter.reset()
    for number in range(45):
        headers = {"X-Forwarded-For": forwarded.format(number)}
        answer = client.post(
            "/sign-up", data={"address": f"{number}@example.com"}, headers=headers, environ_base={"REMOTE_ADDR": peer}
        )
        if answer.status_code == 429:
            return number
    return 45


@pytest.fixture
def behind_a_proxy(tmp_path: Path) -> Iterator[Flask]:
    app = new_app(new_sqlite(tmp_path), trusted_proxies=1)
    with app.app_context():
        yield app
    close(app)


@pytest.mark.parametrize(
    "forwarded",
    [
        "203.0.113.7:{}",
        "[2001:db8::1]:{}",
        "unknown",
        "",
        "junk-{}",
        "198.51.100.{}, 203.0.113.7",
        "::ffff:203.0.113.{}",
    ],
)
def test_there_is_always_a_limit_whatever_the_proxy_writes(behind_a_proxy: Flask, forwarded: str) -> None:
    assert sign_up_until_refused(behind_a_proxy, forwarded) == 20


def test_requests_without_any_address_share_a_limit(behind_a_proxy: Flask) -> None:
    assert sign_up_until_refused(behind_a_proxy, "", peer="") == 20


def test_without_trusted_proxies_nobody_can_write_their_address(sqlite_app: Flask) -> None:
    with sqlite_app.app_context():
        assert sign_up_until_refused(sqlite_app, "203.0.{}.7") == 20


# Under which names the site is reached.

PATHS = ("/", "/optout", "/sign-up", "/sign-in", "/link", "/account/", "/api/v1/entries", "/p/x", "/static/style.css")


def test_a_foreign_host_is_refused_on_every_page(sqlite_app: Flask) -> None:
    client = sqlite_app.test_client()
    for host in ("evil.example", "preferences.example.test.evil.example", "203.0.113.7:8000", "[::1]"):
        for path in PATHS:
            answer = client.get(path, headers={"Host": host})
            assert answer.status_code == 400
            assert "evil" not in answer.text


def test_our_own_host_is_answered_however_it_is_written(sqlite_app: Flask) -> None:
    name = "preferences.example.test"
    for host in (name, f"{name.upper()}:443", f"{name}."):
        assert sqlite_app.test_client().get("/optout", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_may_call_by_address(sqlite_app: Flask, path: str) -> None:
    assert sqlite_app.test_client().get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_a_provider_reports_under_whatever_name_it_was_given(tmp_path: Path) -> None:
    secret = "whsec_" + base64.b64encode(b"the secret of the shop's platform").decode()
    config_file = tmp_path / "config.toml"
    config_file.write_text(
        f'[connectors.shop]\nkind = "webhook"\nbase_url = "https://shop.example"\nwebhook_secrets = ["{secret}"]\n'
    )
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    at, data = datetime.now(UTC), {"channel": "email", "address": JANE}
    body = json.dumps({"type": "complaint", "timestamp": at.isoformat(), "data": data})
    proof = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, body),
    }
    call = partial(app.test_client().post, "/webhooks/shop", data=body)
    assert call(headers={"Host": "alias.example"}).status_code == 401, "its proof alone counts"
    assert call(headers={"Host": "alias.example", **proof}).status_code == 200
    assert count_entries(services_of(app)) == 1
    close(app)


def test_a_link_that_was_mailed_under_another_host_stops_mail(
    client: FlaskClient, services: Services, jane: UUID
) -> None:
    answer = client.post(link_for(services, jane), headers={"Host": "old-name.example"})
    assert answer.status_code == 200
    assert is_stopped(choices_of(services, jane), BLANKET)


def test_a_redirect_names_no_host(sqlite_app: Flask) -> None:
    for path in ("/account", "/account/"):
        place = sqlite_app.test_client().get(path).headers["Location"]
        assert place.startswith("/")
        assert not place.startswith("//")
