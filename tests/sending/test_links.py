"""Links in bulk: what a row gets, what is refused as a whole, and a link that can be kept for years."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import time_machine
from click.testing import Result
from flask import Flask

from preferences.current import services_of
from preferences.domain.vocabulary import Channel
from preferences.files.tables import BadFile
from preferences.sending import links
from preferences.sending.mint import MintOptions, count_rows, mint
from preferences.sending.scope import resolve
from preferences.services import Services
from tests.processes import contents
from tests.support import api_headers


def minted(
    services: Services, path: Path, channel: Channel = Channel.EMAIL, column: str | None = None
) -> list[dict[str, str]]:
    out, scope = io.StringIO(newline=""), resolve(services.catalog.get(), channel, topic="product-news")
    mint(services, path, scope, options=MintOptions(column=column), out=out, progress=lambda _: None)
    return list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))


def run(app: Flask, *words: str) -> Result:
    return app.test_cli_runner().invoke(args=list(words))


def test_each_row_gets_links_and_the_headers_that_the_api_gives(app: Flask, tmp_path: Path) -> None:
    services = services_of(app)
    path = tmp_path / "contacts.csv.gz"
    path.write_bytes(gzip.compress(b"id,Mail\n7,jane@example.com\n8,Jane@Example.com\n9,john@example.com\n"))
    rows = minted(services, path, column="Mail")
    assert [(row["id"], row["Mail"]) for row in rows] == [
        ("7", "jane@example.com"),
        ("8", "Jane@Example.com"),
        ("9", "john@example.com"),
    ]
    question = {"channel": "email", "topic": "product-news", "addresses": ["jane@example.com"]}
    answer = app.test_client().post("/api/v1/links", json=question, headers=api_headers(services)).json
    assert answer is not None
    headers = answer["links"][0]["headers"]
    assert rows[0]["list_unsubscribe"] == f"<{rows[0]['unsubscribe_url']}>" == headers["List-Unsubscribe"]
    assert rows[0]["list_unsubscribe_post"] == headers["List-Unsubscribe-Post"]
    assert rows[0]["list_id"] == headers["List-Id"]
    assert rows[0]["unsubscribe_url"] == rows[1]["unsubscribe_url"] != rows[2]["unsubscribe_url"]


def test_a_file_of_many_blocks_is_written_row_for_row(sqlite_app: Flask, tmp_path: Path) -> None:
    path = tmp_path / "contacts.csv"
    count = 2 * links.BLOCK + 1
    path.write_text("address\n" + "".join(f"p{number}@example.com\n" for number in range(count)))
    assert count_rows(path, Channel.EMAIL, MintOptions()) == count
    assert [row["address"] for row in minted(services_of(sqlite_app), path)] == [
        f"p{number}@example.com" for number in range(count)
    ]


def test_a_wrong_row_far_down_leaves_nothing_behind(sqlite_app: Flask, tmp_path: Path) -> None:
    path, output = tmp_path / "contacts.csv", tmp_path / "out.csv"
    output.write_text("what was there")
    path.write_text("address\n" + "a@example.com\n" * 1_500 + "jane\n")
    url = services_of(sqlite_app).settings.database_url
    before = contents(url)
    result = run(sqlite_app, "links", "mint", str(path), "--output", str(output), "--force")
    assert result.exit_code == 1
    assert "line 1502" in result.stderr
    assert "jane" not in result.stderr
    assert contents(url) == before
    assert output.read_text() == "what was there"
    assert sorted(one.name for one in tmp_path.glob("*out.csv*")) == ["out.csv"]


CUT_OFF = gzip.compress(b"address\n" + b"a@example.com\n" * 99, mtime=0)[:-9]


@pytest.mark.parametrize("octets", [b"\x1f\x8b", b"\x1f\x8bnothing", CUT_OFF], ids=["empty", "junk", "cut off"])
def test_a_broken_gzip_file_is_refused(sqlite_app: Flask, tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "contacts.csv.gz"
    path.write_bytes(octets)
    with pytest.raises(BadFile, match="line"):
        count_rows(path, Channel.EMAIL, MintOptions())


def test_another_channel_gets_links_and_no_headers(sqlite_app: Flask, tmp_path: Path) -> None:
    path = tmp_path / "contacts.csv"
    path.write_text("address\n+12025550147\n")
    (row,) = minted(services_of(sqlite_app), path, Channel.SMS)
    assert row["unsubscribe_url"]
    assert (row["list_unsubscribe"], row["list_unsubscribe_post"], row["list_id"]) == ("", "", "")


def test_a_link_kept_as_a_merge_field_stops_mail_five_years_later(app: Flask, tmp_path: Path) -> None:
    services, client = services_of(app), app.test_client()
    path = tmp_path / "contacts.csv"
    path.write_text("address\njane.doe@example.com\n")
    (row,) = minted(services, path)
    question = {"contacts": [{"addresses": [{"address": "john@example.com"}]}]}
    answer = client.put("/api/v1/contacts", json=question, headers=api_headers(services)).json
    assert answer is not None
    kept = [row["unsubscribe_url"], answer["contacts"][0]["unsubscribe_url"]]
    with time_machine.travel(datetime.now(UTC) + timedelta(days=5 * 365), tick=True):
        for url in kept:
            assert client.get(urlsplit(url).path).status_code == 200
            assert client.post(urlsplit(url).path, data={"List-Unsubscribe": "One-Click"}).status_code == 200
        assert client.get(urlsplit(row["manage_url"]).path).status_code == 410
    about = {"channel": "email", "class": "marketing", "topic": "product-news"}
    asked = {**about, "addresses": ["jane.doe@example.com", "john@example.com"]}
    decided = client.post("/api/v1/decisions", json=asked, headers=api_headers(services, "asker")).json
    assert decided is not None
    assert [one["allowed"] for one in decided["decisions"]] == [False, False]
