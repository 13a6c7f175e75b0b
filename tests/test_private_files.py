"""What a command writes about people: only its owner can read it, nothing is written over, nothing is calculated."""

from __future__ import annotations

import csv
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from preferences.current import services_of
from preferences.files.spreadsheets import harmless_cell
from tests.support import add_contact, email

ROWS = "address,name\njane.doe@example.com,=1+1\nnobody,=2+2\n"
GOOD = "address,name\njane.doe@example.com,=1+1\n"


def run(app: Flask, *arguments: str | Path) -> Result:
    return app.test_cli_runner().invoke(args=[str(argument) for argument in arguments])


def scrub(app: Flask, source: Path, output: Path, *more: str) -> Result:
    question = ("--topic", "product-news", "--channel", "email")
    return run(app, "scrub", source, *question, "--kept", output.with_suffix(".kept"), "--removed", output, *more)


def mint(app: Flask, source: Path, output: Path, *more: str) -> Result:
    source.write_text(GOOD)
    return run(app, "links", "mint", source, "--output", output, *more)


def reject(app: Flask, source: Path, output: Path, *more: str) -> Result:
    source.write_text("address,source\njane.doe@example.com,=1+1\nnobody,=2+2\n")
    return run(app, "import", source, "--rejects", output, *more)


def export(app: Flask, _source: Path, output: Path, *more: str) -> Result:
    return run(app, "export", output, *more)


COMMANDS = [scrub, mint, reject, export]
Run = Callable[..., Result]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(ROWS)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_only_its_owner_can_read_it(sqlite_app: Flask, source: Path, tmp_path: Path, command: Run) -> None:
    output = tmp_path / "output.csv"
    assert command(sqlite_app, source, output).exit_code == 0
    written = [path for path in tmp_path.iterdir() if path.name.startswith("output")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_written_over_unless_it_is_forced(
    sqlite_app: Flask, source: Path, tmp_path: Path, command: Run
) -> None:
    output = tmp_path / "output.csv"
    output.write_text("precious")
    result = command(sqlite_app, source, output)
    assert (result.exit_code, output.read_text()) == (1, "precious")
    assert "is there already" in result.stderr
    assert "--force" in result.stderr
    assert command(sqlite_app, source, output, "--force").exit_code == 0
    assert output.read_text() != "precious"


@pytest.mark.parametrize("command", [mint, reject, scrub])
def test_the_file_that_is_read_is_never_the_one_that_is_written(sqlite_app: Flask, source: Path, command: Run) -> None:
    result = command(sqlite_app, source, source, "--force")
    assert result.exit_code == 1
    assert "different" in result.stderr
    assert source.read_text().startswith("address")


def test_the_database_and_its_log_are_their_owners_alone(sqlite_app: Flask) -> None:
    services = services_of(sqlite_app)
    add_contact(services)
    path = Path(services.settings.database_url.removeprefix("sqlite:///"))
    files = [path, *path.parent.glob(f"{path.name}-*")]
    assert len(files) > 1
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize("command", [scrub, mint, reject])
def test_cells_are_data_unless_people_are_to_look_at_them(
    sqlite_app: Flask, source: Path, tmp_path: Path, command: Run
) -> None:
    for output, more, begin in ((tmp_path / "a", (), "="), (tmp_path / "b", ("--for-spreadsheets",), "'=")):
        assert command(sqlite_app, source, output, *more).exit_code == 0
        with output.open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row if "=" in cell and "http" not in cell]
        calculated = [cell for cell in cells if cell.lstrip("'").startswith("=") and cell[-1] in "12"]
        assert calculated
        assert all(cell.startswith(begin) for cell in calculated)


def test_an_export_for_spreadsheets_calculates_nothing(sqlite_app: Flask, tmp_path: Path) -> None:
    add_contact(services_of(sqlite_app), email("=1+1@example.com"))
    for output, more, begin in ((tmp_path / "a.csv", (), "=1"), (tmp_path / "b.csv", ("--for-spreadsheets",), "'=1")):
        assert export(sqlite_app, tmp_path, output, *more).exit_code == 0
        assert output.read_text().splitlines()[1].startswith(begin)


def test_an_archive_is_never_altered_for_spreadsheets(sqlite_app: Flask, tmp_path: Path) -> None:
    result = export(sqlite_app, tmp_path, tmp_path / "a.zip", "--for-spreadsheets")
    assert (result.exit_code, (tmp_path / "a.zip").exists()) == (1, False)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff20"])
def test_what_a_spreadsheet_would_calculate_is_marked(start: str) -> None:
    assert harmless_cell(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("text", ["", "1+1", "jane@example.com", " =1", "'=1"])
def test_any_other_cell_stays_as_it_is(text: str) -> None:
    assert harmless_cell(text) == text
