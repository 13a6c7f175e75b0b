"""What `make run` prepares before it starts anything."""

from __future__ import annotations

import re
import socket
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from sandbox import demo, offers
from sandbox.config import CONTACTS_FILE, Config, read_people

PORTS = {"WEB_PORT": 8000, "SANDBOX_PORT": 8025, "SANDBOX_SMTP_PORT": 8026}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "LINK_KEYS", "CONFIG_FILE", "FINGERPRINT_KEYS", *PORTS):
        monkeypatch.delenv(name, raising=False)
    demo.INSTANCE.mkdir()


def settings(ports: dict[str, int] | None = None) -> dict[str, str]:
    """One start's settings, written down as a start does."""
    found = demo._settings(demo._read_settings(), ports or PORTS)
    demo._write_settings(found)
    return found


def test_settings_are_made_once_and_for_the_owner_alone() -> None:
    first = settings()
    assert demo.SETTINGS_FILE.stat().st_mode & 0o777 == 0o600
    assert settings() == first
    keys = [first[name] for name in first if "KEY" in name or "SECRET" in name]
    assert len(keys) == len(set(keys)) == 6
    assert all(len(key) >= 43 for key in keys)


def test_addresses_follow_the_ports_and_keys_stay() -> None:
    first = settings()
    moved = settings({"WEB_PORT": 9000, "SANDBOX_PORT": 9025, "SANDBOX_SMTP_PORT": 9026})
    assert moved["PUBLIC_URL"] == "http://127.0.0.1:9000"
    assert moved["LINK_KEYS"] == first["LINK_KEYS"]


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/prefs")
    assert settings()["DATABASE_URL"] == "postgresql://db/prefs"


def test_settings_are_enough_for_the_sandbox() -> None:
    demo._make_dkim_key()
    config = Config.from_env({**settings(), demo.API_KEY: "key"})
    assert config.people == read_people(CONTACTS_FILE)
    assert len(config.people) == 12
    assert config.people[0].name == "Ada Brook"


def test_a_database_without_its_keys_is_not_started(capsys: pytest.CaptureFixture[str]) -> None:
    demo.DATABASE_FILE.touch()
    with pytest.raises(SystemExit):
        settings()
    assert "instance/demo.env" in capsys.readouterr().err


def test_connectors_are_written_once_and_then_only_moved() -> None:
    path = demo.CONNECTORS_FILE
    assert settings()["CONFIG_FILE"] == str(path)
    demo._write_connectors(settings())
    connector = tomllib.loads(path.read_text())["connectors"]["sandbox"]
    assert connector["base_url"] == "http://127.0.0.1:8025/platform-api"
    marketing = {
        slug: slug
        for slug, topic in offers.TOPICS.items()
        if topic["class"] == "marketing" and topic.get("brand", "default") == "default"
    }
    assert connector["topics"] == {**marketing, "*": "global"}, "`flask doctor` of a fresh demo warns of the others"

    edited = path.read_text() + '\n[connectors.other]\nbase_url = "http://127.0.0.1:4000/api"\n'
    path.write_text(edited)
    demo._write_connectors(settings({**PORTS, "SANDBOX_PORT": 9025}))
    assert path.read_text() == edited.replace("8025", "9025")


def test_taken_port_is_named_with_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit):
            demo._check_ports({"SANDBOX_PORT": port})
    said = capsys.readouterr().err
    assert re.fullmatch(rf"Port {port} is taken\. .* SANDBOX_PORT=\d+ make run\n", said)


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_wrong_port_is_named(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo._ports({"WEB_PORT": port})
    assert "WEB_PORT must be the number of a port" in capsys.readouterr().err


def test_the_first_start_prepares_everything_and_the_next_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'demo.db'}")
    found = settings()
    monkeypatch.setattr(demo, "SETTINGS_FILE", tmp_path / demo.SETTINGS_FILE)
    monkeypatch.chdir(demo.ROOT)
    demo._prepare(found)
    assert "two brands" in capsys.readouterr().out
    with closing(sqlite3.connect(tmp_path / "demo.db")) as database:
        counts = [database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("brand", "contact")]
        (key,) = database.execute("SELECT name FROM api_key").fetchone()
    assert counts == [len(offers.BRANDS), 12]
    assert key.startswith("demo-")
    assert demo._read_settings()[demo.API_KEY] == found[demo.API_KEY]

    demo._prepare(found)
    assert capsys.readouterr().out == ""


def test_a_command_that_is_refused_is_said_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'none.db'}")
    flask = demo._Flask(demo._environment(settings()))
    monkeypatch.chdir(demo.ROOT)
    with pytest.raises(SystemExit):
        flask.give([["brand", "set", "acme", "--name", "Acme", "--path", "static"]])
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "The demo could not be prepared:",
        "Error: --path static is a part of the site itself; take another name",
    ]
