"""Files of contacts and opt-outs: read, checked, recorded.

Owns the columns of an import and what each row means. Invariants: an import never turns a no into a yes; a file that
was imported before changes nothing; one bad row stops the whole file before anything is written.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from preferences.domain.acts import ImportedRow, imported
from preferences.domain.addresses import Fingerprints, read_address
from preferences.domain.errors import BadAddress, PreferencesError
from preferences.domain.terms import (
    BLANKET,
    Act,
    Address,
    Basis,
    Channel,
    Entry,
    MessageClass,
    SuppressionReason,
    Verb,
)
from preferences.store import ledger
from preferences.store.contacts import Found, find_or_create
from preferences.store.db import Database, WriteTransaction
from preferences.store.queries import Catalog

BLOCK: Final = 500
"""Rows in one transaction: it holds the ledger's lock, and clicks wait for it."""

COLUMNS: Final = ("address", "channel", "topic", "status", "occurred_at", "source", "reason", "evidence", "brand")
ALIASES: Final = {"email": "address", "phone": "address", "date": "occurred_at"}
"""What other programs call the same columns."""

Progress = Callable[[int], None]


class BadRow(PreferencesError):
    """A row that cannot be imported. Says the line and the column, never the value."""


@dataclass(slots=True)
class Counts:
    """What an import did: rows read, contacts made, entries that changed something, and those that did not."""

    rows: int = 0
    created: int = 0
    changed: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line: an address, and the act it tells of, if it tells of one."""

    address: Address
    act: Act | None


def read_rows(path: Path, catalog: Catalog) -> Iterator[Row]:
    """The rows of a CSV file. Raises BadRow for the first one that is wrong."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            reader.fieldnames = _column_names(reader.fieldnames)
            for fields in reader:
                yield _row(fields, reader.line_num, catalog)
        except (csv.Error, UnicodeDecodeError) as error:
            kind = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not a well-formed CSV row"
            raise BadRow(f"line {reader.line_num + 1}: {kind}") from None


def check(path: Path, catalog: Catalog) -> int:
    """Read the whole file and write nothing. Returns the number of rows; raises BadRow."""
    return sum(1 for _ in read_rows(path, catalog))


def import_file(
    path: Path, catalog: Catalog, *, database: Database, fingerprints: Fingerprints, progress: Progress
) -> Counts:
    """Record a file that `check` has passed, block by block. Safe to repeat after an interruption."""
    counts = Counts()
    block: list[Row] = []
    for row in read_rows(path, catalog):
        block.append(row)
        if len(block) == BLOCK:
            _record(block, counts, database, fingerprints)
            progress(len(block))
            block = []
    if block:
        _record(block, counts, database, fingerprints)
        progress(len(block))
    return counts


def _record(block: list[Row], counts: Counts, database: Database, fingerprints: Fingerprints) -> None:
    now = datetime.now(UTC)
    created, entries = database.write(_write_block, block, fingerprints, now)
    counts.rows += len(block)
    counts.created += sum(found.created for found in created.values())
    new = {entry.seq for entry in entries if entry.changed and entry.recorded_at == now}
    counts.changed += len(new)
    counts.unchanged += len(entries) - len(new)


def _write_block(
    write: WriteTransaction, block: list[Row], fingerprints: Fingerprints, now: datetime
) -> tuple[dict[Address, Found], list[Entry]]:
    found = find_or_create(write, [row.address for row in block], fingerprints, now)
    acts = [row.act for row in block if row.act]
    return found, ledger.record(write, acts, fingerprints=fingerprints, now=now)


def _column_names(header: Sequence[str] | None) -> list[str]:
    """Our names of the columns. A file without a header begins with somebody's address, so no name is quoted."""
    names = [ALIASES.get(name.strip().lower(), name.strip().lower()) for name in header or []]
    known = f"the columns are {', '.join(COLUMNS)}"
    for number, name in enumerate(names, start=1):
        if name not in COLUMNS:
            raise BadRow(f"line 1, column {number}: not a column that is known; {known}")
        if name in names[: number - 1]:
            raise BadRow(f"line 1, column {number}: {name} is there twice")
    if "address" not in names:
        raise BadRow(f"line 1: the header has no column address; {known}")
    return names


def _row(fields: Mapping[str | None, str | list[str] | None], line: int, catalog: Catalog) -> Row:
    if None in fields or any(fields.get(name) is None for name in fields):
        raise BadRow(f"line {line}: the number of columns differs from the header's")
    text = {str(name): str(value).strip() for name, value in fields.items()}
    channel = _one_of(Channel, text.get("channel") or Channel.EMAIL, line, "channel")
    try:
        address = read_address(channel, text["address"])
    except BadAddress as error:
        raise BadRow(f"line {line}, column address: {error}") from None
    status = text.get("status", "").lower()
    if not status:
        return Row(address, None)
    return Row(address, _act(address, status, text, line, catalog))


_WISHES: Final = {"subscribed": Verb.SUBSCRIBE, "unsubscribed": Verb.UNSUBSCRIBE}
_SUPPRESSIONS: Final = {
    reason.value: reason
    for reason in (
        SuppressionReason.HARD_BOUNCE,
        SuppressionReason.COMPLAINT,
        SuppressionReason.INVALID,
        SuppressionReason.LEGAL,
    )
}


def _act(address: Address, status: str, text: Mapping[str, str], line: int, catalog: Catalog) -> Act:
    if status not in _WISHES and status not in _SUPPRESSIONS:
        known = ", ".join([*_WISHES, *_SUPPRESSIONS])
        raise BadRow(f"line {line}, column status: must be empty or one of {known}")
    verb = _WISHES.get(status, Verb.SUPPRESS)
    topic = text.get("topic") or BLANKET
    occurred_at = _instant(text.get("occurred_at", ""), line)
    brand, basis = _brand(text, line, catalog), None
    if verb is not Verb.SUPPRESS and topic != BLANKET:
        known_topic = catalog.topics.get(topic)
        if known_topic is None:
            raise BadRow(f"line {line}, column topic: there is no such topic; `flask topic add` makes one")
        if known_topic.message_class is not MessageClass.MARKETING:
            raise BadRow(f"line {line}, column topic: nobody subscribes to a topic that is not marketing")
        if text.get("brand") not in {None, "", known_topic.brand}:
            raise BadRow(f"line {line}, column brand: the topic is another brand's; leave it empty")
        brand, basis = known_topic.brand, Basis.CONSENT if verb is Verb.SUBSCRIBE else None
    if verb is Verb.SUBSCRIBE:
        _check_yes(topic, occurred_at, text, line)
    return imported(
        ImportedRow(
            address=address,
            verb=verb,
            brand=brand,
            topic=topic,
            reason=_SUPPRESSIONS.get(status),
            basis=basis,
            occurred_at=occurred_at,
            origin_ref=_ref(address, text),
            evidence={name: text[name][:500] for name in ("source", "reason", "evidence") if text.get(name)},
        )
    )


def _brand(text: Mapping[str, str], line: int, catalog: Catalog) -> str:
    """Whose mail a no to everything (*) is about: the first brand's, where nothing else is said."""
    brand = text.get("brand") or catalog.first_brand.slug
    if brand not in catalog.brands:
        raise BadRow(f"line {line}, column brand: there is no such brand; `flask brand set` makes one")
    return brand


def _check_yes(topic: str, occurred_at: datetime | None, text: Mapping[str, str], line: int) -> None:
    """A yes counts only with evidence: for one topic, with the day it was said and where it was said."""
    if topic == BLANKET:
        raise BadRow(f"line {line}, column topic: a subscription needs a topic; only an opt-out can be for all (*)")
    if occurred_at is None:
        raise BadRow(f"line {line}, column occurred_at: a subscription counts only with its date")
    if not text.get("source"):
        raise BadRow(f"line {line}, column source: a subscription counts only with where it was given")


def _instant(text: str, line: int) -> datetime | None:
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadRow(f"line {line}, column occurred_at: write it like 2026-05-31T14:00:00+00:00") from None


def _ref(address: Address, text: Mapping[str, str]) -> str:
    """The same line, in whichever file it comes again, is the same act."""
    parts = [address.channel, address.value, *(text.get(name, "") for name in COLUMNS[2:7])]
    parts += [text["brand"]] if text.get("brand") else []  # so that lines from before there was one stay the same
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def _one_of(kind: type[Channel], value: str, line: int, column: str) -> Channel:
    try:
        return kind(value.lower())
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise BadRow(f"line {line}, column {column}: must be one of {known}") from None
