"""Zip files that somebody else made: one clear line, and little memory, whatever they hold."""

from __future__ import annotations

import resource
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from preferences.current import services_of
from preferences.files.archives import BadArchive, member, opened_archive, start
from preferences.importing.export import MANIFEST, write_archive
from tests.support import add_contact

pytestmark = pytest.mark.slow

LARGE = 300 << 20
"""Bytes: more than a command may take more of than it takes anyway."""


@pytest.fixture
def ours(sqlite_app: Flask, tmp_path: Path) -> dict[str, bytes]:
    """The files of a real export."""
    services = services_of(sqlite_app)
    add_contact(services)
    path = tmp_path / "ours.zip"
    services.database.snapshot(write_archive, path, services.fingerprints, progress=lambda _: None)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, files: dict[str, bytes], **how: int) -> Path:
    with zipfile.ZipFile(path, "w", how.get("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def zeros(path: Path, files: dict[str, bytes], name: str, length: int = LARGE) -> Path:
    """The archive with so many zeros in the place of one file."""
    packed(path, {one: content for one, content in files.items() if one != name})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as file:
        for _ in range(length >> 20):
            file.write(bytes(1 << 20))
    return path


def stored_line(path: Path, files: dict[str, bytes], name: str) -> Path:
    """The archive with a line that does not end, not packed, so that nothing looks odd before it is read."""
    packed(path, {one: content for one, content in files.items() if one != name})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive, archive.open(name, "w") as file:
        file.write(files[name].partition(b"\n")[0] + b"\n" if name.endswith(".csv") else b"")
        for _ in range(40):
            file.write(b'"' + b"x" * (1 << 20))
    return path


def encrypted(path: Path, files: dict[str, bytes]) -> Path:
    """The archive with the mark of encryption on each file, in both places where it stands."""
    octets = bytearray(packed(path, files).read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        found = octets.find(mark)
        while found >= 0:
            octets[found + place] |= 1
            found = octets.find(mark, found + 4)
    path.write_bytes(octets)
    return path


def many(path: Path, files: dict[str, bytes]) -> Path:
    return packed(path, files | {f"{number}": b"" for number in range(1_200)}, compression=zipfile.ZIP_STORED)


def link(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(MANIFEST)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("../../outside.csv", "x")
    return path


HOSTILE: list[tuple[str, Callable[[Path, dict[str, bytes]], Path], str]] = [
    ("encrypted", encrypted, "manifest.json is encrypted"),
    ("bzip2", lambda path, files: packed(path, files, compression=zipfile.ZIP_BZIP2), "packed in a way"),
    ("brackets", lambda path, files: packed(path, files | {MANIFEST: b"[" * 200_000}), "is not an export"),
    ("braces", lambda path, files: packed(path, files | {MANIFEST: b'{"a":' * 200_000}), "is not an export"),
    ("infinity", lambda path, files: packed(path, {MANIFEST: manifest_with(files, "Infinity")}), "is not an export"),
    ("digits", lambda path, files: packed(path, {MANIFEST: manifest_with(files, "9" * 5_000)}), "is not an export"),
    ("a list", lambda path, files: packed(path, files | {MANIFEST: b"[]"}), "is not an export"),
    ("not UTF-8", lambda path, files: packed(path, files | {MANIFEST: b"\xff\xfe"}), "is not an export"),
    ("large manifest", lambda path, files: zeros(path, files, MANIFEST), "of next to nothing"),
    ("manifest of random bytes", lambda path, files: packed(path, {MANIFEST: noise(2 << 20)}), "longer than any"),
    ("large table", lambda path, files: zeros(path, files, "contacts.csv"), "of next to nothing"),
    ("many members", many, "holds more files"),
    ("a link and a path", link, "is not an export"),
    ("spreadsheet", lambda path, _: packed(path, {"xl/workbook.xml": b"", "[Content_Types].xml": b""}), "as CSV"),
    ("another tool's", lambda path, _: packed(path, {"subscribed.csv": b"Email\n"}), "one by one with --from"),
    ("only its begin", lambda path, files: cut(packed(path, files), 0.5), "cut off or damaged"),
]


def manifest_with(files: dict[str, bytes], number: str) -> bytes:
    return files[MANIFEST].replace(b'"seq": 0', f'"seq": {number}'.encode())


def noise(length: int) -> bytes:
    return b"".join(struct.pack("<I", number * 2_654_435_761 % 2**32) for number in range(length // 4))


def cut(path: Path, share: float) -> Path:
    octets = path.read_bytes()
    path.write_bytes(octets[: int(len(octets) * share)])
    return path


@pytest.mark.parametrize(("make", "words"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
@pytest.mark.parametrize("dry", [True, False])
def test_a_hostile_archive_is_one_clear_line(
    sqlite_app: Flask,
    ours: dict[str, bytes],
    tmp_path: Path,
    make: Callable[[Path, dict[str, bytes]], Path],
    words: str,
    dry: bool,
) -> None:
    path = make(tmp_path / "everything.zip", ours)
    result = sqlite_app.test_cli_runner().invoke(args=["import", str(path), *(["--dry-run"] if dry else [])])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert words in result.stderr


@pytest.mark.parametrize("name", ["entries.jsonl", "contacts.csv"])
def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory(
    ours: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    path = stored_line(tmp_path / "everything.zip", ours, name)
    program = f"""
import resource, sys
from pathlib import Path
from preferences.importing.export import _rows
from preferences.files.archives import member, opened_archive
from preferences.ledger.archive import PARTS
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
part = next(part for part in PARTS if part.file == {name!r})
try:
    with opened_archive(Path({str(path)!r})) as archive, member(archive, part.file) as file:
        for _ in _rows(part, file):
            pass
except Exception as error:
    print(type(error).__name__, error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    said, grown = done.stdout.splitlines()
    assert said.startswith(("BadArchive", "BadExport"))
    assert "longer than any of ours" in said
    assert int(grown) < 120, "MiB"


def test_a_bomb_is_refused_by_what_it_claims_and_costs_nothing(tmp_path: Path) -> None:
    path = zeros(tmp_path / "bomb.zip", {}, MANIFEST)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with opened_archive(path) as archive, pytest.raises(BadArchive, match="of next to nothing"):
        start(archive, MANIFEST, 100)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10


def test_a_size_that_is_a_lie_is_found_out(tmp_path: Path) -> None:
    path = zeros(tmp_path / "liar.zip", {}, MANIFEST, length=50 << 20)
    octets = bytearray(path.read_bytes())
    place = octets.rfind(b"PK\x01\x02")
    octets[place + 20 : place + 24] = struct.pack("<I", 2**31)  # that it is packed into so many
    path.write_bytes(octets)
    with opened_archive(path) as archive, pytest.raises(BadArchive, match="of next to nothing"):
        start(archive, MANIFEST, 100)


def test_a_real_export_is_far_from_the_limits(sqlite_app: Flask, ours: dict[str, bytes], tmp_path: Path) -> None:
    path = packed(tmp_path / "everything.zip", ours)
    with opened_archive(path) as archive:
        for name, content in ours.items():
            with member(archive, name) as file:
                assert file.read() == content
