"""A file that stands under its name only when it is whole and on the disk.

Owns how such a file comes to be. Invariant: whatever stops the writing, what had the name before still has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

PRIVATE: Final = 0o600
"""Permissions of a file that only its owner may read."""


@contextmanager
def whole_file(path: Path, permissions: int = 0o666) -> Iterator[IO[bytes]]:
    """Write it here. `permissions` are narrowed by the umask, as for any file. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, permissions)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
