"""`flask export`, `flask import` of what it wrote, and `flask ledger export`, as an operator runs them."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from preferences.current import services_of
from tests.processes import contents
from tests.support import add_contact, close, email, link_for, new_app, new_sqlite


def run(app: Flask, *arguments: str | Path) -> Result:
    return app.test_cli_runner().invoke(args=[str(one) for one in arguments])


def refused(result: Result, *words: str) -> None:
    """Exit code 1 and one line on standard error with these words; nothing about anybody."""
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert all(word in result.stderr for word in words), result.stderr
    assert "example.com" not in result.stderr


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Flask]:
    """A second install, in which nobody is on record."""
    app = new_app(new_sqlite(tmp_path))
    yield app
    close(app)


@pytest.fixture
def lived(sqlite_app: Flask) -> Flask:
    """An install with somebody who left, and somebody who said nothing."""
    services = services_of(sqlite_app)
    path = link_for(services, add_contact(services))
    add_contact(services, email("rosa@example.com"))
    assert sqlite_app.test_client().post(path).status_code == 200
    return sqlite_app


def test_everything_goes_out_and_comes_back(lived: Flask, empty: Flask, tmp_path: Path) -> None:
    path = tmp_path / "everything.zip"
    result = run(lived, "export", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "2 contacts, 2 addresses, 1 choices, 0 suppressions, 1 entries" in result.stdout
    assert "example.com" not in result.stdout
    before = contents(services_of(empty).settings.database_url)
    assert "is whole, with 1 entries" in run(empty, "import", path, "--dry-run").stdout
    assert contents(services_of(empty).settings.database_url) == before
    assert "2 contacts and 1 entries are back" in run(empty, "import", path).stdout
    assert run(empty, "ledger", "verify").exit_code == 0
    assert "unsubscribed" in run(empty, "explain", "jane.doe@example.com").stdout
    refused(run(empty, "import", path), "only into an empty install")


def test_what_holds_now_is_a_csv_that_an_import_reads(lived: Flask, empty: Flask, tmp_path: Path) -> None:
    path = tmp_path / "contacts.csv"
    assert run(lived, "export", path).stdout == f"{path}: 2 rows.\n"
    assert (
        path.read_text().splitlines()[0]
        == "address,channel,topic,status,occurred_at,source,reason,evidence,brand,flags"
    )
    assert "2 rows: 2 new contacts, 1 changes" in run(empty, "import", path).stdout
    assert "unsubscribed" in run(empty, "explain", "jane.doe@example.com").stdout


def test_a_file_that_is_there_is_kept_unless_it_may_go(lived: Flask, tmp_path: Path) -> None:
    for arguments in (
        ("export", tmp_path / "x.zip"),
        ("export", tmp_path / "x.csv"),
        ("ledger", "export", tmp_path / "x"),
    ):
        Path(arguments[-1]).write_text("mine")
        refused(run(lived, *arguments), "is there already", "--force")
        assert Path(arguments[-1]).read_text() == "mine"
        assert run(lived, *arguments, "--force").exit_code == 0
        assert Path(arguments[-1]).read_bytes() != b"mine"


def test_a_folder_gets_a_file_of_the_day(lived: Flask, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    assert run(lived, "export", folder).exit_code == 0
    (path,) = folder.iterdir()
    assert zipfile.is_zipfile(path)


@pytest.mark.parametrize(
    ("name", "words"), [("everything.tar", "must end in .zip"), ("nowhere/everything.zip", "there is no folder")]
)
def test_a_place_that_will_not_do_is_said_in_one_line(lived: Flask, tmp_path: Path, name: str, words: str) -> None:
    refused(run(lived, "export", tmp_path / name), words)
    assert not (tmp_path / name).exists()


def test_a_zip_that_is_none_of_ours_is_refused(lived: Flask, tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("members.csv", "jane@example.com")
    refused(run(lived, "import", path), "is not an export of this program")


def test_the_ledger_goes_out_line_by_line(lived: Flask, tmp_path: Path) -> None:
    plain, packed = tmp_path / "ledger.jsonl", tmp_path / "ledger.jsonl.gz"
    assert run(lived, "ledger", "export", plain).stdout == f"{plain}: 1 entries.\n"
    assert run(lived, "ledger", "export", packed).exit_code == 0
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    (line,) = plain.read_text().splitlines()
    assert json.loads(line)["verb"] == "unsubscribe"


def test_what_a_csv_has_no_place_for_is_said(lived: Flask, tmp_path: Path) -> None:
    services = services_of(lived)
    services.database.save(
        lambda save: save.exec_driver_sql(
            "INSERT INTO suppression (fingerprint, channel, reason, active, at, since, seq)"
            " VALUES ('of nobody', 'email', 'erased', 1, '2026-01-01', '2026-01-01', 1)"
        )
    )
    result = run(lived, "export", tmp_path / "contacts.csv")
    assert "1 suppressed addresses known by fingerprint alone" in result.stdout
