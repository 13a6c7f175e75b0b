"""Links in bulk: a CSV file in, the same file with links out.

Owns what a row gets. Invariants: contacts are made a block at a time, so that clicks never wait long for the ledger; a
file of any length takes the memory of one block.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, TextIO, cast

from preferences.domain.addresses import read_address
from preferences.domain.errors import BadAddress, PreferencesError
from preferences.domain.terms import BLANKET, Address, Channel, MessageClass, Topic
from preferences.files.spreadsheets import harmless_cell
from preferences.links import ManageLink, UnsubscribeLink
from preferences.site import Site
from preferences.store import contacts
from preferences.store.contacts import Found

BLOCK: Final = 1_000
"""Contacts made in one transaction: it holds the ledger's lock, and clicks wait for it."""

ADDED: Final = ("unsubscribe_url", "manage_url", "list_unsubscribe", "list_unsubscribe_post", "list_id")

GZIP: Final = b"\x1f\x8b"
FAULTS: Final = (csv.Error, UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile)
"""What a file that is no CSV file in UTF-8 says of itself, packed or not."""


class BadFile(PreferencesError):
    """The file cannot be used. Says the line and the column, never the value."""


def contacts_of(site: Site, addresses: Sequence[Address]) -> dict[Address, Found]:
    """Each address's contact: read without a lock, and made, a block at a time, where there is none."""
    found = site.database.read(contacts.find_addresses, set(addresses), site.fingerprints)
    missing = [one for one in dict.fromkeys(addresses) if one not in found]
    for start in range(0, len(missing), BLOCK):
        block = missing[start : start + BLOCK]
        found |= site.database.write(contacts.find_or_create, block, site.fingerprints, datetime.now(UTC))
    return found


def list_headers(site: Site, url: str, brand: str, topic: str) -> dict[str, str]:
    """The headers for a mail that `url` unsubscribes from (RFC 2369, 8058, 2919). `topic` may be `*`."""
    label = brand if topic == BLANKET else f"{topic}.{brand}"
    return {
        "List-Unsubscribe": f"<{url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"<{label}.list-id.{site.settings.host}>",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Minting:
    """What to mint: links that stop `topic`, or all of `brand`'s mail (the first one's if it is None), on a channel.

    `column` is the one that holds the addresses.
    """

    topic: str
    channel: Channel
    brand: str | None = None
    column: str = "address"
    for_spreadsheets: bool = False


def count_rows(site: Site, path: Path, asked: Minting) -> int:
    """How many rows there are to mint. Raises BadFile for the first that is wrong, before anything is made."""
    _brand(site, _topic(site, asked.topic, asked.channel), asked.brand)
    with _opened(path) as file:
        return sum(1 for _ in _rows(_reader(file, asked), asked))


def mint(site: Site, path: Path, asked: Minting, *, out: TextIO, progress: Callable[[int], None]) -> None:
    """Write the CSV file with the links added, a block of rows at a time."""
    brand = _brand(site, _topic(site, asked.topic, asked.channel), asked.brand)
    now = datetime.now(UTC)
    with _opened(path) as file:
        reader = _reader(file, asked)
        writer = csv.DictWriter(out, [*(reader.fieldnames or ()), *ADDED])
        writer.writeheader()
        rows = _rows(reader, asked)
        while block := list(islice(rows, BLOCK)):
            found = contacts_of(site, [address for _, address in block])
            minted = (row | _links(site, found[address], asked, brand, now) for row, address in block)
            writer.writerows(map(_harmless, minted) if asked.for_spreadsheets else minted)
            progress(len(block))


def _harmless(row: dict[str, str]) -> dict[str, str]:
    return {name: harmless_cell(value) for name, value in row.items()}


def _links(site: Site, found: Found, asked: Minting, brand: str, now: datetime) -> dict[str, str]:
    if found.contact_id is None:
        return dict.fromkeys(ADDED, "")
    url = site.unsubscribe_url(UnsubscribeLink(found.contact_id, asked.channel, brand, asked.topic))
    headers = list_headers(site, url, brand, asked.topic) if asked.channel is Channel.EMAIL else {}
    return {
        "unsubscribe_url": url,
        "manage_url": site.manage_url(ManageLink(found.contact_id, asked.channel, brand, now)),
        **{name.lower().replace("-", "_"): value for name, value in headers.items()},
    }


def _topic(site: Site, slug: str, channel: Channel) -> Topic | None:
    if slug == BLANKET:
        return None
    topic = site.catalog.get(slug).topics.get(slug)
    if topic is None:
        raise BadFile(f"there is no topic {slug}; `flask topic add {slug} …` makes one")
    if topic.message_class is not MessageClass.MARKETING:
        raise BadFile(f"topic {slug} is {topic.message_class}: nobody unsubscribes from it, so it has no such link")
    if channel not in topic.channels:
        raise BadFile(f"topic {slug} is not sent by {channel}")
    return topic


def _brand(site: Site, topic: Topic | None, asked: str | None) -> str:
    if topic is not None:
        if asked not in {None, topic.brand}:
            raise BadFile(f"topic {topic.slug} is brand {topic.brand}'s")
        return topic.brand
    catalog = site.catalog.get()
    if asked is not None and asked not in catalog.brands:
        raise BadFile(f"there is no brand {asked}; `flask brand list` shows those there are")
    return asked or catalog.first_brand.slug


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        octets = cast(BinaryIO, gzip.open(raw) if packed else raw)  # noqa: SIM115 - closed with the text
        with io.TextIOWrapper(octets, encoding="utf-8-sig", newline="") as text:
            yield text


def _reader(file: TextIO, asked: Minting) -> csv.DictReader[str]:
    reader = csv.DictReader(file, strict=True)
    try:
        names = list(reader.fieldnames or ())
    except FAULTS:
        raise BadFile("line 1: not a well-formed CSV row in UTF-8") from None
    if asked.column not in names:
        raise BadFile(f"line 1: the header has no column {asked.column}; name the one with the addresses by --column")
    if set(ADDED) & set(names):
        raise BadFile("line 1: the file has links already; remove those columns first")
    return reader


def _rows(reader: csv.DictReader[str], asked: Minting) -> Iterator[tuple[dict[str, str], Address]]:
    """Each row with its address. Raises BadFile at the first that is wrong."""
    number = 1
    while True:
        number += 1
        try:
            row = next(reader, None)
        except FAULTS:
            raise BadFile(f"line {reader.line_num + 1}: not a well-formed CSV row in UTF-8") from None
        if row is None:
            return
        if None in row or None in row.values():
            raise BadFile(f"line {reader.line_num}: the number of columns differs from the header's")
        try:
            yield row, read_address(asked.channel, row[asked.column])
        except BadAddress as error:
            raise BadFile(f"row {number}, column {asked.column}: {error}") from None
