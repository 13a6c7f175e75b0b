"""`flask scrub`: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from preferences.current import services_of
from preferences.domain.vocabulary import Verb
from tests.sending.lists import act, tell, written
from tests.support import email

LIST = b"email,id\njane.doe@example.com,1\njohn@example.com,2\nnobody,3\n"
QUESTION = ("--topic", "product-news", "--channel", "email")


def scrub(app: Flask, *words: object) -> Result:
    return app.test_cli_runner().invoke(args=["scrub", *map(str, words)])


def test_a_list_is_sorted_into_two_with_the_reasons_told(app: Flask, tmp_path: Path) -> None:
    tell(services_of(app), act(email(), Verb.UNSUBSCRIBE, "*"))
    result = scrub(app, written(tmp_path, LIST), *QUESTION)
    assert result.exit_code == 0, result.output
    assert "As of entry 1: 1 rows may be written to and are in list.kept.csv." in result.output
    assert "unsubscribed_all: 1" in result.output
    assert "bad_address: 1" in result.output
    assert (tmp_path / "list.kept.csv").read_bytes() == b"email,id\njohn@example.com,2\n"
    assert (tmp_path / "list.removed.csv").read_text().splitlines() == [
        "email,id,reason,rule",
        "jane.doe@example.com,1,unsubscribed_all,marketing.unsubscribed_all",
        "nobody,3,bad_address,line 4: not an e-mail address",
    ]
    assert "@" not in result.output


def test_outputs_are_named_after_the_file_or_as_wished(sqlite_app: Flask, tmp_path: Path) -> None:
    source = written(tmp_path, gzip.compress(LIST)).rename(tmp_path / "list.csv.gz")
    assert scrub(sqlite_app, source, *QUESTION).exit_code == 0
    assert (tmp_path / "list.kept.csv.gz").exists()
    assert (tmp_path / "list.removed.csv.gz").exists()
    assert scrub(sqlite_app, source, *QUESTION, "--kept", tmp_path / "a", "--removed", tmp_path / "b").exit_code == 0
    assert gzip.decompress((tmp_path / "a").read_bytes()).startswith(b"email,id\njane.doe")


def test_what_is_there_already_is_not_written_over_without_force(sqlite_app: Flask, tmp_path: Path) -> None:
    source = written(tmp_path, LIST)
    (tmp_path / "list.removed.csv").write_text("precious")
    result = scrub(sqlite_app, source, *QUESTION)
    assert (result.exit_code, (tmp_path / "list.removed.csv").read_text()) == (1, "precious")
    assert "--force" in result.output
    assert scrub(sqlite_app, source, *QUESTION, "--force").exit_code == 0


def test_a_list_of_which_nobody_said_no_is_told_as_such(sqlite_app: Flask, tmp_path: Path) -> None:
    result = scrub(sqlite_app, written(tmp_path, b"email\njane@example.com\n"), *QUESTION)
    assert result.output.endswith("\n0 may not and are in list.removed.csv.\n")


def test_a_stricter_class_than_the_caller_says_is_asked_about(sqlite_app: Flask, tmp_path: Path) -> None:
    tell(services_of(sqlite_app), act(email(), Verb.UNSUBSCRIBE, "*"))
    source = written(tmp_path, LIST)
    assert "unsubscribed_all: 1" in scrub(sqlite_app, source, *QUESTION, "--class", "transactional").output
    receipts = scrub(sqlite_app, source, "--topic", "receipts", "--channel", "email", "--force")
    assert "2 rows may be written to" in receipts.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--topic", "no-such", "--channel", "email"), "there is no such topic"),
        (("--topic", "offers", "--channel", "sms"), "is not sent by sms"),
        (("--topic", "offers", "--channel", "pigeon"), "pigeon"),
        (("--topic", "@tracking", "--channel", "email", "--brand", "gone"), "there is no such brand"),
        ((*QUESTION, "--class", "spam"), "spam"),
        ((*QUESTION, "--column", "mail"), "--column"),
        ((*QUESTION, "--kept", "no-such-folder/kept.csv"), "there is no folder"),
        ((*QUESTION, "--kept", "same", "--removed", "same"), "three different ones"),
    ],
)
def test_a_wrong_question_is_one_line_and_nothing_is_written(
    sqlite_app: Flask, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    source = written(tmp_path, LIST)
    before = {one.name for one in tmp_path.iterdir()}
    result = scrub(sqlite_app, source, *words)
    assert result.exit_code == 1
    assert why in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert {one.name for one in tmp_path.glob("*.csv")} == {"list.csv"} & before
