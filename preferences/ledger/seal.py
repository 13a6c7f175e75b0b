"""The seal of an entry: its canonical form, and the hash that chains it to the entry before.

Invariant: the canonical form of an entry never changes, so that a hash computed today equals the one stored years ago.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

GENESIS: Final = "0" * 64
"""The hash before the first entry."""


def canonical(row: Mapping[str, Any]) -> bytes:
    """The bytes that an entry's hash covers: JSON with sorted keys, without nulls and without the hash itself.

    Leaving nulls out lets a later version add a column without changing any earlier entry's hash.
    """
    fields = {
        name: value if isinstance(value, (str, int)) else _as_text(value)
        for name, value in row.items()
        if value is not None and name != "hash"
    }
    return _CANONICAL.encode(fields).encode()


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _as_text(value: datetime | UUID) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value)


def chain_hash(previous: str, row: Mapping[str, Any]) -> str:
    """SHA-256 over the previous hash and the entry, in hex."""
    return hashlib.sha256(previous.encode("ascii") + canonical(row)).hexdigest()


def new_salt() -> str:
    """128 random bits, in hex."""
    return os.urandom(16).hex()


def evidence_digest(salt: str, details: str) -> str:
    """What an entry holds of its evidence, in hex: HMAC-SHA-256 under a salt that is stored with the evidence alone.

    Once both are erased, nobody can find out by guessing what the evidence said, and the entry's hash still holds.
    """
    return hmac.digest(salt.encode("ascii"), details.encode(), "sha256").hex()
