"""Clients that send slowly, or nothing at all: an owner's opt-out is answered all the same, by the real web server."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

import pytest
from flask import Flask

from preferences.current import services_of
from preferences.domain.vocabulary import BLANKET, Channel, Status
from preferences.services import Services
from preferences.store.contact_state import ChannelKey
from tests.journeys.world import wait_for
from tests.processes import Installation
from tests.support import add_contact, close, email, link_for, new_app, new_sqlite

FORM = "application/x-www-form-urlencoded"
THREADS = 4
SLOW = 40
IDLE = 1_200


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A web process of four threads."""
    folder = tmp_path_factory.mktemp("slow")
    with Installation(folder, new_sqlite(folder), threads=str(THREADS)) as installation:
        installation.web.start()
        yield installation


@pytest.fixture(scope="module")
def app(live: Installation) -> Iterator[Flask]:
    """The same site from the side."""
    app = new_app(live.settings.database_url, public_url=live.url)
    yield app
    close(app)


@pytest.fixture
def services(app: Flask) -> Services:
    return services_of(app)


@pytest.fixture
def owner(services: Services, request: pytest.FixtureRequest) -> UUID:
    return add_contact(services, email(f"owner.{abs(hash(request.node.name))}@example.com"))


def stay_open(live: Installation, stack: ExitStack, request: bytes) -> None:
    """A connection that sends this and no more, until the stack is left."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", live.port), timeout=10))
    connection.sendall(request)


def post_head(path: str, *headers: str) -> bytes:
    """The beginning of a post whose body comes later."""
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {FORM}", *headers, "", "")
    return "\r\n".join(lines).encode()


def click(live: Installation, path: str, body: bytes = b"List-Unsubscribe=One-Click") -> tuple[int, float]:
    """One click: its status, and how long it took."""
    began = time.monotonic()
    connection = live.connect(timeout=20)
    try:
        connection.request("POST", path, body, {"Content-Type": FORM})
        return connection.getresponse().status, time.monotonic() - began
    finally:
        connection.close()


def is_stopped(services: Services, owner: UUID, topic: str = BLANKET) -> bool:
    choice = services.reader.channel_preferences(ChannelKey(owner, Channel.EMAIL, "default")).preferences.get(topic)
    return choice is not None and choice.status is Status.UNSUBSCRIBED


def is_alive(live: Installation) -> bool:
    connection = live.connect(timeout=10)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


ROUTES = {
    "a link that nobody signed": "/u/x",
    "somebody else's link": "",
    "the address box": "/optout",
    "the sign-up form": "/sign-up",
    "the sign-in page": "/sign-in",
    "the API": "/api/v1/acts",
    "the manage page": "/p/x",
}


@pytest.mark.parametrize("length", ["Content-Length: 100", "Transfer-Encoding: chunked"], ids=["length", "chunked"])
@pytest.mark.parametrize("path", ROUTES.values(), ids=ROUTES)
def test_forty_slow_bodies_do_not_stop_an_owner_s_click(
    live: Installation, services: Services, owner: UUID, path: str, length: str
) -> None:
    path = path or link_for(services, add_contact(services, email("holder@example.com")))
    with ExitStack() as stack:
        for _ in range(SLOW):
            stay_open(live, stack, post_head(path, length) + (b"a" if "Length" in length else b"1\r\na\r\n"))
        status, seconds = click(live, link_for(services, owner))
        assert (status, is_stopped(services, owner)) == (200, True)
        assert seconds < 10
        assert is_alive(live)


def test_a_click_whose_body_never_comes_stops_the_mail_all_the_same(
    live: Installation, services: Services, owner: UUID
) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        connection.sendall(post_head(link_for(services, owner), "Content-Length: 26"))
    wait_for("stopped by the link alone", lambda: is_stopped(services, owner))


def test_forms_are_read_again_once_the_slow_clients_have_gone(
    live: Installation, services: Services, owner: UUID
) -> None:
    holder = link_for(services, add_contact(services, email("holder.three@example.com")))
    with ExitStack() as stack:
        for _ in range(SLOW):
            stay_open(live, stack, post_head(holder, "Content-Length: 100"))
        assert is_alive(live)
    status, _ = click(live, link_for(services, owner, "product-news"), b"intent=topic")
    assert status == 200
    assert (is_stopped(services, owner, "product-news"), is_stopped(services, owner)) == (True, False)


def test_a_body_shorter_than_announced_is_not_taken_for_a_whole_one(live: Installation) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as connection:
        connection.sendall(post_head("/link", "Content-Length: 100") + b"address=cut.off@example.com")
        connection.shutdown(socket.SHUT_WR)
        first = connection.recv(100)
    assert not first or first.startswith(b"HTTP/1.1 400 "), "the server may close it without an answer, too"


def test_many_idle_connections_take_no_place_from_a_click(live: Installation, services: Services, owner: UUID) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if min(hard, 65_536) < 2 * IDLE:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * IDLE), hard))
    with ExitStack() as stack:
        for _ in range(IDLE):
            stay_open(live, stack, b"")
        status, seconds = click(live, link_for(services, owner))
        assert (status, is_stopped(services, owner)) == (200, True)
        assert seconds < 10
