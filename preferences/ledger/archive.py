"""The exported tables as text, and back.

Invariants: what is read back equals what was written. A restore needs a database without contacts, and is kept only if
the ledger verifies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import JSON, Boolean, Column, Integer, Uuid, delete, func, select, text

from preferences.domain.errors import NotAllowed
from preferences.domain.vocabulary import Channel
from preferences.ledger.head import set_head
from preferences.ledger.seal import canonical
from preferences.store.codec import entry_of, entry_of_json, entry_row, read_instant
from preferences.store.dialect import insert_rows, stream
from preferences.store.tables import (
    UtcDateTime,
    address,
    brand,
    connector_cursor,
    contact,
    contact_flag,
    evidence,
    ledger_entry,
    ledger_head,
    notice,
    pace,
    preference,
    sending,
    stated_reason,
    suppression,
    topic,
    topic_text,
)
from preferences.store.transactions import Read, Snapshot, Write

ENTRIES: Final = "entries.jsonl"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of an export: a table and its columns."""

    file: str
    table: Any
    columns: tuple[str, ...]
    also: Mapping[str, Any]
    """Further values of a restored row."""


def _part(file: str, table: Any, *columns: str, **also: Any) -> Part:
    return Part(file, table, columns or tuple(table.c.keys()), also)


PARTS: Final = (
    _part("brands.csv", brand),
    _part("topics.csv", topic),
    _part("topic_texts.csv", topic_text),
    _part("notices.csv", notice),
    _part("contacts.csv", contact),
    _part("contact_flags.csv", contact_flag),
    _part("addresses.csv", address),
    _part(ENTRIES, ledger_entry),
    _part("evidence.csv", evidence),
    _part("stated_reasons.csv", stated_reason),
    _part("choices.csv", preference),
    _part("paces.csv", pace),
    _part("suppressions.csv", suppression),
    _part("sendings.csv", sending),
    _part("positions.csv", connector_cursor, "connector", "position", failures=0),
)
"""In the order of insertion."""

ADDED_LATER: Final = frozenset({"contact_flags.csv"})
"""Files that archives of older versions lack."""

LEFT_OUT: Final = {
    "ledger_head": "the newest of the entries, and in the manifest",
    "api_key": "a secret: the new install makes its own",
    "webhook_token": "lives for three days",
    "soft_bounce": "counted for a month, and anew at the new install",
    "connector_rejection": "whom a provider refused is found out again",
    "letter": "lives for seconds",
    "letter_request": "lives for a day",
    "sign_in": "lives for ten minutes",
    "address_request": "lives for days, and nothing has come of it yet",
    "used_token": "lives for days",
    "worker": "which processes are alive just now",
}
"""Tables that are not exported, and why."""


def head(read: Read) -> tuple[int, str]:
    row = read.execute(select(ledger_head.c.seq, ledger_head.c.hash)).one()
    return row.seq, row.hash


def count(read: Read, part: Part) -> int:
    return int(read.execute(select(func.count()).select_from(part.table)).scalar_one())


def read_cells(snapshot: Snapshot, part: Part) -> Iterator[list[str]]:
    """Rows as text, by key, in constant memory."""
    columns = [part.table.c[name] for name in part.columns]
    writers = [_writer(column) for column in columns]
    for row in stream(snapshot, select(*columns).order_by(*part.table.primary_key.columns)):
        yield ["" if value is None else as_text(value) for as_text, value in zip(writers, row, strict=True)]


def read_lines(snapshot: Snapshot) -> Iterator[bytes]:
    """Entries in order as JSON lines with their hash, in constant memory.

    The hash covers the previous hash and the rest of the line (`seal.canonical`).
    """
    for row in stream(snapshot, select(ledger_entry).order_by(ledger_entry.c.seq)):
        yield canonical(entry_of(row))[:-1] + f',"hash":"{row.hash}"}}\n'.encode()


def _writer(column: Column[Any]) -> Callable[[Any], str]:
    if isinstance(column.type, UtcDateTime):
        return datetime.isoformat
    if isinstance(column.type, Boolean):
        return lambda value: "true" if value else "false"
    return json.dumps if isinstance(column.type, JSON) else str


def row_of_cells(part: Part, names: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """Raises ValueError."""
    values = zip(names, cells, strict=True)
    return {name: _value(part.table.c[name], cell) for name, cell in values} | dict(part.also)


def row_of_line(line: bytes) -> dict[str, Any]:
    """Raises ValueError or TypeError."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise TypeError("not an entry")
    return entry_row(entry_of_json(fields))


def _value(column: Column[Any], cell: str) -> Any:
    if column.nullable and not cell:
        return None
    if isinstance(column.type, JSON):
        return json.loads(cell)
    if isinstance(column.type, Boolean):
        return {"true": True, "false": False}[cell]
    if "\0" in cell:
        raise ValueError("no text of ours holds a null character")
    return int(cell) if isinstance(column.type, Integer) else _typed(column, cell)


def _typed(column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, UtcDateTime):
        return read_instant(value)
    if column.name == "channel":
        return Channel(value).value
    return UUID(value) if isinstance(column.type, Uuid) else value


def begin_restore(write: Write) -> None:
    """Delete a new database's rows. Raises NotAllowed if there are contacts or entries."""
    taken = write.seq or write.execute(select(contact.c.id).limit(1)).first()
    if taken or write.execute(select(address.c.id).limit(1)).first():
        raise NotAllowed("an export can be restored only into an empty install, and this one has contacts or entries")
    if not write.is_sqlite:
        write.execute(text("SET LOCAL statement_timeout = 0"))
    for table in (topic_text, topic, brand, notice, sending, connector_cursor):
        write.execute(delete(table))


def put_back(write: Write, part: Part, rows: Sequence[Mapping[str, Any]]) -> None:
    """All rows must have the same columns."""
    insert_rows(write, part.table, rows)


def lacks_contacts(read: Read) -> bool:
    """Whether an address lacks its contact: no foreign key checks this."""
    orphan = select(address.c.id).where(~select(contact.c.id).where(contact.c.id == address.c.contact_id).exists())
    return read.execute(orphan.limit(1)).first() is not None


def end_restore(write: Write, seq: int, newest: str) -> None:
    set_head(write, seq, newest)
