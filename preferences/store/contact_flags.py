"""Flags set by the company, such as `wholesale`: the rows `contact_flag`.

Invariant: a flag decides which topics are shown, never what may be sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select

from preferences.store.dialect import any_of, insert_rows
from preferences.store.tables import contact_flag
from preferences.store.transactions import Read, Save

_OF: Final = select(contact_flag).where(any_of(contact_flag.c.contact_id, "contact_ids"))
_DELETE: Final = contact_flag.delete().where(
    contact_flag.c.contact_id == bindparam("whose"), contact_flag.c.flag == bindparam("which")
)


def find_flags(read: Read, contact_ids: Collection[UUID]) -> dict[UUID, set[str]]:
    """Contacts without flags are omitted."""
    found: dict[UUID, set[str]] = {}
    for row in read.execute(_OF, {"contact_ids": list(contact_ids)}):
        found.setdefault(row.contact_id, set()).add(row.flag)
    return found


def set_flags(save: Save, wanted: Mapping[UUID, Collection[str]]) -> set[UUID]:
    """Returns the contacts that changed."""
    held = find_flags(save, wanted)
    gone = [
        (contact_id, flag) for contact_id, flags in wanted.items() for flag in held.get(contact_id, set()) - set(flags)
    ]
    if gone:
        save.execute(_DELETE, [{"whose": contact_id, "which": flag} for contact_id, flag in gone])
    return add_flags(save, wanted) | {contact_id for contact_id, _ in gone}


def add_flags(save: Save, wanted: Mapping[UUID, Collection[str]]) -> set[UUID]:
    """Returns the contacts that changed."""
    held = find_flags(save, wanted)
    fresh = [
        (contact_id, flag) for contact_id, flags in wanted.items() for flag in set(flags) - held.get(contact_id, set())
    ]
    rows = [{"contact_id": contact_id, "flag": flag} for contact_id, flag in fresh]
    insert_rows(save, contact_flag, rows, on_conflict="ignore")
    return {contact_id for contact_id, _ in fresh}
