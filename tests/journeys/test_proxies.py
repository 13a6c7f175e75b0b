"""The reverse proxies of docs/operator.md, as they stand there, in front of the real web server."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import select

from preferences.current import services_of
from preferences.domain.vocabulary import BLANKET, Channel, Status
from preferences.services import Services
from preferences.store.contact_state import ChannelKey
from preferences.store.tables import evidence
from preferences.store.transactions import Read
from tests.conftest import do_without
from tests.processes import Installation, Process
from tests.servers import free_port
from tests.support import add_contact, close, email, link_for, new_app, new_sqlite

HOST = "preferences.example.com"
GUIDE = Path(__file__).parent.parent.parent / "docs" / "operator.md"
ONE_CLICK = b"List-Unsubscribe=One-Click"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Ports:
    app: int
    http: int
    https: int


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found
    return found[1]


def certificate(folder: Path) -> tuple[Path, Path]:
    paths = folder / "cert.pem", folder / "cert.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"),
            *("-out", str(paths[0]), "-keyout", str(paths[1])),
        ],
        check=True,
        capture_output=True,
    )
    return paths


def nginx(folder: Path, ports: Ports) -> list[str]:
    """The guide's block, with the ports and the certificate of this test, and folders that anybody may write to."""
    pem, key = certificate(folder)
    text = block("nginx")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{ports.app}")
    text = text.replace("listen 80;", f"listen 127.0.0.1:{ports.http};")
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{ports.https} ssl;")
    text = re.sub(r"(ssl_certificate) .*;", rf"\1 {pem};", text)
    text = re.sub(r"(ssl_certificate_key) .*;", rf"\1 {key};", text)
    own = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    top = f"daemon off; pid {folder}/nginx.pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off;\n{own}"
    (folder / "nginx.conf").write_text(f"{top}{text}}}\n")
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", "stderr"]


def caddy(folder: Path, ports: Ports) -> list[str]:
    """The guide's block, with the ports of this test, and a certificate that Caddy makes for itself."""
    text = block("caddyfile")
    own = (
        f"admin off\n local_certs\n skip_install_trust\n auto_https disable_redirects\n storage file_system {folder}\n"
    )
    text = text.replace("{\n", f"{{\n {own} http_port {ports.http}\n https_port {ports.https}\n", 1)
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{ports.app}")
    version = subprocess.run(["caddy", "version"], check=True, capture_output=True, text=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < (2, 6, 3):
        text = text.replace("request_buffers 8MB", "buffer_requests")
    (folder / "Caddyfile").write_text(text)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@dataclass
class Proxied:
    """A site behind a proxy, on this machine."""

    ports: Ports
    services: Services

    def connect(self, *, tls: bool = True) -> http.client.HTTPConnection:
        if not tls:
            return http.client.HTTPConnection("127.0.0.1", self.ports.http, timeout=20)
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", self.ports.https, timeout=20, context=context)
        raw = socket.create_connection(("127.0.0.1", self.ports.https), timeout=20)
        connection.sock = context.wrap_socket(raw, server_hostname=HOST)
        return connection

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        tls: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str]]:
        connection = self.connect(tls=tls)
        try:
            connection.request(method, path, body, {"Host": HOST, **FORM, **(headers or {})})
            response = connection.getresponse()
            response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}
        finally:
            connection.close()


PROXIES: dict[str, Callable[[Path, Ports], list[str]]] = {"nginx": nginx, "caddy": caddy}


@pytest.fixture(scope="module", params=PROXIES)
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """The web server with four threads, and the proxy in front."""
    if shutil.which(request.param) is None:
        do_without(f"no {request.param} found")
    folder = tmp_path_factory.mktemp(request.param)
    url = f"https://{HOST}"
    with (
        Installation(folder, new_sqlite(folder), threads="4", public_url=url, TRUSTED_PROXIES="1") as live,
        ExitStack() as stack,
    ):
        live.web.start()
        ports = Ports(live.port, free_port(), free_port())
        app: Flask = new_app(live.settings.database_url, public_url=url)
        stack.callback(close, app)
        proxied = Proxied(ports, services_of(app))
        command = PROXIES[request.param](folder, ports)
        proxy = Process(command, {}, folder / "proxy.log", is_ready=lambda: answers(proxied))
        stack.callback(proxy.kill)
        proxy.start()
        yield proxied


def answers(proxied: Proxied) -> bool:
    try:
        return proxied.send("GET", "/healthz")[0] == 200
    except OSError:
        return False


@pytest.fixture
def owner(proxied: Proxied, request: pytest.FixtureRequest) -> UUID:
    return add_contact(proxied.services, email(f"owner.{abs(hash(request.node.name))}@example.com"))


def is_stopped(services: Services, owner: UUID) -> bool:
    choice = services.reader.channel_preferences(ChannelKey(owner, Channel.EMAIL, "default")).preferences.get(BLANKET)
    return choice is not None and choice.status is Status.UNSUBSCRIBED


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
def test_one_click_goes_through_without_a_redirect(proxied: Proxied, owner: UUID, *, tls: bool) -> None:
    status, headers = proxied.send("POST", link_for(proxied.services, owner), ONE_CLICK, tls=tls)
    assert (status, "location" in headers, is_stopped(proxied.services, owner)) == (200, False, True)


def test_slow_bodies_wait_in_the_proxy_and_forms_are_read(proxied: Proxied, owner: UUID) -> None:
    head = (
        f"POST /optout HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {FORM['Content-Type']}\r\nContent-Length: 100\r\n\r\na"
    )
    with ExitStack() as stack:
        for _ in range(40):
            connection = proxied.connect(tls=False)
            stack.callback(connection.close)
            connection.connect()
            assert connection.sock
            connection.sock.sendall(head.encode())
        status, _ = proxied.send(
            "POST", link_for(proxied.services, owner, "product-news"), b"intent=topic", headers={"Accept": "text/html"}
        )
        wishes = proxied.services.reader.channel_preferences(ChannelKey(owner, Channel.EMAIL, "default")).preferences
        assert (status, set(wishes)) == (200, {"product-news"}), "the form was read, not only the link"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X_Forwarded_For", "X-Forwarded_For", "Forwarded"])
def test_nobody_can_write_the_address_they_come_from(proxied: Proxied, owner: UUID, name: str) -> None:
    proxied.send("POST", link_for(proxied.services, owner), ONE_CLICK, headers={name: "203.0.113.7"})
    kept = proxied.services.database.read(newest_evidence)
    assert ("127.0.0.0/24" in kept, "203.0.113" in kept) == (True, False)


def newest_evidence(read: Read) -> str:
    newest = select(evidence.c.details).order_by(evidence.c.seq.desc()).limit(1)
    return str(read.execute(newest).scalar_one())


def test_a_visitor_by_https_gets_a_secure_session(proxied: Proxied) -> None:
    status, headers = proxied.send("GET", "/account/")
    assert status == 303
    assert headers["location"].startswith("/sign-in"), "relative, so that no proxy can make it wrong"


def test_the_counters_are_not_seen_from_outside(proxied: Proxied) -> None:
    assert proxied.send("GET", "/metrics")[0] == 404
