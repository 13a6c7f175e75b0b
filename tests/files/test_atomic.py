"""Files that are whole or not there, whoever else writes in the same folder."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from preferences.files.atomic import CannotWrite, atomic_write


def write(path: Path, text: str, *, replace: bool = False) -> None:
    with atomic_write(path, replace=replace) as file:
        file.write(text.encode())


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_only_the_owner_may_read_it_at_any_moment(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "x", replace=False):
            (part,) = unfinished(tmp_path)
            assert stat.S_IMODE(part.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_file_that_others_may_read_is_replaced_by_one_that_they_may_not(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    (tmp_path / "x").chmod(0o644)
    write(tmp_path / "x", "new", replace=True)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_what_has_the_name_keeps_it_even_if_it_came_meanwhile(tmp_path: Path) -> None:
    def write_beside() -> None:
        with atomic_write(tmp_path / "x", replace=False) as file:
            file.write(b"ours")
            (tmp_path / "x").write_text("theirs")

    with pytest.raises(CannotWrite, match="is there already"):
        write_beside()
    assert (tmp_path / "x").read_text() == "theirs"
    assert unfinished(tmp_path) == []


def test_a_link_under_the_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "x").symlink_to("precious")
    with pytest.raises(CannotWrite, match="is there already"):
        write(tmp_path / "x", "ours")
    write(tmp_path / "x", "ours", replace=True)
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("replace", [True, False])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, replace: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        before = {path.name: path.lstat().st_ino for path in tmp_path.iterdir()}
        for name in before:
            with pytest.raises(CannotWrite, match=f"{name} is no file"):
                write(tmp_path / name, "ours", replace=replace)
    assert {path.name: path.lstat().st_ino for path in tmp_path.iterdir()} == before


def test_what_became_a_pipe_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def write_beside() -> None:
        with atomic_write(tmp_path / "x", replace=True) as file:
            file.write(b"ours")
            os.mkfifo(tmp_path / "x")

    with pytest.raises(CannotWrite, match="x is no file"):
        write_beside()
    assert [path.is_fifo() for path in tmp_path.iterdir()] == [True]


def test_nobody_can_lay_a_link_where_the_unfinished_file_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preferences.files.atomic.secrets.token_hex", lambda _length: "guessed")
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".x.guessed.part").symlink_to("precious")
    with pytest.raises(CannotWrite):
        write(tmp_path / "x", "ours", replace=True)
    assert (tmp_path / "precious").read_text() == "precious"


def test_two_writers_do_not_write_into_one_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x", replace=True) as first, atomic_write(tmp_path / "x", replace=True) as second:
        first.write(b"first")
        second.write(b"second")
        assert len(unfinished(tmp_path)) == 2
    assert (tmp_path / "x").read_text() == "first"


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "x", replace=True):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match=r"x cannot be written \(No such file or directory\)"):
        write(tmp_path / "nowhere" / "x", "")
