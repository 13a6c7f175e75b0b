"""Links in bulk: a CSV file in, the same file with links out.

Owns what a row gets. Invariants: contacts are made a block at a time, so that clicks never wait long for the ledger; a
file of any length takes the memory of one block.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, TextIO

from preferences.address_parsing import read_address
from preferences.domain.errors import BadAddress
from preferences.domain.records import Address, Topic
from preferences.domain.vocabulary import BLANKET, Channel, MessageClass, Relation
from preferences.files.spreadsheets import harmless_cell
from preferences.files.tables import BadFile, Table, place_of_address, table_of
from preferences.services import Services
from preferences.store import contacts
from preferences.store.contacts import Found
from preferences.tokens import ManageLink, UnsubscribeLink

BLOCK: Final = 1_000
"""Contacts made in one transaction: it holds the ledger's lock, and clicks wait for it."""

ADDED: Final = ("unsubscribe_url", "manage_url", "list_unsubscribe", "list_unsubscribe_post", "list_id")


def contacts_of(services: Services, addresses: Sequence[Address]) -> dict[Address, Found]:
    """Each address's contact: read without a lock, and made, a block at a time, where there is none."""
    found = services.database.read(contacts.find_addresses, set(addresses), services.fingerprints)
    # A stranger to whom the company writes is none any more.
    missing = [one for one in dict.fromkeys(addresses) if one not in found or found[one].relation is Relation.STRANGER]
    for start in range(0, len(missing), BLOCK):
        block = missing[start : start + BLOCK]
        found |= services.database.write(contacts.find_or_create, block, services.fingerprints, datetime.now(UTC))
    return found


def manage_url(services: Services, found: Found, channel: Channel, *, brand: str, now: datetime) -> str | None:
    """The link to the contact's own page, or None at an address that a system has added to them: for all we know, who
    reads its mail is somebody else."""
    if found.contact_id is None or found.relation is Relation.UNCONFIRMED:
        return None
    return services.manage_url(ManageLink(found.contact_id, channel, brand, now))


def list_headers(services: Services, url: str, brand: str, topic: str) -> dict[str, str]:
    """The headers for a mail that `url` unsubscribes from (RFC 2369, 8058, 2919). `topic` may be `*`."""
    label = brand if topic == BLANKET else f"{topic}.{brand}"
    return {
        "List-Unsubscribe": f"<{url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"<{label}.list-id.{services.settings.host}>",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Minting:
    """What to mint: links that stop `topic`, or all of `brand`'s mail (the first one's if it is None), on a channel.

    `column` is the one that holds the addresses, where the header does not say.
    """

    topic: str
    channel: Channel
    brand: str | None = None
    column: str | None = None
    encoding: str = "utf-8-sig"
    for_spreadsheets: bool = False


def count_rows(services: Services, path: Path, asked: Minting) -> int:
    """How many rows there are to mint. Raises BadFile for the first that is wrong, before anything is made."""
    _brand(services, _topic(services, asked.topic, asked.channel), asked.brand)
    with table_of(path, asked.encoding) as table:
        return sum(1 for _ in _rows(table, asked))


def mint(services: Services, path: Path, asked: Minting, *, out: TextIO, progress: Callable[[int], None]) -> None:
    """Write the table as CSV with the links added, a block of rows at a time."""
    brand = _brand(services, _topic(services, asked.topic, asked.channel), asked.brand)
    now = datetime.now(UTC)
    with table_of(path, asked.encoding) as table:
        writer = csv.writer(out, delimiter=table.head.delimiter)
        writer.writerow([*table.head.names, *ADDED])
        rows = _rows(table, asked)
        while block := list(islice(rows, BLOCK)):
            found = contacts_of(services, [address for _, address in block])
            minted = ([*row, *_links(services, found[address], asked, brand, now)] for row, address in block)
            writer.writerows(map(_harmless, minted) if asked.for_spreadsheets else minted)
            progress(len(block))


def _harmless(row: list[str]) -> list[str]:
    return list(map(harmless_cell, row))


def _links(services: Services, found: Found, asked: Minting, brand: str, now: datetime) -> list[str]:
    if found.contact_id is None:
        return [""] * len(ADDED)
    url = services.unsubscribe_url(UnsubscribeLink(found.contact_id, asked.channel, brand, asked.topic))
    headers = list_headers(services, url, brand, asked.topic) if asked.channel is Channel.EMAIL else {}
    manage = manage_url(services, found, asked.channel, brand=brand, now=now)
    return [url, manage or "", *(headers.values() or ("", "", ""))]


def _topic(services: Services, slug: str, channel: Channel) -> Topic | None:
    if slug == BLANKET:
        return None
    topic = services.catalog.get(slug).topics.get(slug)
    if topic is None:
        raise BadFile(f"there is no topic {slug}; `flask topic add {slug} …` makes one")
    if topic.message_class is not MessageClass.MARKETING:
        raise BadFile(f"topic {slug} is {topic.message_class}: nobody unsubscribes from it, so it has no such link")
    if channel not in topic.channels:
        raise BadFile(f"topic {slug} is not sent by {channel}")
    return topic


def _brand(services: Services, topic: Topic | None, asked: str | None) -> str:
    if topic is not None:
        if asked not in {None, topic.brand}:
            raise BadFile(f"topic {topic.slug} is brand {topic.brand}'s")
        return topic.brand
    catalog = services.catalog.get()
    if asked is not None and asked not in catalog.brands:
        raise BadFile(f"there is no brand {asked}; `flask brand list` shows those there are")
    return asked or catalog.first_brand.slug


def _rows(table: Table, asked: Minting) -> Iterator[tuple[Sequence[str], Address]]:
    """Each row with its address. Raises BadFile at the first that is wrong."""
    names = table.head.names
    if set(ADDED) & set(names):
        raise BadFile("line 1: the file has links already; remove those columns first")
    place = place_of_address(names, asked.channel, asked.column)
    for line, row in table.rows():
        if row is None:
            raise BadFile(f"line {line}: not a well-formed CSV row")
        if len(row) != len(names):
            raise BadFile(f"line {line}: the row has {len(row)} columns and the header {len(names)}")
        try:
            yield row, read_address(asked.channel, row[place])
        except BadAddress as error:
            raise BadFile(f"line {line}, column {names[place].strip()}: {error}") from None
