"""The wordings shown: the rows `notice`.

Invariant: a row never changes; a new wording is a new version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import func, select

from preferences.domain.notices import KeptNotice, Notice
from preferences.store.dialect import any_of, insert_rows
from preferences.store.tables import notice
from preferences.store.transactions import Read, Write


def keep(write: Write, shown: Iterable[Notice], now: datetime) -> None:
    """Store wordings that are new, as new versions."""
    wanted = {new.hash: new for new in shown}
    known = set(find(write, wanted))
    for digest, new in wanted.items():
        if digest in known:
            continue
        same = (notice.c.slug == new.slug) & (notice.c.language == new.language)
        newest = write.execute(select(func.max(notice.c.version)).where(same)).scalar() or 0
        row = {
            "hash": digest,
            "slug": new.slug,
            "language": new.language,
            "version": newest + 1,
            "text": new.text,
            "created_at": now,
        }
        insert_rows(write, notice, [row])


def find(read: Read, hashes: Collection[str]) -> dict[str, KeptNotice]:
    if not hashes:
        return {}
    rows = read.execute(select(notice).where(any_of(notice.c.hash, "hashes")), {"hashes": list(hashes)})
    return {row.hash: KeptNotice(notice=Notice(row.slug, row.language, row.text), version=row.version) for row in rows}
