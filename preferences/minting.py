"""Links in bulk: a CSV file in, the same file with links out.

Owns what a row gets. Invariant: contacts are made a block at a time, so that clicks never wait long for the ledger.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from preferences.domain.addresses import read_address
from preferences.domain.errors import BadAddress, PreferencesError
from preferences.domain.terms import BLANKET, Address, Channel, MessageClass, Topic
from preferences.links import ManageLink, UnsubscribeLink
from preferences.site import Site
from preferences.store import contacts
from preferences.store.contacts import Found

BLOCK: Final = 1_000
"""Contacts made in one transaction: it holds the ledger's lock, and clicks wait for it."""

ADDED: Final = ("unsubscribe_url", "manage_url")


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


def mint(
    site: Site,
    path: Path,
    *,
    topic: str,
    channel: Channel,
    progress: Callable[[int], None],
    brand: str | None = None,
) -> str:
    """The text of the CSV file with the links added. `brand` says whose `*` it is; without it, the first one's.

    Raises BadFile, before anything is made, for a wrong row.
    """
    brand = _brand(site, _topic(site, topic, channel), brand)
    names, rows, addresses = _read(path, channel)
    found = contacts_of(site, addresses)
    now = datetime.now(UTC)
    out = io.StringIO()
    writer = csv.DictWriter(out, [*names, *ADDED])
    writer.writeheader()
    for row, address in zip(rows, addresses, strict=True):
        writer.writerow({**row, **_links(site, found[address], channel, brand, topic, now)})
        progress(1)
    return out.getvalue()


def _links(site: Site, found: Found, channel: Channel, brand: str, topic: str, now: datetime) -> Mapping[str, str]:
    if found.contact_id is None:
        return dict.fromkeys(ADDED, "")
    return {
        "unsubscribe_url": site.unsubscribe_url(UnsubscribeLink(found.contact_id, channel, brand, topic)),
        "manage_url": site.manage_url(ManageLink(found.contact_id, channel, brand, now)),
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


def _read(path: Path, channel: Channel) -> tuple[list[str], list[dict[str, str]], list[Address]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            names = _column_names(reader.fieldnames)
            rows = [_checked(row, reader.line_num) for row in reader]
        except (csv.Error, UnicodeDecodeError):
            raise BadFile(f"line {reader.line_num + 1}: not a well-formed CSV row in UTF-8") from None
    return names, rows, [_address(row, line, channel) for line, row in enumerate(rows, start=2)]


def _column_names(header: Sequence[str] | None) -> list[str]:
    names = list(header or [])
    if "address" not in names:
        raise BadFile("line 1: the header has no column address")
    if set(ADDED) & set(names):
        raise BadFile("line 1: the file has links already; remove those columns first")
    return names


def _checked(row: Mapping[str, str], line: int) -> dict[str, str]:
    if None in row or None in row.values():
        raise BadFile(f"line {line}: the number of columns differs from the header's")
    return dict(row)


def _address(row: Mapping[str, str], line: int, channel: Channel) -> Address:
    try:
        return read_address(channel, row["address"])
    except BadAddress as error:
        raise BadFile(f"row {line}, column address: {error}") from None
