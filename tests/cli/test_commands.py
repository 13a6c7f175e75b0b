"""The commands: each explains itself, refuses bad input in one line with nothing half done, and does what it says."""

from __future__ import annotations

import csv
import io
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import responses
from flask import Flask
from sqlalchemy import select

from preferences import cli
from preferences.address_parsing import read_address
from preferences.current import services_of
from preferences.domain.notices import Notice
from preferences.domain.records import Act
from preferences.domain.vocabulary import Actor, Channel, OneClick, Origin, Verb
from preferences.factory import create_app
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import contacts, cursors, notices
from preferences.store.catalog import read_catalog
from preferences.store.tables import contact_flag
from preferences.store.transactions import Write
from tests.commands import CONFIG, is_refused, rows, run
from tests.processes import ROOT
from tests.servers import PostgresServer
from tests.support import (
    BRAND,
    add_contact,
    api_headers,
    close,
    email,
    link_for,
    new_app,
    new_postgresql,
    new_sqlite,
    settings,
)


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[Flask]:
    """The application with a connector, on SQLite."""
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONFIG)
    app = new_app(new_sqlite(tmp_path), config_file=config_file, smtp_url="smtp://mail.example.test")
    yield app
    close(app)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a file and give its path as text."""

    def write(text: str | bytes) -> str:
        path = tmp_path / "file.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


# Every command.


def every_command(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    for name, entry in group.commands.items():
        command = entry.load() if isinstance(entry, cli.LazyCommand) else entry
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*path, name)), command


def commands() -> dict[str, click.Command]:
    """Every command of ours. `flask db` is Flask-Migrate's, and explains itself in its own way."""
    app = Flask("commands")
    cli.register(app)
    return {name: command for name, command in every_command(app.cli) if not name.startswith("db ")}


@pytest.mark.parametrize("name", cli.ENTRIES)
def test_the_help_of_flask_has_the_words_of_the_command_itself(name: str) -> None:
    lazy = cli.LazyCommand(name, cli.ENTRIES[name])
    assert lazy.load().name == name
    for width in (40, 60, 1_000):
        assert lazy.get_short_help_str(width) == lazy.load().get_short_help_str(width)


def _modules_after(script: str, environment: dict[str, str]) -> set[str]:
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return set(run.stdout.strip().split("|"))


def test_the_help_of_flask_loads_neither_the_database_nor_the_pages() -> None:
    script = "import sys; sys.argv = ['flask', '--help']; import app; print('|'.join(sys.modules))"
    environment = {"FLASK_RUN_FROM_CLI": "true", "PATH": ""}
    loaded = _modules_after(script, environment)
    assert "preferences.cli" in loaded
    assert not loaded & {"sqlalchemy", "psycopg", "pydantic", "preferences.factory", "preferences.web"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/srv/.venv/bin/flask"], []),
        (["/srv/.venv/bin/flask", "doctor", "--local"], ["doctor", "--local"]),
        (["/srv/site-packages/flask/__main__.py", "run"], ["run"]),
        (["-c"], None),
        (["/srv/site-packages/granian/__main__.py", "app:app"], None),
    ],
)
def test_only_the_words_of_flask_itself_say_what_to_load(argv: list[str], words: list[str] | None) -> None:
    assert cli.words(argv) == words
    assert cli.is_help(words) is (words == [])
    assert cli.needs_pages(words) is (words is None or words[:1] != ["doctor"])


def test_a_command_without_pages_does_not_load_them(tmp_path: Path) -> None:
    script = "import sys; sys.argv = ['flask', 'explain', 'x']; import app; print('|'.join(sys.modules))"
    environment = {
        "FLASK_RUN_FROM_CLI": "true",
        "PUBLIC_URL": "http://localhost:8000",
        "DATABASE_URL": f"sqlite:///{tmp_path}/preferences.db",
        **dict.fromkeys(("SECRET_KEYS", "LINK_KEYS", "FINGERPRINT_KEYS"), "a-key-of-these-tests"),
    }
    loaded = _modules_after(script, environment)
    assert "preferences.services" in loaded
    assert not loaded & {"preferences.web", "flask_wtf", "sqlalchemy.orm", "alembic"}


def test_there_are_the_promised_commands() -> None:
    assert set(commands()) >= {
        "api-key create",
        "backfill",
        "brand list",
        "brand set",
        "connectors",
        "connectors check",
        "doctor",
        "explain",
        "import",
        "ledger verify",
        "links mint",
        "reconcile",
        "resume",
        "sign-up-form",
        "topic add",
        "topic list",
        "topic translate",
        "worker",
    }


def test_the_help_of_flask_shows_operators_commands_and_others_work() -> None:
    def flask(*words: str) -> str:
        command = [sys.executable, "-m", "flask", *words]
        return subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=True).stdout

    shown = {line.split()[0] for line in flask("--help").partition("Commands:")[2].splitlines() if line.strip()}
    assert shown == {name.split()[0] for name in commands()} | {"db"}
    in_db = {line.split()[0] for line in flask("db", "--help").partition("Commands:")[2].splitlines() if line.strip()}
    assert in_db == {"upgrade", "current", "history", "heads"}
    assert "Usage" in flask("routes", "--help") + flask("shell", "--help") + flask("db", "migrate", "--help")


@pytest.mark.parametrize(("name", "command"), commands().items(), ids=list(commands()))
def test_every_command_has_help_with_an_example_that_names_it(
    sqlite_app: Flask, name: str, command: click.Command
) -> None:
    result = run(sqlite_app, *name.split(), "--help")
    assert result.exit_code == 0
    assert f"flask {name}" in result.stdout.partition("Example:")[2]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.opts[0] in result.stdout


@pytest.mark.parametrize("name", commands())
def test_every_command_refuses_an_option_that_it_does_not_have(sqlite_app: Flask, name: str) -> None:
    before = rows(sqlite_app)
    assert is_refused(run(sqlite_app, *name.split(), "--no-such-option"))
    assert rows(sqlite_app) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["topic", "add"], ["SLUG"]),
        (["topic", "add", "news"], ["--class"]),
        (["topic", "add", "Bad Slug", "--class", "marketing", "--basis", "consent"], ["SLUG", "small letters"]),
        (["topic", "add", "../x", "--class", "marketing", "--basis", "consent"], ["SLUG"]),
        (["topic", "add", "x" * 64, "--class", "marketing", "--basis", "consent"], ["SLUG"]),
        (["topic", "add", "news", "--class", "spam", "--basis", "consent"], ["--class", "'spam'", "marketing"]),
        (["topic", "add", "news", "--class", "marketing", "--basis", "hope"], ["--basis", "'hope'", "consent"]),
        (["topic", "add", "offers", "--class", "marketing", "--basis", "consent"], ["offers already"]),
        (
            ["topic", "add", "news", "--class", "marketing", "--basis", "consent", "--brand", "none"],
            ["no brand none", "flask brand set none"],
        ),
        (["brand", "set", "default"], ["--name"]),
        (["brand", "set", "default", "--name", "X", "--one-click", "maybe"], ["--one-click", "'maybe'"]),
        (["api-key", "create"], ["NAME"]),
        (["import", "no-such-file.csv"], ["no-such-file.csv"]),
        (["import", "."], ["directory"]),
        (["links", "mint", "no-such-file.csv"], ["no-such-file.csv"]),
        (["explain", "jane"], ["not an e-mail address"]),
        (["explain", "0123", "--channel", "sms"], ["country code"]),
        (["reconcile", "nobody"], ["no connector nobody", "there are: none"]),
        (["resume", "nobody"], ["no connector nobody"]),
        (["backfill", "nobody"], ["no connector nobody", "there are: none"]),
        (["connectors", "check", "nobody"], ["no connector nobody"]),
    ],
)
def test_bad_input_is_one_line_and_nothing_half_done(sqlite_app: Flask, arguments: list[str], words: list[str]) -> None:
    before = rows(sqlite_app)
    assert is_refused(run(sqlite_app, *arguments), *words)
    assert rows(sqlite_app) == before


# Brands and topics.


def test_a_topic_that_is_added_is_what_was_said(app: Flask) -> None:
    result = run(
        app,
        *("topic", "add", "club", "--class", "marketing", "--basis", "consent", "--name", "The club"),
        *("--description", "For members.", "--frequency", "Once a year", "--channel", "email", "--channel", "sms"),
    )
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Added topic club.\n", "")
    topic = services_of(app).database.read(read_catalog).topics["club"]
    assert (topic.name, topic.description, topic.frequency) == ("The club", "For members.", "Once a year")
    assert (topic.message_class, topic.basis, topic.channels) == ("marketing", "consent", ("email", "sms"))


def test_a_topic_without_a_name_gets_a_readable_one(sqlite_app: Flask) -> None:
    run(sqlite_app, "topic", "add", "new-kinds-of-tea", "--class", "MARKETING", "--basis", "consent")
    assert services_of(sqlite_app).database.read(read_catalog).topics["new-kinds-of-tea"].name == "New kinds of tea"


def test_a_topic_that_is_there_is_left_alone_when_asked_so(sqlite_app: Flask) -> None:
    before = rows(sqlite_app)
    result = run(sqlite_app, "topic", "add", "offers", "--class", "notice", "--basis", "consent", "--if-missing")
    assert (result.exit_code, result.stdout) == (0, "Topic offers is there already.\n")
    assert rows(sqlite_app) == before


def test_a_brand_is_added_and_then_changed(app: Flask) -> None:
    added = run(app, "brand", "set", "tea", "--name", "Tea & Co", "--contact-email", "hello@tea.example")
    changed = run(app, "brand", "set", "tea", "--name", "Tea & Sons", "--one-click", "topic")
    assert (added.stdout, changed.stdout) == ("Made brand tea.\n", "Changed brand tea.\n")
    brand = services_of(app).database.read(read_catalog).brands["tea"]
    assert brand == replace(
        BRAND,
        slug="tea",
        name="Tea & Sons",
        one_click=OneClick.TOPIC,
        postal_address="",
        contact_email="hello@tea.example",
    )


# Keys and links.


def test_a_key_is_printed_alone_works_and_is_not_stored(app: Flask) -> None:
    result = run(app, "api-key", "create", "shop")

    assert (result.exit_code, result.stderr) == (0, "")
    key = result.stdout.removesuffix("\n")
    assert re.fullmatch(r"pref_[A-Za-z0-9_-]{43}", key)
    question = {"channel": "email", "class": "notice", "addresses": ["jane@example.com"]}
    answer = app.test_client().post("/api/v1/decisions", json=question, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert key not in str(rows(app))


def test_a_second_key_of_the_same_name_is_refused(sqlite_app: Flask) -> None:
    run(sqlite_app, "api-key", "create", "shop")
    before = rows(sqlite_app)
    assert is_refused(run(sqlite_app, "api-key", "create", "shop"), "shop already")
    assert rows(sqlite_app) == before


def test_minted_links_stand_beside_what_the_file_held(app: Flask, write: Any) -> None:
    path = write('id,address,note\r\n7,jane.doe@example.com,"a, b"\r\n8,Other@example.com,\r\n')

    result = run(app, "links", "mint", path, "--topic", "product-news")

    assert (result.exit_code, result.stderr) == (0, "")
    minted = list(csv.DictReader(io.StringIO(result.stdout, newline="")))
    assert [(row["id"], row["address"], row["note"]) for row in minted] == [
        ("7", "jane.doe@example.com", "a, b"),
        ("8", "Other@example.com", ""),
    ]
    client = app.test_client()
    for row in minted:
        assert "Product news" in client.get(urlsplit(row["unsubscribe_url"]).path).text
        assert client.get(urlsplit(row["manage_url"]).path).status_code == 200
    assert len(rows(app)["contact"]) == 2


def test_minted_links_can_go_to_a_file(sqlite_app: Flask, write: Any, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    result = run(sqlite_app, "links", "mint", write("address\njane@example.com\n"), "--output", str(output))
    assert result.stdout == f"Wrote {output}.\n"
    assert output.read_bytes().startswith(b"address,unsubscribe_url,manage_url,list_unsubscribe,")


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        ("address\njane\n", [], ["2", "address"]),
        ("address\na@example.com\n\nb@example.com\njane\n", [], ["address"]),
        ("name\njane\n", [], ["line 1", "no column is called address"]),
        ("", [], ["line 1 is empty"]),
        ("address,unsubscribe_url\na@example.com,x\n", [], ["line 1", "has links already"]),
        ("address,name\na@example.com\n", [], ["line 2", "columns"]),
        ("address\na@example.com,b\n", [], ["line 2", "columns"]),
        ('address\n"a@example.com\n', [], ["line"]),
        (b"address\n\xff\xfe@example.com\n", [], ["line", "UTF-8"]),
        ("address\na@example.com\n", ["--topic", "nothing"], ["topic: there is no such topic"]),
        ("address\na@example.com\n", ["--channel", "sms"], ["2", "address", "country code"]),
        ("address\na@example.com\n", ["--channel", "fax"], ["--channel"]),
        ("address\na@example.com\n", ["--output", "/no/such/folder/out.csv"], ["no folder"]),
    ],
)
def test_a_file_that_cannot_be_minted_is_refused_as_a_whole(
    sqlite_app: Flask, write: Any, text: str | bytes, more: list[str], words: list[str]
) -> None:
    before = rows(sqlite_app)
    result = run(sqlite_app, "links", "mint", write(text), *more)
    assert is_refused(result, *words)
    assert "jane" not in result.stderr
    assert rows(sqlite_app) == before


# Import.


GOOD = """address,channel,topic,status,occurred_at,source,reason,evidence
jane.doe@example.com,email,product-news,unsubscribed,2026-05-31T14:00:00+00:00,old shop,,
asked@example.com,email,offers,subscribed,2026-05-31,old shop,,form 7
bounced@example.com,email,,hard_bounce,,,,
+12025550123,sms,*,unsubscribed,,,,
known@example.com,,,,,,,
"""


def decided(app: Flask, address: str, topic: str, channel: str = "email") -> str:
    headers = api_headers(services_of(app), f"test-{secrets.token_hex(4)}")
    question = {"channel": channel, "class": "marketing", "topic": topic, "addresses": [address]}
    answer = app.test_client().post("/api/v1/decisions", json=question, headers=headers)
    assert answer.json is not None
    return answer.json["decisions"][0]["reason"]


def test_an_import_is_in_force_when_it_says_so(app: Flask, write: Any) -> None:
    result = run(app, "import", write(GOOD))

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("5 rows: 5 new contacts, 4 changes, 0 that changed nothing")
    assert decided(app, "jane.doe@example.com", "product-news") == "unsubscribed"
    assert decided(app, "asked@example.com", "offers") == "ok"
    assert decided(app, "bounced@example.com", "product-news") == "hard_bounce"
    assert decided(app, "+12025550123", "product-news", "sms") == "unsubscribed_all"
    assert decided(app, "known@example.com", "offers") == "no_consent"
    assert run(app, "ledger", "verify").exit_code == 0


def test_the_first_import_gives_new_contacts_their_flags(app: Flask, write: Any) -> None:
    table = "address,topic,status,flags\n"
    table += "ann@example.com,,,wholesale\nben@example.com,offers,unsubscribed,press wholesale\n"
    assert run(app, "import", write(table)).exit_code == 0
    services = services_of(app)
    flags = services.database.read(lambda read: read.execute(select(contact_flag.c.flag)).scalars().all())
    assert sorted(flags) == ["press", "wholesale", "wholesale"]


def test_the_same_import_again_changes_nothing(app: Flask, write: Any) -> None:
    run(app, "import", write(GOOD))
    before = rows(app)
    result = run(app, "import", write(GOOD))
    assert result.stdout.startswith("5 rows: 0 new contacts, 0 changes, 4 that changed nothing")
    assert rows(app) == before


def test_a_dry_run_checks_everything_and_writes_nothing(app: Flask, write: Any) -> None:
    before = rows(app)
    result = run(app, "import", write(GOOD), "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "5 rows are fine. Nothing was written.\n")
    assert rows(app) == before
    assert is_refused(run(app, "import", write(GOOD + "nobody,,,,,,,\n"), "--dry-run"), "line 7, column address")


def test_an_import_never_turns_a_no_into_a_yes(app: Flask, write: Any) -> None:
    app.test_client().post(link_for(services_of(app), add_contact(services_of(app))))
    later = "2999-01-01T00:00:00+00:00"
    path = write(
        f"address,topic,status,occurred_at,source\njane.doe@example.com,product-news,subscribed,{later},shop\n"
    )
    result = run(app, "import", path)
    assert result.exit_code == 0
    assert decided(app, "jane.doe@example.com", "product-news") == "unsubscribed_all"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("jane,,,,,,,", ["column address"]),
        ("a@example.com,fax,,,,,,", ["column channel", "email, sms"]),
        ("a@example.com,sms,,,,,,", ["column address", "country code"]),
        ("a@example.com,,no-such-topic,unsubscribed,,,,", ["column topic", "no such topic"]),
        ("a@example.com,,receipts,unsubscribed,,,,", ["column topic", "not marketing"]),
        ("a@example.com,,offers,maybe,,,,", ["column status", "unsubscribed"]),
        ("a@example.com,,offers,erased,,,,", ["column status"]),
        ("a@example.com,,offers,unsubscribed,yesterday,,,", ["column occurred_at"]),
        ("a@example.com,,offers,unsubscribed,0001-01-01T00:00:00+23:59,,,", ["column occurred_at"]),
        ("a@example.com,,offers,subscribed,,shop,,", ["column occurred_at", "date"]),
        ("a@example.com,,offers,subscribed,2026-05-31,,,", ["column source"]),
        ("a@example.com,,*,subscribed,2026-05-31,shop,,", ["column topic", "opt-out"]),
        ("a@example.com", ["columns differs"]),
        ("a@example.com,,,,,,,,,,", ["columns differs"]),
        ('"a@example.com,,,,,,,', ["line"]),
        ("a\x00@example.com,,,,,,,", ["column address"]),
    ],
)
def test_one_wrong_row_stops_the_import_before_anything_is_written(
    sqlite_app: Flask, write: Any, row: str, words: list[str]
) -> None:
    before = rows(sqlite_app)
    result = run(sqlite_app, "import", write(f"{GOOD}{row}\n"))
    assert is_refused(result, *words)
    if "column " in result.stderr:
        assert "line 7, " in result.stderr
    assert "a@example.com" not in result.stderr, "the line is named and the value is not"
    assert rows(sqlite_app) == before


def test_a_wrong_row_behind_many_good_ones_stops_them_all(sqlite_app: Flask, write: Any) -> None:
    before = rows(sqlite_app)
    good = "".join(f"person-{number}@example.com\n" for number in range(1_200))
    assert is_refused(run(sqlite_app, "import", write(f"address\n{good}nobody\n")), "line 1202, column address")
    assert rows(sqlite_app) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "name\njane\n",
        "jane@example.com\n",
        "address,address\na@example.com,b@example.com\n",
        "address,password\na@example.com,x\n",
        b"\x00\x01\x02",
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_at_its_first_line(
    sqlite_app: Flask, write: Any, text: str | bytes
) -> None:
    before = rows(sqlite_app)
    result = run(sqlite_app, "import", write(text))
    assert is_refused(result, "line 1")
    assert "jane" not in result.stderr, "a file without a header begins with somebody's address"
    assert rows(sqlite_app) == before


# Looking and proving.


def test_explain_says_what_may_be_sent_and_every_entry_that_led_there(app: Flask) -> None:
    services = services_of(app)
    app.test_client().post(
        link_for(services, add_contact(services), message_ref="campaign-7"), headers={"User-Agent": "Mail/1"}
    )
    before = rows(app)

    result = run(app, "explain", "Jane.Doe@EXAMPLE.com")

    assert (result.exit_code, result.stderr) == (0, "")
    assert "product-news (marketing): no  (marketing.unsubscribed_all, because of entry 1)" in result.stdout
    assert "receipts (transactional): yes  (transactional.ok)" in result.stdout
    assert "unsubscribe default/*  by recipient through one_click" in result.stdout
    assert '"message_ref": "campaign-7"' in result.stdout
    assert '"user_agent": "Mail/1"' in result.stdout
    assert rows(app) == before


def test_explain_shows_pauses_caps_purposes_and_the_words_that_were_shown(app: Flask) -> None:
    services, now = services_of(app), datetime.now(UTC)
    contact_id = add_contact(services)
    shown = Notice("default/email/offers", "en", "Yes, send me\n  offers.")
    known: dict[str, Any] = {
        "channel": Channel.EMAIL,
        "who": contact_id,
        "brand": "default",
        "origin": Origin.ACCOUNT,
        "actor": Actor.RECIPIENT,
        "occurred_at": now,
        "trusted": True,
    }
    acts = [
        Act(verb=Verb.PAUSE, topic="product-news", until=datetime(2999, 1, 2, tzinfo=UTC), **known),
        Act(verb=Verb.SUBSCRIBE, topic="offers", notice=shown.hash, **known),
        Act(verb=Verb.CAP, topic="offers", per_week=2, **known),
        Act(verb=Verb.UNSUBSCRIBE, topic="@profiling", **known),
        Act(verb=Verb.CAP, topic="product-news", per_week=None, **known),
    ]

    def record(write: Write) -> None:
        notices.keep(write, [shown], now)
        ledger.record(write, acts, fingerprints=services.fingerprints, now=now)

    services.database.write(record)
    phone = read_address(Channel.SMS, "+12025550123")
    services.database.write(contacts.attach, contact_id, phone, services.fingerprints, now)

    result = run(app, "explain", "jane.doe@example.com")

    assert (result.exit_code, result.stderr) == (0, "")
    for line in (
        "product-news (marketing): no  (marketing.paused, because of entry 1)\n",
        "offers (marketing): yes  (marketing.ok), at most 2 a week since entry 3\n",
        "default/@profiling: no  (marketing.unsubscribed, because of entry 4)\n",
        "default/@location: no  (marketing.no_consent)\n",
        "default/@tracking: yes  (marketing.ok)\n",
        "pause default/product-news until 2999-01-02T00:00+00:00  by recipient through account\n",
        "      notice: default/email/offers, version 1, en: Yes, send me offers.\n",
        "cap default/offers at 2 a week  by recipient",
        "cap default/product-news no longer  by recipient through account, changed nothing\n",
        "unsubscribe default/@profiling  by recipient",
    ):
        assert line in result.stdout, line
    by_phone = run(app, "explain", "+12025550123", "--channel", "sms").stdout
    assert "default/@profiling: no  (marketing.unsubscribed, because of entry 4)" in by_phone
    assert "unsubscribe default/@profiling  by recipient" in by_phone, "it holds on every channel"
    assert "cap default/offers" not in by_phone


def test_explain_of_somebody_we_do_not_know_says_so(sqlite_app: Flask) -> None:
    result = run(sqlite_app, "explain", "nobody@example.com")
    assert result.exit_code == 0
    assert "contact: none; nobody has this address" in result.stdout
    assert "no entries" in result.stdout


def test_a_ledger_that_nobody_touched_verifies(app: Flask) -> None:
    client, services = app.test_client(), services_of(app)
    for name in ("a", "b", "c"):
        client.post(link_for(services, add_contact(services, email(f"{name}@example.com"))))
    result = run(app, "ledger", "verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "3 entries form one chain; 3 preferences, 0 pauses and caps and 0 suppressions are what they add up to.\n"
        "0 wordings and the evidence of 3 entries are as they were recorded; the evidence of 0 is erased, and of 0 is"
        " from before entries sealed it.\n"
    )


def tampered(services: Services, statement: str) -> None:
    """Do what the program cannot: write past the triggers, as somebody with the database's password could."""
    with services.database.engine.begin() as connection:
        if services.database.is_sqlite:
            for verb in ("update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER ledger_entry_no_{verb}")
        else:
            connection.exec_driver_sql("ALTER TABLE ledger_entry DISABLE TRIGGER ALL")
        connection.exec_driver_sql(statement)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE ledger_entry SET topic = 'offers' WHERE seq = 2", "entry 2 does not match its hash"),
        ("UPDATE ledger_entry SET origin = 'page' WHERE seq = 3", "entry 3 does not match its hash"),
        ("DELETE FROM ledger_entry WHERE seq = 3", "entries were cut off"),
        ("UPDATE preference SET status = 'subscribed'", "differs from what the ledger adds up to"),
        ("DELETE FROM preference", "missing from the projection"),
        ("UPDATE ledger_head SET seq = 2", "the head stands at 2"),
    ],
)
def test_a_ledger_that_somebody_touched_does_not_verify(app: Flask, statement: str, words: str) -> None:
    client, services = app.test_client(), services_of(app)
    for name in ("a", "b", "c"):
        client.post(link_for(services, add_contact(services, email(f"{name}@example.com"))))
    if "DELETE FROM ledger_entry" in statement:
        with services.database.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM evidence")
    tampered(services, statement)

    result = run(app, "ledger", "verify")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert words in result.stderr
    assert "does not verify" in result.stderr.splitlines()[-1]


# Connectors and the doctor.


def test_a_doctor_who_finds_nothing_wrong_says_ok(connected: Flask) -> None:
    services_of(connected).database.save(cursors.start, "shop")
    result = run(connected, "doctor")
    assert result.exit_code == 0
    assert "BAD" not in result.stdout
    assert {line.split()[1] for line in result.stdout.splitlines()} >= {"URL-HTTPS", "KEYS-APART", "DB-SCHEMA", "CLOCK"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"public_url": "http://127.0.0.1:8000"}, "URL-HTTPS"),
        ({"link_keys": ("fingerprint-key-of-tests",)}, "KEYS-APART"),
    ],
)
def test_a_doctor_finds_a_wrong_setting(tmp_path: Path, changes: dict[str, Any], rule: str) -> None:
    app = new_app(new_sqlite(tmp_path), **changes)
    result = run(app, "doctor")
    assert result.exit_code == 1
    assert re.search(rf"^BAD +{rule} ", result.stdout, re.MULTILINE)
    close(app)


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ('kind = "webhook"', 'kind = "pigeon"', "BAD +CONN-KIND"),
        ('webhook_secrets = ["whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="]', "", "warn +CONN-SECRET"),
        ('"offers" = "list-18"', "", "warn +CONN-MAP .*offers"),
        ('"offers" = "list-18"', '"offers" = "list-18"\n"gone" = "list-19"', "BAD +CONN-MAP .*gone"),
    ],
)
def test_a_doctor_looks_at_the_connectors(tmp_path: Path, before: str, after: str, line: str) -> None:
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONFIG.replace(before, after))
    app = new_app(new_sqlite(tmp_path), config_file=config_file, smtp_url="smtp://mail.example.test")
    result = run(app, "doctor")
    assert re.search(f"^{line}", result.stdout, re.MULTILINE)
    assert result.exit_code == ("BAD" in line)
    close(app)


def test_a_doctor_finds_that_the_tables_are_missing(tmp_path: Path) -> None:
    app = new_app(f"sqlite:///{tmp_path}/empty.db")
    result = run(app, "doctor")
    assert result.exit_code == 1
    assert re.search(r"^BAD +DB-SCHEMA .*flask db upgrade", result.stdout, re.MULTILINE)
    close(app)


def test_a_paused_connector_is_shown_found_and_resumed(connected: Flask) -> None:
    services = services_of(connected)
    assert run(connected, "connectors").stdout == "shop: never ran; start `flask worker`\n"
    services.database.save(cursors.start, "shop")
    services.database.save(cursors.claim, "shop", "me", datetime.now(UTC))
    services.database.save(cursors.pause, "shop", "me", "answer 401: check address, key and mapping")

    assert "shop: paused (answer 401" in run(connected, "connectors").stdout
    assert run(connected, "doctor").exit_code == 1
    assert run(connected, "resume", "shop").exit_code == 0

    assert "shop: running; 0 entries behind" in run(connected, "connectors").stdout
    assert run(connected, "doctor").exit_code == 0


def test_reconcile_names_the_connectors_there_are_when_it_is_given_another(connected: Flask) -> None:
    before = rows(connected)
    assert is_refused(run(connected, "reconcile", "shoop", "--dry-run"), "no connector shoop", "there are: shop")
    assert rows(connected) == before


def test_a_dry_run_shows_drift_without_addresses_and_changes_nothing(connected: Flask) -> None:
    services = services_of(connected)
    connected.test_client().post(link_for(services, add_contact(services)))
    listed = {"address": "their.own@example.com", "list": "list-17", "kind": "unsubscribe"}
    before = rows(connected)
    with responses.RequestsMock() as platform:
        platform.get("https://shop.example.test/suppressions", json={"suppressions": [listed], "next": None})
        result = run(connected, "reconcile", "shop", "--dry-run")
        assert [call.request.method for call in platform.calls] == ["GET"]

    assert result.exit_code == 0
    assert "missing there: " in result.stdout
    assert "missing here:  " in result.stdout
    assert "Nothing was changed." in result.stdout
    assert "@" not in result.stdout
    assert rows(connected) == before


def test_a_platform_that_cannot_be_reached_is_one_line(connected: Flask) -> None:
    with responses.RequestsMock() as platform:
        platform.get("https://shop.example.test/suppressions", status=401)
        assert is_refused(run(connected, "reconcile", "shop", "--dry-run"), "401")


def test_a_worker_of_a_kind_that_we_do_not_know_does_not_start(tmp_path: Path) -> None:
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONFIG.replace('"webhook"', '"pigeon"'))
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    assert is_refused(run(app, "worker"), "shop", "'pigeon'", "webhook")
    close(app)


# A database that is away, settings that are missing.


def test_without_the_database_every_command_is_one_line(postgres: PostgresServer, tmp_path: Path, write: Any) -> None:
    with PostgresServer(postgres.binaries) as server:
        config_file = tmp_path / "config.toml"
        config_file.write_text(CONFIG)
        app = new_app(new_postgresql(server), config_file=config_file)
        server.stop("immediate")
        path = write("address\njane@example.com\n")
        for arguments in (
            ["topic", "add", "club", "--class", "marketing", "--basis", "consent"],
            ["brand", "set", "tea", "--name", "Tea"],
            ["brand", "list"],
            ["topic", "translate", "offers", "--language", "es", "--name", "Ofertas"],
            ["topic", "list"],
            ["api-key", "create", "shop"],
            ["links", "mint", path],
            ["import", path],
            ["explain", "jane@example.com"],
            ["ledger", "verify"],
            ["connectors"],
            ["resume", "shop"],
            ["reconcile", "shop", "--dry-run"],
            ["backfill", "shop"],
            ["connectors", "check", "shop"],
        ):
            assert is_refused(run(app, *arguments), "database"), arguments
        doctor = run(app, "doctor")
        assert doctor.exit_code == 1
        assert "DB-REACH" in doctor.stdout
        close(app)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["scrub", "--help"], ["api-key", "create", "--help"]])
def test_help_needs_no_settings(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", *arguments], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )
    assert "Usage: " in done.stdout + done.stderr  # without arguments, click takes it for an error
    assert "settings are not complete" not in done.stderr
    assert ("Example:" in done.stdout) == (len(arguments) > 1)


def test_without_settings_flask_lists_what_is_missing_without_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "doctor"], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    for name in ("PUBLIC_URL", "SECRET_KEYS", "LINK_KEYS", "FINGERPRINT_KEYS"):
        assert f"{name}: is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_web_process_needs_no_commands(tmp_path: Path) -> None:
    app = create_app(settings(new_sqlite(tmp_path)))
    assert app.cli.commands == {}
