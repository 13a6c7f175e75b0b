"""The self-test of one click: a right site passes it whole, and each thing that can be wrong is found by its rule."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import pytest

from preferences.checks import selftest
from preferences.checks.selftest import PAIR, SHAPES, Canary, Check, Prober
from tests.processes import Installation, contents
from tests.servers import PostgresServer, free_port
from tests.support import new_postgresql, new_sqlite

TOKEN = "canary-0123456789abcdefghij"


@pytest.fixture(params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """A real web process, on both engines."""
    if request.param == "sqlite":
        url = new_sqlite(tmp_path)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = new_postgresql(server)
    with Installation(tmp_path, url) as services:
        services.web.start()
        yield services


def test_our_own_site_passes_with_canaries(live: Installation) -> None:
    done = live.flask("selftest", "oneclick", "--url", live.url)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == []
    assert {line.split()[1] for line in lines[:-1]} == {*(shape.rule for shape in SHAPES), *LATER}
    assert lines[-1].startswith("0 failed.")
    assert "stay opted out" in lines[-1]
    assert "@" not in done.stdout + done.stderr
    assert "/u/" not in done.stdout + done.stderr + live.web.output()
    addresses = contents(live.settings.database_url)["address"]
    assert len(addresses) == sum(shape.acts is not False for shape in SHAPES) + 4, "one for each call that stops mail"
    assert all(".invalid" in one for one in addresses), "only canaries are made"


LATER = {"O-04", "O-05", "O-06", "O-08", "O-10", "O-12", "O-15", "O-17", "H-04"}


def test_public_url_is_what_is_called_when_nothing_is_said(live: Installation) -> None:
    live.web.stop()
    done = live.flask("selftest", "oneclick")
    assert done.returncode == 1
    assert "no answer (ConnectionRefusedError)" in done.stdout


class Server(ThreadingHTTPServer):
    request_queue_size = 64


class Stub:
    """A site of one link, right in everything but what is asked of it: `broken` names that."""

    def __init__(self, broken: str) -> None:
        self.broken = broken
        self.gone: set[str] = set()
        self.hosts: set[str] = set()
        self._lock = threading.Lock()
        self.one_at_a_time = threading.Lock()
        self._made = 0

    def canary(self) -> Canary:
        with self._lock:
            self._made += 1
            token = f"{TOKEN}-{self._made:04}"
        return Canary(token, lambda: token in self.gone, lambda: self.broken != "transactional")

    def checks(self) -> list[Check]:
        return list(Prober(self.url, self.canary).checks())

    def __enter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._server = Server(("127.0.0.1", port), handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def handler_of(stub: Stub) -> type[BaseHTTPRequestHandler]:
    """Answers for the stub."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one piece: the second of two would wait for the client's kernel

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
            """Say nothing."""

        def do_GET(self) -> None:
            self.read_body()
            if stub.broken == f"{self.command} acts":
                stub.gone.add(self.token)
            if stub.broken == "page is plain":
                self.say(200, b"Hello")
            else:
                headers = {} if stub.broken == "no headers" else PAGE
                self.say(200, b"<form></form>", {"Content-Type": "text/html", **headers})

        do_HEAD = do_OPTIONS = do_GET  # noqa: N815

        def do_POST(self) -> None:
            body = self.read_body()
            if stub.broken == "Origin is checked" and self.headers["Origin"]:
                self.say(403)
            elif stub.broken == "slash redirects" and self.path.endswith("/"):
                self.say(308, headers={"Location": self.path.rstrip("/")})
            elif stub.broken == "fails":
                self.say(500)
            elif not self.token.startswith(TOKEN) or len(self.token) != len(TOKEN) + 5 or not is_made(self.token):
                self.say(404, self.token.encode() if stub.broken == "bad links differ" else b"")
            else:
                if self.acts(body):
                    stub.gone.add(self.token)
                self.say(200, headers={"Set-Cookie": "a=b"} if stub.broken == "cookies" else {})

        def acts(self, body: bytes) -> bool:
            if stub.broken == "multipart is not read":
                return PAIR in body
            if stub.broken == "Content-Type is needed":
                return self.headers["Content-Type"] is not None
            return stub.broken != "nothing happens"

        def do_PUT(self) -> None:
            self.read_body()
            if stub.broken == "PUT is taken":
                self.say(200)
            else:
                self.say(405, headers={"Allow": "GET, POST"})

        do_DELETE = do_PATCH = do_PUT  # noqa: N815

        @property
        def token(self) -> str:
            return urlsplit(self.path).path.split("/")[2]

        def read_body(self) -> bytes:
            stub.hosts.add(self.headers["Host"])
            if stub.broken == "one body at a time":
                with stub.one_at_a_time:
                    return self.whole_body()
            return self.whole_body()

        def whole_body(self) -> bytes:
            if self.headers["Transfer-Encoding"] != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"] or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def say(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def is_made(token: str) -> bool:
        return token[-4:].isdigit() and 0 < int(token[-4:]) <= stub._made

    return Handler


PAGE = {
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def test_a_right_stub_passes_so_each_break_below_is_the_only_one() -> None:
    with Stub("") as stub:
        assert [one for one in stub.checks() if not one.passed] == []


@pytest.mark.parametrize(
    ("broken", "rules"),
    [
        ("nothing happens", {"O-01", "O-02", "O-03", "O-04", "O-06", "O-09", "O-12", "O-16", "O-17"}),
        ("multipart is not read", {"O-02", "O-09", "O-16"}),
        ("Content-Type is needed", {"O-09"}),
        ("Origin is checked", {"O-03"}),
        ("slash redirects", {"O-04"}),
        ("cookies", {"O-05"}),
        ("GET acts", {"O-07"}),
        ("HEAD acts", {"O-07"}),
        ("OPTIONS acts", {"O-07"}),
        ("page is plain", {"O-08", "H-04"}),
        ("no headers", {"H-04"}),
        ("bad links differ", {"O-10"}),
        ("transactional", {"O-12"}),
        ("PUT is taken", {"O-16"}),
        ("fails", {"O-01", "O-02", "O-03", "O-04", "O-06", "O-09", "O-10", "O-12", "O-16", "O-17"}),
    ],
)
def test_each_break_is_found_by_its_rule(broken: str, rules: set[str]) -> None:
    with Stub(broken) as stub:
        checks = stub.checks()
    assert {one.rule for one in checks if not one.passed} == rules, checks


def test_a_site_that_slow_bodies_block_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "SECONDS", 1.0)
    with Stub("one body at a time") as stub:
        checks = stub.checks()
    assert [one.rule for one in checks if not one.passed] == ["O-17"]


def test_a_link_that_is_given_is_judged_by_its_answers_alone() -> None:
    with Stub("nothing happens") as stub:
        token = stub.canary().token
        checks = list(Prober(stub.url, lambda: Canary(token)).checks())
    assert [one for one in checks if not one.passed] == []
    assert any("not looked at" in one.title for one in checks)


def test_nothing_else_is_called_and_no_answer_is_followed() -> None:
    with Stub("slash redirects") as stub:
        stub.checks()
    assert len(stub.hosts) == 1
    assert stub.hosts == {urlsplit(stub.url).netloc}


def test_a_site_that_does_not_answer_fails_without_an_error() -> None:
    checks = list(Prober(f"http://127.0.0.1:{free_port()}", lambda: Canary(TOKEN)).checks())
    assert all(one.trouble.startswith("no answer") for one in checks if one.rule == "O-01")
    assert TOKEN not in repr(checks)
