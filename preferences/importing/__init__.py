"""Files of contacts and opt-outs: read, checked, recorded.

Owns nothing itself: `columns` says what a row means, `files` and `formats` how it is written, `preparing` checks the
whole file, `run` records it. Invariants: an import never turns a no into a yes; a file that was imported before
changes nothing; unless bad rows are wanted apart, one of them stops the whole file before anything is written.
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
