"""The wording that was shown: kept once, however many said yes to it.

Owns the rows `notice`. Invariant: a row never changes; new words are a new version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import func, select

from preferences.domain.notices import KeptNotice, Notice
from preferences.store.dialect import any_of, insert_rows
from preferences.store.tables import notice
from preferences.store.transactions import Read, Save


def keep(save: Save, shown: Iterable[Notice], now: datetime) -> None:
    """Keep what is not kept yet. Call it under the ledger's lock, so that no two get the same version."""
    wanted = {one.hash: one for one in shown}
    known = set(find(save, wanted))
    for digest, one in wanted.items():
        if digest in known:
            continue
        same = (notice.c.slug == one.slug) & (notice.c.language == one.language)
        newest = save.execute(select(func.max(notice.c.version)).where(same)).scalar() or 0
        row = {
            "hash": digest,
            "slug": one.slug,
            "language": one.language,
            "version": newest + 1,
            "text": one.text,
            "created_at": now,
        }
        insert_rows(save, notice, [row])


def find(read: Read, hashes: Collection[str]) -> dict[str, KeptNotice]:
    """The notices with these hashes, by hash."""
    if not hashes:
        return {}
    rows = read.execute(select(notice).where(any_of(notice.c.hash, "hashes")), {"hashes": list(hashes)})
    return {row.hash: KeptNotice(notice=Notice(row.slug, row.language, row.text), version=row.version) for row in rows}
