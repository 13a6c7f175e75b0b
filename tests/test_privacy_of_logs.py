"""What the processes write down of a whole journey: what happened, and nothing about anybody."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

import pytest
from standardwebhooks.webhooks import Webhook

from preferences.domain.vocabulary import KeyScope
from tests.mail_sink import MailSink
from tests.processes import Installation, Process, contents
from tests.servers import PostgresServer, free_port
from tests.support import new_postgresql

WEBHOOK_SECRET = "whsec_Y2FuYXJ5LXNlY3JldC1vZi10aGUtd2ViaG9vaw=="
SIGNING_SECRET = "whsec_Y2FuYXJ5LXNlY3JldC1vZi1vdXItb3duIQ=="
BROWSER = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html", "User-Agent": "Canary/1.0"}

CONFIG = """
[connectors.talkative]
kind = "webhook"
base_url = "http://127.0.0.1:{talkative}/canary-path"
api_key = "canary-api-key"
signing_secrets = ["{signing}"]
webhook_secrets = ["{webhook}"]
[connectors.talkative.topics]
"product-news" = "canary-list"
"*" = "canary-global"

[connectors.gone]
kind = "webhook"
base_url = "http://127.0.0.1:{gone}"
signing_secrets = ["{signing}"]
[connectors.gone.topics]
"*" = "canary-global"
"""

ALL_SCOPES = [part for scope in KeyScope for part in ("--scope", scope)]


class Talkative(BaseHTTPRequestHandler):
    """A platform that answers everything by repeating what it was told, and refuses half of it."""

    told: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        changes = json.loads(body)["data"]["changes"]
        self.told.extend(change["address"] for change in changes)
        refused = [
            {"contact": change["contact"], "why": f"no such person: {change['address']}"} for change in changes[::2]
        ]
        self._answer(200, json.dumps({"rejected": refused}).encode())

    def do_GET(self) -> None:
        self._answer(500, b"canary.talkative@example.com cannot be listed")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: this is a test's platform."""


@pytest.fixture
def talkative() -> Iterator[int]:
    """The port of a platform that says too much."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Talkative)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


class Caller:
    """Somebody who calls, and remembers everything private that was said or heard."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self.private: set[str] = set()

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        """The status and the text of the answer; of one without a text, where it leads."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(self._installation.connect()) as connection:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.read().decode() or answer.headers.get("Location", "")

    def form(self, path: str, **fields: str) -> tuple[int, str]:
        return self.call("POST", path, urlencode(fields).encode(), **BROWSER)

    def api(self, path: str, key: str, **body: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        status, text = self.call("POST", f"/api/v1/{path}", json.dumps(body).encode(), **headers)
        return status, json.loads(text)

    def report(self, secret: str, **data: str) -> int:
        message_id, now = f"canary-msg-{secrets.token_hex(4)}", datetime.now(UTC)
        body = json.dumps({"type": "unsubscribe", "timestamp": now.isoformat(), "data": data})
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(message_id, now, body),
        }
        self.private.add(headers["webhook-signature"])
        return self.call("POST", "/webhooks/talkative", body.encode(), **headers)[0]


def mailing(caller: Caller, key: str, *addresses: str) -> list[dict[str, Any]]:
    """A shop gets links for its mail."""
    status, answer = caller.api(
        "links", key, channel="email", topic="product-news", message_ref="canary-ref", addresses=addresses
    )
    assert status == 200
    for link in answer["links"]:
        caller.private |= {urlsplit(link[name]).path.split("/")[2] for name in ("unsubscribe_url", "manage_url")}
    return answer["links"]


def recipients(caller: Caller, links: list[dict[str, Any]]) -> None:
    """People leave, return, say why, and make mistakes."""
    first, second = (urlsplit(link["unsubscribe_url"]).path for link in links[:2])
    manage = urlsplit(links[2]["manage_url"]).path
    assert caller.call("GET", first)[0] == 200
    assert caller.call("POST", first, b"List-Unsubscribe=One-Click", **{"User-Agent": "canary@agent.example"})[0] == 200
    status, done = caller.form(second, intent="all")
    (undo,) = re.findall(r'name="undo" value="([^"]+)"', done)
    caller.private.add(undo)
    assert status == 200
    assert caller.form(f"{second}/reason", reason="other")[0] == 200
    assert caller.form(f"{second}/undo", undo=undo)[0] == 200
    assert caller.form(f"{second}/undo", undo=undo)[0] == 409
    assert caller.form(manage, intent="topic", topic="product-news")[0] == 200
    assert caller.form("/optout", address="canary.box@example.com")[0] == 200
    assert caller.form("/optout", address="canary.mistake@")[0] == 400
    assert caller.call("GET", f"{first}x?mail=canary.query@example.com")[0] == 404
    assert caller.call("POST", f"{first}x", b"canary.body@example.com")[0] == 404
    assert caller.call("DELETE", first)[0] == 405
    assert caller.call("GET", "/canary.path@example.com")[0] == 404


def doors(caller: Caller, key: str, mail: MailSink) -> None:
    """People sign up, lose their link, sign in, are handed over, and cannot be written to."""
    mail.refusals.add("canary.refused@example.com")
    for address in ("canary.newcomer@example.com", "canary.refused@example.com"):
        assert caller.form("/sign-up", topic="offers", address=address)[0] == 200
    confirm = private_path(caller, mail, "canary.newcomer@example.com")
    assert caller.call("GET", confirm)[0] == 200
    assert caller.form(confirm)[0] == 200
    assert caller.form("/link", address="canary.one@example.com")[0] == 200
    assert caller.call("GET", private_path(caller, mail, "canary.one@example.com"))[0] == 200
    status, code_page = caller.form("/sign-in", address="canary.one@example.com")
    sign_in = code_page.rpartition("/")[2]
    assert caller.call("GET", code_page)[0] == 200
    letter = mail.wait_for("canary.one@example.com", 2)
    caller.private |= {sign_in, letter.code, urlsplit(letter.url).path.split("/")[-1]}
    wrong = "000000" if letter.code != "000000" else "111111"
    assert (status, caller.form(code_page, code=wrong)[0]) == (303, 400)
    assert caller.form(code_page, code=letter.code)[0] == 303
    status, handed = caller.api("hand-offs", key, address="canary.two@example.com")
    caller.private.add(path := urlsplit(handed["url"]).path)
    assert (status, caller.call("GET", path)[0], caller.form(path)[0]) == (200, 200, 303)


def private_path(caller: Caller, mail: MailSink, address: str) -> str:
    """Where the letter to this address leads, noted as something that must not be told."""
    path = urlsplit(mail.wait_for(address).url).path
    caller.private.add(path.split("/")[-1])
    return path


def machines(caller: Caller, key: str) -> None:
    """Systems ask, report, and make mistakes."""
    addresses = ["canary.one@example.com", "canary.new@example.com", "canary at nowhere"]
    question = {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": addresses}
    assert caller.api("decisions", key, **question)[0] == 200
    assert caller.api("decisions", "canary-wrong-key", **question)[0] == 401
    assert caller.api("decisions", key, **(question | {"canary@field": 1}))[0] == 422
    assert caller.api("links", key, channel="email", topic="offers", addresses=addresses)[0] == 422
    assert caller.api("links", key, channel="sms", topic="product-news", addresses=["+12025550177"])[0] == 200
    assert caller.report(WEBHOOK_SECRET, address="canary.reported@example.com", list="canary-list") == 200
    assert caller.report(WEBHOOK_SECRET, address="canary.unmapped@example.com", list="canary-other") == 200
    assert caller.report(WEBHOOK_SECRET, address="canary.unreadable", list="canary-list") == 503
    assert caller.report(SIGNING_SECRET, address="canary.forged@example.com", list="canary-list") == 401


def faults(caller: Caller, worker: Process, key: str, link: str, *, server: PostgresServer, database: str) -> None:
    """The database dies, comes back, and is then damaged."""
    server.stop("immediate")
    assert caller.form(link, intent="all")[0] == 503
    assert caller.call("POST", link)[0] == 503
    assert caller.form("/optout", address="canary.away@example.com")[0] == 503
    question = {"channel": "email", "class": "marketing", "topic": "offers", "addresses": ["canary.away@example.com"]}
    assert caller.api("decisions", key, **question)[0] == 200
    assert caller.report(WEBHOOK_SECRET, address="canary.away@example.com", list="canary-list") == 503
    wait_until(lambda: "the database cannot be reached" in worker.output())
    server.start()
    assert caller.call("POST", link)[0] == 200
    with server.connect(database) as connection:
        connection.execute("ALTER TABLE preference RENAME COLUMN status TO canary_status")
    assert caller.form(link, intent="all")[0] == 500
    assert caller.call("POST", link)[0] == 500
    assert caller.form("/optout", address="canary.broken@example.com")[0] == 500
    assert caller.report(WEBHOOK_SECRET, address="canary.broken@example.com", list="canary-list") == 503
    assert caller.api("decisions", key, **question)[0] == 500
    time.sleep(1)  # the worker too shall meet it


def test_a_whole_journey_leaves_nothing_about_anybody_in_the_output(
    postgres: PostgresServer, talkative: int, tmp_path: Path
) -> None:
    config = CONFIG.format(talkative=talkative, gone=free_port(), signing=SIGNING_SECRET, webhook=WEBHOOK_SECRET)
    with PostgresServer(postgres.binaries) as server:
        url = new_postgresql(server)
        with MailSink() as mail, Installation(tmp_path, url, connectors=config, SMTP_URL=mail.url) as installation:
            installation.web.start()
            installation.worker.start()
            key = installation.flask("api-key", "create", "shop", *ALL_SCOPES).stdout.strip()
            caller = Caller(installation)
            links = mailing(caller, key, *(f"canary.{name}@example.com" for name in ("one", "two", "three")))
            recipients(caller, links)
            machines(caller, key)
            doors(caller, key, mail)
            wait_until(lambda: "email refused" in installation.worker.output())
            wait_until(lambda: "canary.reported@example.com" in str(contents(url)["address"]))
            wait_until(lambda: "canary.one@example.com" in Talkative.told)
            wait_until(lambda: "connector stopped" in installation.worker.output())
            link, database = urlsplit(links[0]["unsubscribe_url"]).path, url.rpartition("/")[2]
            faults(caller, installation.worker, key, link, server=server, database=database)
            output = installation.web.output() + installation.worker.output()
            keys = [
                *installation.settings.secret_keys,
                *installation.settings.link_keys,
                *installation.settings.fingerprint_keys,
            ]

    told = {json.loads(line)["event"] for line in output.splitlines() if line.startswith("{")}
    assert told >= {
        "request failed",
        "webhook refused",
        "webhook not understood",
        "worker started",
        "connector stopped",
        "email sent",
        "email refused",
        "the database cannot be reached",
    }, "it does say what happened"
    assert "@" not in output
    assert "canary" not in output.lower()
    assert "2025550177" not in output
    for secret in [*caller.private, *keys, key, WEBHOOK_SECRET, SIGNING_SECRET, server.password]:
        assert secret not in output
    assert "Traceback" not in installation.web.output()


def wait_until(happened: Any) -> None:
    deadline = time.monotonic() + 15
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
