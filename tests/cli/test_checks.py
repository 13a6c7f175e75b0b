"""The commands that check a mail and a live site: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import Result
from flask import Flask

from tests import mails


@pytest.fixture
def key(tmp_path: Path) -> str:
    file = tmp_path / "s1.txt"
    file.write_bytes(mails.key_pair()[1])
    return f"{mails.KEY_NAME}={file}"


def run(app: Flask, *arguments: str | Path) -> Result:
    return app.test_cli_runner().invoke(args=[str(one) for one in arguments])


def saved(folder: Path, name: str, raw: bytes) -> Path:
    path = folder / f"{name}.eml"
    path.write_bytes(raw)
    return path


def test_a_good_mail_ends_with_0_and_every_rule_has_its_line(sqlite_app: Flask, tmp_path: Path, key: str) -> None:
    file = saved(tmp_path, "good", mails.good())
    result = run(sqlite_app, "lint-eml", file, "--dkim-key", key, "--no-dns", "--address", mails.ADDRESS)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{file}: pass"
    assert lines[-1] == "1 checked: 1 pass, 0 fail, 0 unchecked"
    assert [line.split()[1] for line in lines[1:-1]] == [f"M-{number:02}" for number in range(15)]


def test_one_bad_mail_among_good_ones_ends_with_1_and_is_named(sqlite_app: Flask, tmp_path: Path, key: str) -> None:
    good = saved(tmp_path, "good", mails.good())
    bad = saved(tmp_path, "bad", mails.listed("<mailto:out@shop.example>"))
    result = run(sqlite_app, "lint-eml", good, bad, "--dkim-key", key, "--no-dns")
    assert result.exit_code == 1
    assert f"{bad}: fail (M-02)" in result.stdout
    assert "2 checked: 1 pass, 1 fail, 0 unchecked" in result.stdout


def test_a_key_that_could_not_be_looked_up_ends_with_3(sqlite_app: Flask, tmp_path: Path) -> None:
    result = run(sqlite_app, "lint-eml", saved(tmp_path, "good", mails.good()), "--no-dns")
    assert result.exit_code == 3
    assert "unchecked (M-05)" in result.stdout


def test_json_holds_the_same(sqlite_app: Flask, tmp_path: Path, key: str) -> None:
    file = saved(tmp_path, "bad", mails.with_list_id("<news>"))
    result = run(sqlite_app, "lint-eml", file, "--dkim-key", key, "--no-dns", "--format", "json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert {name: told[name] for name in ("pass", "fail", "unchecked")} == {"pass": 0, "fail": 1, "unchecked": 0}
    (one,) = told["mails"]
    assert (one["file"], one["result"]) == (str(file), "fail")
    assert [finding["rule"] for finding in one["findings"] if finding["result"] == "fail"] == ["M-08"]
    assert {"rule", "title", "source", "result", "text"} == one["findings"][0].keys()


def test_a_transactional_mail_is_held_against_its_own_rules(sqlite_app: Flask, tmp_path: Path) -> None:
    file = saved(tmp_path, "letter", mails.mail("Auto-Submitted: auto-generated"))
    assert run(sqlite_app, "lint-eml", file, "--class", "transactional", "--no-dns").exit_code == 0
    file = saved(tmp_path, "listed", mails.good())
    result = run(sqlite_app, "lint-eml", file, "--class", "transactional", "--no-dns")
    assert "fail (M-07)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument"),
        (("no-such-file.eml",), "does not exist"),
        (("FILE", "--dkim-key", "key.txt"), "SELECTOR._domainkey.DOMAIN=FILE"),
        (("FILE", "--dkim-key", "s1._domainkey.shop.example=no-such-file"), "cannot be read"),
        (("FILE", "--dkim-key", "s1._domainkey.shop.example=FILE"), "not a public key"),
        (("FILE", "--class", "newsletter"), "newsletter"),
    ],
)
def test_bad_input_is_one_line(sqlite_app: Flask, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    file = str(saved(tmp_path, "good", mails.good()))
    given = (one.replace("FILE", file) if one.endswith("FILE") else one for one in arguments)
    result = run(sqlite_app, "lint-eml", *given)
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--url", "ftp://x.example"), "base of the site"),
        (("--url", "preferences.example.com"), "base of the site"),
        (("--token-url", "https://x.example/p/abc"), "whole unsubscribe link"),
        (("--token-url", "https://x.example/u/"), "whole unsubscribe link"),
        (("--token-url", "https://x.example/u/abc", "--url", "https://y.example"), "does not begin with --url"),
    ],
)
def test_a_selftest_of_nothing_is_one_line(sqlite_app: Flask, arguments: tuple[str, ...], words: str) -> None:
    result = run(sqlite_app, "selftest", "oneclick", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_both_explain_themselves_with_an_example(sqlite_app: Flask) -> None:
    for command in (["lint-eml"], ["selftest", "oneclick"]):
        result = run(sqlite_app, *command, "--help")
        assert result.exit_code == 0
        assert f"flask {' '.join(command)}" in click.unstyle(result.stdout)
