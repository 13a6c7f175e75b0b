"""Tables as people have them: one reader for import, mint and scrub."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from preferences.files.tables import BadFile, open_table, read_head, table_of, text_decoder

JANE = "jane.doe@example.com"
ROWS = [["note", "E-Mail", "x"], ["a,b;c", JANE, ""], ['5" "wide"', "john.roe@example.com", "two\nlines"]]


def text_of(rows: list[list[str]], delimiter: str = ",", end: str = "\n") -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(rows)
    return out.getvalue()


FORMS: dict[str, bytes] = {
    **{f"with {name}": text_of(ROWS, mark).encode() for name, mark in
       {"commas": ",", "semicolons": ";", "tabs": "\t", "bars": "|"}.items()},
    "with a byte order mark": b"\xef\xbb\xbf" + text_of(ROWS, ";", "\r\n").encode(),
    "with a line that says sep=": b"sep=;\r\n" + text_of(ROWS, ";", "\r\n").encode(),
    "with sep= and a mark": b'\xef\xbb\xbf"sep=|"\n' + text_of(ROWS, "|").encode(),
    "UTF-16 from Excel": text_of(ROWS, "\t", "\r\n").encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + text_of(ROWS, "\t").encode("utf-16-be"),
    "UTF-16 without a mark": text_of(ROWS, ";").encode("utf-16-le"),
    "packed": gzip.compress(text_of(ROWS).encode()),
    "UTF-16, packed": gzip.compress(text_of(ROWS, "\t").encode("utf-16")),
    "after blank lines": b"\r\n;;\r\n" + text_of(ROWS, ";", "\r\n").encode(),
    "with blank rows": text_of([*ROWS, ["", " ", ""], ["", "", ""]], ";").encode() + b"\n\n;;\n",
    "with a header of two lines": text_of([["note", "E-Mail", "with\na line"], *ROWS[1:]], ";").encode(),
}  # fmt: skip


def run(app: Flask, *arguments: str | Path) -> Result:
    return app.test_cli_runner().invoke(args=[str(argument) for argument in arguments])


@pytest.fixture(params=list(FORMS.values()), ids=list(FORMS))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_bytes(request.param)
    return path


def test_every_form_has_the_same_rows(source: Path) -> None:
    with table_of(source, "utf-8-sig") as table:
        assert table.head.names[:2] == ("note", "E-Mail")
        assert [list(row or ()) for _, row in table.rows()] == ROWS[1:]


def test_every_form_can_be_scrubbed(sqlite_app: Flask, source: Path, tmp_path: Path) -> None:
    question = ("--topic", "product-news", "--channel", "email")
    result = run(sqlite_app, "scrub", source, *question, "--kept", tmp_path / "k", "--removed", tmp_path / "r")
    assert result.exit_code == 0, result.stderr
    assert "2 rows may be written to" in result.output
    for name, added, rows in (("k", (), ROWS[1:]), ("r", ("reason", "rule"), [])):
        with table_of(tmp_path / name, "utf-8-sig") as table:
            assert table.head.names[:2] == ("note", "E-Mail")
            assert table.head.names[3:] == added
            assert [list(row or ()) for _, row in table.rows()] == rows


def test_every_form_gets_links(sqlite_app: Flask, source: Path, tmp_path: Path) -> None:
    result = run(sqlite_app, "links", "mint", source, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    with table_of(tmp_path / "out", "utf-8") as table:
        rows = [row for _, row in table.rows() if row]
    assert [row[1] for row in rows] == [JANE, "john.roe@example.com"]
    assert all("/u/" in row[3] for row in rows)


def imported(app: Flask, text: str, codec: str, tmp_path: Path, *more: str) -> Result:
    path = tmp_path / "import.csv"
    path.write_bytes(text.encode(codec))
    return run(app, "import", path, *more)


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_form_can_be_imported(sqlite_app: Flask, tmp_path: Path, codec: str, delimiter: str) -> None:
    rows = [["E-Mail-Adresse", "status"], [JANE, "unsubscribed"], ["", ""]]
    result = imported(sqlite_app, text_of(rows, delimiter), codec, tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "unsubscribed" in run(sqlite_app, "explain", JANE).output


def test_another_encoding_that_is_named_is_read(sqlite_app: Flask, tmp_path: Path) -> None:
    text = text_of([["email", "source"], [JANE, "Щит"]])
    for codec in ("cp1251", "utf-16-le", "utf-32"):
        assert imported(sqlite_app, text, codec, tmp_path, "--encoding", codec).exit_code == 0


COMMANDS: dict[str, tuple[str, ...]] = {
    "import": ("import",),
    "mint": ("links", "mint"),
    "scrub": ("scrub", "--topic", "offers", "--channel", "email"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_column_of_the_addresses_can_be_named(sqlite_app: Flask, tmp_path: Path, command: str) -> None:
    path = tmp_path / "people.csv"
    rows = [["Kontakt", "status"], [JANE, "unsubscribed"]] if command == "import" else [["x", "Kontakt"], ["", JANE]]
    path.write_text(text_of(rows))
    result = run(sqlite_app, *COMMANDS[command], path, "--column", "kontakt")
    assert result.exit_code == 0, result.stderr


def test_the_column_of_an_export_can_be_named(sqlite_app: Flask, tmp_path: Path) -> None:
    rows = [["Work Email", "Email Address", "OPTIN_TIME", "CONFIRM_TIME", "CLEAN_TIME"], [JANE, "nobody", "", "", ""]]
    result = imported(sqlite_app, text_of(rows), "utf-8", tmp_path, "--from", "mailchimp", "--column", "Work Email")
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("space", ["\n", "  \r\n\t", "\ufeff \n"])
def test_json_may_begin_with_white_space(sqlite_app: Flask, tmp_path: Path, space: str) -> None:
    text = space + json.dumps([{"email": JANE, "created": 1714557600}])
    for codec in ("utf-8", "utf-16"):
        result = imported(sqlite_app, text, codec, tmp_path, "--from", "sendgrid:global-unsubscribes")
        assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("command", "more", "says"),
    [
        ("import", (), ["the columns are address", "the file has Name, Ort", "--column"]),
        ("mint", (), ["no column is called address", "the file has Name, Ort", "--column"]),
        ("scrub", (), ["no column is called address", "the file has Name, Ort", "--column"]),
        ("import", ("--from", "mautic"), ["none of Mautic's", "mautic:do-not-contact", "the file has Name, Ort"]),
        ("import", ("--from", "mailgun:bounces"), ["column address", "the file has Name, Ort", "rename it"]),
    ],
)
def test_a_refused_file_is_told_its_columns_and_what_to_do(
    sqlite_app: Flask, tmp_path: Path, command: str, more: tuple[str, ...], says: list[str]
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("Name;Ort\nJane;Bonn\n")
    result = run(sqlite_app, *COMMANDS[command], path, *more)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert all(words in result.stderr for words in says), result.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (b"", "line 1 is empty"),
        (b"\n\r\n;;\n", "line 1 is empty"),
        (b'"address\n' + b"x\n" * 10, "never closed"),
        (b"PK\x03\x04...", ".xlsx"),
        (b"\x1f\x8bnothing", "damaged or not whole"),
        (b"x" * (5 << 20), "a row longer"),
        (b"address\n" + b"x" * (5 << 20), "longer"),
    ],
    ids=["empty", "blank", "open quote", "spreadsheet", "junk", "long header", "long row"],
)
def test_what_is_no_table_is_one_clear_line(
    sqlite_app: Flask, tmp_path: Path, command: str, octets: bytes, says: str
) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(octets)
    result = run(sqlite_app, *COMMANDS[command], path)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert says in result.stderr or "not an export" in result.stderr or "cut off" in result.stderr, result.stderr


@given(st.binary(max_size=200) | st.text(alphabet='a@,;\t|"\n\r= ', max_size=60).map(str.encode))
def test_any_bytes_have_a_header_or_are_refused(octets: bytes) -> None:
    try:
        head = read_head(open_table(io.BytesIO(octets)).text, text_decoder("utf-8"), "UTF-8")
    except BadFile:
        return
    assert head.names
    assert all("\x00" not in name for name in head.names)


@given(st.text(max_size=300), st.integers(min_value=0, max_value=400), st.sampled_from(["utf-16", "utf-16-be"]))
def test_a_translated_file_can_be_begun_anywhere(text: str, place: int, codec: str) -> None:
    octets = text.encode(codec, "replace")
    whole = open_table(io.BytesIO(octets), codec).text.read()
    again = open_table(io.BytesIO(octets), codec).text
    again.read(7)
    again.seek(place)
    assert again.read() == whole[place:]
