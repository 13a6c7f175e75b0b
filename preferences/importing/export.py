"""Exports of everything, and their restore into an empty installation (formats: docs/feed.md).

Invariants: an export is one snapshot in constant memory; its file is complete or absent; a restore is complete and
verified, or leaves nothing.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import PreferencesError
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel
from preferences.files.archives import lines, member, opened_archive, start
from preferences.files.atomic import atomic_write
from preferences.files.spreadsheets import harmless_cell
from preferences.ledger import archive
from preferences.ledger.archive import ADDED_LATER, ENTRIES, PARTS, Part
from preferences.ledger.refold import RULES, refold
from preferences.ledger.verify import verify
from preferences.store import current_state
from preferences.store.transactions import Database, Read, Snapshot, StoreFault, Write

FORMAT: Final = "preferences-export"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
BLOCK: Final = 1_000
LONGEST_CELL: Final = 16 * 1024 * 1024
MOST_ROWS: Final = 2**63 - 1
"""The largest count that a database can hold."""
LONGEST_MANIFEST: Final = 1 << 20

CSV_COLUMNS: Final = tuple(field.name for field in fields(current_state.StateRow))
"""The importable CSV's columns."""

_CHECK: Final = Address(Channel.EMAIL, "fingerprint-check")
"""Not an address: its fingerprint identifies the keys of an export."""

Progress = Callable[[int], None]
Item = TypeVar("Item")


class BadExport(PreferencesError):
    """A file that cannot be written or is incomplete. Names the part, never its content."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Rows and digests by file, the ledger's head, and the version of the fold's `rules`."""

    rows: Mapping[str, int]
    digests: Mapping[str, str]
    head_seq: int
    head_hash: str
    key_checks: tuple[str, ...]
    rules: int = RULES


def write_archive(
    snapshot: Snapshot, path: Path, fingerprints: Fingerprints, *, progress: Progress, replace: bool = False
) -> Manifest:
    """Raises CannotWrite."""
    rows: dict[str, int] = {}
    digests: dict[str, str] = {}
    now = datetime.now(UTC)
    with atomic_write(path, replace=replace) as whole, zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as zipped:
        for part in PARTS:
            with zipped.open(_member(part.file, now), "w", force_zip64=True) as file:
                rows[part.file], digests[part.file] = _pour(_blocks_of(snapshot, part), file, progress)
        seq, newest = archive.head(snapshot)
        manifest = Manifest(rows, digests, seq, newest, fingerprints.candidates(_CHECK))
        zipped.writestr(_member(MANIFEST, now), _manifest_text(manifest, now))
    return manifest


def count_rows(read: Read) -> int:
    return sum(archive.count(read, part) for part in PARTS)


def write_csv(
    snapshot: Snapshot, path: Path, *, progress: Progress, replace: bool = False, for_spreadsheets: bool = False
) -> int:
    """The current state, importable. Raises CannotWrite."""
    with atomic_write(path, replace=replace) as file:
        file.write(_csv([CSV_COLUMNS]))
        rows: Iterator[tuple[str, ...]] = (astuple(row) for row in current_state.read_state_rows(snapshot))
        if for_spreadsheets:
            rows = (tuple(map(harmless_cell, row)) for row in rows)
        blocks = ((_csv(block), len(block)) for block in _by_block(rows))
        return _pour(blocks, file, progress)[0]


def write_ledger(snapshot: Snapshot, path: Path, *, progress: Progress, replace: bool = False) -> int:
    """Entries as JSON lines, compressed if named .gz."""
    with atomic_write(path, replace=replace) as file:
        if path.suffix != ".gz":
            return _pour(_lines(snapshot), file, progress)[0]
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
            return _pour(_lines(snapshot), packed, progress)[0]


def _member(name: str, now: datetime) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, now.timetuple()[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


def _blocks_of(snapshot: Snapshot, part: Part) -> Iterator[tuple[bytes, int]]:
    if part.file == ENTRIES:
        yield from _lines(snapshot)
        return
    yield _csv([part.columns]), 0
    for block in _by_block(archive.read_cells(snapshot, part)):
        yield _csv(block), len(block)


def _lines(snapshot: Snapshot) -> Iterator[tuple[bytes, int]]:
    for block in _by_block(archive.read_lines(snapshot)):
        yield b"".join(block), len(block)


def _pour(blocks: Iterable[tuple[bytes, int]], into: IO[bytes] | gzip.GzipFile, progress: Progress) -> tuple[int, str]:
    """Returns the number of rows, and the SHA-256 of the bytes in hex."""
    rows, digest = 0, hashlib.sha256()
    for block, count in blocks:
        into.write(block)
        digest.update(block)
        rows += count
        progress(count)
    return rows, digest.hexdigest()


def _csv(rows: Iterable[Iterable[str]]) -> bytes:
    """RFC 4180. Cells are unchanged, even if they begin with = or +."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _by_block(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while block := list(islice(iterator, BLOCK)):
        yield block


def _manifest_text(manifest: Manifest, now: datetime) -> str:
    files = {name: {"rows": manifest.rows[name], "sha256": manifest.digests[name]} for name in manifest.rows}
    document = {
        "format": FORMAT,
        "version": VERSION,
        "rules": manifest.rules,
        "written_at": now.isoformat(),
        "head": {"seq": manifest.head_seq, "hash": manifest.head_hash},
        "key_checks": list(manifest.key_checks),
        "files": files,
    }
    return json.dumps(document, indent=2) + "\n"


def is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}


def check(path: Path, fingerprints: Fingerprints, *, progress: Progress) -> Manifest:
    """Read an archive, writing nothing. Raises BadExport if incomplete or made with other keys."""
    with _opened(path) as (zipped, manifest):
        known = set(fingerprints.candidates(_CHECK))
        if not set(manifest.key_checks) <= known:
            raise BadExport(f"{path.name} was made with other FINGERPRINT_KEYS: give this install all of them")
        for part in _parts_in(manifest):
            with _readable(part.file), member(zipped, part.file) as file:
                if _digest(file) != manifest.digests[part.file]:
                    raise BadExport(f"{part.file} is not as it was written")
            progress(manifest.rows[part.file])
    return manifest


def restore(path: Path, database: Database, *, progress: Progress) -> Manifest:
    """Restore a checked archive into an empty installation, in one transaction.

    Raises NotAllowed if the database has contacts, and BadExport if the ledger does not verify.
    """
    with _opened(path) as (zipped, manifest):
        try:
            database.write(_restore, zipped, manifest, progress)
        except StoreFault as fault:
            raise BadExport(f"the database refuses something in it, so nothing was restored ({fault})") from None
    return manifest


def _restore(write: Write, zipped: zipfile.ZipFile, manifest: Manifest, progress: Progress) -> None:
    archive.begin_restore(write)
    for part in _parts_in(manifest):
        with _readable(part.file), member(zipped, part.file) as file:
            for block in _by_block(_rows(part, file)):
                archive.put_back(write, part, block)
                progress(len(block))
    if archive.lacks_contacts(write):
        raise BadExport("an address in it has no contact, so nothing was restored")
    archive.end_restore(write, manifest.head_seq, manifest.head_hash)
    if manifest.rules < RULES:
        refold(write)
    problems = verify(write, progress).problems
    if problems:
        raise BadExport(f"its ledger does not verify, so nothing was restored: {problems[0]}")


def _rows(part: Part, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    if part.file == ENTRIES:
        yield from map(archive.row_of_line, lines(file, part.file))
        return
    # The default is 128 KiB. Applies to the whole process.
    csv.field_size_limit(LONGEST_CELL)
    rows = _csv_rows(file, part.file)
    names = next(rows)
    if not set(names) <= set(part.columns):
        raise BadExport(f"{part.file} has columns that this version does not know: it was written by a newer one")
    for cells in rows:
        yield archive.row_of_cells(part, names, cells)


def _csv_rows(file: IO[bytes], name: str) -> Iterator[list[str]]:
    """Limits a row's length over all its lines."""
    length = 0

    def texts() -> Iterator[str]:
        nonlocal length
        for line in lines(file, name):
            length += len(line)
            if length > LONGEST_CELL:
                raise BadExport(f"{name} has a row that is longer than any of ours")
            yield line.decode()

    for cells in csv.reader(texts(), strict=True):
        length = 0
        yield cells


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, Manifest]]:
    with opened_archive(path) as zipped:
        yield zipped, _read_manifest(zipped, path.name)


def _read_manifest(zipped: zipfile.ZipFile, name: str) -> Manifest:
    try:
        document = json.loads(start(zipped, MANIFEST, LONGEST_MANIFEST))
        if document["format"] != FORMAT:
            raise KeyError
        if document["version"] != VERSION:
            raise BadExport(f"{name} was written by another version of this program")
        files, head = document["files"], document["head"]
        names = [part.file for part in PARTS if part.file in files or part.file not in ADDED_LATER]
        return Manifest(
            rows={name: _count(files[name]["rows"]) for name in names},
            digests={name: str(files[name]["sha256"]) for name in names},
            head_seq=_count(head["seq"]),
            head_hash=str(head["hash"]),
            key_checks=tuple(map(str, document["key_checks"])),
            rules=int(document.get("rules", 1)),
        )
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
        raise BadExport(_not_ours(zipped, name)) from None


def _count(number: Any) -> int:
    count = int(number)
    if not 0 <= count <= MOST_ROWS:
        raise ValueError("not a number of rows")
    return count


def _not_ours(zipped: zipfile.ZipFile, name: str) -> str:
    if "xl/workbook.xml" in zipped.namelist():
        return f"{name} is a spreadsheet: save it as CSV (UTF-8), and import that"
    return (
        f"{name} is not an export of this program: `flask export` writes one. If it is another tool's, unpack it, and"
        " import the files in it one by one with --from"
    )


def _parts_in(manifest: Manifest) -> list[Part]:
    return [part for part in PARTS if part.file in manifest.rows]


@contextmanager
def _readable(file: str) -> Iterator[None]:
    """Errors do not quote the file."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, csv.Error, StopIteration, RecursionError):
        raise BadExport(f"{file} is missing, or holds something that cannot be read") from None


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
