"""Files that take their name only when complete and on disk.

Invariants: after a failure the old file remains; devices, pipes and sockets are never replaced; only the owner may read
the file at any moment, since most hold addresses.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from preferences.domain.errors import PreferencesError


class CannotWrite(PreferencesError):
    """The message names the file and the reason."""


PRIVATE: Final = 0o600

_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
"""Never opens an existing file or link."""


@contextmanager
def atomic_write(path: Path, *, replace: bool) -> Iterator[IO[bytes]]:
    """Raises CannotWrite, also for an existing file unless `replace`."""
    unfinished = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    _check_replaceable(path)
    try:
        with os.fdopen(os.open(unfinished, _NEW, PRIVATE), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            _check_replaceable(path)
            unfinished.replace(path)
        else:
            _take_name(unfinished, path)
    except FileExistsError:
        raise CannotWrite(f"{path.name} is there already; give another name, or --force to write over it") from None
    except OSError as error:
        raise CannotWrite(f"{path.name} cannot be written ({error.strerror or 'unknown'})") from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _check_replaceable(path: Path) -> None:
    """Raises CannotWrite for what is no regular file, also behind a link such as /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing there, or a dangling link; other errors appear on writing
        return
    if not stat.S_ISREG(mode):
        raise CannotWrite(f"{path.name} is no file but a folder, a device, a pipe or the like; give another name")


def _take_name(unfinished: Path, path: Path) -> None:
    """Raises FileExistsError for a name that was taken meanwhile."""
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        unfinished.replace(path)
