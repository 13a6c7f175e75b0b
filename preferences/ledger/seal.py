"""An entry's canonical form, and the hash that chains it to the previous entry. Independent of columns.

Invariant: the canonical form never changes, so stored hashes stay valid (`tests/ledger/golden/seal.json`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

import orjson

from preferences.domain.records import Entry

GENESIS: Final = "0" * 64


def canonical(entry: Entry) -> bytes:
    """The bytes that an entry's hash covers: JSON in UTF-8 with sorted keys, no spaces, no nulls and no `hash`.

    Times are UTC with six decimals. A new field must be None in all earlier entries: nulls are omitted, so their hashes
    stay the same.
    """
    fields = {
        "actor": entry.actor,
        "basis": entry.basis,
        "brand": entry.brand,
        "changed": entry.changed,
        "channel": entry.channel,
        "contact_id": entry.contact_id,
        "evidence_digest": entry.evidence_digest,
        "fingerprint": entry.fingerprint,
        "notice": entry.notice,
        "occurred_at": _instant(entry.occurred_at),
        "origin": entry.origin,
        "origin_ref": entry.origin_ref,
        "per_week": entry.per_week,
        "reason": entry.reason,
        "recorded_at": _instant(entry.recorded_at),
        "seq": entry.seq,
        "status": entry.status,
        "topic": entry.topic,
        "trusted": entry.trusted,
        "undoes": entry.undoes,
        "until": _instant(entry.until),
        "verb": entry.verb,
    }
    return orjson.dumps({name: value for name, value in fields.items() if value is not None})


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds")


def canonical_template(draft: Entry, names: Collection[str]) -> tuple[str, str]:
    """The canonical form of drafts that differ only in the named fields, before and after their number.

    The first part is a `%` template of `%(name)s` fields, for text that JSON does not escape. `draft` has `seq` 0. A
    quoted name cannot occur within a text, where quotes are escaped.
    """
    before, _, after = canonical(draft).decode().partition(',"seq":0')
    fields = re.compile(f'"({"|".join(names)})":"[^"]*"')
    return fields.sub(r'"\1":"%(\1)s"', before.replace("%", "%%")) + ',"seq":', after


def chain_hash(previous: str, entry: Entry) -> str:
    return hashlib.sha256(previous.encode("ascii") + canonical(entry)).hexdigest()


def new_salt() -> str:
    """128 random bits, in hex."""
    return os.urandom(16).hex()


def evidence_digest(salt: str, details: str) -> str:
    """HMAC-SHA-256 of the evidence, in hex; the salt is stored only with the evidence.

    With both erased, the evidence cannot be guessed, and the entry's hash stays valid.
    """
    return hmac.digest(salt.encode("ascii"), details.encode(), "sha256").hex()
