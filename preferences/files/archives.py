"""Reading untrusted zip files, within limits.

Invariants: nothing is unpacked to disk, so member names are never paths; memory does not grow with claimed sizes; bad
bytes raise BadArchive.
"""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from preferences.domain.errors import PreferencesError

MOST_MEMBERS: Final = 1_000
LARGEST_DIRECTORY: Final = 1 << 20
"""Bytes of the list of members."""

MOST_INFLATION: Final = 200
"""Maximum ratio of unpacked to packed size: real tables reach 20, zeros 1,000."""

SMALL: Final = 1 << 20
LONGEST_LINE: Final = 16 << 20

_END: Final = b"PK\x05\x06"
_END_64: Final = b"PK\x06\x07"
_KNOWN: Final = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, struct.error)


class BadArchive(PreferencesError):
    """The archive cannot be read. The message never quotes contents."""


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Raises BadArchive."""
    try:
        with path.open("rb") as raw:
            _check_directory(raw, path.name)
            with zipfile.ZipFile(raw) as archive:
                yield archive
    except (*_BROKEN, UnicodeDecodeError):
        raise BadArchive(f"{path.name} cannot be read: it is cut off or damaged") from None


def _check_directory(raw: IO[bytes], name: str) -> None:
    """Refuse a large list of members before it is loaded."""
    raw.seek(0, io.SEEK_END)
    length = raw.tell()
    raw.seek(max(0, length - (1 << 16) - 22))
    tail = raw.read()
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < 22:
        raise zipfile.BadZipFile
    members, size = struct.unpack_from("<HI", tail, place + 10)
    if place >= 20 and tail[place - 20 : place - 16] == _END_64:
        raw.seek(min(struct.unpack_from("<Q", tail, place - 12)[0], length))
        members, size = struct.unpack("<QQ", raw.read(56)[32:48])
    if members > MOST_MEMBERS or size > LARGEST_DIRECTORY:
        raise BadArchive(f"{name} holds more files than any export of ours")
    raw.seek(0)


@contextmanager
def member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """One file of an archive. Raises BadArchive, and KeyError if it is missing."""
    info = archive.getinfo(name)
    if info.flag_bits & 0x1:
        raise BadArchive(f"{name} is encrypted: unpack the archive with its password, and pack it again without")
    if info.compress_type not in _KNOWN:
        raise BadArchive(f"{name} is packed in a way that is not known here")
    if info.file_size > MOST_INFLATION * min(info.compress_size, archive.start_dir) + SMALL:
        raise BadArchive(
            f"{name} would be {info.file_size:,} bytes, of next to nothing: no export of ours is like that"
        )
    with archive.open(info) as file:
        yield file


def start(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """The whole file. Raises BadArchive beyond `limit` bytes."""
    with member(archive, name) as file:
        found = file.read(limit + 1)
    if len(found) > limit:
        raise BadArchive(f"{name} is longer than any of ours")
    return found


def lines(file: IO[bytes], name: str) -> Iterator[bytes]:
    """Raises BadArchive for a line that is too long."""
    buffered = io.BufferedReader(file, 1 << 18)  # type: ignore[type-var]  # a member is read like a raw file
    while line := buffered.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise BadArchive(f"{name} has a line that is longer than any of ours")
        yield line
