"""Imports of contacts and opt-outs: `preparing` checks the whole file, then `run` records it.

Invariants: an import never ends an opt-out; a repeated one changes nothing; a bad row stops it before anything is
written, unless bad rows are collected.
"""

from __future__ import annotations

from preferences.importing.columns import COLUMNS, BadRow
from preferences.importing.files import Source
from preferences.importing.preparing import Reject, prepared
from preferences.importing.run import BLOCK, Counts, check, import_file, record, rejects_to

__all__ = [
    "BLOCK",
    "COLUMNS",
    "BadRow",
    "Counts",
    "Reject",
    "Source",
    "check",
    "import_file",
    "prepared",
    "record",
    "rejects_to",
]
